"""Files in each other's places are answered with what was most likely meant, right ones with nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcheck_cli import UsageError, check
from gradcheck_cli.cli import COMMANDS
from gradcheck_cli.cli.manual import manual, words
from tests.cli.conftest import SAMPLES, Run

ROWS, CLASSES = 12, 5
RNG = np.random.default_rng(7)
LOGITS = RNG.normal(size=(ROWS, CLASSES))
LABELS = RNG.integers(0, CLASSES, ROWS)
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
ONE_HOT = np.eye(CLASSES)[LABELS]
GRAD = (PROBS - ONE_HOT) / ROWS


def _codes(*given: Any, **more: Any) -> set[str]:
    return {each.code for each in check(*given, **more).warnings if "look-like" in each.code}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize(
    ("given", "code"),
    [
        (PROBS, "logits-look-like-probabilities"),
        (ONE_HOT, "logits-look-like-labels"),
        (GRAD, "logits-look-like-gradients"),
        (GRAD * 4096, "logits-look-like-gradients"),
    ],
    ids=["probabilities", "one-hot", "gradient", "scaled gradient"],
)
def test_logits_that_are_something_else(given: Any, code: str, dtype: str) -> None:
    assert _codes(given.astype(dtype), LABELS) == {code}


def test_ignored_rows_are_passed_over() -> None:
    labels, grad = LABELS.copy(), GRAD.copy()
    for row in (0, 1, 5):
        labels[row], grad[row] = -100, 0.0
    assert _codes(grad, labels) == {"logits-look-like-gradients"}


def test_a_failure_begins_with_the_mistake_that_is_likely() -> None:
    verdict, _, rest = str(check(GRAD, LABELS, grad=LOGITS)).partition("\n\n")
    assert verdict.startswith("FAIL")
    assert rest.startswith(
        "likely  the rows of logits looked at sum to 0 and are negative at the label alone"
    )
    assert rest.count("a gradient?") == 1
    assert "(logits-look-like-gradients)" in str(check(GRAD, LABELS))  # which passes: a warning


def test_one_hot_targets_given_as_probabilities() -> None:
    assert _codes(LOGITS, LABELS, probs=ONE_HOT) == {"probs-look-like-labels"}
    assert _codes(LOGITS, LABELS, probs=PROBS) == set()


@pytest.mark.parametrize(
    "logits",
    [
        LOGITS,
        LOGITS - LOGITS.mean(axis=1, keepdims=True),
        np.log(PROBS),
        RNG.random((ROWS, CLASSES)),
        np.zeros((ROWS, CLASSES)),
        np.where(ONE_HOT > 0, LOGITS, -np.inf),
        np.where(np.arange(CLASSES) == 4, -np.inf, LOGITS)[np.argsort(LABELS == 4)],
        np.vstack([PROBS[:7], LOGITS[7:]]),
        -GRAD,
    ],
    ids=["plain", "centred", "log-probs", "uniform", "zeros", "masked", "masked class", "mixed", "minus"],
)
def test_logits_that_are_logits(logits: Any) -> None:
    labels = np.where(LABELS == 4, 0, LABELS) if np.isneginf(logits).any() else LABELS
    if np.isneginf(logits[np.arange(ROWS), labels]).any():
        labels = logits.argmax(axis=1)
    assert _codes(logits, labels) == set()


def test_two_classes_tell_nothing() -> None:
    half = np.array([[0.25, 0.75], [0.5, 0.5]])
    assert _codes(half, np.array([0, 1])) == set()


def test_few_rows_of_a_large_file_are_read() -> None:
    rows = np.repeat(PROBS[:1], 4096, axis=0)
    labels = np.zeros(len(rows), dtype=int)
    rows[9:] = LOGITS[0]  # beyond what is looked at
    assert _codes(rows, labels) == {"logits-look-like-probabilities"}


def test_swapped_distributions(in_process: Run, tmp_path: Any) -> None:
    np.save(tmp_path / "z.npy", LOGITS)
    np.save(tmp_path / "y.npy", PROBS)
    done = in_process("check", "y.npy", "z.npy")
    assert done.returncode == 2
    assert "are LOGITS and LABELS swapped?" in done.stderr


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("chek logits.npy labels.npy", "Did you mean: softgrad check ...?"),
        ("jacobain logits.npy", "Did you mean: softgrad jacobian ...?"),
        ("logits.npy labels.npy", "Did you mean: softgrad check logits.npy ...?"),
        ("hepl", "Did you mean: softgrad help ...?"),
        ("help chek", "Did you mean: softgrad help check?"),
        ("help convention", "Did you mean: softgrad help conventions?"),
        ("convensions", "Did you mean: softgrad help conventions ...?"),
        ("help nothing-like-it", "No such command 'nothing-like-it'."),
        ("check logits.npy labels.npy grad.npy", "is named by a flag, as in --grad FILE"),
        ("check logits.npy labels.npy --gard grad.npy", "--grad"),
        ("--grad grad.npy", "softgrad check LOGITS LABELS --grad ..."),
        ("--nothing", "No such option"),
        (
            "check labels.npy logits.npy",
            "the LOGITS come first, with one score for each class, the LABELS second",
        ),
        ("check", "Missing argument 'LOGITS', as in: softgrad check logits.npy labels.npy"),
        ("merge", "as in: softgrad merge shard-*.jsonl"),
        ("batch", "as in: softgrad batch dumps/"),
        ("inspect", "as in: softgrad inspect "),
        (
            "linear linear_inputs.npy",
            "no LABELS are given; write softgrad linear INPUTS LABELS --weight FILE",
        ),
        ("check logits.npy labels.npy --grad", "Option '--grad' requires an argument: --grad FILE"),
        ("check logits.npy labels.npy --reduction avg", "softgrad help conventions has the names"),
        (
            "check logits.npy labels.npy --report html=no/x.html",
            "cannot write the report: there is no folder no",
        ),
        ("check logits.npy", "no LABELS are given"),
        ("vjp logits.npy labels.npy", "class labels? softgrad check takes those"),
    ],
)
def test_what_was_most_likely_meant(in_process: Run, typed: str, said: str) -> None:
    done = in_process(*typed.split(), cwd=SAMPLES)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_is_a_command_too(in_process: Run) -> None:
    told = in_process("--help").stdout
    assert in_process("help").stdout == told
    assert in_process("help", "help").stdout == told


@pytest.mark.parametrize("name", ["softgrad", *COMMANDS])
def test_help_shows_the_man_page(in_process: Run, name: str) -> None:
    done = in_process("help", name)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "NAME"
    assert {"SYNOPSIS", "OPTIONS", "EXIT STATUS", "EXAMPLES"} <= set(lines)
    prose = [line for line in lines if not line.startswith(" " * 9)]
    assert max(map(len, prose)) <= 78
    macros = {"Fl", "Ar", "Cm", "Xr", "Va", "Ql", "Qq", "Pq", "Li", "Ta", "Op", "Bl", "El"}
    assert not macros & set(" ".join(prose).split())
    assert "\\-" not in done.stdout


def test_help_shows_the_table_of_conventions(in_process: Run) -> None:
    done = in_process("help", "conventions")
    assert (done.returncode, done.stderr) == (0, "")
    row = "     smooth_alpha=E           --label-smoothing E --smoothing-over others"
    assert row in done.stdout.splitlines()
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_help_is_as_wide_as_the_terminal(in_process: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    described = in_process("help", "check").stdout.partition("DESCRIPTION")[2].partition("OPTIONS")[0]
    assert 50 < max(map(len, described.splitlines())) <= 60


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("Fl h | \\-help", "-h | --help"),
        ("Fl \\-format Ar name ,", "--format name,"),
        ("Xr softgrad-check 1 ,", "softgrad-check(1),"),
        ("Op Ar option ...", "[option ...]"),
        ("Ql | head", "'| head'"),
        ("Qq error : .", '"error":.'),
        ("Pq counts by code ,", "(counts by code),"),
        ("Cm check Ar LOGITS Op Ar LABELS", "check LOGITS [LABELS]"),
    ],
)
def test_macros_become_words(source: str, plain: str) -> None:
    assert words(source) == plain


def test_a_page_that_is_not_there() -> None:
    with pytest.raises(Exception, match="is not installed"):
        manual("nothing", 78)


def test_the_error_of_an_assertion_names_the_option() -> None:
    with pytest.raises(UsageError, match="--label-smoothing"):
        check(LOGITS, LABELS, label_smoothing=1.5)

"""What a terminal shows: the verdict first, no number cut, no text of a user's obeyed."""

from __future__ import annotations

import io
import itertools
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from gradcheck_cli.outcome import Check, Diagnosis, Fact, Outcome, Saved, Verdict, Worst
from gradcheck_cli.report import numbers
from gradcheck_cli.report.table import render

WIDTHS = [60, 80, 120, None]
_LINK = "a[red]b[/red][link=http://evil]c[/link].npy"
HOSTILE = [
    pytest.param(_LINK, _LINK, id="R01"),
    pytest.param("a[/b].npy", "a[/b].npy", id="R02"),
    pytest.param(":boom:.npy", ":boom:.npy", id="R01-emoji"),
    pytest.param("a\x1b[2J\x9b.npy", r"a\x1b[2J\x9b.npy", id="R03"),
    pytest.param("a\x1b]52;c;ZXZpbA==\x07.npy", r"a\x1b]52;c;ZXZpbA==\x07.npy", id="R03-clipboard"),
    pytest.param("a\nPASS\r.npy", r"a\x0aPASS\x0d.npy", id="R04"),
    pytest.param("a\n::error file=app.py::x.npy", r"a\x0a::error file=app.py::x.npy", id="R05"),
    pytest.param("a\u202egpj\u2066.npy", r"a\u202egpj\u2066.npy", id="R03-bidi"),
    pytest.param("a\udcff.npy", r"a\xff.npy", id="F07"),
]


def show(outcome: Outcome, width: int | None = None, *, top: int = 5, verbose: bool = False) -> str:
    """Return what a pipe would be given."""
    stream = io.StringIO()
    console = Console(file=stream, width=width or 80, color_system=None)
    console.print(render(outcome, width=width, top=top, verbose=verbose), soft_wrap=True)
    return stream.getvalue()


def squeezed(text: str) -> str:
    return " ".join(text.split())


def huge(outcome: Outcome) -> Outcome:
    """Return an outcome whose every number is as long as a number gets."""
    inf, nan = float("inf"), float("nan")
    worst = (
        Worst(
            (127, 1023, 151_935),
            151_935,
            -1.2345678901234567e-101,
            -1.2345678901234569e-101,
            2e-117,
            1e-119,
            2e2,
        ),
        Worst((127, 1023, 0), None, nan, 0.25, nan, 1e-300, inf),
        Worst((0, 0, 0), 3, 1.7e308, -1.7e308, inf, 0.0, inf),
    )
    check = Check(
        "grad-weight", Verdict.FAIL, 19_914_555_392, 19_914_555_391, inf, nan, 1.23456e300, inf, inf, 1e308,
        None, "float8_e4m3fn " * 30, "every entry", worst,
    )  # fmt: skip
    inputs = tuple(
        replace(
            i,
            dtype="float8_e4m3fn",
            shape=(128, 1024, 151_936),
            path="/data/" + "数据集/" * 40 + f"{i.role}.npy",
        )
        for i in outcome.inputs
    )
    return replace(outcome, checks=(*outcome.checks[:2], check), inputs=inputs)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_verdict_and_its_reason_come_first_and_the_verdict_last(
    failed: Outcome, width: int | None
) -> None:
    lines = show(failed, width).splitlines()
    assert lines[0].startswith("FAIL  grad: 128 of 5,120 entries (2.5%) are outside")
    assert lines[-1] == "FAIL  1 of 3 checks failed (grad) in 0.12 s"


def test_the_last_line_names_the_bug_for_whom_the_first_has_scrolled_away(failed: Outcome) -> None:
    bug = Diagnosis("sum-for-mean", "convention", "m", "f", "a", {}, 1.0, flags=("--reduction", "sum"))
    last = show(replace(failed, diagnosis=(bug,)), 100).splitlines()[-1]
    assert last == "FAIL  1 of 3 checks failed (grad) in 0.12 s; sum-for-mean (pass --reduction sum)"


def test_what_has_no_name_is_answered_with_what_to_do_next(failed: Outcome) -> None:
    found = replace(failed, facts=(Fact("zeros", "3 of the failing entries got exactly 0"),))
    assert "advice     see what the failing entries share; softgrad check --save-failure DIR" in show(
        found, 200
    )
    kept = replace(found, saved=Saved("out", 3, "softgrad check ..."))
    assert "--save-failure" not in show(kept, 200)


def test_what_was_handed_in_comes_first_among_the_largest_margins(passed: Outcome) -> None:
    told = re.findall(r"^largest margins of (\S+)", show(passed, 100, verbose=True), re.MULTILINE)
    assert told == ["grad", "difference"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(failed: Outcome, passed: Outcome, width: int) -> None:
    several = (failed, passed, huge(failed))
    for outcome, verbose in itertools.product(several, (False, True)):
        lines = show(outcome, width, verbose=verbose).splitlines()
        assert max(map(cell_len, lines)) <= width
        assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_number_is_whole_or_its_column_is_named_as_left_out(failed: Outcome, width: int | None) -> None:
    outcome = huge(failed)
    shown = show(outcome, width)
    cells = set(re.split(r"\s{2,}|\n", shown))
    notes = re.findall(r"\(too narrow for ([^)]*)\)", shown)
    left_out = {heading for note in notes for heading in re.split(", | and ", squeezed(note))}
    check = outcome.checks[-1]
    wanted = [
        ("entries", numbers.count(check.entries)),
        ("failing", numbers.count(check.failing)),
        ("max ulp", numbers.number(check.max_ulp_error or 0, 2)),
    ]
    for worst in check.worst:
        got, expected = numbers.apart(worst.got, worst.expected, numbers.VALUE_DIGITS)
        wanted += [("index", numbers.index(worst.index)), ("got", got), ("expected", expected)]
        wanted += [("allowed", numbers.apart(worst.abs_error, worst.allowed)[1])]
    for heading, text in wanted:
        assert text in cells or heading in left_out, (heading, text)
    assert not {"failing", "index", "got", "margin", "check", "verdict"} & left_out
    assert width is not None or not left_out


def test_a_console_narrower_than_the_lines_cuts_nothing(failed: Outcome) -> None:
    assert show(failed, None) == show(failed, 10_000)
    assert "--atol 0.26 --rtol 0 or with --atol 0 --rtol 1.7" in show(failed, None)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("path", "seen"), HOSTILE)
def test_a_users_text_is_shown_and_never_obeyed(
    failed: Outcome, path: str, seen: str, width: int | None
) -> None:
    first = replace(failed.inputs[0], path=path, notes=(f"read {path}",))
    warning = replace(failed.warnings[0], message=f"see {path}")
    shown = show(replace(failed, inputs=(first,), warnings=(warning,)), width)
    assert shown.count(seen) == 3 or (width == 60 and shown.count(seen) == 2)  # one path is shortened there
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert not re.search("^(PASS|gpj|::)", shown, re.MULTILINE)


def test_a_long_path_keeps_its_end_and_off_a_terminal_all_of_it(failed: Outcome) -> None:
    path = "/scratch/" + "very-long-name/" * 12 + "dlogits.npy"
    outcome = replace(failed, inputs=(replace(failed.inputs[2], path=path),))
    narrow = next(line for line in show(outcome, 80).splitlines() if line.startswith("grad"))
    assert narrow.endswith("/dlogits.npy")
    assert "/scratch" in narrow
    assert "..." in narrow
    assert path in show(outcome, None)


def test_a_member_of_a_bundle_is_named(failed: Outcome) -> None:
    bundled = replace(failed.inputs[0], path="dump.npz", member="logits", order="F")
    shown = show(replace(failed, inputs=(bundled,)))
    assert "dump.npz:logits" in shown
    assert "F order" in shown


def test_the_grid_is_told_where_it_differs_from_the_dtype(failed: Outcome) -> None:
    assert "values on the bfloat16 grid" in show(failed)
    same = tuple(replace(i, grid=i.dtype) for i in failed.inputs)
    assert "grid" not in show(replace(failed, inputs=same))


def test_settings_that_are_not_defaults_are_shown_and_all_of_them_with_verbose(failed: Outcome) -> None:
    assert "settings  --reduction sum, --label-smoothing 0.1\n" in show(failed)
    assert all(f"--{name.replace('_', '-')} " in show(failed, verbose=True) for name in failed.settings)
    assert "settings" not in show(replace(failed, settings={"top": 3, "threads": 2}))


def test_the_data_line(failed: Outcome) -> None:
    assert "data      512 rows, 10 classes on axis 1, class labels, 3 ignored, divisor 509\n" in show(failed)


def test_worst_entries_are_those_of_failing_checks(failed: Outcome) -> None:
    shown = show(failed)
    assert "worst of grad, 3 of 128 failing" in shown
    assert "largest margins of difference" not in shown
    assert "largest margins of difference" in show(failed, verbose=True)
    assert "[4, 7]" not in show(failed, top=1)
    assert "worst of grad, 1 of 128 failing" in show(failed, top=1)
    assert "worst of" not in show(failed, top=0)
    assert "grad would have passed with" in show(failed, top=0)


def test_no_label_column_where_nothing_has_a_label(failed: Outcome) -> None:
    check = failed.checks[-1]
    bare = replace(check, worst=tuple(replace(w, label=None) for w in check.worst))
    assert "index     label" in show(failed)
    assert "index     label" not in show(replace(failed, checks=(bare,)))


@pytest.mark.parametrize(
    ("atol", "rtol", "said"),
    [
        (0.2514, 1.7, "grad would have passed with --atol 0.26 --rtol 0 or with --atol 0 --rtol 1.7"),
        (0.2514, float("inf"), "grad would have passed with --atol 0.26 --rtol 0"),
        (float("nan"), float("inf"), "No tolerance would have passed grad."),
    ],
)
def test_the_tolerance_that_would_have_passed(failed: Outcome, atol: float, rtol: float, said: str) -> None:
    check = replace(failed.checks[-1], required_atol=atol, required_rtol=rtol)
    assert f"\n{said}\n" in show(replace(failed, checks=(check,)))


def test_where_the_allowance_comes_from_and_what_was_sampled(failed: Outcome, passed: Outcome) -> None:
    for outcome in (failed, passed):
        assert "grad: float32: rounding of the forward pass" in show(outcome)
        assert "audit: not every entry, -v says which" in show(outcome)
        assert "audit: 256 of 5,120 entries, drawn with seed 0" in show(outcome, verbose=True)
    assert "difference and audit: truncation" not in show(passed)
    assert "difference and audit: truncation" in show(passed, verbose=True)
    given = replace(passed, settings={**passed.settings, "rtol": 0.0, "atol": 1e-5})
    assert "--rtol 0 --atol 1e-05 replaces the proven bound" in show(given)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_an_index_and_a_flag_with_its_number_stay_on_one_line(failed: Outcome, width: int) -> None:
    shown = show(failed, width)
    assert "at [3, 7]" in squeezed(shown)
    assert "[3, 7]" in shown.split("\n\n")[0]
    assert "--atol 0.26 --rtol 0" in shown
    assert "--atol 0 --rtol 1.7" in shown


def test_an_inconclusive_report_names_the_ruler_and_advises_no_tolerance(failed: Outcome) -> None:
    off = replace(failed.checks[0], verdict=Verdict.FAIL, failing=3, max_margin=7.0)
    shown = show(replace(failed, checks=(off, replace(failed.checks[-1], verdict=Verdict.INCONCLUSIVE))))
    assert shown.startswith("INCONCLUSIVE  softgrad's own check 'difference' is off")
    assert shown.endswith("INCONCLUSIVE  2 of 2 checks did not pass (difference and grad) in 0.12 s\n")
    assert "worst of difference, 1 of 3 failing" in shown
    assert "would have passed" not in shown


def test_entries_within_their_allowance_are_not_listed_as_failing(failed: Outcome, passed: Outcome) -> None:
    shown = show(replace(failed, checks=(replace(failed.checks[-1], failing=1),)))
    assert "worst of grad, 1 of 1 failing" in shown
    assert "[4, 7]" not in shown
    empty = replace(failed.checks[-1], entries=0, failing=0, worst=())
    assert "would have passed" not in show(replace(failed, checks=(empty,)))
    undecided = replace(passed.checks[-1], verdict=Verdict.INCONCLUSIVE)
    assert "worst of grad" not in show(replace(passed, checks=(undecided,)))


def test_a_warning_is_shown_with_its_code(passed: Outcome) -> None:
    assert "near 1 would not show (no-confident-row)" in squeezed(show(passed, 60))
    assert "warning" not in show(replace(passed, warnings=()))


def test_an_outcome_without_inputs_or_checks_can_be_shown(passed: Outcome) -> None:
    assert show(replace(passed, inputs=(), checks=(), warnings=())).startswith(
        "INCONCLUSIVE  nothing was verified"
    )


def test_colour_is_on_the_verdict_and_says_nothing_alone(failed: Outcome) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system="standard", no_color=False)
    console.print(render(failed, width=80), soft_wrap=True)
    coloured = stream.getvalue()
    assert coloured.startswith("\x1b[1;31mFAIL")
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == show(failed, 80)


def test_our_own_words_are_ascii(failed: Outcome, passed: Outcome) -> None:
    assert show(failed, verbose=True).isascii()
    assert show(passed, 60).isascii()


@pytest.mark.parametrize("module", ["report", "report.document", "report.line", "report.numbers"])
def test_only_the_table_pulls_in_rich(module: str) -> None:
    program = f"import sys, gradcheck_cli.{module}; sys.exit('rich' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

"""Small cases judged together: of those that pass, what a run of its own tells; of the others nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.batch.case import Case
from gradcheck_cli.batch.cluster import run_chunk
from gradcheck_cli.batch.discover import Told, discover
from gradcheck_cli.batch.journal import Journal
from gradcheck_cli.batch.result import How, result_of
from gradcheck_cli.batch.run import Plan, local, run
from gradcheck_cli.batch.stack import LEAST, MOST, passing, passing_of, stacks
from gradcheck_cli.batch.store import Store
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.settings import Settings
from gradcheck_cli.summary import Head, Summary
from tests.batch.conftest import make_case
from tests.batch.test_run import Silent
from tests.cli.conftest import Run

CASES = 8
"""Plain ones of a folder: each is 32 rows of logits, the larger the higher its number."""


def exports(z: Floats, labels: Indices, by: Settings) -> dict[str, Floats]:
    """Return what a right exporter writes under some conventions, as one writes it down."""
    c, t, e, classes = by.softcap, by.temperature, by.label_smoothing, z.shape[1]
    capped = z if c is None else c * np.tanh(z / c)
    slope = (1.0 if c is None else 1 - np.tanh(z / c) ** 2) / t
    v = capped / t
    d = v - v.max(axis=1, keepdims=True)
    lse = v.max(axis=1, keepdims=True) + np.log(np.exp(d).sum(axis=1, keepdims=True))
    a = np.exp(d) / np.exp(d).sum(axis=1, keepdims=True)
    counted = labels != by.ignore_index
    label = np.eye(classes)[labels * counted]
    q = (1 - e) * label + (e / classes if by.smoothing_over == "classes" else e / (classes - 1) * (1 - label))
    divisor = {"mean": counted.sum(), "sum": 1, "batch": len(z), "full": len(z), "none": 1}[by.reduction]
    grad = (a - q + 2 * by.z_loss * lse * a) * slope * counted[:, None] / (by.normalizer or divisor)
    return {"grad": grad, "probs": a, "log_probs": v - lse}


def write(folder: Path, name: str, arrays: dict[str, Any]) -> None:
    """Write the files of a case."""
    folder.mkdir(parents=True, exist_ok=True)
    for role, array in arrays.items():
        np.save(folder / f"{name}_{role}.npy", array)


def plain(number: int, by: Settings, roles: Sequence[str], dtype: Any = np.float32, classes: int = 10) -> Any:
    """Return the files of a right case; rows are ignored in every third."""
    rng = np.random.default_rng(number)
    z = (rng.normal(size=(32, classes)) * (1 + number)).astype(dtype)
    labels = rng.integers(0, classes, 32)
    if number % 3 == 0:
        labels[rng.integers(0, 32, 4)] = by.ignore_index
    found = exports(z.astype(np.float64), labels, by)
    return {"logits": z, "labels": labels} | {role: found[role].astype(dtype) for role in roles}


def odd(by: Settings, roles: Sequence[str]) -> dict[str, Any]:
    """Return cases that no stack may take, by name: wrong, undecided, out of the ordinary."""
    found = {}
    for number, name in enumerate(("wrong", "nan", "class", "ignored", "narrow", "torn", "bent", "masked")):
        case = found[name] = plain(40 + number, by, roles)
        grad = case[roles[0]]
        if name == "wrong":
            grad[7, 3] += 1e-3
        if name == "nan":
            grad[0, 0] = np.nan
        if name == "class":
            case["labels"][3] = 10
        if name == "ignored":
            case["labels"][:] = by.ignore_index
        if name == "narrow":
            case[roles[0]] = grad.astype(ml_dtypes.bfloat16).astype(np.float32)
        if name == "bent":
            case[roles[0]] = grad.T.copy()
        if name == "masked":
            case["logits"][5, (case["labels"][5] + 1) % 10] = -np.inf
    return found


def told(folder: Path, options: dict[str, Any] | None = None) -> tuple[list[Head], list[Head]]:
    """Return what stacks tell of a folder's cases, and what runs of their own tell of all."""
    cases = discover([str(folder)], Told(options or {}, {})).cases
    heads = passing_of(dict(enumerate(cases)))
    alone = [result_of(case, number, How()).head for number, case in enumerate(cases)]
    return [replace(each, seconds=0.0) for each in heads], [replace(each, seconds=0.0) for each in alone]


CONVENTIONS: list[dict[str, Any]] = [
    {},
    {"reduction": "sum"},
    {"reduction": "full", "ignore_index": 3},
    {"reduction": "batch"},
    {"normalizer": 7.5},
    {"label_smoothing": 0.1},
    {"label_smoothing": 0.2, "smoothing_over": "others"},
    {"temperature": 0.7},
    {"softcap": 5.0},
    {"z_loss": 1e-3},
    {"compute_dtype": "float64"},
    {"rtol": 1e-3, "atol": 1e-5},
    {"seed": 5, "top": 0},
]


@pytest.mark.parametrize("by", CONVENTIONS, ids=str)
@pytest.mark.parametrize("roles", [["grad"], ["probs", "grad", "log_probs"]], ids=len)
def test_a_stack_tells_of_a_case_what_a_run_of_its_own_tells(
    tmp_path: Path, by: dict[str, Any], roles: list[str]
) -> None:
    for number in range(CASES):
        write(tmp_path, f"c{number:02}", plain(number, Settings(**by), roles))
    for name, arrays in odd(Settings(**by), roles).items():
        write(tmp_path, name, arrays)
    torn = tmp_path / "torn_logits.npy"
    torn.write_bytes(torn.read_bytes()[:-4])
    heads, alone = told(tmp_path, by)
    assert heads == [alone[head.number] for head in heads]
    assert all(head.verdict == "pass" for head in heads)
    names = {head.case.rpartition("/")[2] for head in heads}
    right = {head.case.rpartition("/")[2] for head in alone if head.verdict == "pass"}
    assert right - {"narrow", "bent", "masked"} == names - {"wrong"}
    assert len(names) >= (CASES if "compute_dtype" not in by else 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.dtype(">f4")], ids=str)
@pytest.mark.parametrize("classes", [2, 10, 33, 100])
def test_the_type_and_the_number_of_classes_change_nothing(tmp_path: Path, dtype: Any, classes: int) -> None:
    for number in range(CASES):
        write(tmp_path, f"c{number:02}", plain(number, Settings(), ["grad"], dtype, classes))
    heads, alone = told(tmp_path)
    assert heads == alone


@pytest.mark.parametrize("labels", [np.uint8, np.int16, np.dtype(">u8")], ids=str)
def test_labels_may_be_whole_numbers_of_any_type(tmp_path: Path, labels: Any) -> None:
    for number in range(LEAST):
        case = plain(3 * number + 1, Settings(), ["grad"])
        write(tmp_path, f"c{number}", case | {"labels": case["labels"].astype(labels)})
    heads, alone = told(tmp_path)
    assert heads == alone


@pytest.mark.parametrize("shape", [(3,), (4, 3, 5), (2, 3, 2, 2)])
def test_logits_of_any_shape_are_stacked_along_a_new_axis(tmp_path: Path, shape: tuple[int, ...]) -> None:
    axis = min(1, len(shape) - 1)
    outer = shape[:axis] + shape[axis + 1 :]
    for number in range(CASES):
        rng = np.random.default_rng(number)
        z, labels = rng.normal(size=shape).astype(np.float32), rng.integers(0, 3, outer)
        a = np.exp(z) / np.exp(z).sum(axis=axis, keepdims=True)
        grad = (a - np.moveaxis(np.eye(3)[labels], -1, axis)) / max(labels.size, 1)
        write(tmp_path, f"c{number}", {"logits": z, "labels": labels, "grad": grad.astype(np.float32)})
    heads, alone = told(tmp_path, {"axis": axis})
    assert {head.number for head in heads} == set(range(CASES))
    assert heads == [alone[head.number] for head in heads]


def test_cases_of_several_forms_are_stacked_by_form(tmp_path: Path) -> None:
    for number in range(3 * LEAST):
        make_case(tmp_path, f"c{number:02}_", number, rows=(8, 9, 20_000)[number % 3])
    heads, alone = told(tmp_path)
    assert sorted(heads, key=lambda head: head.number) == [each for each in alone if each.number % 3 < 2]


def test_what_is_not_plain_by_its_options_is_not_stacked(tmp_path: Path) -> None:
    for number in range(LEAST):
        make_case(tmp_path, f"c{number}_", number)
    for options in (
        {"method": "complex"},
        {"order": 2},
        {"logits_rounded": "bfloat16"},
        {"dtype": ("grad=int32",)},
    ):
        assert told(tmp_path, options)[0] == []
    assert len(told(tmp_path)[0]) == LEAST


def test_a_wrong_ruler_leaves_every_case_to_a_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(LEAST):
        make_case(tmp_path, f"c{number}_", number)
    monkeypatch.setattr("gradcheck_cli.numeric.methods.five_point", lambda *_: 0.25)
    assert told(tmp_path)[0] == []


def test_a_bug_in_a_stack_is_told_by_the_runs_that_follow(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("gradcheck_cli.batch.stack.pose", broken)
    assert passing_of(dict(enumerate(plan.cases))) == []
    assert dict(outcome(plan)[0].counts) == {"pass": 7, "fail": 1, "error": 1}


def test_stacks_have_every_case_once_and_are_shared_among_the_processes() -> None:
    files = (("logits", "a"), ("labels", "b"), ("grad", "c"))
    cases = [Case(str(n), "check", files, (("reduction", "sum"),) * (n % 2)) for n in range(1000)]
    cases[7], cases[9] = replace(cases[7], refusal="no"), replace(cases[9], command="vjp")
    piles, apart = stacks(cases, range(10, 1000), 2)
    assert sorted([*apart, *(number for pile in piles for number in pile)]) == list(range(10, 1000))
    assert all(LEAST <= len(pile) <= MOST for pile in piles)
    assert all(len({cases[number].options for number in pile}) == 1 for pile in piles)
    assert [len(pile) for pile in piles].count(61) == 16
    assert stacks(cases, range(7, 10), 2)[1] == [7, 9, 8]


# As a part of a batch.


def outcome(plan: Plan, journal: Journal | None = None) -> tuple[Summary, Silent]:
    """Run a plan of which only heads are wanted."""
    watch = Silent()
    with closing(Store()) as store:
        plan = replace(plan, how=replace(plan.how, lines=False))
        return run(plan, local(plan, watch), store, watch, journal), watch


def described(summary: Summary) -> tuple[Any, ...]:
    """Return a summary without its time."""
    return summary.document(), [replace(head, seconds=0.0) for head in summary.failures], summary.exit_code


def test_a_batch_that_reports_no_case_comes_to_the_same(plan: Plan) -> None:
    watch = Silent()
    with closing(Store()) as store:
        whole = run(plan, local(plan, watch), store, watch, None)
    assert described(outcome(plan)[0]) == described(whole)


def test_a_chunk_of_a_cluster_is_stacked_too(plan: Plan) -> None:
    chunk = [(number, case.record()) for number, case in enumerate(plan.cases)]
    whole = {head["number"]: head for head, _ in run_chunk(chunk, How())}
    found = {head["number"]: head for head, _ in run_chunk(chunk, How(lines=False))}
    timeless = [{**each, "seconds": 0.0} for each in (*whole.values(), *found.values())]
    assert found.keys() == whole.keys()
    assert all(each in timeless[: len(whole)] for each in timeless[len(whole) :])


@pytest.mark.parametrize("hangs", [False, True])
def test_a_stack_that_is_lost_is_done_case_by_case(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    def deadly(_: Sequence[tuple[int, Case]]) -> list[Head]:
        if hangs:
            time.sleep(60)
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    expected = described(outcome(plan)[0])
    monkeypatch.setattr("gradcheck_cli.batch.stack.passing", deadly)
    summary, watch = outcome(replace(plan, timeout=1.0 if hangs else None))
    assert described(summary) == expected
    assert watch.retried == []  # no case is to blame


def test_a_case_that_kills_its_worker_in_a_stack_is_the_only_one_lost(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deadly(numbered: Sequence[tuple[int, Case]]) -> list[Head]:
        if 4 in dict(numbered):
            os.kill(os.getpid(), signal.SIGKILL)
        return passing(numbered)

    def alone(case: Case, number: int, how: How) -> Any:
        if number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return result_of(case, number, how)

    monkeypatch.setattr("gradcheck_cli.batch.stack.passing", deadly)
    monkeypatch.setattr("gradcheck_cli.batch.run.result_of", alone)
    summary, watch = outcome(plan)
    assert dict(summary.counts) == {"pass": 6, "fail": 1, "error": 2}
    assert [name for name, _ in watch.retried] == [plan.cases[4].name]


@pytest.mark.parametrize("words", [[], ["-q"], ["-qq"], ["-v"]])
def test_the_command_says_the_same_with_reports_and_without(
    softgrad: Run, cases: Path, tmp_path: Path, words: list[str]
) -> None:
    bare = softgrad("batch", cases, *words)
    told_all = softgrad("batch", cases, *words, "--report", f"jsonl={tmp_path / 'all.jsonl'}")
    assert bare.returncode == told_all.returncode == 1
    assert _timeless(bare.stdout) == _timeless(told_all.stdout)


def _timeless(text: str) -> str:
    return "\n".join(line.rpartition(" in ")[0] or line for line in text.splitlines())

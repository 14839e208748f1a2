"""The accuracy grade: each way of computing gets its own name, and no name where nothing explains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.grades import Grade, ulp_bins
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import FLOAT16, FLOAT32
from gradcheck_cli.outcome import Outcome, Verdict
from tests.conftest import Examine, named

Array = np.ndarray[Any, Any]
CLASSES = 4097
STORED = {"float64": np.float64, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def _stagnating() -> tuple[Array, Array]:
    """Return a row whose float32 sum in order never grows: 1, and thousands of a little under half an ulp."""
    z = np.full((1, CLASSES), np.log(2.0**-24 * 0.98), dtype=np.float32)
    z[0, 0] = 0.0
    return z, np.array([0])


def _gradient(z: Array, labels: Array, total: Callable[[Array], Any]) -> Array:
    """Return a float32 softmax gradient, given how the exponentials are summed."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / np.array([[np.float32(total(row))] for row in e])
    p[np.arange(len(z)), labels] -= np.float32(1)
    out: Array = p
    return out


def _in_order(row: Array) -> Any:
    return np.add.accumulate(row)[-1]


def _in_lanes(row: Array) -> Any:
    lanes = np.resize(row[: len(row) // 8 * 8], (len(row) // 8, 8))
    return np.add.accumulate(lanes)[-1].sum(dtype=np.float32) + row[len(row) // 8 * 8 :].sum()


def _in_a_tree(row: Array) -> Any:
    while len(row) > 1:
        row = np.append(row, np.float32(0)) if len(row) % 2 else row
        row = row[::2] + row[1::2]
    return row[0]


def _softmax(z: Array) -> Array:
    e = np.exp(z.astype(np.float64) - z.max(axis=1, keepdims=True).astype(np.float64))
    a: Array = e / e.sum(axis=1, keepdims=True)
    return a


def _problem(rows: int = 40, classes: int = 30, scale: float = 3.0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(8)
    z = (scale * rng.normal(size=(rows, classes))).astype(ml_dtypes.bfloat16).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    right = _softmax(z)
    right[np.arange(rows), labels] -= 1.0
    return z, labels, right


@pytest.mark.parametrize("dtype", STORED)
def test_what_was_rounded_once_is_correctly_rounded(examine: Examine, dtype: str) -> None:
    z, labels, right = _problem()
    outcome = examine(z, labels, {"reduction": "sum"}, grad=right.astype(STORED[dtype]))
    known = "tree" if dtype == "float64" else "correctly rounded"  # softgrad itself is no better than float64
    assert (outcome.verdict, named(outcome, "grad").explained_by) == (Verdict.PASS, known)


@pytest.mark.parametrize(
    ("total", "words"),
    [
        pytest.param(_in_a_tree, "tree", id="tree"),
        pytest.param(_in_lanes, "lanes", id="lanes"),
        pytest.param(_in_order, "any order", id="order"),
    ],
)
def test_the_order_of_a_sum_is_named(examine: Examine, total: Callable[[Array], Any], words: str) -> None:
    z, labels = _stagnating()
    outcome = examine(z, labels, grad=_gradient(z, labels, total))
    assert (outcome.verdict, named(outcome, "grad").explained_by) == (Verdict.PASS, words)
    codes = [each.code for each in outcome.warnings]
    assert ("summation-order" in codes) == (words == "any order")


def test_a_rounded_logsumexp_is_named(examine: Examine) -> None:
    z, labels, _ = _problem(classes=10)
    z += np.float32(1000)
    e = np.exp((z - z.max(axis=1, keepdims=True)).astype(np.float64))
    lse = (z.max(axis=1).astype(np.float64) + np.log(e.sum(axis=1))).astype(np.float32)
    p = np.exp(z - lse[:, None])
    p[np.arange(len(z)), labels] -= np.float32(1)
    outcome = examine(z, labels, {"reduction": "sum"}, grad=p)
    assert (outcome.verdict, named(outcome, "grad").explained_by) == (Verdict.PASS, "fused lse")
    assert "fused-lse" in [each.code for each in outcome.warnings]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_arithmetic_in_16_bits_is_named(examine: Examine, dtype: str) -> None:
    z, labels, _ = _problem()
    kind = STORED[dtype]
    z = z.astype(kind)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.astype(np.float32).sum(axis=1, keepdims=True).astype(kind)
    p[np.arange(len(z)), labels] -= kind(1)
    outcome = examine(z.astype(np.float32), labels, {"reduction": "sum"}, grad=p.astype(kind))
    assert (outcome.verdict, named(outcome, "grad").explained_by) == (Verdict.PASS, "native half")


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"softcap": 9.0}])
def test_no_model_explains_what_fails(examine: Examine, settings: dict[str, Any]) -> None:
    z, labels, right = _problem()
    outcome = examine(z, labels, settings, grad=(1.01 * right).astype(np.float32))
    assert (outcome.verdict, named(outcome, "grad").explained_by) == (Verdict.FAIL, None)


def test_a_tolerance_grades_nothing(examine: Examine) -> None:
    z, labels, right = _problem()
    outcome = examine(z, labels, {"reduction": "sum", "rtol": 0.1, "atol": 0.1}, grad=right)
    assert (outcome.verdict, named(outcome, "grad").explained_by) == (Verdict.PASS, None)


@pytest.mark.parametrize("role", ["probs", "log-probs", "grad-probs", "loss"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_everything_handed_in_is_graded(examine: Examine, role: str, dtype: str) -> None:
    """Rounded once it is correctly rounded; three units off it is not."""
    z, labels, _ = _problem()
    a = _softmax(z)
    at_label = (np.arange(len(z)), labels)
    at_probs = np.zeros_like(a)
    at_probs[at_label] = -1.0 / a[at_label]
    right = {"probs": a, "log-probs": np.log(a), "grad-probs": at_probs, "loss": -np.log(a[at_label])}[role]
    settings = {"reduction": "none" if role == "loss" else "sum"}
    if dtype == "float32":
        outcome = examine(z, labels, settings, **{role: right.astype(np.float32)})
        assert named(outcome, role).explained_by == "correctly rounded"
    off = (right * (1 + 3 * 2.0 ** -(53 if dtype == "float64" else 24))).astype(dtype)
    outcome = examine(z, labels, settings, **{role: off})
    assert (outcome.verdict, named(outcome, role).explained_by) == (Verdict.PASS, "tree")


def _codes(outcome: Outcome) -> list[str]:
    return [each.code for each in outcome.warnings]


@pytest.mark.parametrize("rows", [80, 1000])
def test_a_handful_of_entries_off_in_16_bits_is_undecided(examine: Examine, rows: int) -> None:
    """16-bit arithmetic shows everywhere; two rows with an entry that only it explains are no sign of it."""
    z, labels, right = _problem(rows=rows)
    grad = right.astype(ml_dtypes.bfloat16).astype(np.float64)
    for row in (5, rows - 9):
        column = int(np.argmax(np.where(np.arange(30) == labels[row], 0.0, right[row])))
        grad[row, column] *= 1.02
    grad = grad.astype(ml_dtypes.bfloat16)
    outcome = examine(z, labels, {"reduction": "sum"}, grad=grad)
    assert (outcome.verdict, outcome.exit_code) == (Verdict.INCONCLUSIVE, 2)
    assert "few-entries-strained" in _codes(outcome)
    decided = examine(z, labels, {"reduction": "sum", "compute_dtype": "float32"}, grad=grad)
    assert (decided.verdict, named(decided, "grad").failing) == (Verdict.FAIL, 2)
    allowed = examine(z, labels, {"reduction": "sum", "compute_dtype": "bfloat16"}, grad=grad)
    assert allowed.verdict is Verdict.PASS


def test_a_label_rounded_twice_is_no_handful(examine: Examine) -> None:
    """Probabilities rounded to 16 bits and 1 subtracted in them: only the labels show it, one entry a row."""
    z, labels, _ = _problem(rows=2000, classes=10, scale=1.0)
    p = _softmax(z).astype(ml_dtypes.bfloat16)
    p[np.arange(len(z)), labels] -= ml_dtypes.bfloat16(1)
    outcome = examine(z, labels, {"reduction": "sum"}, grad=p)
    assert (outcome.verdict, named(outcome, "grad").explained_by) == (Verdict.PASS, "native half")


def test_targets_summed_in_bfloat16_are_no_bug(examine: Examine) -> None:
    """jax.grad (jax 0.10.2, CPU) of smoothed cross-entropy in bfloat16: log-softmax's backward sums the
    targets in bfloat16, one by one, and is 9 % off at the likeliest class.
    """  # noqa: D205 - the provenance
    z = np.zeros((1, 28), np.float32)
    z[0, 1] = 8.0
    grad = np.full((1, 28), -0.0036163330078125, np.float32)
    grad[0, :2] = -1.015625, 1.2109375
    settings = {"label_smoothing": 0.1, "reduction": "sum"}
    assert examine(z, np.array([0]), settings, upstream=1.125, grad=grad).verdict is Verdict.PASS


def test_targets_summed_in_order_are_no_bug_in_float32(examine: Examine) -> None:
    """Exponentials that stagnate and smoothed targets that pile up, each summed one by one."""
    f, classes = np.float32, 1000
    z = np.full((1, classes), np.log(0.98 * 2.0**-24), dtype=f)
    z[0, 0] = 0.0
    e, targets = np.exp(z), np.full((1, classes), f(0.1) / f(classes), dtype=f)
    targets[0, 0] += f(1) - f(0.1)
    total, mass = (np.add.accumulate(each, axis=1)[:, -1:] for each in (e, targets))
    grad = mass * (e / total) - targets
    outcome = examine(z, np.array([0]), {"label_smoothing": 0.1, "reduction": "sum"}, grad=grad)
    assert outcome.verdict is Verdict.PASS


def test_a_row_of_hardly_more_than_subnormals_may_be_off_by_one(examine: Examine) -> None:
    """A sixth of the largest entry is less than float16 can tell apart there."""
    z = np.zeros((1, 4), np.float32)
    eta = FLOAT16.smallest_subnormal
    right = np.array([[-3.0, 1.0, 1.0, 1.0]]) * eta
    off = right + np.array([[eta, 0, 0, 0]])
    settings = {"reduction": "sum"}
    outcome = examine(z, np.array([0]), settings, upstream=4.0 * eta, grad=off.astype(np.float16))
    assert outcome.verdict is Verdict.PASS


def test_half_a_spacing_is_what_rounding_once_costs(examine: Examine) -> None:
    """At 1.9 times a power of two a whole unit roundoff of the entry is 1.9 half spacings: too much."""
    z, labels, right = _problem(rows=400)
    once = right.astype(ml_dtypes.bfloat16).astype(np.float64)
    at = np.argwhere((np.abs(right) > 1e-3) & (np.abs(np.frexp(right)[0]) > 0.9))[0]
    spacing = 2.0 ** (np.floor(np.log2(abs(once[tuple(at)]))) - 7)
    once[tuple(at)] += spacing * np.sign(right[tuple(at)] - once[tuple(at)])
    settings = {"reduction": "sum", "compute_dtype": "float32"}
    outcome = examine(z, labels, settings, grad=once.astype(ml_dtypes.bfloat16))
    assert [each.index for each in named(outcome, "grad").worst if each.margin > 1] == [tuple(at)]


def test_what_underflows_is_counted(examine: Examine) -> None:
    z, labels, right = _problem(scale=8.0)
    grad = right.astype(np.float16)
    outcome = examine(z, labels, {"reduction": "sum"}, grad=grad)
    lost = int(np.count_nonzero((grad == 0) & (right != 0)))
    (said,) = [each.message for each in outcome.warnings if each.code == "underflow"]
    assert outcome.verdict is Verdict.PASS
    assert said.startswith(f"grad: {lost:,} of {right.size:,} entries")


def test_subnormals_may_be_flushed_everywhere_but_not_here_and_there(examine: Examine) -> None:
    z, labels, right = _problem(scale=8.0)
    grad = right.astype(np.float16)
    subnormal = (grad != 0) & (np.abs(grad) < FLOAT16.smallest_normal)
    assert subnormal.sum() > 10
    everywhere = np.where(subnormal, 0, grad)
    assert examine(z, labels, {"reduction": "sum"}, grad=everywhere).verdict is Verdict.PASS
    half = subnormal & (np.arange(30) < 15)
    here = examine(z, labels, {"reduction": "sum"}, grad=np.where(half, 0, grad))
    assert here.verdict is Verdict.FAIL


def test_a_gradient_that_vanished_whole_is_undecided(examine: Examine) -> None:
    """Every entry may be below what float16 holds: then zeros are right, and say nothing."""
    z, labels, _ = _problem()
    outcome = examine(z, labels, {"normalizer": 1e9}, grad=np.zeros(z.shape, np.float16))
    assert outcome.verdict is Verdict.INCONCLUSIVE
    assert "underflow" in _codes(outcome)


def test_ulps_are_counted_by_share() -> None:
    right = np.full((1, 1000), 1.5)
    wrong = right + 2.0**-23 * np.repeat([0.25, 4.0, 1024.0], [600, 380, 20])
    grade = Grade(ulps=ulp_bins(wrong, right, FLOAT32))
    assert (grade.counted, grade.quantile(0.5), grade.quantile(0.97)) == (1000, 0.25, 4.0)
    assert grade.quantile(0.99) == 1024.0


@pytest.mark.parametrize("got", [np.nan, np.inf])
def test_no_number_counts_as_infinitely_many_ulps(got: float) -> None:
    grade = Grade(ulps=ulp_bins(np.array([got, 1.0]), np.array([1.0, 1.0]), FLOAT32))
    assert (grade.quantile(0.5), grade.quantile(1.0)) == (0.0, np.inf)


def test_grades_merge_in_any_order() -> None:
    first = Grade(Model.TREE, 5, 2, 1, 1, 2, 0.1, 0, 3, ((3, 4), (9, 1)))
    second = Grade(Model.LANES, 7, 3, 0, 0, 1, 0.4, 1, 2, ((1, 1), (9, 5)))
    both = Grade(Model.LANES, 12, 5, 1, 1, 3, 0.4, 1, 5, ((1, 1), (3, 4), (9, 6)))
    assert first.merge(second) == second.merge(first) == both
    assert Grade.of_record(both.record()) == both

"""--logits-rounded: a kernel worked on more exact logits than those that were exported."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.outcome import Outcome, Verdict
from tests.conftest import Examine, named

Array = np.ndarray[Any, Any]
ROUNDED = {"logits_rounded": "bfloat16", "reduction": "sum"}


def _exported(offset: float = 0.0) -> tuple[Array, Array, Array]:
    """Return bfloat16 logits, and labels and float32 gradient of the float32 ones they were rounded from."""
    rng = np.random.default_rng(21)
    z = (3 * rng.normal(size=(64, 40)) + offset).astype(np.float32)
    labels = rng.integers(0, 40, 64)
    z[::5] += 18 * np.eye(40, dtype=np.float32)[labels[::5]]
    e = np.exp(z.astype(np.float64) - z.max(axis=1, keepdims=True))
    a = e / e.sum(axis=1, keepdims=True)
    return z.astype(ml_dtypes.bfloat16), labels, (a - np.eye(40)[labels]).astype(np.float32)


def _codes(outcome: Outcome) -> list[str]:
    return [each.code for each in outcome.warnings]


def test_a_right_gradient_of_unrounded_logits_passes_only_if_that_is_said(examine: Examine) -> None:
    z, labels, grad = _exported()
    unsaid = examine(z, labels, {"reduction": "sum"}, grad=grad)
    assert unsaid.verdict is Verdict.FAIL
    assert "--logits-rounded bfloat16" in " ".join(each.message for each in unsaid.warnings)
    said = examine(z, labels, ROUNDED, grad=grad)
    assert said.verdict is Verdict.PASS
    assert "logits-rounded" in _codes(said)


@pytest.mark.parametrize("role", ["probs", "log-probs", "loss"])
def test_so_does_everything_else(examine: Examine, role: str) -> None:
    z, labels, grad = _exported()
    a = grad + np.eye(40)[labels]
    rows = np.arange(64)
    made = {"probs": a, "log-probs": np.log(np.maximum(a, 1e-30)), "loss": -np.log(a[rows, labels])}[role]
    settings = {"reduction": "none"} | ({"logits_rounded": "bfloat16"})
    assert examine(z, labels, {"reduction": "none"}, **{role: made}).verdict is Verdict.FAIL
    assert examine(z, labels, settings, **{role: made}).verdict is Verdict.PASS


@pytest.mark.parametrize("factor", [2.0, 0.0, -1.0])
def test_a_wrong_gradient_still_fails(examine: Examine, factor: float) -> None:
    z, labels, grad = _exported()
    outcome = examine(z, labels, ROUNDED, grad=np.float32(factor) * grad)
    assert named(outcome, "grad").verdict is Verdict.FAIL


def test_a_confident_label_is_held_to_its_own_size(examine: Examine) -> None:
    """At p = 1 - 1e-4 a rounded logit moves 1 - p by a tenth of itself, not p by a tenth."""
    z, labels, grad = _exported()
    row = int(np.argmax(grad[np.arange(64), labels]))
    assert abs(grad[row, labels[row]]) < 1e-3
    grad[row, labels[row]] -= np.float32(0.01)
    outcome = examine(z, labels, ROUNDED, grad=grad)
    assert [each.index for each in named(outcome, "grad").worst if each.margin > 1] == [(row, labels[row])]


def test_rounding_that_hides_everything_is_said_and_decides_nothing(examine: Examine) -> None:
    z, labels, grad = _exported(1e4)
    outcome = examine(z, labels, ROUNDED, grad=grad)
    assert (outcome.verdict, outcome.exit_code) == (Verdict.INCONCLUSIVE, 2)
    (said,) = [each.message for each in outcome.warnings if each.code == "logits-rounded"]
    assert "hides an entry whole (in 64 of 64 rows)" in said


def test_it_is_not_suggested_where_the_gradient_is_as_short(examine: Examine) -> None:
    z, labels, grad = _exported()
    outcome = examine(z, labels, {"reduction": "sum"}, grad=grad.astype(ml_dtypes.bfloat16))
    assert "logits-rounded" not in _codes(outcome)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn"])
def test_rows_of_zeros_under_a_softcap_have_an_allowance(examine: Examine, dtype: str) -> None:
    """With nothing to round the bound was 0/0, and the exact gradient failed."""
    y = np.eye(4)[[0, 1]]
    settings = {"softcap": 20.0, "logits_rounded": dtype, "reduction": "sum"}
    outcome = examine(np.zeros((2, 4)), np.array([0, 1]), settings, grad=(0.25 - y).astype(np.float32))
    assert outcome.verdict is Verdict.PASS


def test_a_probability_lost_to_rounded_logits_is_no_failure(examine: Examine) -> None:
    """Logits 22 apart, rounded to 1024 apart: the true entry is 3e-10, and 0 is expected."""
    exact = np.array([131594.0, 131572.0])
    p = np.exp(exact[1] - exact[0])
    outcome = examine(
        exact[None, :].astype(ml_dtypes.bfloat16),
        np.array([0]),
        ROUNDED,
        grad=np.array([[-p, p]], np.float32),
    )
    assert (named(outcome, "grad").failing, outcome.verdict) == (0, Verdict.INCONCLUSIVE)


def test_logits_that_rounding_makes_subnormal_or_zero_are_allowed_for(examine: Examine) -> None:
    """Logits of 4e-4 are 0 in float8 e4m3, whose smallest number is 2e-3."""
    rng = np.random.default_rng(4)
    exact = 4e-4 * rng.normal(size=(8, 3))
    v = 10 * np.tanh(exact / 10)
    a = np.exp(v) / np.exp(v).sum(axis=1, keepdims=True)
    grad = (a - np.eye(3)[np.zeros(8, int)]) * (1 - np.tanh(exact / 10) ** 2)
    settings = {"softcap": 10.0, "reduction": "sum", "logits_rounded": "float8_e4m3fn"}
    rounded = exact.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert not rounded.any()
    outcome = examine(rounded, np.zeros(8, int), settings, grad=grad.astype(np.float32))
    assert outcome.verdict is Verdict.PASS


def test_labels_far_below_the_others_are_not_failed_for_a_bound_that_is_none(examine: Examine) -> None:
    """Infinitely much of a probability that is 0 was allowed, which is no number: a right entry failed."""
    rng = np.random.default_rng(1)
    z, labels = 1e4 * rng.normal(size=(30, 40)), rng.integers(0, 40, 30)
    v = (z - z.max(axis=1, keepdims=True)) / 0.01
    e = np.exp(v)
    upstream = 1e5 * rng.normal(size=30)
    grad = (e / e.sum(axis=1, keepdims=True) - np.eye(40)[labels]) * (upstream / 0.01)[:, None]
    settings = {"reduction": "none", "temperature": 0.01, "logits_rounded": "bfloat16"}
    assert named(examine(z, labels, settings, grad=grad, upstream=upstream), "grad").failing == 0

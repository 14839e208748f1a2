"""Two bugs of the softmax layer at once, planted by formulas written down a second time: both are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.outcome import Verdict
from tests.diagnosis.test_layer_bugs import (
    SIZES,
    Array,
    Plant,
    back,
    data,
    examined,
    log_back,
    named,
    probs,
    sigmoid,
)


def first(t: Array) -> Array:
    return np.broadcast_to(t[:1], t.shape)


def gaps(g: Array) -> Array:
    """Return a gradient two rows of which were not written."""
    out = g.copy()
    out[2:4] = 0.0
    return out


SOFT: dict[str, tuple[set[str], Plant]] = {
    "first row, no dot": (
        {"upstream-first-row-only", "missing-dot-term"}, lambda z, t: first(t) * probs(z)
    ),
    "squared, diagonal": (
        {"upstream-applied-twice", "diagonal-jacobian"}, lambda z, t: t * t * probs(z) * (1 - probs(z))
    ),
    "first row, bare dot": (
        {"upstream-first-row-only", "dot-without-probs"},
        lambda z, t: probs(z) * (first(t) - first(t).sum(axis=-1, keepdims=True)),
    ),
    "first row, logarithm": (
        {"upstream-first-row-only", "log-softmax-confused"}, lambda z, t: log_back(probs(z), first(t))
    ),
    "squared, sigmoid": (
        {"upstream-applied-twice", "sigmoid-for-softmax"},
        lambda z, t: t * t * sigmoid(z) * (1 - sigmoid(z)),
    ),
    "first row, twice the Jacobian": (
        {"upstream-first-row-only", "jacobian-applied-twice"},
        lambda z, t: back(probs(z), back(probs(z), first(t))),
    ),
    "no dot, not written": ({"missing-dot-term", "stale-rows"}, lambda z, t: gaps(t * probs(z))),
    "first row, not written": (
        {"upstream-first-row-only", "stale-rows"}, lambda z, t: gaps(back(probs(z), first(t)))
    ),
    "mean, not written": ({"divided-by-parts", "stale-rows"}, lambda z, t: gaps(back(probs(z), t) / len(z))),
    "axis, no dot": ({"wrong-axis", "missing-dot-term"}, lambda z, t: t * probs(z, 0)),
}  # fmt: skip
LOG: dict[str, tuple[set[str], Plant]] = {
    "first row, no dot": ({"upstream-first-row-only", "missing-dot-term"}, lambda z, t: first(t) + 0 * z),
    "squared, bare dot": (
        {"upstream-applied-twice", "dot-without-probs"},
        lambda z, t: t * t - (t * t).sum(axis=-1, keepdims=True) + 0 * z,
    ),
    "first row, softmax": (
        {"upstream-first-row-only", "log-softmax-confused"}, lambda z, t: back(probs(z), first(t))
    ),
    "squared, not written": (
        {"upstream-applied-twice", "stale-rows"}, lambda z, t: gaps(log_back(probs(z), t * t))
    ),
}  # fmt: skip


def judged(
    folder: Path, wanted: set[str], case: tuple[Array, Array, Array], dtype: Any = np.float32, **terms: Any
) -> None:
    outcome = examined(folder, *case, dtype, **terms)
    assert outcome.verdict is Verdict.FAIL
    assert set(named(outcome)) == wanted, outcome.diagnosis
    assert all({each.code, *each.together_with} == wanted for each in outcome.diagnosis[:2])


@pytest.mark.parametrize("size", ["friendly", "adversarial"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("plant", SOFT)
def test_two_bugs_are_both_named(tmp_path: Path, plant: str, dtype: Any, size: str) -> None:
    wanted, planted = SOFT[plant]
    z, t = data(size)
    judged(tmp_path, wanted, (z, t, planted(z, t)), dtype)


@pytest.mark.parametrize("size", ["friendly", "adversarial"])
@pytest.mark.parametrize("plant", LOG)
def test_two_bugs_of_the_logarithm_are_both_named(tmp_path: Path, plant: str, size: str) -> None:
    wanted, planted = LOG[plant]
    z, t = data(size)
    judged(tmp_path, wanted, (z, t, planted(z, t)), log=True)


@pytest.mark.parametrize(
    ("other", "planted"),
    [
        ("missing-dot-term", lambda z, t: t * probs(z)),
        ("upstream-first-row-only", lambda z, t: back(probs(z), first(t))),
        ("diagonal-jacobian", lambda z, t: t * probs(z) * (1 - probs(z))),
    ],
)
def test_a_temperature_is_missing_and_more(
    tmp_path: Path, other: str, planted: Callable[[Array, Array], Array]
) -> None:
    z, t = data("friendly")
    judged(tmp_path, {"temperature-missing", other}, (z, t, planted(z, t)), temperature=2.5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("plant", SOFT)
def test_weak_data_and_16_bits_bring_no_wrong_name(tmp_path: Path, plant: str, size: str) -> None:
    """16 bits may leave one of the two, or another of as many: never a third beside what is told for sure."""
    wanted, planted = SOFT[plant]
    z, t = data(size)
    for dtype in (ml_dtypes.bfloat16, np.float16):
        found = set(named(examined(tmp_path, z, t, planted(z, t).astype(dtype).astype(float), np.float64)))
        assert not found or found & wanted


@pytest.mark.parametrize("size", ["friendly", "adversarial"])
@pytest.mark.parametrize("plant", SOFT)
def test_two_bugs_in_all_entries_but_one_get_no_name(tmp_path: Path, plant: str, size: str) -> None:
    z, t = data(size)
    grad = SOFT[plant][1](z, t).copy()
    grad[5, 2] = 1.5 * grad[5, 2] + 0.01 * np.abs(grad).max()
    assert not examined(tmp_path, z, t, grad).diagnosis

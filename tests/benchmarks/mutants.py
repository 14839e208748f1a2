"""Small bugs, planted in right gradients: one function a kind.

A module of the benchmarks, not a program. Each function takes a case and returns the gradient that the bug
would have made, before it is rounded to be stored, or None where the bug has nothing to act on. Rows and
entries are drawn among those that are not zero.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.benchmarks.cases import Case

torch: Any = importlib.import_module("torch")

Array = npt.NDArray[Any]
Random = np.random.Generator

SMALL = 1e-3
"""Share of the row's largest entry below which the bug of that name zeroes an entry."""
LANES = 16
"""Width of the vectors whose last, incomplete one is forgotten."""


def _row(case: Case, rng: Random) -> int | None:
    """Return a row that is not all zero."""
    rows = np.flatnonzero(np.any(case.computed != 0.0, axis=1))
    return int(rng.choice(rows)) if rows.size else None


def _entry(case: Case, rng: Random) -> tuple[int, int] | None:
    """Return an entry that is not zero."""
    there = np.argwhere(case.computed != 0.0)
    if not there.size:
        return None
    row, column = there[rng.integers(len(there))]
    return int(row), int(column)


def all_scaled(case: Case, _: Random) -> Array:
    """Return every entry × 1.001."""
    return case.computed * 1.001


def one_scaled(case: Case, rng: Random, *, by: float) -> Array | None:
    """Return one entry off by a factor."""
    at, wrong = _entry(case, rng), case.computed.copy()
    if at is None:
        return None
    wrong[at] *= by
    return wrong


def small_zeroed(case: Case, _: Random) -> Array:
    """Return the entries below a thousandth of the row's largest as zeros."""
    sizes = np.abs(case.computed)
    return np.where(sizes < SMALL * sizes.max(axis=1, keepdims=True), 0.0, case.computed)


def row_stale(case: Case, rng: Random) -> Array | None:
    """Return one row copied from another."""
    rows, wrong = np.flatnonzero(np.any(case.computed != 0.0, axis=1)), case.computed.copy()
    if len(rows) < 2:
        return None
    to, source = rng.choice(rows, 2, replace=False)
    wrong[to] = case.computed[source]
    return wrong


def label_rounded_twice(case: Case, _: Random) -> Array | None:
    """Return the label entries as round(round(A a) - s q) in a 16-bit format: read, modified, written.

    Not of native 16-bit exports, which are computed that way.
    """
    terms, wrong = case.terms, case.computed.copy()
    if not case.grid.half or case.way.native or terms.labels is None:
        return None
    push = terms.s[:, None] * terms.q * terms.slope
    pull = terms.gradient(terms.q) + push
    twice = _rounded(case, _rounded(case, pull) - push)
    at = np.flatnonzero(terms.valid)
    wrong[at, terms.labels[at]] = twice[at, terms.labels[at]]
    return wrong


def smoothing_over_others(case: Case, _: Random) -> Array | None:
    """Return the gradient for epsilon/(K-1) on the other classes in place of epsilon/K on all."""
    c, terms = case.exact, case.terms
    if terms.labels is None or c.smoothing == 0.0:
        return None
    weights = np.ones(c.logits.shape[1]) if c.weights is None else c.weights
    t = np.zeros_like(terms.q)
    t[np.arange(len(t)), terms.labels] = terms.valid
    others = (1.0 - t) / (t.shape[1] - 1)
    q = weights * ((1.0 - c.smoothing) * t + c.smoothing * others)
    wrong: Array = case.computed + (terms.gradient(q) - terms.gradient(terms.q)) * terms.valid[:, None]
    return wrong


def sum_for_mean(case: Case, _: Random) -> Array:
    """Return the gradient that was not divided."""
    return case.computed * case.terms.divisor


def divided_by_all_rows(case: Case, _: Random) -> Array | None:
    """Return the gradient divided by the number of rows, ignored ones too."""
    if case.exact.reduction != "mean" or case.exact.weights is not None:
        return None
    return case.computed * (case.terms.rows / len(case.computed))


def ignored_not_zeroed(case: Case, _: Random) -> Array | None:
    """Return the ignored rows with the part of the gradient that does not need the label."""
    terms = case.terms
    if terms.valid.all():
        return None
    return np.where(terms.valid[:, None], case.computed, terms.s[:, None] * terms.a * terms.slope)


def first_upstream(case: Case, _: Random) -> Array | None:
    """Return the gradient with the first row's upstream gradient in all rows."""
    s = case.terms.s
    if isinstance(case.exact.upstream, float) or np.any(s == 0.0):
        return None
    wrong: Array = case.computed * (s[0] / s)[:, None]
    return wrong


def row_scaled(case: Case, rng: Random, *, by: float) -> Array | None:
    """Return one row times a number."""
    row, wrong = _row(case, rng), case.computed.copy()
    if row is None:
        return None
    wrong[row] *= by
    return wrong


def last_columns_zero(case: Case, _: Random) -> Array | None:
    """Return the columns after the last whole vector as zeros."""
    classes, wrong = case.computed.shape[1], case.computed.copy()
    left = classes % LANES
    if classes < LANES or left == 0:
        return None
    wrong[:, classes - left :] = 0.0
    return wrong


def neighbours_swapped(case: Case, rng: Random) -> Array | None:
    """Return one entry in the place of the next, and that in its place."""
    at, wrong = _entry(case, rng), case.computed.copy()
    if at is None:
        return None
    row, column = at[0], min(at[1], wrong.shape[1] - 2)
    wrong[row, [column, column + 1]] = wrong[row, [column + 1, column]]
    return wrong


def _rounded(case: Case, values: Array) -> Array:
    """Return numbers rounded to the stored format, as float64."""
    rounded: Array = torch.tensor(values).to(getattr(torch, case.way.stored)).double().numpy()
    return rounded


KINDS: Mapping[str, Callable[[Case, Random], Array | None]] = MappingProxyType(
    {
        "every entry × 1.001": all_scaled,
        "one entry 0.1 % off": lambda case, rng: one_scaled(case, rng, by=1.001),
        "one entry 1 % off": lambda case, rng: one_scaled(case, rng, by=0.99),
        "one row × 1.01": lambda case, rng: row_scaled(case, rng, by=1.01),
        "sign of one row flipped": lambda case, rng: row_scaled(case, rng, by=-1.0),
        "small entries zeroed": small_zeroed,
        "one row stale": row_stale,
        "two neighbours swapped": neighbours_swapped,
        "last columns zero": last_columns_zero,
        "label entry rounded twice": label_rounded_twice,
        "smoothing ε/(K-1)": smoothing_over_others,
        "sum for mean": sum_for_mean,
        "divided by all rows": divided_by_all_rows,
        "ignored rows not zeroed": ignored_not_zeroed,
        "first row's upstream for all": first_upstream,
    }
)
"""The bugs by name."""


def mutant(case: Case, kind: str, rng: Random) -> Any:
    """Return the file that a bug would have stored, a torch tensor; None where that is the right file."""
    wrong = KINDS[kind](case, rng)
    if wrong is None:
        return None
    stored = case.storing(wrong)
    return None if torch.equal(stored, case.made.tensors["grad"]) else stored

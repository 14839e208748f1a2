"""Which factors would bring a prediction in line with what was exported: an interval, exactly.

Each entry allows the factors c with |got - c P| <= c scaled + floor (`slack.py`), an interval; the factors
that all entries of a row allow are the intersection, and so for all rows. A hypothesis stands while that is
not empty. Nothing is averaged, so one entry that does not fit is enough to refute it.
"""

from __future__ import annotations

import math

import numpy as np

from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.slack import Prediction
from gradcheck_cli.diagnosis.view import View
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags

HAIR = 1e-12
"""Relative widening of an interval, for the rounding of its ends."""

_FEW, _FEW_WIDE, _WIDE = 4.0, 0.2, 0.1
"""Copies or parts that are few, and how wide the interval of their number may be: of few, and of more."""


@dataclass(frozen=True, eq=False)
class Range:
    """The factors that each row allows: (n,) lowest and highest, empty where lowest > highest."""

    low: Floats
    high: Floats

    def divided(self, factor: Floats) -> Range:
        """Return the factors that remain where each row has one of its own besides: (n,) of any sign."""
        with np.errstate(all="ignore"):
            first, second = self.low / factor, self.high / factor
        low, high = np.minimum(first, second), np.maximum(first, second)
        nothing = factor == 0.0  # such a row is 0 whatever multiplies it
        free = (nothing & (self.low <= 0.0) & (self.high >= 0.0)) | (
            np.isneginf(self.low) & (self.high == np.inf)
        )
        empty = (self.low > self.high) | (nothing & ~free)
        low, high = np.where(free, -np.inf, low), np.where(free, np.inf, high)
        return Range(np.where(empty, np.inf, low), np.where(empty, -np.inf, high))

    def admits(self, factor: float) -> Flags:
        """Tell whether every row allows a factor, for each set of them: (m, n) to (m,)."""
        hair = HAIR * abs(factor)
        found: Flags = (self.low.max(axis=-1) <= factor + hair) & (factor - hair <= self.high.min(axis=-1))
        return found

    @property
    def possible(self) -> Flags:
        """Tell whether every row allows a common factor, for each set of them: (m, n) to (m,)."""
        low, high = self.low.max(axis=-1), self.high.min(axis=-1)
        hair = HAIR * np.where(np.isfinite(low), np.abs(low), 0.0)
        found: Flags = low <= high + 2.0 * hair
        return found

    @property
    def common(self) -> tuple[float, float]:
        """Return the factors that every row allows, with a hair on each side."""
        low, high = float(self.low.max()), float(self.high.min())
        if math.isinf(low) or math.isinf(high):
            return low, high
        return low - HAIR * abs(low), high + HAIR * abs(high)


def holds(interval: tuple[float, float]) -> bool:
    """Tell whether there is a factor left."""
    return interval[0] <= interval[1]


def by_chance(factor: float, interval: tuple[float, float]) -> bool:
    """Tell whether factors are so vague that some number of copies, or of parts, is likely among them."""
    low, high = interval
    copies = abs(factor) > 1.0
    width = high - low if copies else abs(1.0 / low - 1.0 / high)
    return width > (_FEW_WIDE if 1.0 / _FEW <= abs(factor) <= _FEW else _WIDE)


def factors(view: View, recipe: Recipe) -> tuple[Range, Range | None]:
    """Return the factors that bring a recipe's rows in line, and those with 16-bit arithmetic admitted."""
    with np.errstate(all="ignore"):
        return fitting(Prediction.of(recipe, view.columns))


def fitting(of: Prediction) -> tuple[Range, Range | None]:
    """Return the factors that bring a prediction in line, tightly and loosely."""
    allowed = of.slack
    tight = allowed_factors(of.got, of.plane, allowed.scaled, allowed.floor)
    if allowed.loose is None:
        return tight, None
    return tight, allowed_factors(of.got, of.plane, allowed.loose, allowed.floor)


def allowed_factors(got: Floats, plane: Floats, scaled: Floats, floor: Floats) -> Range:
    """Return the factors c with |got - c plane| <= c scaled + floor in each row: (n, K) each, to (n,).

    Of the sign that a row's entries ask for, of both where 0 will do.
    """
    odd = ~(np.isfinite(got) & np.isfinite(plane))
    broken = np.zeros(len(got), dtype=bool)
    if odd.any():
        same = (np.isnan(got) & np.isnan(plane)) | (got == plane)
        broken = (odd & ~same).any(axis=1)
        got, plane, scaled = (np.where(odd, 0.0, each) for each in (got, plane, scaled))
    opposed = np.einsum("ij,ij->i", got, plane) < 0.0
    got = np.where(opposed[:, None], -got, got)
    low, high = np.zeros(len(got)), np.full(len(got), np.inf)
    for coefficient, least in ((plane + scaled, got - floor), (scaled - plane, -got - floor)):
        bound = least / coefficient
        low = np.maximum(low, np.where(coefficient > 0.0, bound, -np.inf).max(axis=1))
        high = np.minimum(high, np.where(coefficient < 0.0, bound, np.inf).min(axis=1))
        nothing = coefficient == 0.0
        if nothing.any():
            high[(nothing & ~(least <= 0.0)).any(axis=1)] = -np.inf
    low = np.where(low <= 0.0, -high, low)  # nothing that could be seen: either sign will do
    low[broken | (high < 0.0)], high[broken | (high < 0.0)] = np.inf, -np.inf
    return Range(np.where(opposed, -high, low), np.where(opposed, -low, high))

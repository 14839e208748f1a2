"""How accurate an export is where it is right: the model that explains it, and its errors in ulps.

Everything here merges like the findings it belongs to: counts add, the loosest model needed wins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats, Precision, power_below
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.records import dataclass

SAMPLE = 1 << 17
"""Entries from which on only every so-manieth row is counted in ulps; the maximum is of every entry."""

_BINS_AN_OCTAVE = 8
_FINEST = -24  # octave of the first bin: 2^-24 ulps
_LAST = _BINS_AN_OCTAVE * (1000 - _FINEST)  # stands for all from 2^1000 ulps to infinity, and NaN
_TOGETHER = 1 << 13  # entries worked on together: they stay in a core's cache


ARITHMETIC = (Model.CORRECTLY_ROUNDED, Model.TREE, Model.LANES, Model.ANY_ORDER)
"""The models that differ only in how sums are formed."""


@dataclass(frozen=True)
class Grade:
    """How accurate some entries are."""

    model: Model = Model.CORRECTLY_ROUNDED  # the tightest that explains them all
    nonzero: int = 0  # of a 16-bit export: entries that are not 0
    rows: int = 0  # of it: rows with such entries
    strained: int = 0  # entries outside the label's column that only 16-bit arithmetic explains
    strained_rows: int = 0  # rows with such entries
    flushed: int = 0  # entries too small for the stored format, stored as 0
    hides: float = 0.0  # largest share of an entry that the rounding of the logits hides
    hidden: int = 0  # rows in which it hides everything
    clear: int = 0  # rows in which it does not
    ulps: tuple[tuple[int, int], ...] = ()  # bin -> count

    def merge(self, other: Grade) -> Grade:
        """Return the grade of both sets of entries."""
        if other == NO_GRADE:
            return self
        counts = dict(self.ulps)
        for each, count in other.ulps:
            counts[each] = counts.get(each, 0) + count
        return Grade(
            max(self.model, other.model),
            self.nonzero + other.nonzero,
            self.rows + other.rows,
            self.strained + other.strained,
            self.strained_rows + other.strained_rows,
            self.flushed + other.flushed,
            max(self.hides, other.hides),
            self.hidden + other.hidden,
            self.clear + other.clear,
            tuple(sorted(counts.items())),
        )

    def record(self) -> list[Any]:
        """Return the grade as plain numbers, for another process."""
        return [int(self.model), *(getattr(self, each.name) for each in fields(self)[1:])]

    @classmethod
    def of_record(cls, record: list[Any]) -> Grade:
        """Return the grade that :meth:`record` wrote down."""
        names = [each.name for each in fields(cls)]
        ulps = tuple((each, count) for each, count in record[-1])
        return cls(**{**dict(zip(names, record, strict=True)), "model": Model(record[0]), "ulps": ulps})

    @property
    def counted(self) -> int:
        """Return the entries whose error was counted in ulps."""
        return sum(count for _, count in self.ulps)

    def quantile(self, share: float) -> float | None:
        """Return the error in ulps that this share of the counted entries do not exceed, to within 9 %."""
        left = share * self.counted
        for each, count in self.ulps:
            left -= count
            if left <= 0:
                return _upper_end(each)
        return None


NO_GRADE = Grade()


def _upper_end(each: int) -> float:
    """Return the largest error of a bin, in ulps."""
    if each in (0, _LAST):
        return np.inf if each else 0.0
    return float(2.0 ** (_FINEST + each / _BINS_AN_OCTAVE))


def octaves(bins: tuple[tuple[int, int], ...]) -> tuple[tuple[int | None, int], ...]:
    """Return how many entries have an error of up to 2^n ulps and of more than half of that, by n.

    None stands for no error; the last octave for all that is larger, and for what is no number.
    """
    counts: dict[int | None, int] = {}
    for each, count in bins:
        octave = None if each == 0 else _FINEST + -(-each // _BINS_AN_OCTAVE)
        counts[octave] = counts.get(octave, 0) + count
    return tuple(counts.items())


def ulp_bins(got: Floats, expected: Floats, grid: Precision) -> tuple[tuple[int, int], ...]:
    """Return how many entries lie in each bin of error in ulps; what is 0 on both sides is left out.

    Bin 0 is an error of 0, the others end at 2^(-24 + bin/8) ulps.
    """
    got, expected = got.reshape(-1), expected.reshape(-1)
    counts = np.zeros(0, dtype=np.int64)
    for start in range(0, got.size, _TOGETHER):
        part = slice(start, start + _TOGETHER)
        fewer, counts = sorted((counts, _bins(got[part], expected[part], grid)), key=len)
        counts[: len(fewer)] += fewer
    return tuple((int(each), int(counts[each])) for each in np.flatnonzero(counts))


def _bins(got: Floats, expected: Floats, grid: Precision) -> Indices:
    """Return the counts of some entries, by bin."""
    spacing = np.maximum(power_below(expected, np.empty_like(expected)), grid.smallest_normal)
    with np.errstate(all="ignore"):
        errors = np.abs(got - expected) / spacing
        place = np.ceil(_BINS_AN_OCTAVE * (np.log2(errors) + (grid.digits - 1 - _FINEST)))
    errors[np.isnan(errors)] = np.inf
    place = np.where(errors == 0.0, 0.0, np.clip(np.where(np.isnan(place), np.inf, place), 1.0, _LAST))
    return np.bincount(place[(expected != 0.0) | (got != 0.0)].astype(np.int64))


def tightest(start: Model, ways: Sequence[Model], explains: Callable[[Model], bool]) -> Model:
    """Return the first of some models, from `start` on, that explains; the last is known to."""
    return next((each for each in ways[:-1] if each >= start and explains(each)), ways[-1])

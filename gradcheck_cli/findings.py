"""Mergeable statistics of one comparison: what some entries show, and how two sets add up.

`merge` is associative and commutative, ties break by index and sums are exact, so a result does not
depend on block size, number of processes or order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.grades import NO_GRADE, Grade, ulp_bins
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats, Precision, power_below
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.records import dataclass

Place = Callable[[int], tuple[int, int]]
"""From the position in a flattened comparison to row and column."""

Mark = Callable[[Place, NDArray[np.bool_]], None]
"""Takes where the entries of a comparison are, and which of them fail."""


@dataclass(frozen=True)
class Entry:
    """One entry of a comparison, by row and column of the rows seen so far."""

    row: int
    column: int
    got: float
    expected: float
    error: float
    allowed: float
    margin: float

    @property
    def rank(self) -> tuple[float, int, int]:
        """Sort key: worst first, then by place."""
        return (-self.margin, self.row, self.column)


@dataclass(frozen=True)
class Finding:
    """What comparing some entries has shown."""

    entries: int = 0
    failing: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    max_ulp: float | None = None  # None where no grid is counted on
    max_margin: float = 0.0
    worst: tuple[Entry, ...] = ()
    vague: int = 0  # rows of which the bounds can say nothing
    grade: Grade = NO_GRADE

    def merge(self, other: Finding, top: int) -> Finding:
        """Return the finding on both sets of entries, keeping the `top` worst of them."""
        return Finding(
            self.entries + other.entries,
            self.failing + other.failing,
            max(self.max_abs, other.max_abs),
            max(self.max_rel, other.max_rel),
            _largest(self.max_ulp, other.max_ulp),
            max(self.max_margin, other.max_margin),
            tuple(sorted(self.worst + other.worst, key=lambda entry: entry.rank)[:top]),
            self.vague + other.vague,
            self.grade.merge(other.grade),
        )

    def record(self) -> dict[str, Any]:
        """Return the finding as plain numbers, for another process."""
        worst = [list(vars(entry).values()) for entry in self.worst]
        return {**vars(self), "worst": worst, "grade": self.grade.record()}

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Finding:
        """Return the finding that :meth:`record` wrote down."""
        worst = tuple(Entry(*entry) for entry in record["worst"])
        return cls(**{**record, "worst": worst, "grade": Grade.of_record(record["grade"])})

    def bar(self, top: int) -> float:
        """Return the margin that an entry must reach to be among the `top` worst."""
        return self.worst[top - 1].margin if 0 < top <= len(self.worst) else (0.0 if top else np.inf)


def failing_rows(findings: Iterable[Finding]) -> list[int]:
    """Return the rows of the failing entries among the worst of some comparisons, the worst first."""
    failing = [entry for each in findings for entry in each.worst if not entry.margin <= 1.0]
    return list(dict.fromkeys(entry.row for entry in sorted(failing, key=lambda entry: entry.rank)))


def _largest(first: float | None, second: float | None) -> float | None:
    counted = [each for each in (first, second) if each is not None]
    return max(counted, default=None)


@dataclass(frozen=True, eq=False)
class Sides:
    """A comparison: what was got, what is right, what is allowed; arrays of one shape."""

    got: Floats
    expected: Floats
    allowed: Floats


@dataclass(frozen=True)
class Look:
    """How to compare: where entries are, the grid that ulps are counted on, how many worst to keep.

    Entries below the `bar` need not be kept: there are enough worse ones already.
    """

    place: Place
    grid: Precision | None
    top: int
    bar: float = 0.0
    mark: Mark | None = None


def compare(sides: Sides, look: Look, error: Floats, work: Floats) -> Finding:
    """Return the finding of |got - expected| against `allowed`.

    A comparison that is not a number fails: NaN counts as an infinite error, and an infinity passes
    only where the same infinity is expected, or any error is allowed. `error` and `work` are overwritten.
    """
    got, expected, allowed = sides.got, sides.expected, sides.allowed
    np.subtract(got, expected, out=error)
    np.abs(error, out=error)
    max_abs = float(error.max())
    if not np.isfinite(max_abs):
        _settle(got, expected, error)
        max_abs = float(error.max())
    max_ulp = None if look.grid is None else _ulps(error, expected, look.grid, work)
    max_rel = _relative(error, expected, work)
    np.divide(error, allowed, out=work)
    margin = float(work.max())
    if not (np.isfinite(margin) and allowed.min() >= 0.0):
        _settle_margin(sides, error, work)
        margin = float(work.max())
    failing = 0 if margin <= 1.0 else int(np.count_nonzero(~(work <= 1.0)))
    if failing and look.mark is not None:
        look.mark(look.place, ~(work <= 1.0))
    worst = _worst(sides, error, work, look) if margin >= look.bar else ()
    return Finding(error.size, failing, max_abs, max_rel, max_ulp, margin, worst)


def _ulps(error: Floats, expected: Floats, grid: Precision, work: Floats) -> float:
    """Return the largest error in spacings of the grid at the expected value."""
    power_below(expected, work)
    np.maximum(work, grid.smallest_normal, out=work)
    np.divide(error, work, out=work)
    return float(work.max()) * 2.0 ** (grid.digits - 1)


def _relative(error: Floats, expected: Floats, work: Floats) -> float:
    """Return the largest |error / expected|; an error where 0 is expected is infinite."""
    np.abs(expected, out=work)
    far_down = False
    if not work.min() >= 2.0**-1022:  # a division by a subnormal number takes a hundred times as long
        far_down = bool(((work < 2.0**-1022) & (error > 0.0)).any())
        np.maximum(work, 2.0**-1022, out=work)
    np.divide(error, work, out=work)
    largest = float(work.max())
    if largest < 2.0**500 and not far_down:
        return largest
    size, unexpected = np.abs(expected), np.where(error > 0, np.inf, 0.0)
    return float(np.max(np.divide(error, size, out=unexpected, where=(size > 0) & (size < np.inf))))


def _settle(got: Floats, expected: Floats, error: Floats) -> None:
    """Replace errors that are not numbers: 0 where both sides are the same infinity, else infinite."""
    error[np.isnan(error)] = np.inf
    error[got == expected] = 0.0


def _settle_margin(sides: Sides, error: Floats, margin: Floats) -> None:
    """Replace margins that are not numbers: no error is margin 0; NaN and a bound that is none fail."""
    unclear = np.isnan(margin)
    margin[unclear] = np.where(error <= sides.allowed, 0.0, np.inf)[unclear]
    margin[np.isnan(sides.got) | ~(sides.allowed >= 0.0)] = np.inf


def _worst(sides: Sides, error: Floats, margin: Floats, look: Look) -> tuple[Entry, ...]:
    """Return the worst entries that have an error and reach the bar; their margins are overwritten."""
    got, expected, allowed = (np.ascontiguousarray(each).reshape(-1) for each in vars(sides).values())
    flat, errors = margin.reshape(-1), error.reshape(-1)
    entries = []
    for _ in range(min(look.top, flat.size)):
        at = int(flat.argmax())
        if not (flat[at] >= look.bar and flat[at] > 0.0):
            break
        numbers = (float(each[at]) for each in (got, expected, errors, allowed, flat))
        entries.append(Entry(*look.place(at), *numbers))
        flat[at] = -1.0
    return tuple(entries)


A_HAIR_LESS = 1.0 - 2.0**-48


class Tally:
    """The finding of one process as it grows, and what is already known to be unremarkable."""

    def __init__(self, grid: Precision | None, top: int, stride: int = 1, mark: Mark | None = None) -> None:
        self.finding = Finding()
        self.grid = grid
        self.top = top
        self._stride = stride  # one row in so many is counted in ulps
        self._mark = mark

    def add(self, finding: Finding) -> None:
        """Merge what some entries show."""
        self.finding = self.finding.merge(finding, self.top)

    @property
    def model(self) -> Model:
        """Return the tightest model that explains everything so far."""
        return self.finding.grade.model

    def needs(self, model: Model) -> None:
        """Note the tightest model that explains some entries."""
        if model > self.model:
            self._add_grade(Grade(model))

    def turns(self, start: int, rows: int) -> slice | None:
        """Return which of so many rows from `start` on are counted in ulps, or None."""
        first = -start % self._stride
        return None if self.grid is None or first >= rows else slice(first, None, self._stride)

    def turn(self, numbers: Indices) -> Indices:
        """Return which of some rows, by their numbers, are counted in ulps."""
        return np.flatnonzero(numbers % self._stride == 0)

    def count_ulps(self, start: int, got: Floats, expected: Floats) -> None:
        """Count the errors of the rows from `start` on in ulps, where their turn comes."""
        chosen = self.turns(start, len(got))
        if chosen is not None:
            self.add_ulps(got[chosen], expected[chosen])

    def add_ulps(self, got: Floats, expected: Floats) -> None:
        """Count errors in ulps."""
        if self.grid is not None:
            bins = ulp_bins(np.ascontiguousarray(got), np.ascontiguousarray(expected), self.grid)
            self._add_grade(Grade(ulps=bins))

    def _add_grade(self, grade: Grade) -> None:
        self.finding = replace(self.finding, grade=self.finding.grade.merge(grade))

    def look(self, place: Place) -> Look:
        """Return how to compare entries at a place."""
        return Look(place, self.grid, self.top, self.finding.bar(self.top), self._mark)

    def pass_over(self, entries: int) -> None:
        """Count entries that change nothing else."""
        self.finding = replace(self.finding, entries=self.finding.entries + entries)

    def thresholds(self) -> tuple[float, float, float]:
        """Return the margin, the relative error, and the ulps up to which an entry changes no statistic."""
        margin = min(self.finding.bar(self.top), 1.0, self.finding.max_margin)
        ulps = np.inf if self.grid is None else self.finding.max_ulp or 0.0
        return margin, self.finding.max_rel, ulps

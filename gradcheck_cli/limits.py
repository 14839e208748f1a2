"""Up to which errors the entries of an export change nothing, told before their bounds are worked out.

With P the power of two below |g|, or the smallest normal number, half a spacing at an entry is u P. The bound
of an entry in a 16-bit format is never less than sloped |g| + u P + floor, so that an error over that is no
less than the margin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gradcheck_cli.bounds import ACCEPTED, Rate
from gradcheck_cli.exports import Export
from gradcheck_cli.findings import A_HAIR_LESS, Tally
from gradcheck_cli.numeric import compiled
from gradcheck_cli.numeric.allowance import column
from gradcheck_cli.numeric.compiled import Stored
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import FLOAT64, Floats, Precision, power_below
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags

A_HAIR = 2.0**-50
"""By what a product is taken too small, so that rounding lifts none over a power of two: more than five u."""

FAR_DOWN = 2.0**-900
"""Sizes below this are looked at one by one: a ratio to one may be of subnormal numbers, or to none."""

LOST = 2.0**-49
"""More than what a product of three numbers, one of them a hair less, is off by; of P it is twice as much."""


@dataclass(frozen=True, eq=False)
class Plain:
    """What is known of plain rows before their bounds: (n,) each."""

    likeliest: Floats  # the most that |g| may be outside the label's column
    sloped: Floats  # what 16-bit arithmetic allows at least of |g|
    floor: Floats  # and beside that


@dataclass(frozen=True, eq=False)
class Sizes:
    """Errors and sizes of entries: (n, K) each, and two planes to work in."""

    error: Floats
    size: Floats  # |g|, a hair less than it may be, but not 0
    zero: Flags | None  # what was got is 0, if that is known to be anywhere
    work: Floats
    more: Floats
    far_down: bool = True  # whether a size may be

    @classmethod
    def of(cls, w: Floats, got: Stored, factor: Floats, zero: Flags | None) -> Sizes:
        """Return those of single entries, as rows of one class each: (m,), (m,), (m,), (m,)."""
        right = (w * factor)[:, None]
        error, size = np.abs(got[:, None] - right), np.maximum(np.abs(right), FLOAT64.smallest_normal)
        some = None if zero is None else zero[:, None]
        return cls(error, size, some, np.empty_like(error), np.empty_like(error))

    def at(self, rows: Indices, columns: Indices) -> Sizes:
        """Return some of the entries, as rows of one class each."""
        error, size = self.error[rows, columns][:, None], self.size[rows, columns][:, None]
        zero = None if self.zero is None else self.zero[rows, columns][:, None]
        return Sizes(error, size, zero, np.empty_like(error), np.empty_like(error))

    def half_spacing(self, grid: Precision) -> Floats:
        """Return u P of the entries: (n, K), in the second plane."""
        power_below(self.size, self.more)
        np.maximum(self.more, grid.smallest_normal, out=self.more)
        return np.multiply(self.more, grid.unit, out=self.more)


@dataclass(frozen=True, eq=False)
class Limits:
    """An entry that is within all four limits changes nothing; of n rows."""

    absolute: Floats  # (n,) the error
    spacings: float  # error / u P
    relative: Floats  # (n,) error / |g|
    margin: float | None  # error / (sloped |g| + u P + floor); None where the relative one holds it
    sloped: Floats  # (n,)
    floor: Floats  # (n,)
    grid: Precision
    flushed: bool  # whether a relative error of 1, that of what is stored as 0, is on record

    @classmethod
    def of(cls, tally: Tally, export: Export, least: Mapping[Model, Rate], rows: Plain) -> Limits:
        """Return what follows from the record of an export, for rows with these least allowances."""
        margin, relative, ulps = tally.thresholds()
        half, unit = export.grid.half, export.grid.unit
        sloped = least[ACCEPTED].outside + rows.sloped
        within = np.full_like(sloped, relative)
        if not half:
            np.minimum(within, margin * sloped, out=within)
            np.minimum(within, least[min(tally.model, ACCEPTED)].outside, out=within)
        return cls(
            absolute=tally.finding.max_abs - LOST * rows.likeliest,
            spacings=A_HAIR_LESS * min(2.0 * ulps, 1.0 if half else np.inf) - 2.0 * LOST / unit,
            relative=A_HAIR_LESS * within - LOST,
            margin=A_HAIR_LESS * margin - 2.0 * LOST / unit if half else None,
            sloped=sloped,
            floor=rows.floor,
            grid=export.grid,
            flushed=relative >= 1.0,
        )

    def of_entries(self, rows: Indices, sloped: Floats) -> Limits:
        """Return the limits of single entries, given their rows and what is known better of each."""
        each = (self.absolute[rows], self.relative[rows], self.floor[rows])
        return replace(self, absolute=each[0], relative=each[1], floor=each[2], sloped=sloped)

    def of_rows(self, factor: Floats) -> Floats:
        """Return what the compiled loops are given of the rows, in which w times a factor is right: (5, n).

        An entry that is within what they hold it to is within the limits.
        """
        return np.array([factor, self.absolute, A_HAIR_LESS * self.relative, self.sloped, self.floor])

    def of_all(self, *, excused: bool) -> compiled.Limits:
        """Return what they are given of all rows; zeros may be excused their relative error of 1."""
        margin = np.inf if self.margin is None else A_HAIR_LESS * self.margin
        excuse = np.inf if excused and self.flushed else 0.0
        grid = self.grid
        return compiled.Limits(A_HAIR_LESS * self.spacings, margin, grid.unit, grid.smallest_normal, excuse)

    def exceeded(self, of: Sizes) -> Flags | None:
        """Return which entries are not within the limits, or None if all are."""
        found: list[Flags] = []

        def hold(plane: Floats, limit: Floats | float) -> Floats:
            largest: Floats = np.maximum.reduce(plane, axis=1)
            if not (largest <= limit).all():
                found.append(~(plane <= column(limit)))
            return largest

        hold(of.error, self.absolute)
        if of.far_down and bool((far := (of.size < FAR_DOWN) & (of.error > 0.0)).any()):
            found.append(far)
        relative = np.divide(of.error, of.size, out=of.work)
        if self.flushed and of.zero is not None:
            np.putmask(relative, of.zero, 0.0)
        largest = hold(relative, self.relative)
        if self.margin is None and (2.0 * largest <= self.spacings * self.grid.unit).all():
            return np.logical_or.reduce(found) if found else None  # an entry is less than twice P
        spacing = of.half_spacing(self.grid)
        hold(np.divide(of.error, spacing, out=of.work), self.spacings)
        if self.margin is not None:
            allowed = np.multiply(of.size, column(self.sloped), out=of.work)
            allowed += spacing
            allowed += column(self.floor)
            hold(np.divide(of.error, allowed, out=of.work), self.margin)
        return np.logical_or.reduce(found) if found else None

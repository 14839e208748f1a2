"""The comparisons a block is put through: for each, what was got, what is right, and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from gradcheck_cli.blocks import Block, Tile
from gradcheck_cli.bounds import ACCEPTED, Ladder, add_storage
from gradcheck_cli.exports import Export, rounding
from gradcheck_cli.findings import Finding, Sides, Tally, compare
from gradcheck_cli.grades import ARITHMETIC, Grade, tightest
from gradcheck_cli.numeric import cross_entropy, half, logarithms
from gradcheck_cli.numeric.logarithms import Arithmetic
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import FLOAT8, Floats, Precision, storage_error
from gradcheck_cli.numeric.softmax import DEEPEST, Indices, Planes
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags


class Judge(Protocol):
    """A comparison with what it needs of one block's rows."""

    def tile(self, tile: Tile, tally: Tally) -> None:
        """Compare a tile's entries."""

    def end(self, tally: Tally) -> None:
        """Compare what is compared row by row, once the tiles have been seen."""


class Comparison(Protocol):
    """One check of the report."""

    @property
    def name(self) -> str:
        """The name of the check."""

    @property
    def grid(self) -> Precision | None:
        """The grid that errors are counted on in ulps."""

    def begin(self, block: Block) -> Judge:
        """Return what judges the block."""


@dataclass(frozen=True)
class Tolerance:
    """A tolerance the user asked for instead of the proven allowance."""

    rtol: float
    atol: float

    @classmethod
    def asked(cls, rtol: float | None, atol: float | None) -> Tolerance | None:
        """Return the tolerance of the options, or None where they were not given."""
        return None if rtol is None or atol is None else cls(rtol, atol)

    @property
    def words(self) -> str:
        """Return the tolerance as it is typed."""
        return f"--rtol {self.rtol:g} --atol {self.atol:g}"

    def spread(self, expected: Floats, out: Floats) -> Floats:
        """Write atol + rtol |expected| to `out`."""
        np.abs(expected, out=out)
        out *= self.rtol
        out += self.atol
        return out


@dataclass(frozen=True, eq=False)
class Exported:
    """An exported tensor with the logits' shape against the truth."""

    export: Export
    tolerance: Tolerance | None = None

    @property
    def name(self) -> str:
        """Return the name of the check."""
        return self.export.name

    @property
    def grid(self) -> Precision:
        """Return the grid of the export."""
        return self.export.grid

    @property
    def glanced(self) -> bool:
        """Whether a glance can tell where nothing is remarkable, given a plain problem."""
        export = self.export
        affine = self.tolerance is None and export.name in ("grad", "probs")
        return affine and not export.flushes and export.grid not in FLOAT8

    def begin(self, block: Block) -> Judge:
        """Compare every entry with an allowance worked out for it."""
        export = self.export
        if self.tolerance is not None:
            return _Tolerated(export, self.tolerance)
        if export.name not in ("grad", "probs"):
            return _Logarithmic(export)
        slope = 1.0 if block.room.slope is None else block.at_pivot(block.room.slope)
        return _Affine(export, Ladder(block.at, export, slope), block)


def expected_of(export: Export, tile: Tile) -> tuple[Planes, Floats]:
    """Return the planes an export depends on, and what it should hold: (n, K)."""
    planes, name = tile.planes, export.name
    if name == "grad":
        return planes, tile.g
    if name == "probs":
        return replace(planes, slope=None), planes.a
    if name == "grad-probs":
        return planes, cross_entropy.gradient_at_probabilities(tile.at, planes, np.empty_like(planes.a))
    logs = planes.d - tile.at.sums.log_total[:, None]
    logs[planes.d <= DEEPEST] = -np.inf
    return planes, logs


def grade(
    finding: Finding, error: Floats, tally: Tally, export: Export, spread: Callable[[Model], Floats]
) -> None:
    """Note the tightest model that explains errors whose allowance is not affine in the probabilities."""
    if finding.failing:
        tally.needs(Model.NONE)
        return
    ways = ARITHMETIC if export.native is None else (*ARITHMETIC, Model.NATIVE_HALF)
    tally.needs(tightest(tally.model, ways, lambda model: bool((error <= spread(model)).all())))


def known(ladder: Ladder, counted: Flags, chosen: slice | Indices, tally: Tally) -> None:
    """Note what is known of the chosen rows of a ladder before a single entry is read."""
    tally.needs(ladder.export.finest)
    hides = ladder.hides()[chosen][counted]
    hidden = int(np.count_nonzero(hides >= 1.0))
    grade = Grade(hides=float(hides.max(initial=0.0)), hidden=hidden, clear=hides.size - hidden)
    tally.add(Finding(vague=int(np.count_nonzero(ladder.vague()[chosen] & counted)), grade=grade))


@dataclass(frozen=True, eq=False)
class _Tolerated:
    """Every entry against the tolerance the user gave."""

    export: Export
    tolerance: Tolerance

    def tile(self, tile: Tile, tally: Tally) -> None:
        got = _got(self.export, tile)
        _, expected = expected_of(self.export, tile)
        tally.count_ulps(tile.start, got, expected)
        allowed = self.tolerance.spread(expected, tile.plane(tile.room.allowed))
        tally.add(_compared(tile, tally, Sides(got, expected, allowed)))

    def end(self, tally: Tally) -> None:
        """Every entry has been seen, and nothing is graded by a tolerance."""
        tally.needs(Model.NONE)


@dataclass(frozen=True, eq=False)
class _Affine:
    """Every entry of a gradient or of probabilities; 16-bit arithmetic adds what is not affine."""

    export: Export
    ladder: Ladder
    block: Block

    def tile(self, tile: Tile, tally: Tally) -> None:
        got, room = _got(self.export, tile), tile.room
        planes, expected = expected_of(self.export, tile)
        tally.count_ulps(tile.start, got, expected)
        error, work, allowed = (tile.plane(each) for each in (room.error, room.work, room.allowed))
        np.abs(np.subtract(got, expected, out=error), out=error)
        point = self.ladder.point.part(tile.rows)

        def spread(model: Model) -> Floats:
            bound = self.ladder.bound(model)
            bound.allowance.part(tile.rows).outside_pivot(point, planes, expected, allowed, work)
            planes.put_pivot(allowed, bound.own[tile.rows])
            add_storage(allowed, expected, self.export, work)
            if self.export.flushes:
                np.maximum(allowed, self.export.grid.smallest_normal, out=allowed, where=got == 0.0)
            return allowed

        def explains(model: Model) -> bool:
            return bool((error <= spread(model)).all())

        model = tightest(tally.model, (*ARITHMETIC, ACCEPTED), explains)
        seen = self._seen(model, error > spread(ACCEPTED), planes, Sides(got, expected, allowed))
        if self.export.native is not None:
            allowed += half.native_error(point, planes, self.export.native, expected, (error, work))
        finding = _compared(tile, tally, Sides(got, expected, allowed))
        tally.add(replace(finding, grade=replace(seen, model=Model.NONE) if finding.failing else seen))

    def _seen(self, model: Model, strained: Flags, planes: Planes, sides: Sides) -> Grade:
        """Return what a tile shows of an export before its own arithmetic is allowed for."""
        model = Model.NATIVE_HALF if strained.any() else model
        if not self.export.grid.half:
            return Grade(model)
        there = sides.expected != 0.0
        strained[planes.rows, planes.pivot] = False
        if not self.export.inferred:  # then 16-bit arithmetic is what the user says it is
            strained[...] = False
        return Grade(
            model,
            nonzero=int(np.count_nonzero(there)),
            rows=int(np.count_nonzero(there.any(axis=1))),
            strained=int(np.count_nonzero(strained)),
            strained_rows=int(np.count_nonzero(strained.any(axis=1))),
            flushed=int(np.count_nonzero((sides.got == 0.0) & there)),
        )

    def end(self, tally: Tally) -> None:
        known(self.ladder, self.block.counted, slice(None), tally)


@dataclass(frozen=True, eq=False)
class _Logarithmic:
    """Every entry of log-probabilities or of dE/da, each with an allowance worked out for it."""

    export: Export

    def tile(self, tile: Tile, tally: Tally) -> None:
        got = _got(self.export, tile)
        _, expected = expected_of(self.export, tile)
        tally.count_ulps(tile.start, got, expected)
        by = self.export.arithmetic
        finding = _compared(tile, tally, Sides(got, expected, self._allowed(tile, expected, by)))
        tally.add(finding)
        plain = replace(by, native=None)
        error = tile.plane(tile.room.error)
        grade(
            finding,
            error,
            tally,
            self.export,
            lambda model: self._allowed(tile, expected, replace(plain, model=model)),
        )

    def end(self, tally: Tally) -> None:
        tally.needs(self.export.finest)

    def _allowed(self, tile: Tile, expected: Floats, by: Arithmetic) -> Floats:
        at, planes = tile.at, tile.planes
        allowed = tile.plane(tile.room.allowed)
        if self.export.name == "log-probs":
            logarithms.log_probability_error(at.sums, planes.d, at.loss.link, by, allowed)
        else:
            sides = (tile.plane(tile.room.got), expected)
            logarithms.gradient_at_probabilities_error(at, planes, by, sides, allowed)
        return stored(allowed, expected, self.export)


def _got(export: Export, tile: Tile) -> Floats:
    got = tile.plane(tile.room.got)
    tile.room.read(export.rows, tile.start, got)
    return got


def _compared(tile: Tile, tally: Tally, sides: Sides) -> Finding:
    return compare(sides, tally.look(tile.place), tile.plane(tile.room.error), tile.plane(tile.room.work))


def stored(allowed: Floats, expected: Floats, export: Export) -> Floats:
    """Add storage and printing to an allowance that is not affine in the probabilities."""
    relative, absolute = rounding(export.decimals)
    size = np.abs(expected)
    size[np.isinf(size)] = 0.0
    allowed += relative * size + absolute
    size += allowed
    allowed += storage_error(size, export.grid, size)
    return allowed

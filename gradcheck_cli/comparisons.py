"""The comparisons a block is put through: for each, what was got, what is right, and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from gradcheck_cli.blocks import Block, Tile
from gradcheck_cli.errors import InputError
from gradcheck_cli.exports import Export, rounding
from gradcheck_cli.findings import Finding, Sides, Tally, compare
from gradcheck_cli.numeric import accuracy, cross_entropy, half, logarithms
from gradcheck_cli.numeric.allowance import Allowance
from gradcheck_cli.numeric.cross_entropy import Point
from gradcheck_cli.numeric.logarithms import REFERENCE, Arithmetic
from gradcheck_cli.numeric.precision import FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import DEEPEST
from gradcheck_cli.screening import Screen


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

    def begin(self, block: Block) -> Judge:
        """Screen gradients and probabilities by their affine allowance; compare others in full."""
        export = self.export
        if self.tolerance is not None or export.name not in ("grad", "probs"):
            return _Plane(export, self.tolerance)
        allowance = exported_error(block.at, export)
        magnitude = 1.0 if export.name == "probs" else block.at.magnitude
        vague = int(np.count_nonzero((allowance.fixed > accuracy.VAGUE * magnitude) & block.counted))
        if export.native is not None:
            return _Plane(export, self.tolerance, allowance, vague)
        point, slope = block.at, 1.0 if block.room.slope is None else block.at_pivot(block.room.slope)
        if export.name == "probs":
            point, slope = accuracy.bare(block.at.sums, block.at.loss.link), 1.0
        own = allowance.at_pivot(point, slope, slope * point.own_gradient)
        return _Screened(export, Screen.of(block, point, allowance, own), vague)


def exported_error(at: Point, export: Export) -> Allowance:
    """Return reference error, compute model and storage together: all of the bound but native half."""
    any_order = accuracy.any_order(at.sums.classes)
    if export.name == "probs":
        link, own = at.loss.link, accuracy.pairwise(at.sums.classes)
        whole = accuracy.probability_error(at.sums, link, export.compute, any_order)
        whole += accuracy.probability_error(at.sums, link, FLOAT64, own)
        at = accuracy.bare(at.sums, link)
    else:
        whole = accuracy.reference_error(at) + accuracy.gradient_error(at, export.compute, any_order)
    fused = accuracy.fused_lse_error(at, export.compute)
    whole = replace(whole, fixed=whole.fixed + fused)
    if export.grid is not export.compute:
        whole = whole.stored(export.grid)
    return whole.rounded(*rounding(export.decimals))


@dataclass(frozen=True, eq=False)
class _Screened:
    export: Export
    screen: Screen
    vague: int

    def tile(self, tile: Tile, tally: Tally) -> None:
        self._fill(tile)
        planes, expected = tile.planes, tile.g
        if self.export.name == "probs":
            planes, expected = replace(planes, slope=None), planes.a
        self.screen.gather(tile, planes, expected)
        self.screen.compare(tile, planes, expected, tally, self._fill)

    def _fill(self, tile: Tile) -> None:
        tile.room.read(self.export.rows, tile.start, tile.plane(tile.room.got))

    def end(self, tally: Tally) -> None:
        self.screen.end(tally)
        tally.add(Finding(vague=self.vague))


@dataclass(frozen=True, eq=False)
class _Plane:
    """Every entry compared in full, each with an allowance worked out for it."""

    export: Export
    tolerance: Tolerance | None
    affine: Allowance | None = None  # of the block, for gradients and probabilities in 16 bits
    vague: int = 0

    def tile(self, tile: Tile, tally: Tally) -> None:
        room = tile.room
        got = tile.plane(room.got)
        room.read(self.export.rows, tile.start, got)
        expected = self._expected(tile)
        if self.tolerance is not None:
            allowed = self.tolerance.spread(expected, tile.plane(room.allowed))
        else:
            allowed = self._allowed(tile, expected)
        look = tally.look(tile.place)
        tally.add(compare(Sides(got, expected, allowed), look, tile.plane(room.error), tile.plane(room.work)))

    def end(self, tally: Tally) -> None:
        tally.add(Finding(vague=self.vague))

    def _expected(self, tile: Tile) -> Floats:
        planes, name = tile.planes, self.export.name
        if name == "grad":
            return tile.g
        if name == "probs":
            return planes.a
        if name == "grad-probs":
            return cross_entropy.gradient_at_probabilities(tile.at, planes, np.empty_like(planes.a))
        logs = planes.d - tile.at.sums.log_total[:, None]
        logs[planes.d <= DEEPEST] = -np.inf
        return logs

    def _allowed(self, tile: Tile, expected: Floats) -> Floats:
        at, planes, export = tile.at, tile.planes, self.export
        allowed = tile.plane(tile.room.allowed)
        if self.affine is not None:
            return self._native(tile, expected, self.affine.part(tile.rows))
        arithmetic = Arithmetic(export.compute, export.native)
        if export.name == "log-probs":
            logarithms.log_probability_error(at.sums, planes.d, at.loss.link, arithmetic, allowed)
        else:
            sides = (tile.plane(tile.room.got), expected)
            logarithms.gradient_at_probabilities_error(at, planes, arithmetic, sides, allowed)
        return _stored(allowed, expected, export)

    def _native(self, tile: Tile, expected: Floats, affine: Allowance) -> Floats:
        point, planes, allowed = tile.at, tile.planes, tile.plane(tile.room.allowed)
        if self.export.name == "probs":
            point, planes = accuracy.bare(point.sums, point.loss.link), replace(planes, slope=None)
        error, work = tile.plane(tile.room.error), tile.plane(tile.room.work)
        affine.spread(point, planes, expected, allowed, work)
        if self.export.native is not None:
            allowed += half.native_error(point, planes, self.export.native, expected, (error, work))
        return allowed


def _stored(allowed: Floats, expected: Floats, export: Export) -> Floats:
    """Add storage and printing to an allowance that is not affine in the probabilities."""
    relative, absolute = rounding(export.decimals)
    size = np.abs(expected)
    size[np.isinf(size)] = 0.0
    allowed *= 1.0 + export.grid.unit
    allowed += (export.grid.unit + relative) * size + absolute + export.grid.smallest_subnormal
    return allowed


@dataclass(frozen=True, eq=False)
class RowLosses:
    """Exported losses of the rows, before any reduction and without upstream, against the truth."""

    export: Export
    tolerance: Tolerance | None = None
    name: str = "loss"

    @property
    def grid(self) -> Precision:
        """Return the grid of the export."""
        return self.export.grid

    def begin(self, block: Block) -> Judge:
        """Compare the rows at the end."""
        return _RowLosses(self, block, RowLoss(block))


class RowLoss:
    """The losses of a block's rows, gathered from its tiles."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.plain = np.empty(block.size)

    def gather(self, tile: Tile) -> None:
        """Take the cross-entropy of a tile's rows."""
        self.plain[tile.rows] = cross_entropy.losses(tile.at, tile.planes.d, tile.plane(tile.room.work))

    def shares(
        self, arithmetic: Arithmetic, divisor: float = 1.0, z_divisor: float = 1.0
    ) -> tuple[Floats, Floats]:
        """Return each row's share of the loss, 0 where ignored, and its allowance: (n,), (n,)."""
        at, counted = self.block.at, self.block.counted
        square = at.loss.z_loss * np.square(at.sums.lse)
        allowed = logarithms.loss_error(at, self.plain, REFERENCE)
        allowed += logarithms.loss_error(at, self.plain, arithmetic)
        share = (self.plain / divisor + square / z_divisor) * counted
        allowed = allowed * counted / min(divisor, z_divisor)
        beyond = np.flatnonzero(~(np.isfinite(share) & np.isfinite(allowed)))
        if beyond.size:
            raise InputError(f"row {self.block.start + int(beyond[0])}: its loss is too large for float64")
        return share, allowed


@dataclass(frozen=True, eq=False)
class _RowLosses:
    of: RowLosses
    block: Block
    losses: RowLoss

    def tile(self, tile: Tile, tally: Tally) -> None:  # noqa: ARG002 - compared at the end
        self.losses.gather(tile)

    def end(self, tally: Tally) -> None:
        export, start = self.of.export, self.block.start
        got = np.empty(self.block.size)
        export.rows.read(start, start + self.block.size, got)
        expected, allowed = self.losses.shares(Arithmetic(export.compute, export.native))
        if self.of.tolerance is not None:
            self.of.tolerance.spread(expected, allowed)
        else:
            allowed = _stored(allowed, expected, export)
        look = tally.look(lambda row: (start + row, 0))
        tally.add(compare(Sides(got, expected, allowed), look, np.empty_like(got), np.empty_like(got)))

"""The comparisons a block is put through: for each, what was got, what is right, and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from gradcheck_cli.blocks import Block, Tile
from gradcheck_cli.errors import InputError
from gradcheck_cli.exports import Export, rounding
from gradcheck_cli.findings import Finding, Sides, Tally, compare
from gradcheck_cli.numeric import accuracy, cross_entropy, difference
from gradcheck_cli.numeric.accuracy import REFERENCE, Allowance, Arithmetic
from gradcheck_cli.numeric.cross_entropy import Point
from gradcheck_cli.numeric.precision import FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import DEEPEST, row_sum, vjp
from gradcheck_cli.screening import Screen

_SMALLEST = 2.0**-1000
"""Probabilities below this take no part in the chain: -y/a would overflow."""


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


@dataclass(frozen=True)
class Difference:
    """Analytic gradient against the central finite difference, every entry."""

    name: str = "difference"
    grid: Precision | None = None

    def begin(self, block: Block) -> Judge:
        """Both sides come from the same softmax: only the difference's own errors are allowed."""
        allowance = accuracy.difference_error(block.at)
        slope = None if block.room.slope is None else block.at_pivot(block.room.slope)
        own = accuracy.difference_at_pivot(block.at, allowance, 1.0 if slope is None else slope)
        screen = Screen.of(block, block.at, allowance, own)
        screen.own_got[:] = difference.central_at_pivot(block.at, slope)
        screen.own_expected[:] = block.at.own_gradient * (1.0 if slope is None else slope)
        return _Difference(screen)


@dataclass(frozen=True, eq=False)
class _Difference:
    screen: Screen

    @staticmethod
    def _fill(tile: Tile) -> None:
        difference.central(tile.at, tile.planes, tile.plane(tile.room.got), tile.plane(tile.room.work))

    def tile(self, tile: Tile, tally: Tally) -> None:
        self._fill(tile)
        self.screen.compare(tile, tile.planes, tile.g, tally, self._fill)

    def end(self, tally: Tally) -> None:
        self.screen.end(tally)


@dataclass(frozen=True)
class Chain:
    """-q/a through the softmax's backward against Q a - q, before upstream and divisor.

    Without smoothing every other entry of a row is the same number times a_j on both sides, so the row
    is compared in that factor and in its label's entry.
    """

    name: str = "chain"
    grid: Precision | None = None

    def begin(self, block: Block) -> Judge:
        """Compare row by row, or entry by entry where every class has a target weight."""
        unit = (accuracy.pairwise(block.at.sums.classes) + 8.0) * FLOAT64.unit
        return _SparseChain(block, unit) if block.at.q.sparse else _DenseChain(unit)


@dataclass(frozen=True, eq=False)
class _SparseChain:
    block: Block
    unit: float

    def tile(self, tile: Tile, tally: Tally) -> None:
        """Nothing to see: the rows say it all."""

    def end(self, tally: Tally) -> None:
        at, start = self.block.at, self.block.start
        chosen = self.block.counted & (at.sums.own_a > _SMALLEST)
        mass, p = at.q.mass * chosen, np.where(chosen, at.sums.own_a, 1.0)
        at_label = -mass / p
        inner = at_label * p
        got = np.stack([-inner, (at_label - inner) * p], axis=1)
        excess = cross_entropy.excess_at_pivot(at.sums, at.q)
        expected = np.stack([mass, excess * chosen], axis=1)
        allowed = self.unit * np.stack([mass, mass], axis=1) + 2.0**-1000
        look = tally.look(lambda position: (start + position // 2, 0))
        finding = compare(Sides(got, expected, allowed), look, np.empty_like(got), np.empty_like(got))
        tally.add(replace(finding, entries=2 * int(chosen.sum())))


@dataclass(frozen=True)
class _DenseChain:
    unit: float

    def tile(self, tile: Tile, tally: Tally) -> None:
        q, a, planes, room = tile.at.q, tile.planes.a, tile.planes, tile.room
        weights, tiny = tile.plane(room.got), a <= _SMALLEST
        weights[...] = q.plane()
        planes.put_pivot(weights, q.at_pivot)
        expected = a * q.mass[:, None] - weights
        planes.put_pivot(expected, cross_entropy.excess_at_pivot(tile.at.sums, q))
        at_probabilities = -np.divide(weights, a, out=np.zeros_like(weights), where=~tiny)
        got = vjp(a, at_probabilities)
        # A probability too small for -y/a takes its share of the inner product along.
        lost = row_sum(np.where(tiny, weights, 0.0))[:, None]
        allowed = self.unit * (a * q.mass[:, None] + weights) + lost * a + 2.0**-1000
        allowed[tiny] = np.inf
        error, work = tile.plane(room.error), tile.plane(room.work)
        tally.add(compare(Sides(got, expected, allowed), tally.look(tile.place), error, work))

    def end(self, tally: Tally) -> None:
        """Every entry has been seen."""


@dataclass(frozen=True)
class Invariants:
    """The gradient of a row sums to zero (z-loss: to zeta); under a softcap the probabilities to one."""

    name: str = "invariants"
    grid: Precision | None = None

    def begin(self, block: Block) -> Judge:
        """Sum the rows of the tiles, compare them at the end."""
        return _Invariants(block, np.empty(block.size))


@dataclass(frozen=True, eq=False)
class _Invariants:
    block: Block
    row_sums: Floats

    def tile(self, tile: Tile, tally: Tally) -> None:  # noqa: ARG002 - compared at the end
        plane = tile.g if tile.planes.slope is None else tile.planes.a
        self.row_sums[tile.rows] = row_sum(plane)

    def end(self, tally: Tally) -> None:
        at, start = self.block.at, self.block.start
        sigma = accuracy.pairwise(at.sums.classes)
        if at.loss.link.softcap is not None:
            expected = np.ones(self.block.size)
            allowed = np.full(self.block.size, (sigma + 4.0) * FLOAT64.unit)
        else:
            expected = at.by.zeta
            size = 2.0 * np.abs(at.by.s) * at.q.mass + np.abs(at.by.zeta)
            allowed = (2.0 * sigma + 12.0) * FLOAT64.unit * size + 2.0**-1000
        sides = Sides(self.row_sums, expected, allowed)
        look = tally.look(lambda row: (start + row, 0))
        tally.add(compare(sides, look, np.empty_like(allowed), np.empty_like(allowed)))


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
            return _Plane(export, self.tolerance, vague)
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
        if export.name in ("grad", "probs"):
            return self._affine(tile, expected, allowed)
        arithmetic = Arithmetic(export.compute, export.native)
        if export.name == "log-probs":
            accuracy.log_probability_error(at.sums, planes.d, at.loss.link, arithmetic, allowed)
        else:
            sides = (tile.plane(tile.room.got), expected)
            accuracy.gradient_at_probabilities_error(at, planes, arithmetic, sides, allowed)
        return _stored(allowed, expected, export)

    def _affine(self, tile: Tile, expected: Floats, allowed: Floats) -> Floats:
        point, planes = tile.at, tile.planes
        if self.export.name == "probs":
            point, planes = accuracy.bare(point.sums, point.loss.link), replace(planes, slope=None)
        error, work = tile.plane(tile.room.error), tile.plane(tile.room.work)
        exported_error(tile.at, self.export).spread(point, planes, expected, allowed, work)
        if self.export.native is not None:
            allowed += accuracy.native_error(point, planes, self.export.native, expected, (error, work))
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
        allowed = accuracy.loss_error(at, self.plain, REFERENCE)
        allowed += accuracy.loss_error(at, self.plain, arithmetic)
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

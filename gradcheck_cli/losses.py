"""The losses of rows: what they are, and exported ones against them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.blocks import Block, Tile
from gradcheck_cli.comparisons import Judge, Tolerance, grade, stored
from gradcheck_cli.errors import InputError
from gradcheck_cli.exports import Export
from gradcheck_cli.findings import Sides, Tally, compare
from gradcheck_cli.numeric import cross_entropy, logarithms
from gradcheck_cli.numeric.logarithms import REFERENCE, Arithmetic
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats, Precision


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
        loosest = export.arithmetic
        expected, allowed = self.losses.shares(loosest)
        if self.of.tolerance is not None:
            self.of.tolerance.spread(expected, allowed)
        else:
            allowed = stored(allowed, expected, export)
        look, error = tally.look(lambda row: (start + row, 0)), np.empty_like(got)
        finding = compare(Sides(got, expected, allowed), look, error, np.empty_like(got))
        tally.count_ulps(start, got[:, None], expected[:, None])
        tally.add(finding)
        tally.needs(export.finest if self.of.tolerance is None else Model.NONE)
        if self.of.tolerance is None:
            plain = replace(loosest, native=None)
            grade(finding, error, tally, export, lambda model: self._allowed(replace(plain, model=model)))

    def _allowed(self, arithmetic: Arithmetic) -> Floats:
        expected, allowed = self.losses.shares(arithmetic)
        return stored(allowed, expected, self.of.export)

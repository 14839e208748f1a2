"""The losses of rows: what they are, and exported ones against them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.blocks import Block, Seen, Tile
from gradcheck_cli.comparisons import Judge, Tolerance, grade, stored
from gradcheck_cli.errors import InputError
from gradcheck_cli.exports import Export
from gradcheck_cli.findings import Sides, Tally, compare
from gradcheck_cli.numeric import cross_entropy, logarithms
from gradcheck_cli.numeric.logarithms import REFERENCE, Arithmetic
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats, Precision
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.records import dataclass


class RowLoss:
    """The losses of rows: gathered from the tiles, or known at once where labels are all there is."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.plain = cross_entropy.label_losses(seen.at)

    def gather(self, tile: Tile) -> None:
        """Take the cross-entropy of a tile's rows."""
        self.plain[tile.rows] = cross_entropy.losses(tile.at, tile.planes.d, tile.plane(tile.room.work))

    def shares(
        self, arithmetic: Arithmetic, divisor: float = 1.0, z_divisor: float = 1.0
    ) -> tuple[Floats, Floats]:
        """Return each row's share of the loss, 0 where ignored, and its allowance: (n,), (n,)."""
        at, counted = self.seen.at, self.seen.counted
        square = at.loss.z_loss * np.square(at.sums.lse)
        allowed = logarithms.loss_error(at, self.plain, REFERENCE)
        allowed += logarithms.loss_error(at, self.plain, arithmetic)
        share = (self.plain / divisor + square / z_divisor) * counted
        allowed = allowed * counted / min(divisor, z_divisor)
        beyond = np.flatnonzero(~(np.isfinite(share) & np.isfinite(allowed)))
        if beyond.size:
            raise InputError(f"row {int(self.seen.numbers[beyond[0]])}: its loss is too large for float64")
        return share, allowed


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
        return _RowLosses(self, RowLoss(block.seen))

    def compare_rows(self, seen: Seen, ratio_sums: Floats, tally: Tally) -> None:  # noqa: ARG002 - needs none
        """Compare rows whose targets lie on their labels alone."""
        self.compare(RowLoss(seen), tally)

    def compare(self, losses: RowLoss, tally: Tally) -> None:
        """Compare the losses of rows."""
        export, numbers = self.export, losses.seen.numbers
        got = np.empty(len(numbers))
        for run in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers) != 1) + 1):
            export.rows.read(int(numbers[run[0]]), int(numbers[run[-1]]) + 1, got[run[0] : run[-1] + 1])
        loosest = export.arithmetic
        expected, allowed = losses.shares(loosest)
        if self.tolerance is not None:
            self.tolerance.spread(expected, allowed)
        else:
            allowed = stored(allowed, expected, export)
        look, error = tally.look(lambda row: (int(numbers[row]), 0)), np.empty_like(got)
        finding = compare(Sides(got, expected, allowed), look, error, np.empty_like(got))
        self._count_ulps(numbers, got, expected, tally)
        tally.add(finding)
        tally.needs(export.finest if self.tolerance is None else Model.NONE)
        if self.tolerance is None:
            plain = replace(loosest, native=None)
            grade(
                finding,
                error,
                tally,
                export,
                lambda model: self._allowed(losses, replace(plain, model=model)),
            )

    @staticmethod
    def _count_ulps(numbers: Indices, got: Floats, expected: Floats, tally: Tally) -> None:
        chosen = tally.turn(numbers)
        tally.add_ulps(got[chosen], expected[chosen])

    def _allowed(self, losses: RowLoss, arithmetic: Arithmetic) -> Floats:
        expected, allowed = losses.shares(arithmetic)
        return stored(allowed, expected, self.export)


@dataclass(frozen=True, eq=False)
class _RowLosses:
    of: RowLosses
    losses: RowLoss

    def tile(self, tile: Tile, tally: Tally) -> None:  # noqa: ARG002 - compared at the end
        self.losses.gather(tile)

    def end(self, tally: Tally) -> None:
        self.of.compare(self.losses, tally)

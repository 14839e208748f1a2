"""The comparisons softgrad puts itself through: the ruler is measured before anything is judged by it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.blocks import Block, Tile
from gradcheck_cli.bounds import Bound
from gradcheck_cli.comparisons import Judge
from gradcheck_cli.findings import Sides, Tally, compare
from gradcheck_cli.numeric import accuracy, cross_entropy, difference, ruler
from gradcheck_cli.numeric.precision import FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import row_sum, vjp
from gradcheck_cli.screening import Screen

_SMALLEST = 2.0**-1000
"""Probabilities below this take no part in the chain: -y/a would overflow."""


@dataclass(frozen=True)
class Difference:
    """Analytic gradient against the central finite difference, every entry."""

    name: str = "difference"
    grid: Precision | None = None

    def begin(self, block: Block) -> Judge:
        """Both sides come from the same softmax: only the difference's own errors are allowed."""
        allowance = ruler.difference_error(block.at)
        slope = None if block.room.slope is None else block.at_pivot(block.room.slope)
        own = ruler.difference_at_pivot(block.at, allowance, 1.0 if slope is None else slope)
        screen = Screen.of(block, block.at, Bound(allowance, own))
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

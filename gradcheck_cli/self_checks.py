"""The comparisons softgrad puts itself through: the ruler is measured before anything is judged by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.blocks import Block, Seen, Tile
from gradcheck_cli.bounds import Bound
from gradcheck_cli.comparisons import Judge
from gradcheck_cli.findings import Sides, Tally, compare
from gradcheck_cli.numeric import accuracy, cross_entropy, difference, ruler
from gradcheck_cli.numeric.precision import FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import row_sum, vjp
from gradcheck_cli.records import dataclass

_SMALLEST = 2.0**-1000
"""Probabilities below this take no part in the chain: -y/a would overflow."""


@dataclass(frozen=True)
class Difference:
    """Analytic gradient against the central finite difference, every entry."""

    name: str = "difference"
    grid: Precision | None = None

    def begin(self, block: Block) -> Judge:
        """Both sides come from the same softmax: only the difference's own errors are allowed."""
        slope = None if block.room.slope is None else block.at_pivot(block.room.slope)
        allowance = ruler.difference_error(block.at)
        own = ruler.difference_at_pivot(block.at, allowance, 1.0 if slope is None else slope)
        return _Difference(Bound(allowance, own), difference.central_at_pivot(block.at, slope))


@dataclass(frozen=True, eq=False)
class _Difference:
    bound: Bound
    at_pivot: Floats

    def tile(self, tile: Tile, tally: Tally) -> None:
        got, allowed, error, work = tile.planes_of_room()
        difference.central(tile.at, tile.planes, got, work)
        tile.planes.put_pivot(got, self.at_pivot[tile.rows])
        self.bound.allowance.part(tile.rows).outside_pivot(tile.at, tile.planes, tile.g, allowed, work)
        tile.planes.put_pivot(allowed, self.bound.own[tile.rows])
        tally.add(compare(Sides(got, tile.g, allowed), tally.look(tile.place), error, work))

    def end(self, tally: Tally) -> None:
        """Every entry has been seen."""


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
        if block.at.q.sparse:
            return _SparseChain(self, block)
        return _DenseChain(self._unit(block.at.sums.classes))

    @staticmethod
    def _unit(classes: int) -> float:
        return (accuracy.pairwise(classes) + 8.0) * FLOAT64.unit

    def compare_rows(self, seen: Seen, ratio_sums: Floats, tally: Tally) -> None:  # noqa: ARG002 - has its own
        """Compare rows whose targets lie on their labels alone."""
        at, unit = seen.at, self._unit(seen.at.sums.classes)
        chosen = seen.counted & (at.sums.own_a > _SMALLEST)
        mass, p = at.q.mass * chosen, np.where(chosen, at.sums.own_a, 1.0)
        at_label = -mass / p
        inner = at_label * p
        got = np.stack([-inner, (at_label - inner) * p], axis=1)
        excess = cross_entropy.excess_at_pivot(at.sums, at.q)
        expected = np.stack([mass, excess * chosen], axis=1)
        allowed = unit * np.stack([mass, mass], axis=1) + 2.0**-1000
        look = tally.look(lambda position: (int(seen.numbers[position // 2]), 0))
        finding = compare(Sides(got, expected, allowed), look, np.empty_like(got), np.empty_like(got))
        tally.add(replace(finding, entries=2 * int(chosen.sum())))


@dataclass(frozen=True, eq=False)
class _SparseChain:
    of: Chain
    block: Block

    def tile(self, tile: Tile, tally: Tally) -> None:
        """Nothing to see: the rows say it all."""

    def end(self, tally: Tally) -> None:
        self.of.compare_rows(self.block.seen, np.empty(0), tally)


@dataclass(frozen=True)
class _DenseChain:
    unit: float

    def tile(self, tile: Tile, tally: Tally) -> None:
        q, a, planes = tile.at.q, tile.planes.a, tile.planes
        got, allowed, error, work = tile.planes_of_room()
        weights = work
        weights[...] = q.plane()
        planes.put_pivot(weights, q.at_pivot)
        tiny = a <= _SMALLEST if a.min() <= _SMALLEST else None
        expected = a * q.mass[:, None]
        np.add(expected, weights, out=allowed)
        allowed *= self.unit
        allowed += 2.0**-1000
        expected -= weights
        planes.put_pivot(expected, cross_entropy.excess_at_pivot(tile.at.sums, q))
        if tiny is None:
            np.divide(weights, a, out=got)
        else:
            # A probability too small for -y/a takes its share of the inner product along.
            allowed += row_sum(np.where(tiny, weights, 0.0))[:, None] * a
            allowed[tiny] = np.inf
            got[...] = 0.0
            np.divide(weights, a, out=got, where=~tiny)
        np.negative(got, out=got)
        vjp(a, got, out=got)
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

    def compare_rows(self, seen: Seen, ratio_sums: Floats, tally: Tally) -> None:
        """Compare rows whose gradient outside the label's column was seen as finite differences alone."""
        at = seen.at
        row_sums = at.coefficient * (ratio_sums * (0.5 / difference.STEP)) + at.own_gradient
        compare_row_sums(seen, row_sums, tally)


@dataclass(frozen=True, eq=False)
class _Invariants:
    block: Block
    row_sums: Floats

    def tile(self, tile: Tile, tally: Tally) -> None:  # noqa: ARG002 - compared at the end
        plane = tile.g if tile.planes.slope is None else tile.planes.a
        self.row_sums[tile.rows] = row_sum(plane)

    def end(self, tally: Tally) -> None:
        compare_row_sums(self.block.seen, self.row_sums, tally)


def compare_row_sums(seen: Seen, row_sums: Floats, tally: Tally) -> None:
    """Compare the rows' sums of the gradient with zeta, or under a softcap of the probabilities with 1."""
    at, numbers = seen.at, seen.numbers
    sigma = accuracy.pairwise(at.sums.classes)
    if at.loss.link.softcap is not None:
        expected = np.ones(len(numbers))
        allowed = np.full(len(numbers), (sigma + 4.0) * FLOAT64.unit)
    else:
        expected = at.by.zeta
        size = 2.0 * np.abs(at.by.s) * at.q.mass + np.abs(at.by.zeta)
        allowed = (2.0 * sigma + 16.0) * FLOAT64.unit * size + 2.0**-1000
    look = tally.look(lambda row: (int(numbers[row]), 0))
    tally.add(
        compare(Sides(row_sums, expected, allowed), look, np.empty_like(allowed), np.empty_like(allowed))
    )

"""The rows of a linear problem with everything that sums over them need, kept or worked out anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.blocks import Grid, Room, Tile, work_out
from gradcheck_cli.bounds import exported_error
from gradcheck_cli.dense.problem import LinearProblem
from gradcheck_cli.exports import Export
from gradcheck_cli.numeric import half, linear
from gradcheck_cli.numeric.accuracy import any_order
from gradcheck_cli.numeric.cross_entropy import Point
from gradcheck_cli.numeric.precision import FLOAT64, Floats
from gradcheck_cli.numeric.softmax import Planes

_KEPT = 1 << 25
"""Numbers that are kept rather than worked out for every group of inputs: 256 MiB."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """Some rows, worked out: n of them."""

    start: int
    x: Floats  # (n, D)
    at: Point
    planes: Planes
    g: Floats  # (n, K) the gradient at the logits
    pull: Floats  # (n, K) s q
    size: Floats  # (n, K) what the gradient is made of before it cancels
    leeway: dict[str, Floats]  # by export: what its gradient at the logits may be off by, (n, K)


class Stretches:
    """All rows of a problem as stretches; the exports' leeway is worked out along with them."""

    def __init__(self, problem: LinearProblem, judged: tuple[Export, ...]) -> None:
        self.problem = problem
        self._judged = judged
        self._grid = Grid.of(problem.head)
        numbers = problem.rows * (problem.features + (6 + len(judged)) * problem.classes)
        self._kept = tuple(self._work()) if numbers <= _KEPT else None

    def __iter__(self) -> Iterator[Stretch]:
        """Yield every stretch, in order; valid until the next where they are not kept."""
        return self._work() if self._kept is None else iter(self._kept)

    def _work(self) -> Iterator[Stretch]:
        head, grid = self.problem.head, self._grid
        room = Room.of(head, grid, depth=True)
        with np.errstate(all="ignore"):
            for number in range(grid.blocks):
                block = work_out(head, grid.rows_of(number), grid, room)
                for tile in block.tiles():
                    yield stretch(self.problem, tile, self._judged)


def stretch(problem: LinearProblem, tile: Tile, judged: tuple[Export, ...]) -> Stretch:
    """Return a tile's rows with their inputs, in arrays of their own."""
    n = len(tile.planes.rows)
    x = np.empty((n, problem.features))
    problem.inputs.read(tile.start, tile.stop, x)
    d, a = (np.array(each, order="C") for each in (tile.planes.d, tile.planes.a))
    slope = None if tile.planes.slope is None else np.array(tile.planes.slope, order="C")
    planes = Planes(d, a, slope, tile.planes.rows, tile.planes.pivot)
    at = tile.at
    g, pull, size = np.array(tile.g, order="C"), np.empty_like(planes.a), np.empty_like(planes.a)
    linear.pulled(at, planes, pull)
    linear.sizes(at, planes, size)
    leeway = {each.name: leeway_of(problem, tile, planes, g, each) for each in judged}
    return Stretch(tile.start, x, at, planes, g, pull, size, leeway)


def leeway_of(problem: LinearProblem, tile: Tile, planes: Planes, g: Floats, export: Export) -> Floats:
    """Return what the gradient at the logits may be off by on the way to an export: (n, K).

    softgrad's own rounding, that of a kernel that computes in the export's precision, and what both may
    have lost in the logits. On the way to a 16-bit export, logits and gradient may have been stored in its
    format; where it is said to be computed in 16 bits, that arithmetic as well.
    """
    at, out, work = tile.at, np.empty_like(g), np.empty_like(g)
    between = Export(export.name, export.rows, export.compute, export.compute, None, None)
    exported_error(at, between).spread(at, planes, g, out, work)
    moved = np.empty_like(g)
    out += linear.logits_moved(at, planes, logits_error(problem, tile, export), moved, work)
    if export.native is not None and (export.name == "grad" or not export.inferred):
        out += half.native_error(at, planes, export.native, g, (moved, work))
    if export.grid.half and export.name != "grad":
        out += export.grid.unit * (np.abs(g) + out) + export.grid.smallest_subnormal
    return out


def logits_error(problem: LinearProblem, tile: Tile, export: Export) -> Floats:
    """Return what the exporter's logits of each row may be off by, and softgrad's own: (n,)."""
    terms = problem.features + int(problem.has_bias)
    share = linear.dot_error(export.compute, terms) + linear.dot_error(FLOAT64, terms)
    moved = share * problem.reach[tile.start : tile.stop]
    if export.grid.half:
        moved = moved + export.grid.unit * (tile.at.sums.reach * problem.head.loss.link.temperature + moved)
    return moved


def summed_error(export: Export, terms: int) -> float:
    """Return what a sum of so many products may be off by, in the export's precision and in float64.

    To the sum of the products' sizes; any order, products included.
    """
    return (any_order(terms) + 3.0) * (export.compute.unit + FLOAT64.unit)

"""The rows of a linear problem with everything that sums over them need, kept or worked out anew."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import field
from typing import Protocol

import numpy as np

from gradcheck_cli.blocks import Room, Tile, work_out
from gradcheck_cli.bounds import ACCEPTED, exported_error, reference_error
from gradcheck_cli.dense.problem import LinearProblem
from gradcheck_cli.exports import Export
from gradcheck_cli.grid import Grid
from gradcheck_cli.judging import LOOSEST
from gradcheck_cli.numeric import half, linear
from gradcheck_cli.numeric.accuracy import any_order
from gradcheck_cli.numeric.cross_entropy import Point
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import FLOAT64, Floats
from gradcheck_cli.numeric.softmax import Planes
from gradcheck_cli.records import dataclass

_KEPT = 1 << 25
"""Numbers that are kept rather than worked out for every group of inputs: 256 MiB."""


class Part(Protocol):
    """Some consecutive rows of the problem that the logits pose."""

    @property
    def start(self) -> int:
        """The first row."""

    @property
    def at(self) -> Point:
        """What is known of the rows."""

    @property
    def planes(self) -> Planes:
        """Their depths and probabilities."""

    @property
    def g(self) -> Floats:
        """Their gradient at the logits."""


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
    _leeways: dict[tuple[str, Model], Floats] = field(default_factory=dict)

    def leeway(self, problem: LinearProblem, export: Export, terms: int, model: Model = LOOSEST) -> Floats:
        """Return what each term of the export's sums, times |x| or |W|, may be off by: (n, K).

        The error of the gradient at the logits, and that of summing so many of its products.
        """
        key = export.name, model
        if key not in self._leeways:
            out = leeway_of(problem, self, export, model)
            out += summed_error(export, terms, model) * np.abs(self.g)
            self._leeways[key] = out
        return self._leeways[key]


class Stretches:
    """All rows of a problem as stretches, kept where they are few enough."""

    def __init__(self, problem: LinearProblem, judged: tuple[Export, ...]) -> None:
        """Work the rows out, and what sums of them may be off by on the way to what is judged by that."""
        self.problem = problem
        self._grid = Grid.of(problem.head)
        numbers = problem.rows * (problem.features + (6 + 3 * len(judged)) * problem.classes)
        self._kept = tuple(self._work(range(self._grid.blocks))) if numbers <= _KEPT else None
        with np.errstate(all="ignore"):
            for each in self._kept or ():  # before processes are forked, so that they share it
                for export in judged:
                    each.leeway(problem, export, problem.rows)

    def __iter__(self) -> Iterator[Stretch]:
        """Yield every stretch, in order; valid until the next where they are not kept."""
        return self.of_blocks(range(self._grid.blocks))

    def of_blocks(self, numbers: Container[int]) -> Iterator[Stretch]:
        """Yield the stretches of some blocks of rows, likewise."""
        if self._kept is not None:
            return (each for each in self._kept if each.start // self._grid.block in numbers)
        return self._work(numbers)

    def _work(self, numbers: Container[int]) -> Iterator[Stretch]:
        head, grid = self.problem.head, self._grid
        room = Room.of(head, grid, depth=True)
        with np.errstate(all="ignore"):
            for number in filter(numbers.__contains__, range(grid.blocks)):
                block = work_out(head, grid.rows_of(number), grid, room)
                for tile in block.tiles():
                    yield stretch(self.problem, tile)


def stretch(problem: LinearProblem, tile: Tile) -> Stretch:
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
    return Stretch(tile.start, x, at, planes, g, pull, size)


def leeway_of(problem: LinearProblem, rows: Part, export: Export, model: Model = LOOSEST) -> Floats:
    """Return what the gradient at the logits may be off by on the way to an export: (n, K).

    softgrad's own rounding, that of a kernel that computes in the export's precision, and what both may
    have lost in the logits. On the way to a 16-bit export, logits and gradient may have been stored in its
    format; where it is said to be computed in 16 bits, that arithmetic as well. A correctly rounded export
    is one of exact numbers, so only softgrad's own rounding is left.
    """
    at, planes, g = rows.at, rows.planes, rows.g
    out, work = np.empty_like(g), np.empty_like(g)
    between = Export(export.name, export.rows, export.compute, export.compute, None, None)
    exact = model is Model.CORRECTLY_ROUNDED
    whole = reference_error(at, between) if exact else exported_error(at, between, min(model, ACCEPTED))
    whole.spread(at, planes, g, out, work)
    moved = np.empty_like(g)
    out += linear.logits_moved(at, planes, logits_error(problem, rows, export, model), moved, work)
    if (
        model >= Model.NATIVE_HALF
        and export.native is not None
        and (export.name == "grad" or not export.inferred)
    ):
        out += half.native_error(at, planes, export.native, g, (moved, work))
    if export.grid.half and export.name != "grad" and not exact:
        out += export.grid.unit * (np.abs(g) + out) + export.grid.smallest_subnormal
    return out


def logits_error(problem: LinearProblem, rows: Part, export: Export, model: Model = LOOSEST) -> Floats:
    """Return what the exporter's logits of each row may be off by, and softgrad's own: (n,)."""
    reach = problem.reach[rows.start : rows.start + len(rows.at.sums.top)]
    moved = logits_share(problem, export, model) * reach
    if export.grid.half and model is not Model.CORRECTLY_ROUNDED:
        moved = moved + export.grid.unit * (rows.at.sums.reach * problem.head.loss.link.temperature + moved)
    return moved


def logits_share(problem: LinearProblem, export: Export, model: Model = LOOSEST) -> float:
    """Return what the exporter's logits and softgrad's own may be off by, to sum |x||w| + |b|."""
    terms = problem.features + int(problem.has_bias)
    own = linear.dot_error(FLOAT64, any_order(terms))
    if model is Model.CORRECTLY_ROUNDED:
        return own
    return linear.dot_error(export.compute, model.sigma(terms)) + own


def summed_error(export: Export, terms: int, model: Model = LOOSEST) -> float:
    """Return what a sum of so many products may be off by, in the export's precision and in float64.

    To the sum of the products' sizes, products included; softgrad's own in any order.
    """
    own = (any_order(terms) + 3.0) * FLOAT64.unit
    return own if model is Model.CORRECTLY_ROUNDED else (model.sigma(terms) + 3.0) * export.compute.unit + own

"""What a linear layer is put through, row by row of the examples: its logits, dE/dz and dE/dx."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.blocks import Block, Tile
from gradcheck_cli.bounds import add_storage
from gradcheck_cli.comparisons import Comparison, Judge, Tolerance
from gradcheck_cli.dense.problem import LinearProblem
from gradcheck_cli.dense.rows import Stretch, leeway_of, stretch, summed_error
from gradcheck_cli.exports import Export, rounding
from gradcheck_cli.findings import Sides, Tally, compare
from gradcheck_cli.numeric import linear
from gradcheck_cli.numeric.difference import unit_of
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import FLOAT64, Floats, Precision
from gradcheck_cli.self_checks import Chain, Difference, Invariants
from gradcheck_cli.walks import Task


class LinearTask(Task):
    """What is done with the rows of a linear problem, whose bounds ask for the depth throughout."""

    @property
    def depth(self) -> bool:
        """Whether d is kept beside exp(d)."""
        return True


Fill = Callable[[Tile, Floats], tuple[Floats, Floats]]
"""Fills a plane with what was got (n, m); returns what is right and what is allowed."""


@dataclass(frozen=True, eq=False)
class RowsOf:
    """A comparison with a row for each example, of any width."""

    name: str
    width: int
    fill: Fill
    grid: Precision | None = None

    def begin(self, block: Block) -> Judge:  # noqa: ARG002 - the tiles say it all
        """Compare tile by tile."""
        return self

    def tile(self, tile: Tile, tally: Tally) -> None:
        """Compare a tile's rows."""
        got = np.empty((len(tile.planes.rows), self.width))
        expected, allowed = self.fill(tile, got)
        compare_plane(tally, tile.start, Sides(got, expected, allowed))

    def end(self, tally: Tally) -> None:
        """Every row has been seen."""


def compare_plane(tally: Tally, start: int, sides: Sides) -> None:
    """Compare rows from `start` on; by which model they are explained is not asked."""
    width = sides.got.shape[1]

    def place(position: int) -> tuple[int, int]:
        row, column = divmod(position, width)
        return start + row, column

    tally.count_ulps(start, sides.got, sides.expected)
    tally.needs(Model.NONE)
    tally.add(compare(sides, tally.look(place), np.empty_like(sides.got), np.empty_like(sides.got)))


def stored(allowed: Floats, expected: Floats, got: Floats, export: Export) -> Floats:
    """Return the allowance after storage and printing."""
    relative, absolute = rounding(export.decimals)
    size = np.where(np.isinf(expected), 0.0, np.abs(expected))
    if export.grid is not export.compute and not export.grid.half:
        allowed = allowed * (1.0 + export.grid.unit)
        allowed += export.grid.unit * size + export.grid.smallest_subnormal
    add_storage(allowed, np.where(np.isinf(expected), 0.0, expected), export, size.copy())
    allowed += relative * size + absolute + 4.0 * export.compute.smallest_normal
    if export.flushes:
        np.maximum(allowed, export.grid.smallest_normal, out=allowed, where=got == 0.0)
    return allowed


def comparisons_for(problem: LinearProblem, tolerance: Tolerance | None) -> tuple[Comparison, ...]:
    """Return what the rows are put through: softgrad itself first, then the exports."""
    makers = {"logits": _logits, "grad": _gradient, "grad-inputs": _inputs}
    exported = [
        RowsOf(
            each.name,
            problem.features if each.name == "grad-inputs" else problem.classes,
            _judging(makers[each.name](problem, each), each, tolerance),
            each.grid,
        )
        for each in problem.exports
        if each.name in makers
    ]
    inputs = RowsOf("inputs-difference", problem.features, _inputs_difference(problem))
    return (Difference(), Chain(), Invariants(), inputs, *exported)


def _judging(
    right: Callable[[Tile], tuple[Floats, Floats]], export: Export, tolerance: Tolerance | None
) -> Fill:
    """Return what reads an export's rows and says what is right and allowed."""

    def fill(tile: Tile, got: Floats) -> tuple[Floats, Floats]:
        export.rows.read(tile.start, tile.stop, got)
        expected, allowed = right(tile)
        if tolerance is not None:
            return expected, tolerance.spread(expected, np.empty_like(expected))
        return expected, stored(allowed, expected, got, export)

    return fill


def _logits(problem: LinearProblem, export: Export) -> Callable[[Tile], tuple[Floats, Floats]]:
    """Return what says which logits are right: inner products of D terms, and the bias."""
    size = np.abs(problem.weight)
    finite = np.where(np.isfinite(problem.bias), np.abs(problem.bias), 0.0)
    terms = problem.features + int(problem.has_bias)
    share = linear.dot_error(export.compute, terms) + linear.dot_error(FLOAT64, terms)

    def right(tile: Tile) -> tuple[Floats, Floats]:
        z = np.empty((len(tile.planes.rows), problem.classes))
        problem.logits.read(tile.start, tile.stop, z)
        x = np.empty((len(z), problem.features))
        problem.inputs.read(tile.start, tile.stop, x)
        return z, share * (np.abs(x) @ size + finite)

    return right


def _gradient(problem: LinearProblem, export: Export) -> Callable[[Tile], tuple[Floats, Floats]]:
    """Return what says which gradient at the logits is right, the logits' own rounding allowed for."""

    def right(tile: Tile) -> tuple[Floats, Floats]:
        g = np.array(tile.g, order="C")
        return g, leeway_of(problem, tile, tile.planes, g, export)

    return right


def _inputs(problem: LinearProblem, export: Export) -> Callable[[Tile], tuple[Floats, Floats]]:
    """Return what says which gradient at the inputs is right: G W^T."""
    size = np.abs(problem.weight).T

    def right(tile: Tile) -> tuple[Floats, Floats]:
        rows = stretch(problem, tile, (export,))
        leeway = rows.leeway[export.name] + summed_error(export, problem.classes) * np.abs(rows.g)
        return rows.g @ problem.weight.T, leeway @ size

    return right


def _inputs_difference(problem: LinearProblem) -> Fill:
    """Return what compares dE/dx with finite differences."""
    weight, size, link = problem.weight, np.abs(problem.weight).T, problem.head.loss.link
    steps = np.array([linear.step_for(float(each), unit_of(link)) for each in np.abs(weight).max(axis=1)])
    steps = steps if link.softcap is not None else steps / link.temperature

    def fill(tile: Tile, got: Floats) -> tuple[Floats, Floats]:
        rows: Stretch = stretch(problem, tile, ())
        if link.softcap is None:
            got[...] = linear.input_differences(rows.at, rows.planes.a, rows.pull, weight, steps)
        else:
            got[...] = linear.bent_input_differences(rows.at, rows.planes, rows.pull, weight, steps)
        share = linear.difference_error(rows.at, problem.classes)
        return rows.g @ weight.T, share * (rows.size @ size) + 2.0**-1000

    return fill

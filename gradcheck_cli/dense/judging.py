"""What a linear layer is put through, row by row of the examples: its logits, dE/dz and dE/dx."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck_cli.blocks import Block, Tile
from gradcheck_cli.comparisons import Comparison, Judge, Tolerance
from gradcheck_cli.dense.problem import LinearProblem
from gradcheck_cli.dense.rows import Stretch, leeway_of, logits_share, stretch
from gradcheck_cli.engine import Order
from gradcheck_cli.exports import Export
from gradcheck_cli.findings import Sides, Tally
from gradcheck_cli.grades import SAMPLE
from gradcheck_cli.judging import Explanations, compare_rows, judge_rows, stored
from gradcheck_cli.numeric import linear
from gradcheck_cli.numeric.difference import unit_of
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats, Precision
from gradcheck_cli.records import dataclass
from gradcheck_cli.self_checks import Chain, Difference, Invariants
from gradcheck_cli.walks import Task

_PRODUCTS = 64
"""Products of a sum that take as long as an entry of the logits."""


class LinearTask(Task):
    """What is done with the rows of a linear problem, whose bounds ask for the depth throughout."""

    @property
    def depth(self) -> bool:
        """Whether d is kept beside exp(d)."""
        return True


@dataclass(frozen=True, eq=False)
class LinearOrder(Order):
    """What every process does with the rows of a linear problem, whose entries are sums."""

    features: int = 0

    @property
    def work(self) -> int:
        """Return the number of entries, a sum counting for many."""
        return super().work * (1 + self.features // _PRODUCTS)

    @property
    def stride(self) -> int:
        """Return how many rows come to one whose errors are counted in ulps."""
        return max(1, super().work // SAMPLE)


Fill = Callable[[Tile, Floats], tuple[Floats, Floats]]
"""Fills a plane with what was got (n, m); returns what is right and what is allowed."""

Leeway = Callable[[Model], Floats]
"""What entries may be off by before storage, under a model of the exporter's arithmetic: a new plane."""

Right = Callable[[Tile], tuple[Floats, Leeway]]
"""What is right in a tile's rows of an export, and what it may be off by."""


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
        compare_rows(tally, tile.start, Sides(got, expected, allowed))

    def end(self, tally: Tally) -> None:
        """Every row has been seen."""


@dataclass(frozen=True, eq=False)
class ExportOf:
    """An export with a row for each example, of any width."""

    export: Export
    right: Right
    tolerance: Tolerance | None

    @property
    def name(self) -> str:
        """Return the name of the check."""
        return self.export.name

    @property
    def grid(self) -> Precision:
        """Return the grid of the export."""
        return self.export.grid

    def begin(self, block: Block) -> Judge:  # noqa: ARG002 - the tiles say it all
        """Compare tile by tile."""
        return self

    def tile(self, tile: Tile, tally: Tally) -> None:
        """Compare a tile's rows."""
        expected, leeway = self.right(tile)
        got = np.empty_like(expected)
        self.export.rows.read(tile.start, tile.stop, got)
        values = got, expected
        judge_rows(tally, tile.start, values, self.tolerance or explained(values, self.export, leeway))

    def end(self, tally: Tally) -> None:
        """Every row has been seen."""


def explained(values: tuple[Floats, Floats], export: Export, leeway: Leeway) -> Explanations:
    """Return what entries may be off by once stored, given what was got and what is right."""
    return Explanations(export, lambda model: stored(leeway(model), values[1], values[0], export, model))


def comparisons_for(problem: LinearProblem, tolerance: Tolerance | None) -> tuple[Comparison, ...]:
    """Return what the rows are put through: softgrad itself first, then the exports."""
    makers = {"logits": _logits, "grad": _gradient, "grad-inputs": _inputs}
    exported = [
        ExportOf(each, makers[each.name](problem, each), tolerance)
        for each in problem.exports
        if each.name in makers
    ]
    inputs = RowsOf("inputs-difference", problem.features, _inputs_difference(problem))
    return (Difference(), Chain(), Invariants(), inputs, *exported)


def _logits(problem: LinearProblem, export: Export) -> Right:
    """Return what says which logits are right: inner products of D terms, and the bias."""
    size = np.abs(problem.weight)
    finite = np.where(np.isfinite(problem.bias), np.abs(problem.bias), 0.0)

    def right(tile: Tile) -> tuple[Floats, Leeway]:
        z = np.empty((len(tile.planes.rows), problem.classes))
        problem.logits.read(tile.start, tile.stop, z)
        x = np.empty((len(z), problem.features))
        problem.inputs.read(tile.start, tile.stop, x)
        reach = np.abs(x) @ size + finite
        return z, lambda model: logits_share(problem, export, model) * reach

    return right


def _gradient(problem: LinearProblem, export: Export) -> Right:
    """Return what says which gradient at the logits is right, the logits' own rounding allowed for."""

    def right(tile: Tile) -> tuple[Floats, Leeway]:
        g = np.array(tile.g, order="C")
        return g, lambda model: leeway_of(problem, tile, export, model)

    return right


def _inputs(problem: LinearProblem, export: Export) -> Right:
    """Return what says which gradient at the inputs is right: G W^T."""
    size = np.abs(problem.weight).T

    def right(tile: Tile) -> tuple[Floats, Leeway]:
        rows = stretch(problem, tile)
        return (
            rows.g @ problem.weight.T,
            lambda model: rows.leeway(problem, export, problem.classes, model) @ size,
        )

    return right


def _inputs_difference(problem: LinearProblem) -> Fill:
    """Return what compares dE/dx with finite differences."""
    weight, size, link = problem.weight, np.abs(problem.weight).T, problem.head.loss.link
    steps = np.array([linear.step_for(float(each), unit_of(link)) for each in np.abs(weight).max(axis=1)])
    steps = steps if link.softcap is not None else steps / link.temperature
    moves = None if link.softcap is not None else linear.InputMoves.of(weight, steps)

    def fill(tile: Tile, got: Floats) -> tuple[Floats, Floats]:
        rows: Stretch = stretch(problem, tile)
        if moves is None:
            got[...] = linear.bent_input_differences(rows.at, rows.planes, rows.pull, weight, steps)
        else:
            got[...] = linear.input_differences(rows.at, rows.planes.a, rows.pull, moves)
        share = linear.difference_error(rows.at, problem.classes)
        return rows.g @ weight.T, share * (rows.size @ size) + 2.0**-1000

    return fill

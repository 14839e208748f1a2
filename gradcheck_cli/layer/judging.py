"""What the rows of the softmax layer are put through: softgrad's own checks, then the exports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from gradcheck_cli.comparisons import Exported, Tolerance
from gradcheck_cli.engine import Looking, Progress, Tallies, silent
from gradcheck_cli.exports import Export
from gradcheck_cli.findings import Finding, Sides, Tally, compare
from gradcheck_cli.grades import SAMPLE
from gradcheck_cli.grid import Grid
from gradcheck_cli.judging import Explanations, judge_rows
from gradcheck_cli.layer.blocks import LayerBlock, LayerTile, room_of, work_out
from gradcheck_cli.layer.bounds import Bounds
from gradcheck_cli.layer.problem import LayerProblem
from gradcheck_cli.numeric import accuracy, layer, methods, slack, stencil
from gradcheck_cli.numeric.methods import Method
from gradcheck_cli.numeric.precision import FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import row_sum
from gradcheck_cli.records import dataclass
from gradcheck_cli.stencils import signs
from gradcheck_cli.walks import Walk


class LayerJudge(Protocol):
    """A comparison with what it needs of one block's rows."""

    def tile(self, tile: LayerTile, tally: Tally) -> None:
        """Compare a tile's entries."""

    def end(self, tally: Tally) -> None:
        """Compare what is compared once the tiles have been seen."""


class LayerComparison(Protocol):
    """One check of the report."""

    @property
    def name(self) -> str:
        """The name of the check."""

    @property
    def grid(self) -> Precision | None:
        """The grid that errors are counted on in ulps."""

    def begin(self, block: LayerBlock) -> LayerJudge:
        """Return what judges the block."""


@dataclass(frozen=True, eq=False)
class LayerOrder:
    """What every process does: the problem, its comparisons, how much to keep."""

    problem: LayerProblem
    comparisons: tuple[LayerComparison, ...]
    top: int
    grid: Grid
    progress: Progress = silent

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return self.problem.rows

    @property
    def work(self) -> int:
        """Return the number of entries."""
        return self.problem.rows * self.problem.classes

    @property
    def stride(self) -> int:
        """Return how many rows come to one whose errors are counted in ulps."""
        return max(1, self.work // SAMPLE)

    @property
    def asides(self) -> tuple[str, ...]:
        """Return that there is nothing beside the rows."""
        return ()

    def aside(self) -> dict[str, Finding]:
        """Return nothing."""
        return {}

    def walk(self, tallies: Tallies) -> Walk:
        """Return what puts rows through the comparisons."""
        look = self._desk()
        return Looking(lambda rows: look(rows, tallies))

    def _desk(self) -> Callable[[range, Tallies], None]:
        """Return what puts rows through the comparisons; each process opens one."""
        room = room_of(self.problem, self.grid)

        def look(rows: range, tallies: Tallies) -> None:
            block = work_out(self.problem, rows, self.grid, room)
            judges = [(each.begin(block), tallies[each.name]) for each in self.comparisons]
            for tile in block.tiles():
                for judge, tally in judges:
                    judge.tile(tile, tally)
            for judge, tally in judges:
                judge.end(tally)

        return look


def comparisons_for(
    problem: LayerProblem, method: Method, seed: int, tolerance: Tolerance | None
) -> tuple[LayerComparison, ...]:
    """Return the comparisons in the order of the report: softgrad itself first, then the exports."""
    exported: list[LayerComparison] = [
        Gradient(problem, each, tolerance) if each.name == "grad" else Exported(each, tolerance)
        for each in problem.exports
    ]
    difference: LayerComparison = Difference(problem, method)
    if method.name == "directional":
        difference = Directional(problem, method, seed)
    return (difference, Invariants(problem), *exported)


@dataclass(frozen=True, eq=False)
class Difference:
    """Analytic gradient against a finite difference of f, every entry."""

    problem: LayerProblem
    by: Method
    name: str = "difference"
    grid: Precision | None = None

    def begin(self, block: LayerBlock) -> LayerJudge:  # noqa: ARG002 - the tiles say it all
        """Compare tile by tile."""
        return _Difference(self.problem, self.by)


@dataclass(frozen=True, eq=False)
class _Difference:
    problem: LayerProblem
    by: Method

    def tile(self, tile: LayerTile, tally: Tally) -> None:
        problem, by, planes = self.problem, self.by, tile.planes
        change = layer.change(tile.point, tile.t, planes)
        got = methods.slope(change, by.name, by.step) / problem.link.temperature
        errors = methods.truncation(by.name, by.step), methods.amplification(by.name, by.step)
        whole = slack.difference_error(tile.point, *errors).over(problem.link.temperature)
        error, work = tile.plane(tile.room.error), tile.plane(tile.room.work)
        allowed = whole.spread(planes, tile.g, tile.plane(tile.room.allowed), work)
        finding = compare(Sides(got, tile.g, allowed), tally.look(tile.place), error, work)
        gone = int(np.count_nonzero(tile.gone)) * problem.classes
        tally.add(replace(finding, entries=finding.entries - gone))

    def end(self, tally: Tally) -> None:
        """Every entry has been seen."""


@dataclass(frozen=True, eq=False)
class Directional:
    """The gradient's products with random directions against differences of f along them, every row."""

    problem: LayerProblem
    by: Method
    seed: int
    name: str = "difference"
    grid: Precision | None = None

    def begin(self, block: LayerBlock) -> LayerJudge:  # noqa: ARG002 - the tiles say it all
        """Compare tile by tile."""
        return _Directional(self.by.step, signs(self.problem.classes, self.seed))


@dataclass(frozen=True, eq=False)
class _Directional:
    step: float
    directions: Floats

    def tile(self, tile: LayerTile, tally: Tally) -> None:
        point, many = tile.point, len(self.directions)
        temperature = point.link.temperature
        expected = np.stack([(tile.g * each).sum(axis=1) for each in self.directions], axis=1)
        changes = (layer.along(point, tile.t, tile.planes, each) for each in self.directions)
        got = np.stack([methods.slope(each, "central", self.step) for each in changes], axis=1)
        bound = slack.direction_error(point, stencil.cauchy("central", self.step)) / temperature
        allowed = np.repeat(bound[:, None], many, axis=1)
        look = tally.look(lambda position: (tile.start + position // many, 0))
        sides = Sides(got / temperature, expected, allowed)
        finding = compare(sides, look, np.empty_like(got), np.empty_like(got))
        gone = int(np.count_nonzero(tile.gone)) * many
        tally.add(replace(finding, entries=finding.entries - gone))

    def end(self, tally: Tally) -> None:
        """Every row has been seen."""


@dataclass(frozen=True, eq=False)
class Invariants:
    """The gradient of a row sums to zero."""

    problem: LayerProblem
    name: str = "invariants"
    grid: Precision | None = None

    def begin(self, block: LayerBlock) -> LayerJudge:  # noqa: ARG002 - the tiles say it all
        """Compare tile by tile."""
        return _Invariants(self.problem)


@dataclass(frozen=True, eq=False)
class _Invariants:
    problem: LayerProblem

    def tile(self, tile: LayerTile, tally: Tally) -> None:
        got, classes = row_sum(tile.g), self.problem.classes
        roundings = 4.0 * accuracy.pairwise(classes) + 16.0
        size = 2.0 * tile.point.by.size if self.problem.log else tile.point.by.moved
        allowed = roundings * FLOAT64.unit * size / self.problem.link.temperature + 2.0**-1000
        sides = Sides(got, np.zeros_like(got), allowed)
        look = tally.look(lambda row: (tile.start + row, 0))
        finding = compare(sides, look, np.empty_like(got), np.empty_like(got))
        tally.add(replace(finding, entries=finding.entries - int(np.count_nonzero(tile.gone))))

    def end(self, tally: Tally) -> None:
        """Every row has been seen."""


@dataclass(frozen=True, eq=False)
class Gradient:
    """An exported bottom gradient against the truth, every entry."""

    problem: LayerProblem
    export: Export
    tolerance: Tolerance | None

    @property
    def name(self) -> str:
        """Return the name of the check."""
        return self.export.name

    @property
    def grid(self) -> Precision:
        """Return the grid of the export."""
        return self.export.grid

    def begin(self, block: LayerBlock) -> LayerJudge:  # noqa: ARG002 - the tiles say it all
        """Compare tile by tile; count the rows of which nothing can be said."""
        return _Gradient(self)


@dataclass(frozen=True, eq=False)
class _Gradient:
    of: Gradient

    def tile(self, tile: LayerTile, tally: Tally) -> None:
        export, room = self.of.export, tile.room
        got = tile.plane(room.got)
        room.read(export.rows, tile.start, got)
        planes = tile.plane(room.error), tile.plane(room.work)
        bounds = Bounds(tile, export)
        by = self.of.tolerance or Explanations(export, bounds.spread)
        judge_rows(tally, tile.start, (got, tile.g), by, planes)
        if self.of.tolerance is None:
            tally.add(bounds.known())

    def end(self, tally: Tally) -> None:
        """Every entry has been seen."""

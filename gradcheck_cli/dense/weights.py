"""What the gradient of a weight is put through: its rows are the inputs, each a sum over all examples.

The bias is one row more, of an input that is always 1.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.blocks import Grid
from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.dense.directions import Directions
from gradcheck_cli.dense.judging import compare_plane, stored
from gradcheck_cli.dense.problem import LinearProblem
from gradcheck_cli.dense.rows import Stretch, Stretches, summed_error
from gradcheck_cli.engine import Looking, Progress, Tallies, silent
from gradcheck_cli.exports import Export
from gradcheck_cli.findings import Finding, Sides
from gradcheck_cli.grades import SAMPLE
from gradcheck_cli.numeric import linear
from gradcheck_cli.numeric.difference import unit_of
from gradcheck_cli.numeric.precision import Floats, Precision
from gradcheck_cli.walks import Walk

WORK = 1 << 31
"""Logarithms, N D K, up to which every entry of the weight's gradient is differenced."""

_GROUP = 1 << 20  # entries of the weight worked on together
_LEAST = 8  # inputs of a group, so that each process has some


@dataclass(frozen=True)
class Part:
    """A check of some rows of the weight's gradient, as the engine knows it."""

    name: str
    grid: Precision | None = None


@dataclass(frozen=True, eq=False)
class WeightOrder:
    """What every process does with groups of inputs."""

    problem: LinearProblem
    stretches: Stretches
    differenced: frozenset[int]  # the inputs whose weights are moved
    directions: Directions | None  # along which the others are
    tolerance: Tolerance | None
    top: int
    progress: Progress = silent

    @property
    def rows(self) -> int:
        """Return the number of inputs, and one for the bias."""
        return self.problem.features + 1

    @property
    def work(self) -> int:
        """Return the number of logarithms."""
        return self.problem.rows * self.problem.classes * (len(self.differenced) + 1)

    @property
    def stride(self) -> int:
        """Return how many rows come to one whose errors are counted in ulps."""
        return max(1, self.problem.features * self.problem.classes // SAMPLE)

    @property
    def comparisons(self) -> tuple[Part, ...]:
        """Return the checks that the sums are put through."""
        exports = [each for each in self.problem.exports if each.name in ("grad-weight", "grad-bias")]
        own = (Part("weight-difference"), Part("bias-difference"))
        return (*own, *(Part(each.name, each.grid) for each in exports))

    @property
    def grid(self) -> Grid:
        """Return the groups: an input's weights in the same group whatever the number of processes."""
        group = max(_LEAST, min(64, _GROUP // self.problem.classes))
        return Grid(self.rows, 1, min(group, self.rows))

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
        """Return what sums groups of inputs up over all examples, and compares them."""

        def look(rows: range, tallies: Tallies) -> None:
            features = self.problem.features
            inputs = range(rows.start, min(rows.stop, features))
            if inputs:
                self._compare(_Sums(self, inputs), tallies, "weight")
            if rows.stop > features:
                self._compare(_Sums(self, None), tallies, "bias")

        return look

    def _compare(self, sums: _Sums, tallies: Tallies, of: str) -> None:
        sums.add_all()
        if self.directions is not None and sums.inputs is not None:
            self.directions.note(sums.inputs.start, sums.right)
        start = 0 if sums.inputs is None else sums.inputs.start
        tally = tallies[f"{of}-difference"]
        for row, number in enumerate(sums.moved):
            sides = Sides(sums.differences[row : row + 1], sums.right[number : number + 1],
                          sums.own[number : number + 1])  # fmt: skip
            compare_plane(tally, start + number, sides)
        export = self.problem.export(f"grad-{of}")
        if export is not None:
            got = np.empty_like(sums.right)
            export.rows.read(start, start + len(got), got)
            compare_plane(
                tallies[export.name], start, Sides(got, sums.right, self._allowed(sums, got, export))
            )

    def _allowed(self, sums: _Sums, got: Floats, export: Export) -> Floats:
        if self.tolerance is not None:
            return self.tolerance.spread(sums.right, np.empty_like(got))
        return stored(sums.leeway, sums.right, got, export)


class _Sums:
    """Sums over all examples for a group of inputs, or for the bias where there is none: (m, K)."""

    def __init__(self, order: WeightOrder, inputs: range | None) -> None:
        self.order = order
        self.inputs = inputs
        problem = order.problem
        m, classes = 1 if inputs is None else len(inputs), problem.classes
        self.moved = [0] if inputs is None else [k for k, i in enumerate(inputs) if i in order.differenced]
        self.right, self.own, self.leeway = np.zeros((3, m, classes))
        self.differences = np.zeros((len(self.moved), classes))
        self.export = problem.export("grad-bias" if inputs is None else "grad-weight")
        self.steps = self._steps()

    def _steps(self) -> Floats:
        """Return the step of each input that is moved."""
        link = self.order.problem.head.loss.link
        unit = unit_of(link)
        first = 0 if self.inputs is None else self.inputs.start
        largest = [1.0] if self.inputs is None else [
            float(self.order.problem.largest[first + k]) for k in self.moved
        ]  # fmt: skip
        steps = np.array([linear.step_for(each, unit) for each in largest])
        return steps if link.softcap is not None else steps / link.temperature

    def _x(self, rows: Stretch) -> Floats:
        if self.inputs is None:
            return np.ones((len(rows.g), 1))
        return rows.x[:, self.inputs.start : self.inputs.stop]

    def add_all(self) -> None:
        """Add up every example."""
        problem = self.order.problem
        capped = problem.head.loss.link.softcap is not None
        summed = 0.0 if self.export is None else summed_error(self.export, problem.rows)
        for rows in self.order.stretches:
            x = self._x(rows)
            size = np.abs(x)
            self.right += x.T @ rows.g
            self.own += size.T @ (linear.difference_error(rows.at, problem.rows) * rows.size)
            if self.export is not None:
                self.leeway += size.T @ (rows.leeway[self.export.name] + summed * np.abs(rows.g))
            if self.moved:
                self._move(rows, np.ascontiguousarray(x[:, self.moved]), capped=capped)
        self.own += 2.0**-1000

    def _move(self, rows: Stretch, x: Floats, *, capped: bool) -> None:
        """Add the central differences of some examples."""
        if capped:
            for number, step in enumerate(self.steps):
                self.differences[number] += linear.bent_column_difference(
                    rows.at, rows.planes, rows.pull, x[:, number], float(step)
                )
            return
        linear.column_differences(rows.planes.a, rows.at.coefficient, x, self.steps, self.differences)
        self.differences -= x.T @ rows.pull


def sampled(problem: LinearProblem, seed: int) -> frozenset[int]:
    """Return the inputs whose weights are moved: all of them, or a seeded sample that fits the work."""
    most = max(1, WORK // (problem.rows * problem.classes))
    if problem.features <= most:
        return frozenset(range(problem.features))
    return frozenset(random.Random(seed).sample(range(problem.features), most))

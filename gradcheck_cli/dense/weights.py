"""What the gradient of a weight is put through: its rows are the inputs, each a sum over all examples.

The bias is one row more, of an input that is always 1.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.dense.audit import audit
from gradcheck_cli.dense.directions import Directions
from gradcheck_cli.dense.judging import explained
from gradcheck_cli.dense.problem import LinearProblem
from gradcheck_cli.dense.rows import Stretch, Stretches
from gradcheck_cli.engine import Looking, Progress, Tallies, silent
from gradcheck_cli.findings import Finding, Sides
from gradcheck_cli.grades import SAMPLE
from gradcheck_cli.grid import Grid
from gradcheck_cli.judging import LOOSEST, compare_rows, judge_rows
from gradcheck_cli.numeric import linear
from gradcheck_cli.numeric.difference import unit_of
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats, Precision
from gradcheck_cli.records import dataclass
from gradcheck_cli.walks import Walk

WORK = 1 << 31
"""Logarithms, N D K, up to which every entry of the weight's gradient is differenced."""

_GROUP = 1 << 20  # entries of the weight worked on together
_LEAST, _MOST = 8, 32  # inputs of a group: enough for a product of matrices, few enough for every process


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
    seed: int
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
        group = max(_LEAST, min(_MOST, _GROUP // self.problem.classes))
        return Grid(self.rows, 1, min(group, self.rows))

    @property
    def asides(self) -> tuple[str, ...]:
        """Return the check that is made on a sample."""
        return ("weight-audit",)

    def aside(self) -> dict[str, Finding]:
        """Return what moving a few weights shows."""
        return {"weight-audit": audit(self.problem, self.stretches, self.seed, self.top)}

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
        export, models = self.problem.export(f"grad-{of}"), set[Model]()
        if export is not None and self.tolerance is None:
            models = {LOOSEST, min(LOOSEST, tallies[export.name].model)}
        sums.add_all(models)
        if self.directions is not None and sums.inputs is not None:
            self.directions.note(sums.inputs.start, sums.right)
        start = 0 if sums.inputs is None else sums.inputs.start
        tally = tallies[f"{of}-difference"]
        for first, moved in sums.runs():
            numbers = slice(sums.moved[first], sums.moved[first] + moved)
            sides = Sides(sums.differences[first : first + moved], sums.right[numbers], sums.own[numbers])
            compare_rows(tally, start + numbers.start, sides)
        if export is not None:
            got = np.empty_like(sums.right)
            export.rows.read(start, start + len(got), got)
            values = got, sums.right
            by = self.tolerance or explained(values, export, sums.leeway)
            judge_rows(tallies[export.name], start, values, by)


class _Sums:
    """Sums over all examples for a group of inputs, or for the bias where there is none: (m, K)."""

    def __init__(self, order: WeightOrder, inputs: range | None) -> None:
        self.order = order
        self.inputs = inputs
        problem = order.problem
        m, classes = 1 if inputs is None else len(inputs), problem.classes
        self.moved = [0] if inputs is None else [k for k, i in enumerate(inputs) if i in order.differenced]
        self.right, self.own = np.zeros((2, m, classes))
        self.differences = np.zeros((len(self.moved), classes))
        self.export = problem.export("grad-bias" if inputs is None else "grad-weight")
        self.steps = self._steps()
        self._leeways: dict[Model, Floats] = {}

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

    def runs(self) -> Iterator[tuple[int, int]]:
        """Yield runs of neighbours among the inputs that are moved: the first one's place, how many."""
        first = 0
        for place in range(1, len(self.moved) + 1):
            if place == len(self.moved) or self.moved[place] != self.moved[place - 1] + 1:
                yield first, place - first
                first = place

    def leeway(self, model: Model) -> Floats:
        """Return what the sums may be off by under a model of the exporter's arithmetic."""
        if model not in self._leeways:
            self._leeways[model] = np.zeros_like(self.right)
            for rows in self.order.stretches:
                self._add_leeways(rows, np.abs(self._x(rows)), (model,))
        return self._leeways[model].copy()

    def _x(self, rows: Stretch) -> Floats:
        if self.inputs is None:
            return np.ones((len(rows.g), 1))
        return rows.x[:, self.inputs.start : self.inputs.stop]

    def add_all(self, models: Iterable[Model]) -> None:
        """Add up every example, and the leeways under some models along with it."""
        problem = self.order.problem
        capped = problem.head.loss.link.softcap is not None
        self._leeways = {model: np.zeros_like(self.right) for model in models}
        for rows in self.order.stretches:
            x = self._x(rows)
            size = np.abs(x)
            self.right += x.T @ rows.g
            self.own += linear.difference_error(rows.at, problem.rows) * (size.T @ rows.size)
            self._add_leeways(rows, size, self._leeways)
            if self.moved:
                every = len(self.moved) == x.shape[1]
                self._move(rows, x if every else np.ascontiguousarray(x[:, self.moved]), capped=capped)
        self.own += 2.0**-1000

    def _add_leeways(self, rows: Stretch, size: Floats, models: Iterable[Model]) -> None:
        problem = self.order.problem
        if self.export is not None:
            for model in models:
                self._leeways[model] += size.T @ rows.leeway(problem, self.export, problem.rows, model)

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

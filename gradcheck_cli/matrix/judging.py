"""What the rows of a Jacobian are put through, block by block."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import field

import numpy as np

from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.engine import Looking, Progress, Tallies, silent
from gradcheck_cli.exports import Export
from gradcheck_cli.findings import Finding, Look, Sides, Tally, compare
from gradcheck_cli.grades import SAMPLE
from gradcheck_cli.grid import Grid
from gradcheck_cli.judging import LOOSEST, Explanations, compare_rows, judge_rows, stored
from gradcheck_cli.matrix.problem import MatrixProblem
from gradcheck_cli.numeric import jacobian, methods, slack
from gradcheck_cli.numeric.accuracy import pairwise
from gradcheck_cli.numeric.half import NATIVE_CAP
from gradcheck_cli.numeric.jacobian import Leeway, SoftmaxRow
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import DEEPEST
from gradcheck_cli.records import dataclass
from gradcheck_cli.walks import Walk

STEP = methods.AUTO["central"]
_ENTRIES = 24  # audited at most
_MOVED_LOGITS = 1 << 18  # put through brute-force differences at most, but one entry at least

Got = Callable[[range], Floats]
Allowed = Callable[[range, Floats], Floats]


@dataclass(frozen=True, eq=False)
class Entrywise:
    """One check of every entry: what is compared with the Jacobian, and what it may be off by."""

    name: str
    got: Got
    allowed: Allowed  # of rows, given their true entries
    grid: Precision | None = None

    def compare(self, k: range, right: Floats, tally: Tally, room: tuple[Floats, Floats]) -> None:
        """Compare rows k with their true entries."""
        compare_rows(tally, k.start, Sides(self.got(k), right, self.allowed(k, right)), room)


@dataclass(frozen=True, eq=False)
class ExportedMatrix:
    """An exported Jacobian against the truth, every entry."""

    problem: MatrixProblem
    export: Export
    tolerance: Tolerance | None
    name: str = "jacobian"
    _leeways: dict[Model, Leeway] = field(default_factory=dict)

    @property
    def grid(self) -> Precision:
        """Return the grid of the export."""
        return self.export.grid

    def got(self, k: range) -> Floats:
        """Return the exported rows k: (n, K)."""
        out = np.empty((len(k), self.problem.classes))
        first = self.problem.first
        self.export.rows.read(first + k.start, first + k.stop, out)
        return out

    def by(self, k: range, right: Floats, got: Floats) -> Tolerance | Explanations:
        """Return what rows k may be off by, given their true entries and what was got."""
        if self.tolerance is not None:
            return self.tolerance
        export, at = self.export, self.problem.at

        def spread(model: Model) -> Floats:
            out = self._leeway(model).rows_of(at, k, np.empty_like(right))
            if model >= Model.NATIVE_HALF and export.native is not None:
                largest = np.abs(right).max(axis=1, keepdims=True)
                native = jacobian.native(at, export.native).rows_of(at, k, np.empty_like(right))
                out += np.minimum(native, NATIVE_CAP * largest)
            return stored(out, right, got, export, model)

        return Explanations(export, spread)

    def _leeway(self, model: Model) -> Leeway:
        if model not in self._leeways:
            self._leeways[model] = jacobian.exported(
                self.problem.at, self.export.compute, self.export.grid, self.export.logits, model
            )
        return self._leeways[model]

    def allowed(self, k: range, right: Floats, got: Floats) -> Floats:
        """Return what rows k may be off by at most."""
        by = self.by(k, right, got)
        return by.spread(right, np.empty_like(right)) if isinstance(by, Tolerance) else by.spread(LOOSEST)

    def compare(self, k: range, right: Floats, tally: Tally, room: tuple[Floats, Floats]) -> None:
        """Compare rows k with their true entries."""
        got = self.got(k)
        judge_rows(tally, k.start, (got, right), self.by(k, right, got), room)


@dataclass(frozen=True)
class RowSums:
    """The rows of a Jacobian sum to zero."""

    name: str = "invariants"
    grid: Precision | None = None


@dataclass(frozen=True, eq=False)
class MatrixOrder:
    """What every process does: the problem, its comparisons, how much to keep."""

    problem: MatrixProblem
    checks: tuple[Entrywise | ExportedMatrix, ...]
    top: int
    grid: Grid
    progress: Progress = silent

    @property
    def rows(self) -> int:
        """Return the number of rows of the Jacobian."""
        return self.problem.rows

    @property
    def work(self) -> int:
        """Return the number of entries."""
        return self.problem.rows**2

    @property
    def comparisons(self) -> tuple[Entrywise | ExportedMatrix | RowSums, ...]:
        """Return what each row is put through."""
        return (*self.checks, RowSums())

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
        """Return what puts rows through the comparisons."""
        room = np.empty((3, self.grid.tile, self.problem.classes))
        at, tile = self.problem.at, self.grid.tile

        def look(rows: range, tallies: Tallies) -> None:
            for start in range(rows.start, rows.stop, tile):
                k = range(start, min(start + tile, rows.stop))
                right, error, work = room[:, : len(k)]
                jacobian.rows_of(at, k, right)
                for each in self.checks:
                    each.compare(k, right, tallies[each.name], (error, work))
                _sum_rows(at, k, right, tallies["invariants"])

        return look


def _sum_rows(at: SoftmaxRow, k: range, right: Floats, tally: Tally) -> None:
    """Compare the row sums with 0: within u (2 sigma + 16) a_k, for the sizes add up to 2 a_k (1 - a_k)."""
    got = right.sum(axis=1)
    size = at.a[k.start : k.stop] / at.link.temperature
    allowed = (2.0 * pairwise(at.classes) + 16.0) * FLOAT64.unit * size + 2.0**-1000
    look = tally.look(lambda row: (k.start + row, 0))
    sides = Sides(got, np.zeros_like(got), allowed)
    tally.add(compare(sides, look, np.empty_like(got), np.empty_like(got)))


def own_checks(problem: MatrixProblem) -> tuple[Entrywise, ...]:
    """Return softgrad's checks of itself, entry by entry."""
    at = problem.at
    first = jacobian.own_error(methods.truncation("central", STEP))
    second = jacobian.own_error(jacobian.SECOND_TRUNCATION)
    columns = jacobian.plain_columns(at)
    return (
        Entrywise("difference", lambda k: jacobian.differences_of(at, k, STEP), _relative(first)),
        Entrywise(
            "columns",
            lambda k: jacobian.columns_of(at, k),
            lambda k, right: columns.rows_of(at, k, np.empty_like(right)),
        ),
        Entrywise("symmetry", lambda k: jacobian.transposed_differences_of(at, k, STEP), _relative(first)),
        Entrywise("hessian", lambda k: jacobian.second_differences_of(at, k), _relative(second)),
    )


def _relative(share: float) -> Allowed:
    return lambda _, right: np.abs(right) * share + 2.0**-1000


def forward(problem: MatrixProblem, top: int) -> Finding:
    """Compare the softmax with math.exp over math.fsum, every class."""
    at = problem.at
    weights = list(map(math.exp, np.maximum(at.d, -800.0).tolist()))  # exp(-800) is 0
    slow = np.array(weights) / math.fsum(weights)
    own = jacobian.reference(at)
    look = Look(lambda column: (problem.row, column), None, top)
    sides = Sides(at.a, slow, at.a * own.rho + own.floor)
    return compare(sides, look, np.empty_like(slow), np.empty_like(slow))


def audit(problem: MatrixProblem, seed: int, top: int) -> Finding:
    """Compare a seeded sample of entries with five-point differences of the whole softmax."""
    rng, at = random.Random(seed), problem.at
    open_ = np.flatnonzero(at.d > DEEPEST)
    count = max(1, min(_ENTRIES, _MOVED_LOGITS // (4 * at.classes)))
    likely = open_[np.argsort(-at.a[open_], kind="stable")][:2].tolist()
    pairs = [(i, j) for i in likely for j in likely]
    pairs += [(rng.choice(open_.tolist()), rng.choice(open_.tolist())) for _ in range(count)]
    chosen = list(dict.fromkeys(pairs))[:count]
    got, right, allowed = np.empty((3, len(chosen)))
    temperature = at.link.temperature
    for position, (i, j) in enumerate(chosen):
        exact = jacobian.rows_of(at, range(i, i + 1), np.empty((1, at.classes)))[0, j]
        unit = np.zeros(at.classes)
        unit[i] = 1.0
        got[position], right[position] = jacobian.brute_force(at, i, j), exact
        bound = slack.audit_error(at.d, unit, float(exact) * temperature, j, log=False)
        allowed[position] = bound / temperature
    look = Look(lambda position: chosen[position], None, top)
    return compare(Sides(got, right, allowed), look, np.empty_like(got), np.empty_like(got))

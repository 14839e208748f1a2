"""How rows are walked: closely, every entry compared in full, or at a glance where the problem is plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from gradcheck_cli.blocks import Block, Room, Seen, work_out
from gradcheck_cli.comparisons import Comparison, Exported
from gradcheck_cli.findings import Tally
from gradcheck_cli.glance import FIRST, Glance, Watch
from gradcheck_cli.grid import Grid
from gradcheck_cli.losses import RowLoss, RowLosses
from gradcheck_cli.numeric.exact import ExactSum
from gradcheck_cli.numeric.logarithms import Arithmetic
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.problem import Problem
from gradcheck_cli.records import dataclass
from gradcheck_cli.self_checks import Chain, Difference, Invariants
from gradcheck_cli.watch_difference import WatchDifference
from gradcheck_cli.watch_export import WatchExport


@dataclass(frozen=True, eq=False)
class Total:
    """The loss, divided as the reduction says, and the sum of its rows' allowances."""

    loss: ExactSum
    allowed: ExactSum

    def merge(self, other: Total) -> Total:
        """Return the totals of both sets of rows."""
        return Total(self.loss.merge(other.loss), self.allowed.merge(other.allowed))


@dataclass(frozen=True, eq=False)
class Task:
    """What is done with the rows of a problem."""

    problem: Problem
    comparisons: tuple[Comparison, ...]
    total_by: Arithmetic | None  # the arithmetic of a stated loss, if there is one
    grid: Grid

    @property
    def depth(self) -> bool:
        """Whether anything asks how deep an entry lies, so that d must be kept beside exp(d)."""
        problem = self.problem
        return bool(problem.exports) or self.total_by is not None or problem.loss.link.softcap is not None

    @property
    def plain(self) -> bool:
        """Whether every comparison of entries can be made at a glance."""
        problem, loss = self.problem, self.problem.loss
        if problem.soft or loss.smoothing or loss.z_loss or loss.link.softcap is not None:
            return False
        return all(
            each.glanced if isinstance(each, Exported) else isinstance(each, _GLANCED)
            for each in self.comparisons
        )


_GLANCED = (Difference, Chain, Invariants, RowLosses)
"""What else a glance knows how to look at."""


class Walk(Protocol):
    """Takes pieces of the rows, in any order, and fills the tallies."""

    def take(self, rows: range) -> None:
        """Look at consecutive rows."""

    def finish(self) -> Total | None:
        """Finish what was begun; return the total loss if it was asked for."""


def walk(task: Task, tallies: Mapping[str, Tally], *, glance: bool = True) -> Walk:
    """Return the fastest walk that a task admits; for very few rows that is one without a glance."""
    return _AtAGlance(task, tallies) if glance and task.plain else _Closely(task, tallies)


class _Closely:
    def __init__(self, task: Task, tallies: Mapping[str, Tally]) -> None:
        self._task = task
        self._tallies = tallies
        self._room = Room.of(task.problem, task.grid, depth=task.depth)
        self._total = _RunningTotal(task)

    def take(self, rows: range) -> None:
        block = work_out(self._task.problem, rows, self._task.grid, self._room)
        losses = RowLoss(block.seen)
        _look_closely(block, self._task.comparisons, self._tallies, losses)
        self._total.add(losses)

    def finish(self) -> Total | None:
        return self._total.value


def _look_closely(
    block: Block,
    comparisons: tuple[Comparison, ...],
    tallies: Mapping[str, Tally],
    losses: RowLoss | None = None,
) -> None:
    """Put a block through comparisons, every entry in full."""
    judges = [(each.begin(block), tallies[each.name]) for each in comparisons]
    for tile in block.tiles():
        if losses is not None and not block.at.q.sparse:
            losses.gather(tile)
        for judge, tally in judges:
            judge.tile(tile, tally)
    for judge, tally in judges:
        judge.end(tally)


class _AtAGlance:
    def __init__(self, task: Task, tallies: Mapping[str, Tally]) -> None:
        self._task = task
        self._tallies = tallies
        self._grid = task.grid.for_a_glance
        self._room = Room.of(task.problem, self._grid, depth=task.depth)
        self._total = _RunningTotal(task)
        self._of_rows = [
            each for each in task.comparisons if isinstance(each, (Chain, Invariants, RowLosses))
        ]
        self.watches: Sequence[Watch] = [
            WatchExport(each.export, task.problem.loss, tallies[each.name])
            if isinstance(each, Exported)
            else WatchDifference(tallies[each.name])
            for each in task.comparisons
            if each not in self._of_rows
        ]
        first = max(1, task.grid.tile // FIRST)
        self._glance = Glance(task.problem, self._grid, self._room, self, first)

    def take(self, rows: range) -> None:
        self._glance.take(rows)

    def finish(self) -> Total | None:
        self._glance.settle()
        for watch in self.watches:
            watch.finish()
        return self._total.value

    def look_closely(self, rows: range, name: str) -> None:
        """Compare every entry of some rows in full for one check."""
        chosen = tuple(each for each in self._task.comparisons if each.name == name)
        block = work_out(self._task.problem, rows, self._grid, self._room)
        _look_closely(block, chosen, self._tallies)

    def settle(self, seen: Seen, ratio_sums: Floats) -> None:
        """Compare what is compared row by row, and what the watches left open."""
        for each in self._of_rows:
            each.compare_rows(seen, ratio_sums, self._tallies[each.name])
        for watch in self.watches:
            watch.settle(seen)
        self._total.add(RowLoss(seen))


class _RunningTotal:
    """The total loss of the rows so far, if it was asked for."""

    def __init__(self, task: Task) -> None:
        self._by = task.total_by
        self._divisors = (task.problem.divisor, task.problem.z_divisor)
        self.value: Total | None = None

    def add(self, losses: RowLoss) -> None:
        if self._by is None:
            return
        shares, allowed = losses.shares(self._by, *self._divisors)
        more = Total(ExactSum.of(shares), ExactSum.of(allowed))
        self.value = more if self.value is None else self.value.merge(more)

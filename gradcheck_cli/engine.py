"""Walk the rows in blocks, on as many processors as asked, and merge what the blocks show.

Rows are independent and findings merge in any order, so the result is the same for every block size and
number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.blocks import Block, Grid, Room, work_out
from gradcheck_cli.comparisons import Comparison, Exported, Tolerance
from gradcheck_cli.errors import InputError
from gradcheck_cli.findings import ExactSum, Finding, Tally
from gradcheck_cli.grades import SAMPLE
from gradcheck_cli.losses import RowLoss, RowLosses
from gradcheck_cli.numeric.logarithms import Arithmetic
from gradcheck_cli.problem import Problem
from gradcheck_cli.self_checks import Chain, Difference, Invariants
from gradcheck_cli.workers import Counter, FailedPiece, spread

_WORTH_A_PROCESS = 1 << 19
"""Entries from which one more process saves more than its fork costs, about 2 ms."""

Progress = Callable[[int, Callable[[], int]], AbstractContextManager[None]]
"""Shows the progress of so many rows while it is open, asking how many are done."""


def silent(rows: int, done: Callable[[], int]) -> AbstractContextManager[None]:  # noqa: ARG001
    """Show no progress."""
    return nullcontext()


@dataclass(frozen=True, eq=False)
class Total:
    """The loss, divided as the reduction says, and the sum of its rows' allowances."""

    loss: ExactSum
    allowed: ExactSum

    def merge(self, other: Total) -> Total:
        """Return the totals of both sets of rows."""
        return Total(self.loss.merge(other.loss), self.allowed.merge(other.allowed))


@dataclass(frozen=True, eq=False)
class Examination:
    """The merged findings, by the name of their check, and the total loss if it was asked for."""

    findings: dict[str, Finding]
    total: Total | None = None

    def merge(self, other: Examination, top: int) -> Examination:
        """Return the examination of both sets of rows, which were put through the same comparisons."""
        findings = {name: each.merge(other.findings[name], top) for name, each in self.findings.items()}
        totals = [each.total for each in (self, other) if each.total is not None]
        total = totals[0].merge(totals[1]) if len(totals) == 2 else next(iter(totals), None)
        return Examination(findings, total)

    def record(self) -> dict[str, Any]:
        """Return the examination as plain numbers, for another process."""
        total = (
            None
            if self.total is None
            else [list(each.counters.items()) for each in vars(self.total).values()]
        )
        return {"findings": {name: each.record() for name, each in self.findings.items()}, "total": total}

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Examination:
        """Return the examination that :meth:`record` wrote down."""
        total = record["total"]
        return cls(
            {name: Finding.of_record(each) for name, each in record["findings"].items()},
            None if total is None else Total(*(ExactSum(dict(each)) for each in total)),
        )


@dataclass(frozen=True, eq=False)
class Order:
    """What every process does: the problem, its comparisons, how much to keep."""

    problem: Problem
    comparisons: tuple[Comparison, ...]
    total_by: Arithmetic | None  # the arithmetic of a stated loss, if there is one
    top: int
    grid: Grid
    progress: Progress = silent

    @property
    def stride(self) -> int:
        """Return how many rows come to one whose errors are counted in ulps."""
        return max(1, self.problem.rows * self.problem.classes // SAMPLE)

    @property
    def depth(self) -> bool:
        """Whether anything asks how deep an entry lies, so that d must be kept beside exp(d)."""
        problem = self.problem
        return bool(problem.exports) or self.total_by is not None or problem.loss.link.softcap is not None


def comparisons_for(problem: Problem, tolerance: Tolerance | None) -> tuple[Comparison, ...]:
    """Return the comparisons in the order of the report: softgrad itself first, then the exports."""
    exported: list[Comparison] = [
        RowLosses(each, tolerance) if each.name == "loss" else Exported(each, tolerance)
        for each in problem.exports
    ]
    return (Difference(), Chain(), Invariants(), *exported)


def processors() -> int:
    """Return the processors this process may use: affinity, and the quota of its control group."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, _quota() or available))


def _quota() -> int | None:
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as limits:  # noqa: PTH123 - a kernel file
            quota, period = limits.read().split()
        return max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):
        return None


def examine(order: Order, processes: int) -> Examination:
    """Return the findings on all rows.

    Raises
    ------
    InputError
        If a row has no softmax, or a file changed; the first such row, whichever process saw it.
    """
    processes = min(processes, 1 + order.problem.rows * order.problem.classes // _WORTH_A_PROCESS)
    counter = Counter(processes)
    records = spread(
        lambda blocks: _walk(order, blocks, counter).record(),
        order.grid.blocks,
        counter,
        order.progress(order.problem.rows, counter.total),
    )
    examination = Examination.of_record(records[0])
    for record in records[1:]:
        examination = examination.merge(Examination.of_record(record), order.top)
    return examination


def _walk(order: Order, blocks: Iterator[int], counter: Counter) -> Examination:
    """Work through blocks until there are none, and return what they show together."""
    room = Room.of(order.problem, order.grid, depth=order.depth)
    tallies = {each.name: Tally(each.grid, order.top, order.stride) for each in order.comparisons}
    total = None
    with np.errstate(all="ignore"):
        for number in blocks:
            rows = order.grid.rows_of(number)
            try:
                block = work_out(order.problem, rows, order.grid, room)
                more = _look(order, block, tallies)
            except InputError as error:
                raise FailedPiece(number, str(error)) from error
            total = more if total is None or more is None else total.merge(more)
            counter.add(len(rows))
    return Examination({name: tally.finding for name, tally in tallies.items()}, total)


def _look(order: Order, block: Block, tallies: dict[str, Tally]) -> Total | None:
    """Put a block through every comparison; return its part of the loss if that was asked for."""
    judges = [(each.begin(block), tallies[each.name]) for each in order.comparisons]
    losses = None if order.total_by is None else RowLoss(block)
    for tile in block.tiles():
        if losses is not None:
            losses.gather(tile)
        for judge, tally in judges:
            judge.tile(tile, tally)
    for judge, tally in judges:
        judge.end(tally)
    if losses is None or order.total_by is None:
        return None
    shares, allowed = losses.shares(order.total_by, order.problem.divisor, order.problem.z_divisor)
    return Total(ExactSum.of(shares), ExactSum.of(allowed))

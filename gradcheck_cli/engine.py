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

from gradcheck_cli.audit import audit
from gradcheck_cli.comparisons import Comparison, Exported, Tolerance
from gradcheck_cli.errors import InputError
from gradcheck_cli.findings import ExactSum, Finding, Tally
from gradcheck_cli.grades import SAMPLE
from gradcheck_cli.losses import RowLosses
from gradcheck_cli.problem import Problem
from gradcheck_cli.self_checks import Chain, Difference, Invariants
from gradcheck_cli.walks import Task, Total, walk
from gradcheck_cli.workers import Counter, FailedPiece, spread

_WORTH_A_PROCESS = 1 << 19
"""Entries from which one more process saves more than its fork costs, about 2 ms."""

AUDITED = ("forward", "audit")
"""The checks that are made on a sample."""

Progress = Callable[[int, Callable[[], int]], AbstractContextManager[None]]
"""Shows the progress of so many rows while it is open, asking how many are done."""


def silent(rows: int, done: Callable[[], int]) -> AbstractContextManager[None]:  # noqa: ARG001
    """Show no progress."""
    return nullcontext()


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
    """What every process does, and how much is kept of it."""

    task: Task
    top: int
    seed: int
    progress: Progress = silent

    @property
    def stride(self) -> int:
        """Return how many rows come to one whose errors are counted in ulps."""
        return max(1, self.task.problem.rows * self.task.problem.classes // SAMPLE)


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
    problem = order.task.problem
    processes = min(processes, 1 + problem.rows * problem.classes // _WORTH_A_PROCESS)
    counter = Counter(processes)
    records = spread(
        lambda pieces: _work(order, pieces, counter).record(),
        1 + order.task.grid.blocks,
        counter,
        order.progress(problem.rows, counter.total),
    )
    examination = Examination.of_record(records[0])
    for record in records[1:]:
        examination = examination.merge(Examination.of_record(record), order.top)
    return examination


def _work(order: Order, pieces: Iterator[int], counter: Counter) -> Examination:
    """Work through pieces until there are none: the audit is the first, the others are blocks of rows."""
    task = order.task
    tallies = {each.name: Tally(each.grid, order.top, order.stride) for each in task.comparisons}
    audited = {name: Finding() for name in AUDITED}
    steps, number = walk(task, tallies), 0
    try:
        with np.errstate(all="ignore"):
            for number in pieces:
                if number == 0:
                    audited = _audited(order)
                    continue
                rows = task.grid.rows_of(number - 1)
                steps.take(rows)
                counter.add(len(rows))
            total = steps.finish()
    except InputError as error:
        raise FailedPiece(number, str(error)) from error
    return Examination({**audited, **{name: tally.finding for name, tally in tallies.items()}}, total)


def _audited(order: Order) -> dict[str, Finding]:
    """Return the findings of the audit, none where a row cannot be worked out: the walk names the first."""
    try:
        found = audit(order.task.problem, order.seed, order.top)
    except InputError:
        return {name: Finding() for name in AUDITED}
    return dict(zip(AUDITED, (found.forward, found.differences), strict=True))

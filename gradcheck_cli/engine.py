"""Walk the rows in cache-sized blocks, on as many threads as asked; merge what the blocks show.

Rows are independent and findings merge in any order, so the result is the same for every block size
and thread count. NumPy's loops release the interpreter lock: threads are enough.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np

from gradcheck_cli.blocks import Block, Room, height, work_out
from gradcheck_cli.comparisons import (
    Chain,
    Comparison,
    Difference,
    Exported,
    Invariants,
    Models,
    RowLosses,
    Tolerance,
    true_losses,
)
from gradcheck_cli.findings import ExactSum, Finding, Look
from gradcheck_cli.numeric.precision import Precision
from gradcheck_cli.problem import Problem

Progress = Callable[[int], None]
"""Called with the number of rows that a thread has finished."""


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
        """Return the examination of both sets of rows."""
        findings = {
            name: finding.merge(other.findings[name], top) if name in other.findings else finding
            for name, finding in self.findings.items()
        }
        findings |= {name: each for name, each in other.findings.items() if name not in findings}
        totals = [each.total for each in (self, other) if each.total is not None]
        return Examination(
            findings, totals[0].merge(totals[1]) if len(totals) == 2 else next(iter(totals), None)
        )


@dataclass(frozen=True, eq=False)
class Order:
    """What every thread does: the problem, its comparisons, how much to keep."""

    problem: Problem
    comparisons: tuple[Comparison, ...]
    total_by: Models | None
    top: int
    height: int
    progress: Progress | None


def comparisons_for(problem: Problem, tolerance: Tolerance | None) -> tuple[Comparison, ...]:
    """Return the comparisons in the order of the report: softgrad itself first, then the exports."""
    loss = problem.loss
    own: list[Comparison] = [Difference(loss), Chain(), Invariants()]
    for export in problem.exports:
        if export.name == "loss":
            own.append(RowLosses(export, loss, tolerance))
        else:
            own.append(Exported(export, loss, tolerance))
    return tuple(own)


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


def examine(order: Order, threads: int) -> Examination:
    """Return the findings on all rows.

    Raises
    ------
    InputError
        If a row has no softmax, or a file changed; the first such row, whichever thread saw it.
    """
    rows = order.problem.rows
    blocks = _Queue(-(-rows // order.height))
    threads = min(threads, blocks.count)
    if threads == 1:
        return _walk(order, blocks)
    with ThreadPoolExecutor(threads, thread_name_prefix="softgrad") as pool:
        futures = [pool.submit(_walk, order, blocks) for _ in range(threads)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            blocks.close()
    if blocks.failures:
        raise min(blocks.failures, key=lambda failure: failure[0])[1]
    examination = futures[0].result()
    for future in futures[1:]:
        examination = examination.merge(future.result(), order.top)
    return examination


@dataclass
class _Queue:
    """Hands out block numbers in ascending order until one fails or all are gone."""

    count: int
    following: int = 0
    failures: list[tuple[int, Exception]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> int | None:
        """Return the next block, or None."""
        with self.lock:
            if self.following >= self.count:
                return None
            self.following += 1
            return self.following - 1

    def close(self) -> None:
        """Hand out nothing more."""
        with self.lock:
            self.following = self.count


def _walk(order: Order, blocks: _Queue) -> Examination:
    """Work through blocks until there are none, and return what they show together."""
    room = Room.of(order.problem, min(order.height, order.problem.rows))
    found = Examination({each.name: Finding() for each in order.comparisons})
    with np.errstate(all="ignore"):
        while (number := blocks.take()) is not None:
            start = number * order.height
            stop = min(start + order.height, order.problem.rows)
            try:
                block = work_out(order.problem, start, stop, room)
                found = found.merge(_look(order, block, found), order.top)
            except Exception as error:
                blocks.close()
                blocks.failures.append((number, error))
                raise
            if order.progress is not None:
                order.progress(stop - start)
    return found


def _look(order: Order, block: Block, so_far: Examination) -> Examination:
    """Put a block through every comparison."""
    findings = {}
    for each in order.comparisons:
        look = Look(block.start, _grid(each), order.top, so_far.findings[each.name].bar(order.top))
        findings[each.name] = each.look(block, look)
    total = None
    if order.total_by is not None:
        problem = order.problem
        losses, allowed = true_losses(block, problem.loss, order.total_by, problem.divisor, problem.z_divisor)
        total = Total(ExactSum.of(losses), ExactSum.of(allowed))
    return Examination(findings, total)


def _grid(comparison: Comparison) -> Precision | None:
    """Return the grid that a comparison's errors are counted on in ulps."""
    export = getattr(comparison, "export", None)
    return None if export is None else export.grid

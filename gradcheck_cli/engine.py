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

from gradcheck_cli.blocks import Block, Grid, Room, work_out
from gradcheck_cli.comparisons import (
    Chain,
    Comparison,
    Difference,
    Exported,
    Invariants,
    RowLoss,
    RowLosses,
    Tolerance,
)
from gradcheck_cli.findings import ExactSum, Finding, Tally
from gradcheck_cli.numeric.accuracy import Arithmetic
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
    total_by: Arithmetic | None  # the arithmetic of a stated loss, if there is one
    top: int
    grid: Grid
    progress: Progress | None

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


def examine(order: Order, threads: int) -> Examination:
    """Return the findings on all rows.

    Raises
    ------
    InputError
        If a row has no softmax, or a file changed; the first such row, whichever thread saw it.
    """
    blocks = _Queue(order.grid.blocks)
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
    room = Room.of(order.problem, order.grid, depth=order.depth)
    tallies = {each.name: Tally(each.grid, order.top) for each in order.comparisons}
    total = None
    with np.errstate(all="ignore"):
        while (number := blocks.take()) is not None:
            rows = order.grid.rows_of(number)
            try:
                block = work_out(order.problem, rows, order.grid, room)
                more = _look(order, block, tallies)
            except Exception as error:
                blocks.close()
                blocks.failures.append((number, error))
                raise
            total = more if total is None or more is None else total.merge(more)
            if order.progress is not None:
                order.progress(len(rows))
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

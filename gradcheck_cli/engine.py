"""Walk the rows in blocks, on as many processors as asked, and merge what the blocks show.

Rows are independent and findings merge in any order, so the result is the same for every block size and
number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from gradcheck_cli.audit import ONE_OF_MANY, WHOLE, Extent, audit
from gradcheck_cli.comparisons import Comparison, Exported, Tolerance
from gradcheck_cli.errors import InputError
from gradcheck_cli.findings import Finding, Tally
from gradcheck_cli.grades import SAMPLE
from gradcheck_cli.grid import Grid
from gradcheck_cli.losses import RowLosses
from gradcheck_cli.numeric.exact import ExactSum
from gradcheck_cli.numeric.precision import Precision
from gradcheck_cli.problem import Problem
from gradcheck_cli.records import dataclass
from gradcheck_cli.self_checks import Chain, Difference, Invariants
from gradcheck_cli.walks import Task, Total, Walk, walk
from gradcheck_cli.workers import Counter, FailedPiece, spread

_WORTH_A_PROCESS = 1 << 19
"""Entries from which one more process saves more than its fork costs, about 2 ms."""

AUDITED = ("forward", "audit")
"""The checks that are made on a sample."""

_SMALL = 1 << 14
"""Entries below which the audit of a problem takes most of its time."""

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


Tallies = dict[str, Tally]


class Named(Protocol):
    """A comparison, as far as the engine has to know it."""

    @property
    def name(self) -> str:
        """The name of the check."""

    @property
    def grid(self) -> Precision | None:
        """The grid that errors are counted on in ulps."""


class Job(Protocol):
    """What is to be done with rows, block by block; any command's."""

    @property
    def rows(self) -> int:
        """How many rows there are."""

    @property
    def work(self) -> int:
        """How many entries are worked out: what a process more is worth."""

    @property
    def stride(self) -> int:
        """How many rows come to one whose errors are counted in ulps."""

    @property
    def comparisons(self) -> Sequence[Named]:
        """What each row is put through."""

    @property
    def top(self) -> int:
        """How many worst entries to keep."""

    @property
    def grid(self) -> Grid:
        """How the rows are cut."""

    @property
    def progress(self) -> Progress:
        """What shows the progress."""

    def walk(self, tallies: Tallies) -> Walk:
        """Return what puts rows through the comparisons; each process has one."""

    @property
    def asides(self) -> tuple[str, ...]:
        """Names of what one of the processes does beside the rows."""

    def aside(self) -> dict[str, Finding]:
        """Return what is found beside the rows, by name."""


@dataclass(frozen=True)
class Looking:
    """A walk that looks at rows, one block after the other, and keeps nothing in mind."""

    look: Callable[[range], None]

    def take(self, rows: range) -> None:
        """Look at consecutive rows."""
        self.look(rows)

    def finish(self) -> None:
        """Nothing is left over."""


@dataclass(frozen=True, eq=False)
class Order:
    """What every process does, and how much is kept of it."""

    task: Task
    top: int
    seed: int | str
    progress: Progress = silent
    extent: Extent = WHOLE  # of the audit
    glance: bool = True  # before every entry is compared in full, where the problem admits it

    @property
    def stride(self) -> int:
        """Return how many rows come to one whose errors are counted in ulps."""
        return max(1, self.work // SAMPLE)

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return self.task.problem.rows

    @property
    def work(self) -> int:
        """Return the number of entries."""
        return self.task.problem.rows * self.task.problem.classes

    @property
    def comparisons(self) -> Sequence[Named]:
        """Return what the rows are put through."""
        return self.task.comparisons

    @property
    def grid(self) -> Grid:
        """Return how the rows are cut."""
        return self.task.grid

    def walk(self, tallies: Tallies) -> Walk:
        """Return the fastest walk that the task admits."""
        return walk(self.task, tallies, glance=self.glance)

    @property
    def asides(self) -> tuple[str, ...]:
        """Return the checks of the audit."""
        return AUDITED

    def aside(self) -> dict[str, Finding]:
        """Return what the audit finds; nothing where a row cannot be worked out: the walk names the first."""
        try:
            found = audit(self.task.problem, self.seed, self.top, self.extent)
        except InputError:
            return {name: Finding() for name in AUDITED}
        return dict(zip(AUDITED, (found.forward, found.differences), strict=True))


Examiner = Callable[[Order, int], Examination]
"""Goes through the rows of a problem, with as many processes as may be used here."""


def comparisons_for(
    problem: Problem, tolerance: Tolerance | None, difference: Comparison | None = None
) -> tuple[Comparison, ...]:
    """Return the comparisons in the order of the report: softgrad itself first, then the exports."""
    exported: list[Comparison] = [
        RowLosses(each, tolerance) if each.name == "loss" else Exported(each, tolerance)
        for each in problem.exports
    ]
    return (difference or Difference(), Chain(), Invariants(), *exported)


def examine(job: Job, processes: int) -> Examination:
    """Return the findings on all rows.

    Raises
    ------
    InputError
        If a row has no softmax, or a file changed; the first such row, whichever process saw it.
    """
    processes = min(processes, 1 + job.work // _WORTH_A_PROCESS)
    counter = Counter(processes)
    records = spread(
        lambda pieces: _work(job, pieces, counter).record(),
        1 + job.grid.blocks,
        counter,
        job.progress(job.rows, counter.total),
    )
    examination = Examination.of_record(records[0])
    for record in records[1:]:
        examination = examination.merge(Examination.of_record(record), job.top)
    return examination


def examine_one_of_many(order: Order, processes: int) -> Examination:
    """Return the findings on all rows of one case of a batch: a small one is audited in passing.

    What is fast for many rows costs a small problem more than it saves: a glance before every entry is
    compared, a queue, and findings written down for another process.
    """
    problem = order.task.problem
    if order.work >= _SMALL:
        return examine(order, processes)
    name = "/".join(problem.logits.tensor.path.split("/")[-2:])  # another row in each case
    order = replace(order, extent=ONE_OF_MANY, seed=f"{order.seed} {name}", glance=False)
    return examine_some(order, range(1 + order.grid.blocks))


def examine_some(order: Order, pieces: Iterable[int]) -> Examination:
    """Return the findings on some pieces of the work: 0 is the audit, the others are blocks of rows.

    Raises
    ------
    InputError
        As :func:`examine`.
    """
    try:
        return _work(order, iter(pieces), Counter(1))
    except FailedPiece as failure:
        raise InputError(str(failure)) from failure


def _work(job: Job, pieces: Iterator[int], counter: Counter) -> Examination:
    """Work through pieces until there are none: the aside is the first, the others are blocks of rows."""
    tallies = {each.name: Tally(each.grid, job.top, job.stride) for each in job.comparisons}
    aside = {name: Finding() for name in job.asides}
    steps, number = job.walk(tallies), 0
    try:
        with np.errstate(all="ignore"):
            for number in pieces:
                if number == 0:
                    aside = job.aside()
                    continue
                rows = job.grid.rows_of(number - 1)
                steps.take(rows)
                counter.add(len(rows))
            total = steps.finish()
    except InputError as error:
        raise FailedPiece(number, str(error)) from error
    return Examination({**aside, **{name: tally.finding for name, tally in tallies.items()}}, total)

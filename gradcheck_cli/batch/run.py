"""Run the cases of a batch and keep what they come to; it reads as the story of a batch.

cases -> those of this shard -> those that the journal does not have -> executor -> journal, store, summary
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from gradcheck_cli.batch import kinds
from gradcheck_cli.batch.case import Case, Cases
from gradcheck_cli.batch.journal import Journal
from gradcheck_cli.batch.pool import Pool, Reply
from gradcheck_cli.batch.result import How, Result, failed, result_of
from gradcheck_cli.batch.store import Store
from gradcheck_cli.errors import UsageError
from gradcheck_cli.records import dataclass
from gradcheck_cli.summary import Head, Summary

MOST_SHARDS = 1_000_000

Executor = Callable[[Sequence[int]], Generator[Result, None, None]]
"""Runs the cases of these numbers, wherever it does so, and yields results as they finish."""


class Watch(Protocol):
    """Sees a batch go by."""

    def begin(self, summary: Summary) -> None:
        """So many cases are planned, and some may be done already."""

    def finished(self, head: Head) -> None:
        """One more case is done."""

    def again(self, case: Case, reason: str) -> None:
        """Something happened to a case, and it is tried once more."""

    def tick(self) -> None:
        """Time has passed."""


@dataclass(frozen=True)
class Plan:
    """What is to be run, and how."""

    cases: tuple[Case, ...]
    how: How
    jobs: int = 1
    timeout: float | None = None
    fail_fast: bool = False
    shard: tuple[int, int] | None = None

    @property
    def numbers(self) -> range:
        """Return the numbers of the cases of this shard: every N-th, so that shards are alike."""
        if self.shard is None:
            return range(len(self.cases))
        part, parts = self.shard
        return range(part - 1, len(self.cases), parts)


def shard_of(text: str) -> tuple[int, int]:
    """Return I and N of ``I/N``.

    Raises
    ------
    UsageError
        If it is something else, or I is not one of 1 .. N.
    """
    part, _, parts = text.partition("/")
    if not (part.isascii() and part.isdigit() and parts.isascii() and parts.isdigit()):
        raise UsageError(f"--shard {text}: write I/N, as in 2/8")
    if len(parts) > len(str(MOST_SHARDS)) or not 1 <= int(parts) <= MOST_SHARDS:
        raise UsageError(f"--shard {text}: there can be 1 .. {MOST_SHARDS:,} shards")
    if not 1 <= int(part) <= int(parts):
        raise UsageError(f"--shard {text}: the first number must be one of 1 .. {int(parts)}")
    return int(part), int(parts)


def run(plan: Plan, executor: Executor, store: Store, watch: Watch, journal: Journal | None) -> Summary:
    """Run a plan; what each case comes to is in the store, and what they come to together is returned."""
    summary = Summary(len(plan.numbers), shard=plan.shard)
    done = {} if journal is None else journal.results(plan.cases, plan.numbers, plan.how)
    for result in done.values():
        _keep(result, store, summary)
    watch.begin(summary)
    if plan.fail_fast and summary.counts["fail"]:
        return summary
    # Closed whatever happens, an interrupt above all: that ends the workers.
    with contextlib.closing(executor([number for number in plan.numbers if number not in done])) as results:
        for result in results:
            if journal is not None:
                journal.add(plan.cases[result.head.number], plan.how, result)
            _keep(result, store, summary)
            watch.finished(result.head)
            if plan.fail_fast and result.head.verdict == "fail":
                break
    return summary


def _keep(result: Result, store: Store, summary: Summary) -> None:
    if result.line:
        store.add(result.head.number, result.line)
    summary.add(result.head)


def local(plan: Plan, watch: Watch) -> Executor:
    """Return what runs cases in processes of this machine."""
    return in_processes(plan.cases, plan, watch)


def in_processes(cases: Cases, plan: Plan, watch: Watch) -> Executor:
    """Return what runs cases in processes of this machine, as a plan has it that may have other cases."""

    def executor(numbers: Sequence[int]) -> Generator[Result, None, None]:
        kinds.load(cases[number].command for number in numbers)
        tasks = _Tasks.of(cases, plan, numbers)
        pool = Pool(
            tasks.work,
            max(1, min(plan.jobs, len(numbers))),
            plan.timeout,
            say=lambda number, reason: watch.again(cases[number], reason),
            tick=watch.tick,
            again=lambda number: number >= 0,
        )
        with contextlib.closing(pool.run(tasks.numbers)) as replies:
            for reply in replies:
                if reply.number >= 0:
                    yield _result(cases[reply.number], reply)
                    continue
                done = tasks.heads(reply)
                pool.add(tasks.left(reply.number, done))
                for head in done:
                    yield Result(head, b"")

    return executor


@dataclass(frozen=True)
class _Tasks:
    """What the pool runs by number: cases, and below 0 the stacks that are tried first."""

    cases: Cases
    how: How
    stacks: Sequence[Sequence[int]]
    apart: Sequence[int]

    @classmethod
    def of(cls, cases: Cases, plan: Plan, numbers: Sequence[int]) -> _Tasks:
        """Return the tasks of these cases; a report of each case is made by a run of its own."""
        if plan.how.lines:
            return cls(cases, plan.how, (), numbers)
        from gradcheck_cli.batch.stack import stacks  # noqa: PLC0415 - loads the engine

        return cls(cases, plan.how, *stacks(cases, numbers, plan.jobs))

    @property
    def numbers(self) -> list[int]:
        """Return the numbers of the tasks."""
        return [*range(-len(self.stacks), 0), *self.apart]

    def work(self, number: int) -> bytes:
        """Return what is told of a task: the heads of a stack, or the head and the line of a case."""
        if number >= 0:
            result = result_of(self.cases[number], number, self.how)
            return json.dumps(result.head.record()).encode() + b"\n" + result.line
        from gradcheck_cli.batch.stack import passing  # noqa: PLC0415 - loaded before the fork

        heads = passing([(each, self.cases[each]) for each in self.stacks[number]])
        return json.dumps([head.record() for head in heads]).encode()

    def heads(self, reply: Reply) -> list[Head]:
        """Return the heads that are told of a stack; none where it was lost."""
        return [] if reply.lost is not None else [Head.of_record(each) for each in json.loads(reply.told)]

    def left(self, number: int, done: Sequence[Head]) -> list[int]:
        """Return the cases of a stack that were not told of."""
        known = {head.number for head in done}
        return [each for each in self.stacks[number] if each not in known]


def _result(case: Case, reply: Reply) -> Result:
    if reply.lost is not None:
        cause = reply.cause or "crash"
        return failed(case, reply.number, reply.lost, cause=cause, seconds=reply.seconds)
    head, _, line = reply.told.partition(b"\n")
    return Result(Head.of_record(json.loads(head)), line)


def share_of_processors(jobs: int, processors: int) -> int:
    """Return the processors a case may use beside so many others; small cases use one anyway."""
    return max(1, processors // max(1, jobs))

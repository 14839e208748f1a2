"""Run the cases of a batch and keep what they come to; it reads as the story of a batch.

cases -> those of this shard -> those that the journal does not have -> executor -> journal, store, summary
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gradcheck_cli.batch import kinds
from gradcheck_cli.batch.case import Case
from gradcheck_cli.batch.journal import Journal
from gradcheck_cli.batch.pool import Pool, Reply
from gradcheck_cli.batch.result import How, Result, failed, result_of
from gradcheck_cli.batch.store import Store
from gradcheck_cli.errors import UsageError
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
    store.add(result.head.number, result.line)
    summary.add(result.head)


def local(plan: Plan, watch: Watch) -> Executor:
    """Return what runs cases in processes of this machine."""

    def work(number: int) -> bytes:
        result = result_of(plan.cases[number], number, plan.how)
        return json.dumps(result.head.record()).encode() + b"\n" + result.line

    def executor(numbers: Sequence[int]) -> Generator[Result, None, None]:
        kinds.load(plan.cases[number].command for number in numbers)
        jobs = max(1, min(plan.jobs, len(numbers)))
        pool = Pool(
            work,
            jobs,
            plan.timeout,
            say=lambda number, reason: watch.again(plan.cases[number], reason),
            tick=watch.tick,
        )
        with contextlib.closing(pool.run(numbers)) as replies:
            for reply in replies:
                yield _result(plan.cases[reply.number], reply)

    return executor


def _result(case: Case, reply: Reply) -> Result:
    if reply.lost is not None:
        cause = reply.cause or "crash"
        return failed(case, reply.number, reply.lost, cause=cause, seconds=reply.seconds)
    head, _, line = reply.told.partition(b"\n")
    return Result(Head.of_record(json.loads(head)), line)


def share_of_processors(jobs: int, processors: int) -> int:
    """Return the processors a case may use beside so many others; small cases use one anyway."""
    return max(1, processors // max(1, jobs))

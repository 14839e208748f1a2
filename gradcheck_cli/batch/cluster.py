"""Cases on an existing Dask cluster: in chunks that are worth a task, streamed back as they finish.

The cluster must see the files under the same paths. A task that was on a worker that died is run elsewhere by
the scheduler; a case that takes several workers down is given up, and the others of its chunk are not.
"""

from __future__ import annotations

import os
import queue
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from gradcheck_cli.batch.case import Case
from gradcheck_cli.batch.result import How, Result, failed, result_of
from gradcheck_cli.batch.run import Executor, Plan, Watch, in_processes
from gradcheck_cli.batch.stack import passing_of
from gradcheck_cli.batch.wide import is_wide, wide_result
from gradcheck_cli.errors import SoftgradError, UsageError
from gradcheck_cli.report.document import softgrad_version
from gradcheck_cli.summary import Head, Summary
from gradcheck_cli.tensors import locate
from gradcheck_cli.visible import visible

WORTH_A_TASK = 0.25
LEAST = 0.1
"""Seconds of a chunk, as a rule and at least: a task costs the scheduler about a millisecond."""

_MOST = 1000  # cases of a chunk: what a dead worker loses is done again
_AHEAD = 3  # chunks for each thread of the workers
_TICK = 0.2
_TRIES = 3
_CONNECT = 15.0  # seconds to reach the scheduler
_ALONE = 60.0  # seconds without any worker after which the run is given up


def fingerprint() -> str:
    """Return what tells this softgrad from another: its version and a hash of its source."""
    digest = sha256()
    package = Path(__file__).parent.parent
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode())
        digest.update(path.read_bytes())
    return f"{softgrad_version()} {digest.hexdigest()[:16]}"


def run_chunk(
    chunk: Sequence[tuple[int, dict[str, Any]]], how: How, timeout: float | None = None
) -> list[tuple[dict[str, Any], bytes]]:
    """Run some cases where this is called, and return their heads and lines.

    A task cannot be ended from outside without its worker, so cases that may take so many seconds only are
    run in a process of their own.
    """
    cases = {number: Case.of_record(record) for number, record in chunk}
    if timeout is None:
        results = _here(cases, how)
    else:
        results = list(in_processes(cases, Plan((), how, timeout=timeout), _Unwatched())(list(cases)))
    return [(result.head.record(), result.line) for result in results]


def _here(cases: dict[int, Case], how: How) -> list[Result]:
    heads = {} if how.lines else {head.number: head for head in passing_of(cases)}
    alone = [result_of(case, number, how) for number, case in cases.items() if number not in heads]
    return [*(Result(head, b"") for head in heads.values()), *alone]


class _Unwatched:
    """Nobody watches a worker."""

    def begin(self, summary: Summary) -> None:
        """Show nothing."""

    def finished(self, head: Head) -> None:
        """Show nothing."""

    def again(self, case: Case, reason: str) -> None:
        """Show nothing."""

    def tick(self) -> None:
        """Show nothing."""


def cluster(plan: Plan, address: str, watch: Watch) -> Executor:
    """Return what runs cases on the cluster of the scheduler at an address.

    Raises
    ------
    UsageError
        If the extra is not installed.
    """

    def executor(numbers: Sequence[int]) -> Generator[Result, None, None]:
        client = _connected(address)
        try:
            _refuse_others(client, address)
            here = [_absolute(plan.cases[number]) for number in numbers]
            wide = [(number, case) for number, case in zip(numbers, here, strict=True) if is_wide(case)]
            apart = {number for number, _ in wide}
            small = [(n, case) for n, case in zip(numbers, here, strict=True) if n not in apart]
            with closing(_Run(client, address, plan, watch, deque(small)).results()) as results:
                yield from results
            for number, case in wide:
                yield wide_result(client, case, number, plan.how, plan.timeout)
                watch.tick()
        finally:
            client.close()

    return executor


def _connected(address: str) -> Any:
    try:
        from distributed import Client  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError("--scheduler needs the extra: pip install 'softgrad[cluster]'") from error
    try:
        return Client(address, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        reason = visible(str(error).splitlines()[0] if str(error) else type(error).__name__, 200)
        raise SoftgradError(
            f"--scheduler {visible(address)}: no Dask scheduler answers there: {reason}"
        ) from error


def _refuse_others(client: Any, address: str) -> None:
    """Refuse workers that would judge by another program than this one."""
    try:
        found: dict[str, Any] = client.run(fingerprint)
    except Exception as error:
        raise SoftgradError(
            f"--scheduler {visible(address)}: a worker cannot import softgrad {softgrad_version()}; install "
            f"it there ({type(error).__name__}: {visible(str(error), 120)})"
        ) from error
    if not found:
        raise SoftgradError(f"--scheduler {visible(address)}: the cluster has no worker")
    own = fingerprint()
    for worker, other in sorted(found.items()):
        if other != own:
            raise SoftgradError(
                f"--scheduler {visible(address)}: worker {visible(str(worker))} has another softgrad "
                f"({visible(str(other))}, here {own}); install the same on all"
            )


def _absolute(case: Case) -> Case:
    """Return the case with paths that mean the same on another machine; numbers stay."""
    files = tuple((role, _absolute_path(text)) for role, text in case.files)
    return replace(case, files=files)


def _absolute_path(text: str) -> str:
    place = locate(text)
    if place.remote or not os.path.lexists(place.path):
        return text
    path = os.path.abspath(place.path)  # noqa: PTH100 - links stay as they are
    return path if place.member is None else f"{path}:{place.member}"


@dataclass
class _Run:
    """The chunks that are out, and what comes back."""

    client: Any
    address: str
    plan: Plan
    watch: Watch
    pending: deque[tuple[int, Case]]
    out: dict[Any, list[tuple[int, Case]]] = field(default_factory=dict)
    back: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    tries: Counter[int] = field(default_factory=Counter)  # by the first number of a chunk
    pace: float | None = None  # seconds a case, smoothed
    seen: float = field(default_factory=time.monotonic)  # when there was a worker last

    def results(self) -> Generator[Result, None, None]:
        """Yield results as their chunks finish; closing the generator cancels what is out."""
        try:
            while self.pending or self.out:
                self._send()
                self.watch.tick()
                try:
                    future = self.back.get(timeout=_TICK)
                except queue.Empty:
                    self._refuse_emptiness()
                    continue
                chunk = self.out.pop(future, None)
                if chunk is not None:
                    yield from self._received(future, chunk)
        finally:
            self.client.cancel(list(self.out), force=True)

    def _send(self) -> None:
        """Keep the workers busy, without handing out everything at once."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        limit = _AHEAD * max(1, sum(each["nthreads"] for each in workers))
        while self.pending and len(self.out) < limit:
            size = min(self._size(limit), len(self.pending))
            self._submit([self.pending.popleft() for _ in range(size)])

    def _size(self, limit: int) -> int:
        """Return the cases of the next chunk: worth a task, and towards the end shared out fairly."""
        if self.pace is None:
            return 1
        usual, least = (int(seconds / max(self.pace, 1e-6)) + 1 for seconds in (WORTH_A_TASK, LEAST))
        return min(usual, _MOST, max(least, len(self.pending) // limit))

    def _submit(self, chunk: list[tuple[int, Case]]) -> None:
        records = [(number, case.record()) for number, case in chunk]
        future = self.client.submit(run_chunk, records, self.plan.how, self.plan.timeout, pure=False)
        self.out[future] = chunk
        future.add_done_callback(self.back.put)

    def _received(self, future: Any, chunk: list[tuple[int, Case]]) -> Iterator[Result]:
        """Yield what a chunk came to; a chunk that took workers down is tried case by case."""
        if future.status == "finished":
            for head, line in future.result():
                result = Result(Head.of_record(head), line)
                taken = result.head.seconds
                self.pace = taken if self.pace is None else 0.95 * self.pace + 0.05 * taken
                yield result
            return
        if future.status == "lost" and self._again(chunk):  # done, but on a worker that is gone
            return
        error = future.exception() if future.status == "error" else None
        if error is None or type(error).__name__ != "KilledWorker":
            reason = visible(str(error or future.status), 200)
            raise SoftgradError(f"--scheduler {visible(self.address)}: a task was lost: {reason}")
        if len(chunk) > 1:
            for each in chunk:
                self._submit([each])
            return
        ((number, case),) = chunk
        told = "the worker that worked on it died, again and again (out of memory?)"
        yield failed(case, number, told, cause="crash", seconds=0.0)

    def _again(self, chunk: list[tuple[int, Case]]) -> bool:
        """Submit a chunk once more, unless that has been done often enough."""
        first = chunk[0][0]
        self.tries[first] += 1
        if self.tries[first] > _TRIES:
            return False
        self._submit(chunk)
        return True

    def _refuse_emptiness(self) -> None:
        """Give up when all workers have been gone for a while: nobody would ever answer."""
        now = time.monotonic()
        if self.client.status == "running" and self.client.scheduler_info(n_workers=-1)["workers"]:
            self.seen = now
        elif now - self.seen > _ALONE or self.client.status == "closed":
            raise SoftgradError(f"--scheduler {visible(self.address)}: the cluster has no worker any more")

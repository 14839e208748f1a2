"""Cases in processes of their own: one that dies costs its case only, and one that hangs is ended.

A pool of the standard library loses every task that is pending when a worker is killed, or waits for ever.
Here the parent hands each worker a few numbers at a time and knows which one it is at; the rest of a dead
worker's numbers go to the others.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import struct
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from gradcheck_cli.errors import SoftgradError

Work = Callable[[int], bytes]
"""From the number of a case to what is told of it; it runs in a worker and does not raise."""

_NUMBER = struct.Struct("@q")
_REPLY = struct.Struct("@qI")  # number, length of what follows
_AHEAD = ((0.005, 8), (0.1, 2))
"""Seconds of a case, and numbers that a worker has at once while cases are shorter: waiting would cost."""

_TRIES = 2
_TICK = 0.2  # seconds between two looks at the clock


def too_late(timeout: float) -> str:
    """Say that a case took longer than it may."""
    return f"not done after {timeout:g} s (--timeout)"


@dataclass(frozen=True)
class Reply:
    """What a worker told of a case, or why it could not."""

    number: int
    told: bytes = b""
    lost: str | None = None
    cause: str | None = None  # timeout or crash
    seconds: float = 0.0


@dataclass
class _Worker:
    """A forked process, the numbers it has been given, and what it has sent so far."""

    process: int
    tasks: int
    replies: int
    given: deque[int] = field(default_factory=deque)
    since: float = 0.0  # when it began with the first of them
    received: bytearray = field(default_factory=bytearray)

    def give(self, number: int) -> None:
        """Hand it one more number; one that is dead is found out by its silence."""
        if not self.given:
            self.since = time.monotonic()
        self.given.append(number)
        with contextlib.suppress(BrokenPipeError):
            os.write(self.tasks, _NUMBER.pack(number))

    def take(self) -> Iterator[Reply]:
        """Yield the replies that have arrived whole."""
        while len(self.received) >= _REPLY.size:
            number, size = _REPLY.unpack_from(self.received)
            if len(self.received) < _REPLY.size + size:
                return
            told = bytes(self.received[_REPLY.size : _REPLY.size + size])
            del self.received[: _REPLY.size + size]
            self.given.popleft()
            now = time.monotonic()
            took, self.since = now - self.since, now
            yield Reply(number, told, seconds=took)

    def end(self) -> int:
        """End the process and all it has forked; return its wait status."""
        for each in (self.tasks, self.replies):
            os.close(each)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(self.process, 0)[1]
        return 0


@dataclass
class Pool:
    """Runs numbered cases in so many processes; replies come as they finish."""

    work: Work
    jobs: int
    timeout: float | None = None
    say: Callable[[int, str], None] = lambda number, reason: None  # noqa: ARG005 - of a case that is retried
    tick: Callable[[], None] = lambda: None  # called several times a second
    again: Callable[[int], bool] = lambda number: True  # noqa: ARG005 - whether one that was lost is retried
    _pending: deque[int] = field(default_factory=deque)
    _workers: list[_Worker] = field(default_factory=list)
    _tries: Counter[int] = field(default_factory=Counter)
    _pace: float = 1.0  # seconds a case, smoothed

    def run(self, numbers: Sequence[int]) -> Generator[Reply, None, None]:
        """Yield a reply for each number; closing the generator ends the workers."""
        self._pending.extend(numbers)
        with selectors.DefaultSelector() as ready:
            try:
                while self._pending or any(worker.given for worker in self._workers):
                    self._fill(ready)
                    for key, _ in ready.select(self._patience()):
                        yield from self._hear(key.data, ready)
                    yield from self._late(ready)
                    self.tick()
            finally:
                for worker in self._workers:
                    worker.end()
                self._workers.clear()

    def add(self, numbers: Sequence[int]) -> None:
        """Take in more numbers while the pool runs, to be done before those that wait."""
        self._pending.extendleft(reversed(numbers))

    def _fill(self, ready: selectors.BaseSelector) -> None:
        """Start workers that are missing, and give each some numbers."""
        while self._pending and len(self._workers) < min(self.jobs, self._needed()):
            worker = self._start()
            ready.register(worker.replies, selectors.EVENT_READ, worker)
            self._workers.append(worker)
        ahead = next((ahead for pace, ahead in _AHEAD if self._pace < pace), 1)
        for worker in self._workers:
            while self._pending and len(worker.given) < ahead:
                worker.give(self._pending.popleft())

    def _needed(self) -> int:
        return len(self._pending) + sum(bool(worker.given) for worker in self._workers)

    def _patience(self) -> float:
        if self.timeout is None:
            return _TICK
        now = time.monotonic()
        left = [worker.since + self.timeout - now for worker in self._workers if worker.given]
        return max(0.0, min(_TICK, *left)) if left else _TICK

    def _hear(self, worker: _Worker, ready: selectors.BaseSelector) -> Iterator[Reply]:
        data = os.read(worker.replies, 1 << 20)
        if not data:
            yield from self._bury(worker, ready)
            return
        worker.received += data
        for reply in worker.take():
            self._pace = 0.9 * self._pace + 0.1 * reply.seconds if self._pace < 1.0 else reply.seconds
            yield reply

    def _bury(self, worker: _Worker, ready: selectors.BaseSelector) -> Iterator[Reply]:
        """Note the death of a worker: the case it was at is tried once more, the others are given away."""
        status = self._remove(worker, ready)
        cause = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "it ended early"
        if not worker.given:
            return
        number = worker.given.popleft()
        self.add(worker.given)
        self._tries[number] += 1
        if self._tries[number] < _TRIES and self.again(number):
            self.say(number, f"the process that worked on it died ({cause}); it is tried once more")
            self.add([number])
            return
        killed = " (out of memory?)" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9 else ""
        told = f"the process that worked on it died twice, of {cause}{killed}"
        yield Reply(number, lost=told, cause="crash", seconds=time.monotonic() - worker.since)

    def _late(self, ready: selectors.BaseSelector) -> Iterator[Reply]:
        """End the workers whose case takes too long."""
        if self.timeout is None:
            return
        now = time.monotonic()
        for worker in [each for each in self._workers if each.given and now - each.since >= self.timeout]:
            self._remove(worker, ready)
            number = worker.given.popleft()
            self.add(worker.given)
            yield Reply(number, lost=too_late(self.timeout), cause="timeout", seconds=now - worker.since)

    def _remove(self, worker: _Worker, ready: selectors.BaseSelector) -> int:
        ready.unregister(worker.replies)
        self._workers.remove(worker)
        return worker.end()

    def _start(self) -> _Worker:
        """Fork a worker; it holds no end of another worker's pipes, so that each sees when its own close."""
        try:
            tasks, replies = os.pipe(), os.pipe()
            with warnings.catch_warnings():  # of threads beside a fork: the child does arithmetic only
                warnings.simplefilter("ignore", DeprecationWarning)
                process = os.fork()
        except OSError as error:
            raise SoftgradError(f"no process can be started: {error.strerror}") from error
        if process == 0:
            self._become(tasks, replies)
        os.close(tasks[0])
        os.close(replies[1])
        return _Worker(process, tasks[1], replies[0])

    def _become(self, tasks: tuple[int, int], replies: tuple[int, int]) -> NoReturn:
        try:
            os.setpgid(0, 0)  # Ctrl-C is the parent's affair, and all that is forked here ends together
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for each in (tasks[1], replies[0]):
                os.close(each)
            for worker in self._workers:
                os.close(worker.tasks)
                os.close(worker.replies)
            while token := os.read(tasks[0], _NUMBER.size):
                (number,) = _NUMBER.unpack(token)
                told = self.work(number)
                _write(replies[1], _REPLY.pack(number, len(told)) + told)
        finally:
            os._exit(0)


def _write(pipe: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(pipe, left) :]

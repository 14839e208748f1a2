"""The same function in several forked processes, taking numbered pieces of work from one queue.

Threads would share one interpreter lock, and NumPy lets go of it and queues for it again at every call: with
10 microseconds of arithmetic between two queues, two threads are slower than one. Forked processes share the
open files and everything already read, start in milliseconds, and need no lock.
"""

from __future__ import annotations

import contextlib
import marshal
import mmap
import os
import signal
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NoReturn

from gradcheck_cli.errors import InputError, SoftgradError

Numbers = Iterator[int]
Work = Callable[[Numbers], Any]
"""Takes numbers until there are none, and returns plain numbers, texts, lists and dictionaries."""

_NUMBER = struct.Struct("@q")  # native: read and written in one piece
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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


class FailedPiece(Exception):
    """A piece could not be worked on, for a reason that its user can mend."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Counter:
    """A number that every process adds to, each in a cell of its own."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._cells = mmap.mmap(-1, _NUMBER.size * processes)
        self._cell = 0

    def own(self, cell: int) -> None:
        """Choose the cell of this process."""
        self._cell = cell * _NUMBER.size

    def add(self, amount: int) -> None:
        """Add to this process's cell."""
        (before,) = _NUMBER.unpack_from(self._cells, self._cell)
        _NUMBER.pack_into(self._cells, self._cell, before + amount)

    def total(self) -> int:
        """Return the sum of all cells."""
        return sum(value for (value,) in _NUMBER.iter_unpack(self._cells[:]))


def spread(work: Work, pieces: int, counter: Counter, watch: AbstractContextManager[None]) -> list[Any]:
    """Return what `work` gives in each process; together they take every number below `pieces`.

    As many processes as the counter has cells; each takes ascending numbers, and none takes more once one
    has failed. `watch` is open while they
    work; it may start a thread, so it is opened once they are forked. Where none can be forked, this process
    does it all.

    Raises
    ------
    InputError
        The failure of the lowest number, if there is one.
    SoftgradError
        If a process died.
    """
    children: list[_Child] = []
    with contextlib.ExitStack() as used:
        numbers: Numbers = iter(range(pieces))
        if min(counter.processes, pieces) > 1 and sys.platform == "linux":
            with contextlib.suppress(OSError):  # out of descriptors or memory: one process does it all
                queue = used.enter_context(_filled(pieces))
                numbers = _taken(queue, os.getpid())
                used.callback(_end, children)
                _fork_all(children, work, numbers, counter)
        with watch:
            told = [_attempt(work, numbers), *(child.result() for child in children)]
    return _results(told)


def _results(told: list[dict[str, Any]]) -> list[Any]:
    failures = [tuple(each["failed"]) for each in told if "failed" in each]
    if failures:
        raise InputError(min(failures)[1])
    for each in told:
        if "broken" in each:
            raise RuntimeError(each["broken"])
        if "memory" in each:
            raise MemoryError
    return [each["result"] for each in told]


@contextlib.contextmanager
def _filled(pieces: int) -> Iterator[int]:
    """Yield the descriptor of a file in memory that holds every number.

    It is opened again by its path: only then does Linux move its position and read in one step for all
    processes that share it.
    """
    with os.fdopen(os.memfd_create("softgrad"), "wb") as memory:
        memory.write(b"".join(map(_NUMBER.pack, range(pieces))))
        memory.flush()
        queue = os.open(f"/proc/self/fd/{memory.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield queue
    finally:
        os.close(queue)


def _taken(queue: int, parent: int) -> Numbers:
    """Yield numbers until the queue is empty: the processes share the file's position.

    A child whose parent is gone stops: nobody would read its result.
    """
    while token := os.read(queue, _NUMBER.size):
        if parent not in (os.getpid(), os.getppid()):
            return
        yield _NUMBER.unpack(token)[0]


def _attempt(work: Work, numbers: Numbers) -> dict[str, Any]:
    try:
        return {"result": work(numbers)}
    except FailedPiece as failure:
        for _ in numbers:  # lower numbers are taken already, and the higher ones do not matter any more
            pass
        return {"failed": [failure.number, str(failure)]}


def _fork_all(children: list[_Child], work: Work, numbers: Numbers, counter: Counter) -> None:
    """Fork the other processes, or as many as the system admits."""
    for cell in range(1, counter.processes):

        def serve(pipe: int, cell: int = cell) -> NoReturn:
            counter.own(cell)
            _serve(work, numbers, pipe)

        try:
            _fork(children, serve)
        except OSError:
            return


def _fork(children: list[_Child], serve: Callable[[int], NoReturn]) -> None:
    """Fork a child that serves, and note it; no signal comes between the two."""
    reading, writing = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        with warnings.catch_warnings():
            # Python warns of a fork beside threads; ours start later, and the child does arithmetic only.
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(reading)
            serve(writing)
        children.append(_Child(process, reading))
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(work: Work, numbers: Numbers, pipe: int) -> NoReturn:
    """Work as a child: whatever happens, leave without the parent's clean-up."""
    code = 1
    try:
        try:
            told = _attempt(work, numbers)
        except MemoryError:
            told = {"memory": True}
        except Exception:  # noqa: BLE001 - the parent raises it
            import traceback  # noqa: PLC0415 - only then

            told = {"broken": traceback.format_exc()}
        with os.fdopen(pipe, "wb") as sent:
            sent.write(marshal.dumps(told))
        code = 0
    finally:
        os._exit(code)


def _end(children: list[_Child]) -> None:
    for child in children:
        child.end()


class _Child:
    """A forked process and the pipe its result comes through."""

    def __init__(self, process: int, pipe: int) -> None:
        self.process = process
        self.pipe = pipe

    def result(self) -> dict[str, Any]:
        """Return what the child sent, once it has."""
        with os.fdopen(self.pipe, "rb") as sent:
            self.pipe = -1
            sent_whole = sent.read()
        _, status = os.waitpid(self.process, 0)
        self.process = -1
        if status:
            cause = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "no result"
            raise SoftgradError(f"a worker process died ({cause}): out of memory?")
        told: dict[str, Any] = marshal.loads(sent_whole)  # of our own child
        return told

    def end(self) -> None:
        """End the child if it is still there."""
        if self.pipe >= 0:
            os.close(self.pipe)
        if self.process > 0:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.process, signal.SIGKILL)
                os.waitpid(self.process, 0)

"""The same function in several forked processes, taking numbered pieces of work from one queue.

Threads would share one interpreter lock, and NumPy lets go of it and queues for it again at every call: with
10 microseconds of arithmetic between two queues, two threads are slower than one. Forked processes share the
open files and everything already read, start in milliseconds, and need no lock.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from gradcheck_cli.errors import InputError, SoftgradError

Numbers = Iterator[int]
Work = Callable[[Numbers], Any]
"""Takes numbers until there are none, and returns something that JSON can hold."""

_NUMBER = struct.Struct("=q")


class FailedPiece(Exception):
    """A piece could not be worked on, for a reason that its user can mend."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Counter:
    """A number that every process adds to, each in a cell of its own."""

    def __init__(self, processes: int) -> None:
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


def spread(work: Work, pieces: int, processes: int, counter: Counter) -> list[Any]:
    """Return what `work` gives in each process; together they take every number below `pieces`.

    Each process takes ascending numbers. Where processes cannot be forked, one does it all.

    Raises
    ------
    InputError
        The failure of the lowest number, if there is one.
    SoftgradError
        If a process died.
    """
    if min(processes, pieces) <= 1 or sys.platform != "linux":
        return [_alone(work, pieces)]
    import tempfile  # noqa: PLC0415 - slow to import, and not needed for small work

    processes = min(processes, pieces)
    with tempfile.TemporaryFile(buffering=0) as queue:
        queue.write(b"".join(map(_NUMBER.pack, range(pieces))))
        queue.seek(0)
        children: list[_Child] = []
        try:
            for cell in range(1, processes):
                children.append(_Child.fork(work, queue.fileno(), cell, counter))  # noqa: PERF401 - each at once
            results = [_attempt(work, queue.fileno()), *(child.result() for child in children)]
        finally:
            for child in children:
                child.end()
    failures = [tuple(each["failed"]) for each in results if "failed" in each]
    if failures:
        raise InputError(min(failures)[1])
    return [each["result"] for each in results]


def _alone(work: Work, pieces: int) -> Any:
    try:
        return work(iter(range(pieces)))
    except FailedPiece as failure:
        raise InputError(str(failure)) from failure


def _taken(queue: int) -> Numbers:
    """Yield numbers until the queue is empty: the processes share the file's position."""
    while token := os.read(queue, _NUMBER.size):
        yield _NUMBER.unpack(token)[0]


def _attempt(work: Work, queue: int) -> dict[str, Any]:
    try:
        return {"result": work(_taken(queue))}
    except FailedPiece as failure:
        return {"failed": [failure.number, str(failure)]}


class _Child:
    """A forked process and the pipe its result comes through."""

    def __init__(self, process: int, pipe: int) -> None:
        self.process = process
        self.pipe = pipe

    @classmethod
    def fork(cls, work: Work, queue: int, cell: int, counter: Counter) -> _Child:
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            # Python warns of threads at a fork; ours are none, and the child does arithmetic only.
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process:
            os.close(writing)
            return cls(process, reading)
        os.close(reading)
        counter.own(cell)
        return _serve(work, queue, writing)

    def result(self) -> dict[str, Any]:
        """Return what the child sent, once it has."""
        with os.fdopen(self.pipe, "rb") as sent:
            self.pipe = -1
            text = sent.read()
        if not text:
            _, status = os.waitpid(self.process, 0)
            self.process = -1
            raise SoftgradError(f"a worker process died ({_cause(status)}): out of memory?")
        told: dict[str, Any] = json.loads(text)
        if "broken" in told:
            raise RuntimeError(told["broken"])
        return told

    def end(self) -> None:
        """End the child if it is still there."""
        if self.pipe >= 0:
            os.close(self.pipe)
        if self.process > 0:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.process, signal.SIGKILL)
                os.waitpid(self.process, 0)


def _cause(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exit {os.WEXITSTATUS(status)}"


def _serve(work: Work, queue: int, writing: int) -> NoReturn:
    """Work as a child: whatever happens, leave without the parent's clean-up."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            told = _attempt(work, queue)
        except Exception:  # noqa: BLE001 - the parent raises it
            import traceback  # noqa: PLC0415 - only then

            told = {"broken": traceback.format_exc()}
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(told).encode())
        code = 0
    finally:
        os._exit(code)

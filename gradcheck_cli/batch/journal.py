"""A file that outlives a killed run: one line for each case that is done, on disk before the next is told.

A line says what the case was: name, command, options, and size and time of each file. A run that resumes
takes a result over only where all of that is the same; a last line that was cut off does not count.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from gradcheck_cli.batch.case import Case
from gradcheck_cli.batch.result import How, Result, to_line
from gradcheck_cli.errors import InputError, OutputError, UsageError
from gradcheck_cli.report.document import softgrad_version
from gradcheck_cli.summary import CAUSES, Head
from gradcheck_cli.tensors import locate
from gradcheck_cli.visible import visible

_MARK = "softgrad-journal"
_PASSING = frozenset(CAUSES) - {"input"}
"""Causes of an error that may be gone the next time: such a case is run again."""


def key_of(case: Case, how: How) -> str:
    """Return what identifies a case as it is now: everything that its result depends on."""
    options = {name: value for name, value in case.options if name != "threads"}
    told = [
        softgrad_version(),
        case.name,
        case.command,
        sorted(options.items()),
        [(role, path, _stamp(path)) for role, path in case.files],
        case.refusal,
        how.pictures,
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _stamp(path: str) -> list[int] | None:
    """Return size and time of a file, or of the bundle that a member is in; None where there is neither."""
    try:
        found = os.stat(locate(path).path)  # noqa: PTH116 - names that are not UTF-8 stay as they are
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]


class Journal:
    """The open journal; results are appended to it, each on disk when :meth:`add` returns."""

    def __init__(self, path: str, *, resume: bool) -> None:
        """Open a journal, a new one unless an old one is to be resumed.

        Raises
        ------
        OutputError, UsageError, InputError
            If it cannot be written, is there already, is in use, or is no journal.
        """
        self.path = path
        self._name = visible(path)
        try:
            # Not blocking: a pipe in its place must not hold the run up.
            self._fd = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o666
            )
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{self._name}: another run is writing to this journal") from error
        except OSError as error:
            raise OutputError(f"{self._name}: cannot be written: {error.strerror}") from error
        size = os.fstat(self._fd).st_size
        if size and not resume:
            raise UsageError(f"{self._name}: is there already; --resume goes on with it, or remove it first")
        _OPEN.add(self)
        if size == 0:
            self._append({_MARK: 1})

    def results(self, cases: Sequence[Case], numbers: Sequence[int], how: How) -> dict[int, Result]:
        """Return by number the cases that are done and have not changed since."""
        wanted = {key_of(cases[number], how): number for number in numbers}
        done = {}
        for entry in self._entries():
            number = wanted.get(entry.get("key", ""))
            if number is None or entry["head"]["cause"] in _PASSING:
                continue
            done[number] = _renumbered(entry, number)
        return done

    def add(self, case: Case, how: How, result: Result) -> None:
        """Append a result, and wait until it is on disk."""
        head = json.dumps({"key": key_of(case, how), "head": result.head.record()})
        self._write(head[:-1].encode() + b', "found": ' + result.line + b"}\n")

    def close(self) -> None:
        """Give the file back; another run may have it."""
        _OPEN.discard(self)
        os.close(self._fd)

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._write(json.dumps(entry).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(self._fd, left) :]
            os.fsync(self._fd)
        except OSError as error:
            raise OutputError(f"{self._name}: cannot write the journal: {error.strerror}") from error

    def _entries(self) -> list[dict[str, Any]]:
        """Return the whole lines, and take a torn last one away so that the next line stands alone."""
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            entries, good = [], 0
            for order, line in enumerate(file):
                if not line.endswith(b"\n"):
                    break
                entries.append(self._entry(line, order + 1))
                good += len(line)
        os.ftruncate(self._fd, good)
        if not good:
            self._append({_MARK: 1})
        return entries[1:]

    def _entry(self, line: bytes, order: int) -> dict[str, Any]:
        try:
            entry: dict[str, Any] = json.loads(line)
            if order == 1 and entry[_MARK] == 1:
                return entry
            if order > 1 and {"key", "head", "found"} <= entry.keys():
                return entry
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise InputError(f"{self._name}, line {order}: this is not a line of a softgrad journal")


_OPEN: weakref.WeakSet[Journal] = weakref.WeakSet()


def _let_go() -> None:
    """Close the journals in a process that was forked: the lock on one lasts as long as any process has it.

    Else a worker that is at a long case keeps a run from being resumed whose main process was killed.
    """
    for journal in list(_OPEN):
        journal.close()


os.register_at_fork(after_in_child=_let_go)


def _renumbered(entry: Mapping[str, Any], number: int) -> Result:
    """Return the result of a line; cases may have come before it since."""
    head, found = Head.of_record(entry["head"]), entry["found"]
    if head.number == number:
        return Result(head, to_line(found))
    return Result.of({**found, "number": number})

"""One regular file, opened for positional reads, that notices when it changes."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from gradcheck_cli.errors import InputError
from gradcheck_cli.visible import visible

_REASONS = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file: a part of the path is not a folder",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ELOOP: "the symbolic links lead in a circle",
    errno.EISDIR: "is a folder, not a file",
    errno.ENAMETOOLONG: "the file name is too long",
    errno.ENXIO: "is not a regular file",
}
_KINDS = (
    (stat.S_ISDIR, "is a folder, not a file"),
    (stat.S_ISFIFO, "is a pipe; write it to a file first"),
    (stat.S_ISCHR, "is a device, not a file"),
    (stat.S_ISBLK, "is a device, not a file"),
)


@dataclass(frozen=True)
class Source:
    """An open file as it was found: what ``fstat`` said then must still hold at the end."""

    path: str
    fd: int
    size: int
    stamp: tuple[int, int, int, int]  # device, inode, size, mtime in ns

    def refuse(self, reason: str, *, cause: BaseException | None = None) -> NoReturn:
        """Raise the one line that tells why this file cannot be used."""
        raise InputError(f"{visible(self.path)}: {reason}") from cause

    def head(self, size: int, offset: int = 0) -> bytes:
        """Return up to ``size`` bytes at ``offset``, fewer only at the end of the file."""
        try:
            data = os.pread(self.fd, size, offset)
            while 0 < len(data) < size and (more := os.pread(self.fd, size - len(data), offset + len(data))):
                data += more
        except OSError as error:
            self.refuse(f"cannot be read: {error.strerror}", cause=error)
        return data

    def check_unchanged(self) -> None:
        """Refuse a file that was written to since it was opened."""
        if _stamp(os.fstat(self.fd)) != self.stamp:
            self.refuse("changed while it was read; run again when its writer has finished")

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


def open_source(path: str) -> Source:
    """Open a regular file; never wait for a pipe, never follow into a device."""
    try:
        # O_NONBLOCK: opening a pipe without a writer would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or "cannot be opened")
        raise InputError(f"{visible(path)}: {reason}") from error
    except ValueError as error:  # a NUL in the path
        raise InputError(f"{visible(path)}: not a possible file name") from error
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        reason = next((words for is_kind, words in _KINDS if is_kind(found.st_mode)), "is not a regular file")
        raise InputError(f"{visible(path)}: {reason}")
    return Source(path, fd, found.st_size, _stamp(found))


def read_into(fd: int, buffer: np.ndarray[Any, Any], offset: int) -> bool:
    """Fill the C-contiguous ``buffer`` from ``offset``; False when the file ends before it is full."""
    size = buffer.nbytes
    done = os.preadv(fd, [buffer.data], offset)
    if done == size:  # nearly always
        return True
    rest = buffer.reshape(-1).view(np.uint8).data
    while 0 < done < size:
        more = os.preadv(fd, [rest[done:]], offset + done)
        if more == 0:
            return False
        done += more
    return done == size


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

"""One regular file or a part of it, opened for positional reads, that notices when it changes."""

from __future__ import annotations

import errno
import os
import stat
from itertools import islice
from typing import IO, Any, NoReturn

import numpy as np

from gradcheck_cli.errors import InputError
from gradcheck_cli.records import dataclass
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
    (stat.S_ISFIFO, "is a pipe; write it to a file first, or pass it as -"),
    (stat.S_ISCHR, "is a device, not a file"),
    (stat.S_ISBLK, "is a device, not a file"),
)

_LOOKED_AT = 1000  # names of a folder, of which one may have been meant
_NEAR = 0.8  # how alike names are of which one is taken for the other


@dataclass(frozen=True)
class Source:
    """An open file as it was found: what ``fstat`` said then must still hold at the end.

    Offsets count from ``start``, and nothing past ``size`` is read: a member of an archive is a part of its
    file, or was unpacked from it.
    """

    path: str
    fd: int
    size: int
    stamp: tuple[int, int, int, int]  # device, inode, size, mtime in ns
    start: int = 0
    member: str | None = None
    unpacked: IO[bytes] | None = None

    @property
    def name(self) -> str:
        """The path, and the member where there is one, as they are shown."""
        return visible(self.path if self.member is None else f"{self.path}:{self.member}")

    @property
    def data(self) -> int:
        """The descriptor that the bytes are read from."""
        return self.fd if self.unpacked is None else self.unpacked.fileno()

    def refuse(self, reason: str, *, cause: BaseException | None = None) -> NoReturn:
        """Raise the one line that tells why this file cannot be used."""
        raise InputError(f"{self.name}: {reason}") from cause

    def head(self, size: int, offset: int = 0) -> bytes:
        """Return up to ``size`` bytes at ``offset``, fewer only at the end."""
        size, offset = min(size, max(self.size - offset, 0)), self.start + offset
        if size <= 0:  # the offset may be more than the system takes
            return b""
        try:
            data = os.pread(self.data, size, offset)
            while 0 < len(data) < size and (
                more := os.pread(self.data, size - len(data), offset + len(data))
            ):
                data += more
        except OSError as error:
            self.refuse(f"cannot be read: {error.strerror}", cause=error)
        return data

    def part(
        self,
        member: str | None = None,
        start: int = 0,
        size: int | None = None,
        unpacked: IO[bytes] | None = None,
    ) -> Source:
        """Return a part of the same open file, with a descriptor of its own."""
        rest = self.size if size is None else size
        return Source(self.path, os.dup(self.fd), rest, self.stamp, self.start + start, member, unpacked)

    def check_unchanged(self) -> None:
        """Refuse a file that was written to since it was opened."""
        if _stamp(os.fstat(self.fd)) != self.stamp:
            self.refuse("changed while it was read; run again when its writer has finished")

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self.fd)
        if self.unpacked is not None:
            self.unpacked.close()


def open_source(path: str) -> Source:
    """Open a regular file; never wait for a pipe, never follow into a device."""
    try:
        # O_NONBLOCK: opening a pipe without a writer would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or "cannot be opened")
        meant = _meant(path) if error.errno == errno.ENOENT else ""
        raise InputError(f"{visible(path)}: {reason}{meant}") from error
    except ValueError as error:  # a NUL in the path
        raise InputError(f"{visible(path)}: not a possible file name") from error
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        reason = next((words for is_kind, words in _KINDS if is_kind(found.st_mode)), "is not a regular file")
        raise InputError(f"{visible(path)}: {reason}")
    return source_of(path, fd)


def _meant(path: str) -> str:
    """Return which name was most likely meant by one that is not there, as the end of a message."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for a mistake

    folder, name = os.path.split(path)
    try:
        with os.scandir(folder or ".") as entries:
            names = [each.name for each in islice(entries, _LOOKED_AT)]
    except OSError:
        return f" (there is no folder {visible(folder)})"
    near = get_close_matches(name, sorted(names), 1, _NEAR)
    return f" (did you mean {visible(os.path.join(folder, near[0]))}?)" if near else ""  # noqa: PTH118 - as typed


def source_of(path: str, fd: int) -> Source:
    """Return the source of a regular file that is open; the descriptor is the source's from now on."""
    found = os.fstat(fd)
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

"""Bytes that come one after the other, spooled under a cap: standard input and files on other machines."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any

from gradcheck_cli.errors import InputError
from gradcheck_cli.reading import Reading
from gradcheck_cli.tensors.source import Source, source_of
from gradcheck_cli.tensors.spool import new_spool, write_bytes
from gradcheck_cli.visible import visible

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 512

Sniff = Callable[[Source, bytes], Any]
"""Refuses bytes that no known file begins with, before the rest is waited for."""


def standard_input(path: str, reading: Reading, sniff: Sniff) -> Source:
    """Return standard input as a file: in place where it is one, else copied into a spool."""
    if sys.stdin is None:
        raise InputError(f"{path}: standard input is closed")
    if sys.stdin.isatty():
        raise InputError(f"{path}: standard input is a terminal; redirect a file or a pipe into it")
    descriptor = sys.stdin.fileno()
    if stat.S_ISREG(os.fstat(descriptor).st_mode) and os.lseek(descriptor, 0, os.SEEK_CUR) == 0:
        return source_of(path, os.dup(descriptor))

    def chunks() -> Iterator[bytes]:
        try:
            while chunk := os.read(descriptor, CHUNK_BYTES):
                yield chunk
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error

    return _spooled(path, chunks(), reading, sniff)


def remote_file(url: str, reading: Reading, sniff: Sniff) -> Source:
    """Return a copy of a file that fsspec reaches."""
    if url.lower().startswith(("file:", "local:")):
        raise InputError(f"{visible(url)}: a file of this machine; give its path alone")
    try:
        import fsspec  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InputError(
            f"{visible(url)}: needs fsspec (pip install 'softgrad[remote]'), or copy the file here first"
        ) from error
    try:
        system, path = fsspec.core.url_to_fs(url)
        size = system.size(path)
        if size is not None and size > reading.limit():
            raise _too_long(url, reading)
        with system.open(path, "rb") as file:
            source = _spooled(url, iter(lambda: file.read(CHUNK_BYTES), b""), reading, sniff)
    except InputError:
        raise
    except Exception as error:  # each file system has exceptions of its own
        told = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{visible(url)}: cannot be read: {visible(told, 200)}") from error
    if size is not None and source.size != size:
        source.close()
        raise InputError(f"{visible(url)}: ended after {source.size} of {size} bytes; try again")
    return source


def _spooled(path: str, chunks: Iterator[bytes], reading: Reading, sniff: Sniff) -> Source:
    """Copy chunks into a spool; what they begin with is looked at before the rest is waited for."""
    with new_spool(visible(path)) as spool:
        end, sniffed = 0, False
        for chunk in chunks:
            end = write_bytes(visible(path), spool, chunk, end)
            if end > reading.limit():
                raise _too_long(path, reading)
            if not sniffed and end >= HEAD_BYTES:
                sniff(source_of(path, spool.fileno()), os.pread(spool.fileno(), HEAD_BYTES, 0))
                sniffed = True
        return source_of(path, os.dup(spool.fileno()))


def _too_long(path: str, reading: Reading) -> InputError:
    return InputError(
        f"{visible(path)}: is longer than {reading.limit()} bytes; pass --max-bytes if that is right"
    )

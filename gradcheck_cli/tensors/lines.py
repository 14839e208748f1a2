"""The bytes of a text, packed or not, as blocks of whole lines."""

from __future__ import annotations

import codecs
import gzip
import os
import re
import zlib
from collections.abc import Iterator

import numpy as np

from gradcheck_cli.tensors.source import Source

GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 1 << 20
LINE_LIMIT = 64 << 20
TAB, LINE_FEED, FIRST_PRINTABLE = 9, 10, 32

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_UTF8_MARK = b"\xef\xbb\xbf"
_FOREIGN = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


class Lines:
    """Reads a text once, from its beginning; nothing longer than a line or a chunk is held."""

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._limit = limit  # of unpacked bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._offset = 0  # of the next chunk in the (unpacked) text
        self._line = 1  # of the next line
        self.terminated = True

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Yield (number of its first line, lines that each end in a line feed)."""
        held: list[bytes] = []  # the beginning of a line whose end has not been read
        for chunk in self._unified(self._checked(self._chunks())):
            cut = chunk.rfind(b"\n") + 1
            if cut:
                block = b"".join([*held, chunk[:cut]])
                held = [chunk[cut:]]
                count = self._lines_of(block)
                yield self._line, block
                self._line += count
            else:
                held.append(chunk)
            if sum(map(len, held)) > LINE_LIMIT:
                self._source.refuse(f"line {self._line} is longer than {LINE_LIMIT >> 20} MiB")
        last = b"".join(held)
        if last:
            self.terminated = False
            self._lines_of(last)
            yield self._line, last + b"\n"

    def _chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the text, unpacked."""
        source = self._source
        if source.head(2) != GZIP_MAGIC:
            while chunk := source.head(CHUNK_BYTES, self._offset):
                yield chunk
                self._offset += len(chunk)
            return
        with os.fdopen(os.dup(source.fd), "rb") as packed:
            packed.seek(0)
            try:
                with gzip.GzipFile(fileobj=packed) as unpacked:
                    while chunk := unpacked.read(CHUNK_BYTES):
                        if self._offset + len(chunk) > self._limit:
                            source.refuse(
                                f"unpacks to more than {self._limit} bytes; pass --max-bytes if that is right"
                            )
                        yield chunk
                        self._offset += len(chunk)
            except EOFError as error:
                source.refuse("the gzip data is cut off", cause=error)
            except (gzip.BadGzipFile, zlib.error) as error:
                source.refuse(f"the gzip data is damaged or followed by other data ({error})", cause=error)
            except OSError as error:
                source.refuse(f"cannot be read: {error.strerror}", cause=error)

    def _checked(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Refuse what is no UTF-8 text, naming the byte; drop a byte order mark."""
        for chunk in chunks:
            if self._offset == 0:
                self._refuse_foreign(chunk)
            self._check_utf8(chunk)
            yield chunk[len(_UTF8_MARK) :] if self._offset == 0 and chunk.startswith(_UTF8_MARK) else chunk
        self._check_utf8(b"", final=True)

    def _check_utf8(self, chunk: bytes, *, final: bool = False) -> None:
        pending = self._utf8.getstate()[0]
        if chunk.isascii() and not pending:
            return
        try:
            self._utf8.decode(chunk, final)
        except UnicodeDecodeError as error:
            place = self._offset - len(pending) + error.start
            self._source.refuse(f"byte {place} is not UTF-8 text; save the file as UTF-8", cause=error)

    def _lines_of(self, block: bytes) -> int:
        """Return the number of lines of a block without control characters; refuse any other block."""
        codes = np.frombuffer(block, np.uint8)
        lines = int(np.count_nonzero(codes == LINE_FEED))
        low = np.count_nonzero(codes < FIRST_PRINTABLE)
        if low != lines and low != lines + np.count_nonzero(codes == TAB):
            self._refuse_control()
        return lines

    def _refuse_control(self) -> None:
        """Refuse the first control character in what has been read; reads it again for its true place."""
        end = self._offset + CHUNK_BYTES
        again = Lines(self._source, self._limit)
        for chunk in again._chunks():
            again._refuse_controls(chunk)
            if again._offset >= end:
                return

    def _refuse_controls(self, chunk: bytes) -> None:
        found = _CONTROL.search(chunk)
        if found is None:
            return
        code = found.group()[0]
        kind = "a binary file, or UTF-16?" if code == 0 else "not a text of numbers"
        self._source.refuse(
            f"control character \\x{code:02x} at byte {self._offset + found.start()} ({kind})"
        )

    def _refuse_foreign(self, chunk: bytes) -> None:
        for mark, name in _FOREIGN:
            if chunk.startswith(mark):
                self._source.refuse(f"is {name} text; save it as UTF-8")
        if chunk.startswith(b"\x93NUMPY"):
            self._source.refuse("is a packed NPY file; unpack it first (gunzip)")

    @staticmethod
    def _unified(chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Turn CR LF and CR into LF, wherever the chunks were cut."""
        held = b""
        for each in chunks:
            chunk = held + each if held else each
            held = b""
            if chunk.endswith(b"\r"):  # its LF may be the first byte of the next chunk
                chunk, held = chunk[:-1], b"\r"
            if b"\r" in chunk:
                chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            if chunk:
                yield chunk
        if held:
            yield b"\n"

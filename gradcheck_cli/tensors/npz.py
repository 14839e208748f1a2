"""NPZ: NPY files in a zip archive, read in place where they are stored, unpacked once where they are not."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from gradcheck_cli.reading import Reading
from gradcheck_cli.tensors.directory import Entry, read_directory
from gradcheck_cli.tensors.foreign import PICKLE
from gradcheck_cli.tensors.npy import MAGIC as NPY_MAGIC
from gradcheck_cli.tensors.npy import open_npy
from gradcheck_cli.tensors.source import Source
from gradcheck_cli.tensors.spool import new_spool, write_bytes
from gradcheck_cli.tensors.tensor import Tensor
from gradcheck_cli.visible import visible

_STORED, _DEFLATED = 0, 8
_CHUNK = 1 << 20
_SUFFIX = ".npy"


class Npz:
    """An archive of arrays; a member goes by its name without ``.npy``, as in numpy."""

    format = "npz"

    def __init__(self, source: Source) -> None:
        self.source = source
        _refuse_torch(source)
        entries = read_directory(source)
        if not entries:
            source.refuse("is an empty archive: nothing to verify")
        arrays = [each for each in entries if _is_npy(source, each)]
        if not arrays:
            source.refuse("a zip archive without an NPY member; unpack it first")
        counts = Counter(e.name.removesuffix(_SUFFIX) for e in entries)
        name, count = counts.most_common(1)[0]
        if count > 1:
            source.refuse(f"has {count} members named {visible(name, 60)}: which one is meant?")
        self._entries = {each.name.removesuffix(_SUFFIX): each for each in arrays}
        self.members = tuple(self._entries)
        self.others = tuple(
            each.name for each in entries if each.name.removesuffix(_SUFFIX) not in self._entries
        )

    def tensor(self, member: str | None, role: str, reading: Reading) -> Tensor:
        """Return the tensor of a member, which ``members`` must name."""
        name = member or ""
        part = _member(self.source, name, self._entries[name], reading)
        try:
            return open_npy(part, role, reading.dtype_of(role, member))
        except BaseException:
            part.close()
            raise


def _is_npy(source: Source, entry: Entry) -> bool:
    """Tell by its suffix whether a member is an array, or by its first bytes where it has no suffix."""
    if entry.name.endswith(_SUFFIX):
        return True
    if "." in entry.name or entry.encrypted or entry.method not in (_STORED, _DEFLATED):
        return False
    return _peek(source, entry).startswith(NPY_MAGIC)


def _peek(source: Source, entry: Entry) -> bytes:
    head = source.head(min(entry.packed, 64), entry.data)
    if entry.method == _STORED:
        return head
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, len(NPY_MAGIC))
    except zlib.error:
        return b""


def _refuse_torch(source: Source) -> None:
    """Refuse what torch.save writes, told by the name of its first member."""
    head = source.head(512)
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name.endswith((b"/data.pkl", b"/version", b"/.format_version", b"/byteorder")):
        source.refuse(f"a PyTorch file: {PICKLE}")


def _member(source: Source, name: str, entry: Entry, reading: Reading) -> Source:
    """Return the bytes of a member as a source of their own, its checksum verified."""
    named = replace(source, member=name)
    if entry.encrypted:
        named.refuse("is encrypted; save it without a password")
    if entry.method not in (_STORED, _DEFLATED):
        named.refuse(f"is packed by method {entry.method}; only stored and deflated members are read")
    if entry.method == _STORED:
        for _ in _contents(named, entry):
            pass
        return source.part(name, entry.data, entry.size)
    limit = reading.limit(entry.packed)
    if entry.size > limit:
        named.refuse(
            f"unpacks {entry.packed} bytes to {entry.size}, and more than {limit} are not; "
            f"pass --max-bytes {entry.size} if that is right"
        )
    spool, end = new_spool(named.name), 0
    try:
        for chunk in _contents(named, entry):
            end = write_bytes(named.name, spool, chunk, end)
        source.check_unchanged()
    except BaseException:
        spool.close()
        raise
    return source.part(name, 0, entry.size, spool)


def _contents(named: Source, entry: Entry) -> Iterator[bytes]:
    """Yield a member's bytes; at its end, length and checksum must be those of the directory."""
    size, crc = 0, 0
    for chunk in _packed(named, entry) if entry.method == _STORED else _inflated(named, entry):
        size += len(chunk)
        if size > entry.size:
            break
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if size != entry.size:
        named.refuse(f"is damaged: it does not unpack to the {entry.size} bytes that the zip directory tells")
    if crc != entry.crc:
        named.refuse("is damaged: its checksum (CRC-32) is wrong; save the archive again")


def _packed(named: Source, entry: Entry) -> Iterator[bytes]:
    """Yield the bytes of a member as they lie in the archive."""
    for start in range(0, entry.packed, _CHUNK):
        chunk = named.head(min(_CHUNK, entry.packed - start), entry.data + start)
        if not chunk:
            named.refuse("truncated while it was read; run again when its writer has finished")
        yield chunk


def _inflated(named: Source, entry: Entry) -> Iterator[bytes]:
    """Yield unpacked bytes, never more than a chunk at a time whatever the ratio."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for packed in _packed(named, entry):
        left = packed
        while left and not inflater.eof:
            try:
                chunk = inflater.decompress(left, _CHUNK)
            except zlib.error as error:
                named.refuse(f"is damaged: its packed data are not valid ({error})", cause=error)
            left = inflater.unconsumed_tail
            if chunk:
                yield chunk
        if inflater.unused_data or (inflater.eof and left):
            named.refuse("is damaged: bytes follow the end of its packed data")
    while not inflater.eof:
        chunk = inflater.decompress(b"", _CHUNK)
        if not chunk:
            named.refuse("is damaged: its packed data are cut off")
        yield chunk

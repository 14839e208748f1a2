"""The directory of a zip file, read so that every byte of the file belongs to exactly one thing.

``zipfile`` takes what it can make sense of; overlapping members, bytes between them and a local header that
says otherwise than the directory are how one archive means different things to different readers. Here they
are refused. Sources: APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
from typing import NoReturn

from gradcheck_cli.records import dataclass
from gradcheck_cli.tensors.source import Source
from gradcheck_cli.visible import visible

MEMBER_LIMIT = 10_000
DIRECTORY_LIMIT = 16 << 20

_END = struct.Struct("<4s4H2LH")  # end of central directory record
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_COMMENT_LIMIT = 0xFFFF
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # the value is in a 64-bit field
_ENCRYPTED, _DESCRIPTOR, _UTF8 = 1 << 0 | 1 << 6 | 1 << 13, 1 << 3, 1 << 11
_DESCRIPTOR_SIZES = (12, 16, 20, 24)  # after the data: with or without signature, 32 or 64 bits


@dataclass(frozen=True)
class Entry:
    """One member: where its data lie, packed, and what they must unpack to."""

    name: str
    offset: int  # of its local header
    data: int  # of its first packed byte
    packed: int
    size: int
    crc: int
    method: int
    encrypted: bool
    descriptor: bool  # sizes follow the data as well


@dataclass(frozen=True)
class _Extent:
    """Where the directory is, and how many entries it has."""

    start: int
    size: int
    entries: int


def read_directory(source: Source) -> tuple[Entry, ...]:
    """Return the members in the order of the directory."""
    extent = _extent(source)
    if extent.entries > MEMBER_LIMIT or extent.size > DIRECTORY_LIMIT:
        source.refuse(f"has {extent.entries} members; more than {MEMBER_LIMIT} are not read")
    raw = source.head(extent.size, extent.start)
    entries, place = [], 0
    for _ in range(extent.entries):
        entry, place = _entry(source, raw, place)
        entries.append(entry)
    if place != len(raw):
        _refuse(source, f"has {len(raw) - place} bytes after its last entry")
    _check_cover(source, entries, extent.start)
    return tuple(entries)


def _refuse(source: Source, reason: str) -> NoReturn:
    source.refuse(f"the zip directory {reason}; the archive is damaged or forged, save it again")


def _extent(source: Source) -> _Extent:
    """Find the end record, which is the last thing in the file, and what stands right before it."""
    tail = source.head(_END.size + _COMMENT_LIMIT, max(source.size - _END.size - _COMMENT_LIMIT, 0))
    place = tail.rfind(b"PK\x05\x06")
    while place >= 0:
        if len(tail) - place >= _END.size and place + _END.size + _END.unpack_from(tail, place)[7] == len(
            tail
        ):
            break
        place = tail.rfind(b"PK\x05\x06", 0, place)
    else:
        source.refuse("has no zip directory at its end: cut off, or followed by other data")
    _, *told, _ = _END.unpack_from(tail, place)
    end = source.size - len(tail) + place
    locator = source.head(_LOCATOR.size, end - _LOCATOR.size) if end >= _LOCATOR.size else b""
    if locator.startswith(b"PK\x06\x07"):
        wide, end = _told64(source, _LOCATOR.unpack(locator)[2], end - _LOCATOR.size)
        if any(short not in (full, _FULL16, _FULL32) for short, full in zip(told, wide, strict=True)):
            _refuse(source, "tells one thing in 32 bits and another in 64")
        told = wide
    disk, first_disk, here, entries, size, start = told
    if disk or first_disk or here != entries:
        _refuse(source, "is spread over several files")
    if start + size != end:
        _refuse(source, "is not where the end of the file says")
    return _Extent(start, size, entries)


def _told64(source: Source, at: int, end: int) -> tuple[list[int], int]:
    """Return what the 64-bit end record tells, and where it begins; ``end`` is where it must end."""
    raw = source.head(_END64.size, at)
    if len(raw) < _END64.size or not raw.startswith(b"PK\x06\x06"):
        _refuse(source, "has no 64-bit part")
    _, length, _, _, *told = _END64.unpack(raw)
    if at + 12 + length != end:
        _refuse(source, "has a 64-bit part of another length")
    return told, at


def _entry(source: Source, raw: bytes, place: int) -> tuple[Entry, int]:
    """Return the entry at a place of the directory, checked against its local header, and the next place."""
    if len(raw) - place < _CENTRAL.size or raw[place : place + 4] != b"PK\x01\x02":
        _refuse(source, "is cut off")
    fields = _CENTRAL.unpack_from(raw, place)
    flags, method, crc, packed, size = fields[3], fields[4], fields[7], fields[8], fields[9]
    lengths = fields[10:13]
    start = place + _CENTRAL.size
    stop = start + sum(lengths)
    if stop > len(raw):
        _refuse(source, "is cut off")
    name = raw[start : start + lengths[0]]
    extra = raw[start + lengths[0] : start + lengths[0] + lengths[1]]
    size, packed, offset = _wide(source, extra, (size, packed, fields[16]))
    entry = Entry(
        name=name.decode("utf-8" if flags & _UTF8 else "cp437", "backslashreplace"),
        offset=offset,
        data=_data_offset(source, offset, name, (flags, method, crc, size, packed)),
        packed=packed,
        size=size,
        crc=crc,
        method=method,
        encrypted=bool(flags & _ENCRYPTED),
        descriptor=bool(flags & _DESCRIPTOR),
    )
    return entry, stop


def _wide(source: Source, extra: bytes, values: tuple[int, ...]) -> tuple[int, ...]:
    """Return the values, those that do not fit 32 bits from the 64-bit extra field, in its order."""
    if _FULL32 not in values:
        return values
    wide: list[int] = []
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == 1:
            body = extra[place + 4 : place + 4 + length]
            wide = list(struct.unpack_from(f"<{len(body) // 8}Q", body))
            break
        place += 4 + length
    if len(wide) < values.count(_FULL32):
        _refuse(source, "has sizes without their 64-bit part")
    return tuple(wide.pop(0) if value == _FULL32 else value for value in values)


def _data_offset(source: Source, offset: int, name: bytes, told: tuple[int, ...]) -> int:
    """Return where a member's data begin; its local header must say what the directory says."""
    raw = source.head(_LOCAL.size, offset)
    if len(raw) < _LOCAL.size or not raw.startswith(b"PK\x03\x04"):
        _refuse(source, f"names a member {visible(repr(name), 60)} that is not there")
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(raw)
    rest = source.head(name_length + extra_length, offset + _LOCAL.size)
    if not flags & _DESCRIPTOR:
        size, packed = _wide(source, rest[name_length:], (size, packed))
    here = (flags, method, crc, size, packed)
    agreed = here[:2] == told[:2] if flags & _DESCRIPTOR else here == told
    if rest[:name_length] != name or not agreed:
        _refuse(source, f"and the member {visible(repr(name), 60)} contradict each other")
    return int(offset + _LOCAL.size + name_length + extra_length)


def _check_cover(source: Source, entries: list[Entry], end: int) -> None:
    """Refuse members that overlap, and bytes that belong to none."""
    ordered = sorted(entries, key=lambda entry: entry.offset)
    starts = [entry.offset for entry in ordered] + [end]
    if starts[0] != 0:
        source.refuse(f"has {starts[0]} bytes before its first member")
    for entry, following in zip(ordered, starts[1:], strict=True):
        gap = following - entry.data - entry.packed
        if gap < 0:
            source.refuse("has members that overlap: a zip bomb, or damaged")
        if gap not in (_DESCRIPTOR_SIZES if entry.descriptor else (0,)):
            source.refuse(f"has {gap} bytes after the member {visible(entry.name, 60)} that belong to none")

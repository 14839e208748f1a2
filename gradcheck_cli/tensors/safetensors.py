"""safetensors, read in place: a JSON header that must account for every byte, then the numbers.

The header is bounded before it is read, and stricter than the reference reader, which takes the last of two
tensors of one name. Source: https://github.com/huggingface/safetensors, README, section Format.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import Any, NoReturn

from gradcheck_cli.reading import Reading
from gradcheck_cli.records import dataclass
from gradcheck_cli.tensors.dtypes import UNJUDGED, checked, kind_of, reinterpreted
from gradcheck_cli.tensors.source import Source
from gradcheck_cli.tensors.tensor import Tensor
from gradcheck_cli.visible import visible

HEADER_LIMIT = 16 << 20
DIM_LIMIT = 1 << 48
DEPTH = 3  # header, tensor, list
SCALAR_ROLES = ("labels", "loss", "upstream", UNJUDGED)

_LENGTH = 8
_BITS_OF = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
    "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "C64": 64,
}  # fmt: skip
_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)


@dataclass(frozen=True)
class _Entry:
    """One tensor as the header describes it; offsets count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class _Twice(ValueError):
    """A name stands twice in one JSON object."""


class Safetensors:
    """A file of named tensors."""

    format = "safetensors"
    others: tuple[str, ...] = ()

    def __init__(self, source: Source) -> None:
        self.source = source
        length = _header_length(source)
        self._data = _LENGTH + length
        self._entries = _entries(source, source.head(length, _LENGTH), source.size - self._data)
        if not self._entries:
            source.refuse("holds no tensors: nothing to verify")
        self.members = tuple(self._entries)

    def tensor(self, member: str | None, role: str, reading: Reading) -> Tensor:
        """Return the tensor of a member, which ``members`` must name."""
        name = member or ""
        entry = self._entries[name]
        named = replace(self.source, member=name)
        asked = reading.dtype_of(role, member)
        if entry.dtype not in _NAMES:
            named.refuse(f"holds {entry.dtype}, which is not read; save it as float32")
        kind = kind_of(_NAMES[entry.dtype])
        if asked is not None:
            kind = reinterpreted(named, role, kind.bits.itemsize, "<", asked)
        else:
            kind = checked(named, kind, role)
        if math.prod(entry.shape) == 0:
            named.refuse(f"is empty (shape {entry.shape}): nothing to verify")
        if not entry.shape and role not in SCALAR_ROLES:
            named.refuse(f"is a single number (shape ()), but {role} need at least one axis")
        return Tensor(
            role=role,
            path=self.source.path,
            dtype=kind.name,
            shape=entry.shape,
            source=self.source.part(name, self._data + entry.start, entry.stop - entry.start),
            stored=kind.bits,
            notes=kind.notes,
        )


def _header_length(source: Source) -> int:
    head = source.head(_LENGTH)
    length = int.from_bytes(head, "little")
    if len(head) < _LENGTH:
        source.refuse(f"not a safetensors file ({source.size} bytes): cut off inside the header's length")
    if length > HEADER_LIMIT:
        source.refuse(f"safetensors header claims {length} bytes; more than {HEADER_LIMIT} is not read")
    if _LENGTH + length > source.size:
        source.refuse(
            f"safetensors header claims {length} bytes, but the file has {source.size} in all (cut off?)"
        )
    return length


def _entries(source: Source, raw: bytes, room: int) -> dict[str, _Entry]:
    """Return the tensors of a header, by name, which together must cover the data exactly."""
    header = _parsed(source, raw)
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not _are_texts(metadata):
        _refuse(source, "has metadata that are not texts")
    entries = {name: _entry(source, name, told) for name, told in header.items()}
    place = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != place:
            fault = (
                "overlaps the one before"
                if entry.start < place
                else f"leaves {entry.start - place} bytes before it"
            )
            _refuse(source, f"places the tensor {visible(repr(name), 60)} so that it {fault}")
        place = entry.stop
    if place > room:
        source.refuse(f"is cut off: its header needs {place} bytes of data, {room} are there")
    if place < room:
        source.refuse(f"has {room - place} bytes after its data that belong to no tensor")
    return entries


def _refuse(source: Source, reason: str) -> NoReturn:
    source.refuse(f"the safetensors header {reason}")


def _parsed(source: Source, raw: bytes) -> dict[str, Any]:
    """Return the JSON object of a header; its depth is bounded before the parser sees it."""
    depth = 0
    for found in _BRACKETS.finditer(raw):
        token = found.group()
        depth += (token in b"[{") - (token in b"]}") if len(token) == 1 else 0
        if depth > DEPTH:
            _refuse(source, f"is nested more than {DEPTH} deep")
    try:
        header = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_number,
            parse_float=_no_number,
            parse_int=_whole,
        )
    except _Twice as error:
        _refuse(source, f"names {error} twice: which one is meant?")
    except ValueError as error:  # also of a wrong encoding
        source.refuse(f"the safetensors header is not valid: {visible(repr(raw[:60]), 70)}", cause=error)
    if not isinstance(header, dict):
        _refuse(source, "is no JSON object")
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Twice(visible(repr(name), 60))
        found[name] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no whole number")


def _whole(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number of more than 64 bits")
    return int(text)


def _entry(source: Source, name: str, told: Any) -> _Entry:
    """Return what the header tells of one tensor, each part checked."""
    where = f"describes the tensor {visible(repr(name), 60)}"
    if not isinstance(told, dict) or sorted(told) != ["data_offsets", "dtype", "shape"]:
        _refuse(source, f"{where} by other things than dtype, shape and data_offsets")
    dtype, shape, offsets = told["dtype"], told["shape"], told["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS_OF:
        _refuse(source, f"{where} with the type {visible(repr(dtype), 30)}, which is not known")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse(source, f"{where} with a shape or offsets that are no sizes up to 2^48")
    bits = math.prod(shape) * _BITS_OF[dtype]
    if len(shape) > 64 or bits != 8 * (offsets[1] - offsets[0]):
        _refuse(
            source, f"{where}: shape {visible(repr(tuple(shape)), 60)} of {dtype} does not fill its offsets"
        )
    return _Entry(dtype, tuple(shape), offsets[0], offsets[1])


def _are_texts(metadata: Any) -> bool:
    """Tell whether metadata are what the format has for them: texts by name."""
    return isinstance(metadata, dict) and all(isinstance(each, str) for each in metadata.values())


def _are_sizes(values: Any) -> bool:
    """Tell whether this is a list of whole numbers that can be sizes."""
    return isinstance(values, list) and all(type(each) is int and 0 <= each <= DIM_LIMIT for each in values)

"""NPY 1.0, 2.0 and 3.0, read in place; the header is bounded before it is parsed."""

from __future__ import annotations

import ast
import math
import re
import warnings
from functools import lru_cache
from typing import Any

import numpy as np

from gradcheck_cli.reading import Reading
from gradcheck_cli.tensors.dtypes import UNJUDGED, Kind, checked, kind_of, name_for, reinterpreted
from gradcheck_cli.tensors.source import Source
from gradcheck_cli.tensors.spool import in_c_order
from gradcheck_cli.tensors.tensor import Tensor
from gradcheck_cli.visible import visible

MAGIC = b"\x93NUMPY"
HEADER_LIMIT = 65_536
DIM_LIMIT = 1 << 48  # the cap that the safetensors schema has, and more than any file holds
SCALAR_ROLES = ("labels", "loss", "upstream", UNJUDGED)
KEYS = ("descr", "fortran_order", "shape")

_DESCR = re.compile(r"([<>|=]?)([a-zA-Z?])(\d*)(.*)", re.ASCII | re.DOTALL)
_NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"}
_REASONS = {
    "O": "Python objects, which are never loaded because loading runs code; save numbers",
    "c": "complex numbers; save the real part",
    "M": "dates, not numbers",
    "m": "durations, not numbers",
    "U": "strings, not numbers; save them with .astype('float64')",
    "S": "strings, not numbers; save them with .astype('float64')",
    "a": "strings, not numbers; save them with .astype('float64')",
    "V": "raw bytes, not numbers",
    "g": "long doubles, whose layout depends on the machine; save them with .astype('float64')",
}

_ML_DTYPES = {
    # What ml_dtypes 0.5 writes for them; numpy itself writes neither without field names.
    "V2": ("bfloat16", "2-byte void values (V2)"),
    "f1": ("float8_e5m2", "1-byte floats (f1)"),
}


class Npy:
    """An NPY file."""

    format = "npy"
    members: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __init__(self, source: Source) -> None:
        self.source = source
        if not source.head(len(MAGIC)).startswith(MAGIC[: max(source.size, 1)]):
            source.refuse(f"not an NPY file ({source.size} bytes): it does not begin with the NPY signature")

    def tensor(self, member: str | None, role: str, reading: Reading) -> Tensor:
        """Return the tensor; ``member`` is None."""
        part = self.source.part(member)
        try:
            return open_npy(part, role, reading.dtype_of(role, member))
        except BaseException:
            part.close()
            raise


def open_npy(source: Source, role: str, asked: str | None) -> Tensor:
    """Return the tensor of an NPY file, its bits taken as another type where that was asked for."""
    header, offset = _header(source)
    kind = _kind(source, header["descr"], role, asked)
    if asked is None:
        kind = checked(source, kind, role)
    shape = _shape(source, header["shape"], role)
    fortran = header["fortran_order"]
    if not isinstance(fortran, bool):
        source.refuse(f"NPY header: fortran_order is {visible(repr(fortran), 60)}, not True or False")
    _check_size(source, shape, kind.bits.itemsize, offset)
    layout = "F" if fortran and sum(n > 1 for n in shape) > 1 else "C"  # a single line is the same in both
    tensor = Tensor(
        role=role,
        path=source.path,
        dtype=kind.name,
        shape=shape,
        source=source,
        stored=kind.bits,
        offset=offset,
        order="F" if fortran else "C",
        layout=layout,
        notes=kind.notes,
    )
    return in_c_order(tensor) if layout == "F" and len(shape) > 2 else tensor


def _header(source: Source) -> tuple[dict[str, Any], int]:
    """Return the header's three entries and the offset of the data."""
    head = source.head(12)
    if len(head) < 10:
        source.refuse(f"not an NPY file ({len(head)} bytes): cut off inside the signature")
    version = (head[6], head[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        source.refuse(f"NPY version {version[0]}.{version[1]} is not known (1.0, 2.0 and 3.0 are)")
    prefix = 10 if version == (1, 0) else 12
    length = int.from_bytes(head[8:prefix], "little")
    if length > HEADER_LIMIT:
        source.refuse(f"NPY header claims {length} bytes; more than {HEADER_LIMIT} is not read")
    if prefix + length > source.size:
        source.refuse(f"NPY header claims {length} bytes, but the file has {source.size} in all (cut off?)")
    raw = source.head(length, prefix)
    try:
        keys, values = _entries(raw.decode("utf-8" if version == (3, 0) else "latin-1"))
    # The parser's own words are of no use to a user: they speak of Python source.
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError, OverflowError) as error:
        source.refuse(f"the NPY header is not valid: {visible(repr(raw[:60]), 70)}", cause=error)
    if sorted(keys) != sorted(KEYS):
        found = ", ".join(visible(repr(key), 30) for key in keys[:6]) or "none"
        source.refuse(f"the NPY header has the keys {found}; it must have each of {', '.join(KEYS)} once")
    return dict(zip(keys, values, strict=True)), prefix + length


@lru_cache(maxsize=64)
def _entries(text: str) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Return the keys, duplicates and all, and the values of the dictionary literal in a header.

    Kept, because the files of a batch have the same few headers.
    """
    text = re.sub(r"(?<=\d)L(?=[,)])", "", text)  # integers as Python 2 wrote them
    with warnings.catch_warnings():  # the compiler warns about odd escapes and spacing in what it parses
        warnings.simplefilter("ignore")
        tree = ast.parse(text.strip(), mode="eval").body
    if not isinstance(tree, ast.Dict):
        raise TypeError("not a dictionary")
    keys = [key.value if isinstance(key, ast.Constant) else None for key in tree.keys]
    return tuple(map(str, keys)), tuple(ast.literal_eval(value) for value in tree.values)


def _kind(source: Source, descr: Any, role: str, asked: str | None) -> Kind:
    """Return what the numbers are."""
    if not isinstance(descr, str):
        source.refuse("holds a structured or sub-array type; save one plain array of numbers")
    match = _DESCR.fullmatch(descr)
    if match is None:
        source.refuse(f"the NPY type {visible(repr(descr), 40)} is not known")
    mark, kind, size, rest = match.groups()
    kind, size = ("b", "1") if kind == "?" else (kind, size)
    byte_order = mark.replace("|", "=") or "="
    if asked is not None and not rest and kind in "bfiuV" and size in ("1", "2", "4", "8"):
        return reinterpreted(source, role, int(size), byte_order, asked)
    if not rest and kind + size in _NUMBERS:
        return kind_of(np.dtype(kind + size).name, byte_order)
    if not rest and kind + size == "b1":
        return kind_of("bool")
    if not rest and kind + size in _ML_DTYPES and (mark != ">" or size == "1"):
        name, told = _ML_DTYPES[kind + size]
        return Kind(kind_of(name).bits, name, (f"{told} read as {name}",))
    if kind == "V" and size in ("1", "2"):
        width = "float8_e4m3fn (or float8_e5m2)" if size == "1" else "bfloat16"
        source.refuse(
            f"holds {size}-byte void values ({mark}V{size}); pass --dtype {name_for(source, role)}={width}"
        )
    reason = _REASONS.get("g" if kind + size in ("f12", "f16") else kind, "a type that is not known")
    return source.refuse(f"holds {visible(repr(descr), 40)}: {reason}")


def _shape(source: Source, shape: Any, role: str) -> tuple[int, ...]:
    if not isinstance(shape, tuple):
        source.refuse(f"NPY header: the shape {visible(repr(shape), 60)} is not a tuple")
    for size in shape:
        if isinstance(size, bool) or not isinstance(size, int):
            source.refuse(f"NPY header: {visible(repr(size), 40)} in the shape is not a whole number")
        if not 0 <= size <= DIM_LIMIT:
            shown = size if abs(size) < 1 << 64 else "a number of more than 64 bits"
            source.refuse(f"NPY header: {shown} in the shape is outside 0 .. 2^48")
    if len(shape) > 64:
        source.refuse(f"NPY header: {len(shape)} axes; numpy has at most 64")
    if not shape and role not in SCALAR_ROLES:
        source.refuse(f"is a single number (shape ()), but {role} need at least one axis")
    return shape


def _check_size(source: Source, shape: tuple[int, ...], itemsize: int, offset: int) -> None:
    """Refuse a file whose data is not exactly what its shape says; before anything is allocated."""
    if math.prod(shape) == 0:
        source.refuse(f"is empty (shape {shape}): nothing to verify")
    expected, actual = math.prod(shape) * itemsize, source.size - offset
    if expected >= 1 << 63:
        source.refuse(f"NPY header: the product of the shape {shape} overflows")
    if actual < expected:
        source.refuse(f"is cut off: shape {shape} needs {expected} bytes of data, {actual} are there")
    if actual > expected:
        source.refuse(f"has {actual - expected} bytes after its data (two arrays in one file?)")

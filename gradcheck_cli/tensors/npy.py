"""NPY 1.0, 2.0 and 3.0, read in place; the header is bounded before it is parsed."""

from __future__ import annotations

import ast
import math
import re
import warnings
from typing import Any

import numpy as np

from gradcheck_cli.tensors.source import Source
from gradcheck_cli.tensors.spool import in_c_order
from gradcheck_cli.tensors.tensor import Tensor
from gradcheck_cli.visible import visible

MAGIC = b"\x93NUMPY"
HEADER_LIMIT = 65_536
DIM_LIMIT = 1 << 48  # the cap that the safetensors schema has, and more than any file holds
SCALAR_ROLES = ("labels", "loss", "upstream")
KEYS = ("descr", "fortran_order", "shape")

_DESCR = re.compile(r"([<>|=]?)([a-zA-Z?])(\d*)(.*)", re.ASCII | re.DOTALL)
_NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"}
_REASONS = {
    "O": "Python objects, which are never loaded because loading runs code; save numbers",
    "c": "complex numbers; save the real part",
    "b": "booleans; save them as integers or floats, for example with .astype('int64')",
    "?": "booleans; save them as integers or floats, for example with .astype('int64')",
    "M": "dates, not numbers",
    "m": "durations, not numbers",
    "U": "strings, not numbers; save them with .astype('float64')",
    "S": "strings, not numbers; save them with .astype('float64')",
    "a": "strings, not numbers; save them with .astype('float64')",
    "f": "long doubles, whose layout depends on the machine; save them with .astype('float64')",
    "g": "long doubles, whose layout depends on the machine; save them with .astype('float64')",
}
_VOID = {
    "1": "1-byte void values (V1): float8, but of which kind is not told; save .astype('float32')",
}
_BITS = (
    "2-byte unsigned integers: numbers, or the bits of bfloat16? Save them as float32: "
    "(bits.astype('uint32') << 16).view('float32') for bits, .astype('float32') for numbers"
)


def open_npy(source: Source, role: str) -> Tensor:
    """Return the tensor of an NPY file."""
    header, offset = _header(source)
    stored, dtype, notes = _stored(source, header["descr"], role)
    shape = _shape(source, header["shape"], role)
    fortran = header["fortran_order"]
    if not isinstance(fortran, bool):
        source.refuse(f"NPY header: fortran_order is {visible(repr(fortran), 60)}, not True or False")
    _check_size(source, shape, stored.itemsize, offset)
    layout = "F" if fortran and sum(n > 1 for n in shape) > 1 else "C"  # a single line is the same in both
    tensor = Tensor(
        role=role,
        path=source.path,
        dtype=dtype,
        shape=shape,
        source=source,
        stored=stored,
        offset=offset,
        order="F" if fortran else "C",
        layout=layout,
        notes=notes,
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


def _entries(text: str) -> tuple[list[str], list[Any]]:
    """Return the keys, duplicates and all, and the values of the dictionary literal in a header."""
    text = re.sub(r"(?<=\d)L(?=[,)])", "", text)  # integers as Python 2 wrote them
    with warnings.catch_warnings():  # the compiler warns about odd escapes and spacing in what it parses
        warnings.simplefilter("ignore")
        tree = ast.parse(text.strip(), mode="eval").body
    if not isinstance(tree, ast.Dict):
        raise TypeError("not a dictionary")
    keys = [key.value if isinstance(key, ast.Constant) else None for key in tree.keys]
    return [str(key) for key in keys], [ast.literal_eval(value) for value in tree.values]


def _stored(source: Source, descr: Any, role: str) -> tuple[np.dtype[Any], str, tuple[str, ...]]:
    """Return the stored type, its name, and what there is to say about it."""
    if not isinstance(descr, str):
        source.refuse("holds a structured or sub-array type; save one plain array of numbers")
    match = _DESCR.fullmatch(descr)
    if match is None:
        source.refuse(f"the NPY type {visible(repr(descr), 40)} is not known")
    byte_order, kind, size, rest = match.groups()
    if not rest and kind + size in _NUMBERS:
        stored = np.dtype(byte_order.replace("|", "=") + kind + size)
        return stored, stored.name, _integer_notes(source, stored, role)
    if not rest and kind == "V" and size == "2" and byte_order != ">":
        # ml_dtypes saves bfloat16 so; numpy writes no other 2-byte void without field names.
        return np.dtype("<u2"), "bfloat16", ("2-byte void values (V2) read as bfloat16",)
    reason = _REASONS.get(kind, "a type that is not known")
    if kind == "V":
        source.refuse("holds " + _VOID.get(size, "raw bytes (V), not numbers; save .astype('float32')"))
    return source.refuse(f"holds {visible(repr(descr), 40)}: {reason}")


def _integer_notes(source: Source, stored: np.dtype[Any], role: str) -> tuple[str, ...]:
    if stored.kind == "f" or role == "labels":
        return ()
    if stored.name == "uint16":
        source.refuse("holds " + _BITS)
    return (f"{role} are integers ({stored.name}), taken as numbers",)


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

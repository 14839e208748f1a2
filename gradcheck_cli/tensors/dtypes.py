"""The types a tensor may have: their names, the bits they are stored in, and what odd bits mean."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.records import dataclass
from gradcheck_cli.tensors.source import Source

BITS = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "u2",
    "float8_e4m3fn": "u1", "float8_e5m2": "u1", "float8_e4m3fnuz": "u1", "float8_e5m2fnuz": "u1",
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1",
    "uint64": "u8", "uint32": "u4", "uint16": "u2", "uint8": "u1", "bool": "u1",
}  # fmt: skip
"""By name, the code of the NumPy type whose bytes they are."""

UNJUDGED = "values"
"""The role of a tensor that is only looked at."""


@dataclass(frozen=True)
class Kind:
    """A type of stored numbers: the bytes, what they stand for, and what was assumed to know it."""

    bits: np.dtype[Any]
    name: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Float8:
    """An 8-bit format: sign, exponent, mantissa. ``fn``: NaN but no infinity; ``uz``: one zero."""

    exponent: int
    mantissa: int
    bias: int
    infinities: bool
    negative_zero_is_nan: bool


_FLOAT8 = {
    # OCP 8-bit floating point specification, revision 1.0
    "float8_e4m3fn": _Float8(4, 3, 7, infinities=False, negative_zero_is_nan=False),
    "float8_e5m2": _Float8(5, 2, 15, infinities=True, negative_zero_is_nan=False),
    # Noune et al., 8-bit numerical formats for deep neural networks, 2022
    "float8_e4m3fnuz": _Float8(4, 3, 8, infinities=False, negative_zero_is_nan=True),
    "float8_e5m2fnuz": _Float8(5, 2, 16, infinities=False, negative_zero_is_nan=True),
}


@functools.cache
def float8_values(name: str) -> NDArray[np.float32]:
    """Return what each of the 256 codes of an 8-bit format stands for."""
    form = _FLOAT8[name]
    codes = np.arange(256)
    top = (1 << form.exponent) - 1
    exponent = (codes >> form.mantissa) & top
    fraction = (codes & ((1 << form.mantissa) - 1)) / (1 << form.mantissa)
    subnormal = exponent == 0
    scale = 2.0 ** (np.where(subnormal, 1.0, exponent) - form.bias)
    sizes = np.where(subnormal, fraction, 1.0 + fraction) * scale
    if form.infinities:
        sizes[exponent == top] = np.where(fraction[exponent == top] == 0, np.inf, np.nan)
    elif not form.negative_zero_is_nan:
        sizes[(codes & 0x7F) == 0x7F] = np.nan
    values = np.where(codes < 128, sizes, -sizes).astype(np.float32)
    if form.negative_zero_is_nan:
        values[128] = np.nan
    values.flags.writeable = False
    return values


def is_float8(name: str) -> bool:
    """Tell whether a type is one of the 8-bit floats, stored as codes."""
    return name in _FLOAT8


def kind_of(name: str, byte_order: str = "<") -> Kind:
    """Return the kind of numbers of this name."""
    return Kind(np.dtype(byte_order + BITS[name]), name)


def name_for(source: Source, role: str) -> str:
    """Return the name that --dtype knows a tensor under."""
    if role != UNJUDGED:
        return role
    from pathlib import PurePath  # noqa: PLC0415 - start-up

    return source.member or PurePath(source.path).stem


def reinterpreted(source: Source, role: str, width: int, byte_order: str, asked: str) -> Kind:
    """Return what --dtype makes of values of so many bytes."""
    kind = kind_of(asked, byte_order)
    if kind.bits.itemsize != width:
        needs = f"needs {kind.bits.itemsize}-byte values, but these have {width} bytes"
        source.refuse(f"--dtype {name_for(source, role)}={asked} {needs}")
    return Kind(kind.bits, asked, (f"bits taken as {asked} (--dtype)",))


def checked(source: Source, kind: Kind, role: str) -> Kind:
    """Return the kind with what is to be said of it for this role; refuse what cannot be meant."""
    if role == UNJUDGED or kind.bits.kind == "f" or kind.name.startswith(("float", "bfloat")):
        return kind
    if kind.name == "bool":
        return _booleans(source, kind, role)
    if role == "labels":
        return kind
    if kind.bits.itemsize == 2:
        source.refuse(
            f"holds 2-byte integers ({kind.name}): the bits of bfloat16, or numbers? pass "
            f"--dtype {role}=bfloat16 (or float16), or --dtype {role}={kind.name} if they are numbers"
        )
    bits = "; if they are bits of float8, pass --dtype" if kind.bits.itemsize == 1 else ""
    return Kind(kind.bits, kind.name, (f"{role} are integers ({kind.name}), taken as numbers{bits}",))


def _booleans(source: Source, kind: Kind, role: str) -> Kind:
    if role != "labels":
        source.refuse("holds booleans; save them as integers or floats, for example with .astype('int64')")
    return Kind(kind.bits, kind.name, ("labels are booleans, read as 0 and 1",))

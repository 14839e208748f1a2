"""Stored values to float64 or int64, exactly or not at all."""

from __future__ import annotations

import math
import threading
from functools import cache
from typing import Any

import numpy as np

from gradcheck_cli.records import dataclass
from gradcheck_cli.tensors.dtypes import float8_values, is_float8

Array = np.ndarray[Any, np.dtype[Any]]

EXACT_INTEGERS = 1 << 53  # every integer up to here is a double
INT64_MAX = (1 << 63) - 1


@dataclass(frozen=True)
class Fault:
    """The first value that has no exact counterpart: its place in C order, and the reason, value first."""

    place: int
    reason: str


def convert(stored: Array, out: Array, dtype: str) -> Fault | None:
    """Fill ``out`` from stored values of the same shape; return the first that cannot be held."""
    values = decoded(stored, dtype)
    if dtype == "bool" and values.max(initial=0) > 1:
        return _first(values > 1, values, "is neither true (1) nor false (0)")
    if out.dtype == np.float64 and values.dtype == np.float16:
        np.take(half_values(), values.view(np.uint16), out=out, mode="clip")
        return None
    if out.dtype.kind == "f":
        # A signalling NaN raises a flag when it is widened; it is a NaN all the same.
        with np.errstate(all="ignore"):
            np.copyto(out, values, casting="unsafe")
        return _inexact(values, out) if values.dtype.kind in "iu" and values.dtype.itemsize == 8 else None
    if values.dtype.kind == "f":
        return _whole(values, out)
    np.copyto(out, values, casting="unsafe")
    if values.dtype.kind == "u" and values.dtype.itemsize == 8 and values.max(initial=0) > INT64_MAX:
        return _first(values > INT64_MAX, values, "is more than an int64 holds")
    return None


def is_single(dtype: str, stored: np.dtype[Any]) -> bool:
    """Tell whether :func:`decoded` makes float32 numbers of what is stored."""
    return stored == np.float32 or dtype == "bfloat16"


@cache
def half_values() -> Array:
    """Return the float16 number of each pattern of bits; NumPy takes ten times as long for subnormals."""
    with np.errstate(all="ignore"):
        values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    values.flags.writeable = False
    return values


def decoded(stored: Array, dtype: str) -> Array:
    """Return the numbers that stored bits stand for; the buffer they are in is used again by this thread."""
    if dtype == "bfloat16":
        return _widened(stored)
    return float8_values(dtype)[stored] if is_float8(dtype) else stored


_LOCAL = threading.local()


def _widened(bits: Array) -> Array:
    """Return bfloat16 bits as float32: the same bits, sixteen places up."""
    buffer = getattr(_LOCAL, "buffer", None)
    if buffer is None or buffer.size < bits.size:
        buffer = _LOCAL.buffer = np.empty(bits.size, np.uint32)
    wide = buffer[: bits.size].reshape(bits.shape)
    np.copyto(wide, bits)
    np.left_shift(wide, 16, out=wide)
    floats: Array = wide.view(np.float32)
    return floats


def _inexact(values: Array, out: Array) -> Fault | None:
    """Return the first 64-bit integer that is not the double it became."""
    limit = float(EXACT_INTEGERS)
    # 2^53 itself may be 2^53 + 1, rounded.
    if values.size == 0 or (out.max() < limit and out.min() > -limit):
        return None
    # 2^63 and 2^64 do not fit back, so the largest values are compared as Python integers.
    for place in np.flatnonzero(np.abs(out) >= limit):
        value = int(values.flat[place])
        if int(out.flat[place]) != value:
            return Fault(int(place), f"{value} is not exactly representable as a double")
    return None


def _whole(values: Array, out: Array) -> Fault | None:
    """Fill int64 ``out`` from floats that are whole numbers."""
    with np.errstate(all="ignore"):
        doubles = values.astype(np.float64)
        fits = (np.trunc(doubles) == doubles) & (np.abs(doubles) < 2.0**63)
        if not fits.all():
            return _first(~fits, doubles, "is not a whole number", "is more than an int64 holds")
        np.copyto(out, doubles, casting="unsafe")
    return None


def _first(bad: Array, values: Array, reason: str, large: str | None = None) -> Fault:
    place = int(bad.argmax())
    value = values.flat[place]
    text = repr(value.item())
    if large is not None and math.isfinite(value) and math.trunc(value) == value:
        reason = large
    return Fault(place, f"{text} {reason}")

"""Loops in C, where there was a compiler when softgrad was installed; elsewhere NumPy does without them.

Each does in one pass what NumPy needs several for. Those remain, and say what is right.
"""

from __future__ import annotations

import binascii
import ctypes
import os
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.numeric.precision import Floats

Stored = NDArray[np.float32] | NDArray[np.float64]
"""Numbers as they are in the file, where that is a format of the processor's."""

Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows and columns of entries."""

LIBRARY = os.path.join(os.path.dirname(__file__), "loops.so")
SOURCE = os.path.join(os.path.dirname(__file__), "loops.c")
VARIABLE = "SOFTGRAD_COMPILED"
"""Variable of the environment that makes softgrad do without the loops, if it is 0."""


class Step(ctypes.Structure):
    """A step of a logit: expm1(h) - expm1(-h), expm1(-h) and 2h."""

    _fields_ = tuple((name, ctypes.c_double) for name in ("span", "down", "width"))


class Limits(ctypes.Structure):
    """What `loops.c` holds all entries to; an infinite excuse takes zeros out of the relative limit."""

    _fields_ = tuple(
        (name, ctypes.c_double) for name in ("spacings", "margin", "unit", "least_normal", "excuse")
    )


_ARRAY, _SIZE, _NUMBER = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_double


class Loops:
    """The functions of the library, on planes of float64, rows of few classes column by column."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Declare the functions; AttributeError where one is missing."""

        def function(name: str, result: Any, *takes: Any) -> Any:
            found = getattr(library, f"softgrad_{name}")
            found.restype, found.argtypes = result, takes
            return found

        rows, columns, stored = (_SIZE, _SIZE), (_SIZE, _SIZE, _SIZE), (_ARRAY, ctypes.c_int)
        quotients, beyond = (_ARRAY, Step, _NUMBER, _ARRAY), (_ARRAY, Limits, _SIZE, _ARRAY)
        self.source: int = function("source", ctypes.c_uint32)()
        self._extremes = function("extremes", None, *stored, *rows, _ARRAY)
        self._exponential = function("exponential", None, _ARRAY, _SIZE, _ARRAY)
        self._exponentials = function(
            "exponentials", None, *stored, *rows, _ARRAY, _NUMBER, _ARRAY, _ARRAY, _ARRAY
        )
        self._quotients = (
            function("quotients", None, _ARRAY, *rows, *quotients),
            function("quotients_by_columns", None, _ARRAY, *columns, *quotients),
        )
        self._beyond = (
            function("beyond", _SIZE, _ARRAY, *stored, *rows, *beyond),
            function("beyond_by_columns", _SIZE, _ARRAY, _ARRAY, *columns, *beyond),
        )

    def extremes(self, z: Stored) -> Floats:
        """Return the maxima and the minima of rows, NaN where there is one in the row: (n, K) to (2, n)."""
        _whole(z)
        found = np.empty((2, len(z)))
        self._extremes(_address(z), _is_single(z), *z.shape, _address(found))
        return found

    def exponential(self, d: Floats) -> Floats:
        """Return exp(d) for d <= 0: (n,) to (n,)."""
        d = np.ascontiguousarray(d, np.float64)
        w = np.empty_like(d)
        self._exponential(_address(d), len(d), _address(w))
        return w

    def exponentials(
        self, z: Stored, m: Floats, temperature: float, pivot: NDArray[np.int64], w: Floats
    ) -> Floats:
        """Write exp((z - m) / T) to w, which may be z, but 0 in the pivot column; return the sums.

        (n, K), (n,), (n,), (n, K) to (n,); no z is above its m.
        """
        _whole(z, _double(w))
        m, pivot, sums = (
            np.ascontiguousarray(m, np.float64),
            np.ascontiguousarray(pivot, np.int64),
            np.empty(len(z)),
        )
        if z.shape != w.shape or m.shape != sums.shape or pivot.shape != sums.shape:
            raise ValueError("w, the maxima or the pivots are not those of z")
        if len(pivot) and not 0 <= pivot.min() <= pivot.max() < z.shape[1]:
            raise ValueError("a pivot is no class")
        rows = (_address(m), temperature, _address(pivot), _address(w), _address(sums))
        self._exponentials(_address(z), _is_single(z), *z.shape, *rows)
        return sums

    def quotients(self, w: Floats, inverse: Floats, step: Step, gaps: int) -> Floats:
        """Return sum, lowest, highest and farthest of each row's log ratios over w: (n, K), (n,) to (4, n).

        Farthest is from 2h times the inverse, times w. The last three are NaN where more than `gaps`
        entries of the row have w = 0.
        """
        found, inverse = np.empty((4, len(w))), np.ascontiguousarray(inverse, np.float64)
        by_columns, extent = _extent(_double(w))
        if inverse.shape != (len(w),):
            raise ValueError("there is not one inverse for each row")
        self._quotients[by_columns](_address(w), *extent, _address(inverse), step, gaps, _address(found))
        return found

    def beyond(self, w: Floats, got: Stored, given: Floats, limits: Limits, most: int) -> Places | None:
        """Return rows and columns of the entries that exceed a limit: (n, K), (n, K), (5, n) to (m,), (m,).

        None if there are more of them than are asked for at most, or if a limit is no number. Given of each
        row: what times w is right, and limits of the error, of error / size, and of error / (sloped size +
        half a spacing + floor) the slope and the floor.
        """
        by_columns, extent = _extent(_double(w))
        if not np.isfinite(given).all():
            return None
        if (by_columns, extent) != _extent(got) or given.shape != (5, len(w)) or not given.flags.c_contiguous:
            raise ValueError("the planes and what is given of their rows do not lie alike")
        places = np.empty((most, 2), np.int64)
        planes = (_address(w), _address(got), *(() if by_columns else (_is_single(got),)), *extent)
        count = self._beyond[by_columns](*planes, _address(given), limits, most, _address(places))
        return None if count > most else (places[:count, 0], places[:count, 1])


def _whole(*planes: Stored) -> None:
    """Refuse planes that do not lie in one piece, row by row."""
    if not all(each.flags.c_contiguous for each in planes):
        raise ValueError("the rows do not lie one after the other")


def _double(plane: Floats) -> Floats:
    """Return a plane, which must be of float64."""
    if plane.dtype != np.float64:
        raise ValueError(f"the loops work on float64, not on {plane.dtype}")
    return plane


def _is_single(plane: Stored) -> bool:
    """Tell whether a plane is of float32; else it must be of float64."""
    if plane.dtype not in (np.float32, np.float64):
        raise ValueError(f"the loops know nothing of {plane.dtype}")
    return plane.dtype == np.float32


def _address(array: Stored | NDArray[np.int64]) -> int:
    return array.ctypes.data


def _extent(plane: Stored) -> tuple[bool, tuple[int, ...]]:
    """Return whether a plane lies column by column, as those of few classes do, and its extent."""
    n, classes = plane.shape
    if n == 0 or plane.strides[0] == plane.itemsize == 8:
        return True, (plane.strides[1] // plane.itemsize, n, classes)
    if not plane.flags.c_contiguous:
        raise ValueError("neither the rows nor the columns lie in one piece")
    return False, (n, classes)


@cache
def loops() -> Loops | None:
    """Return the compiled loops, or None where there are none for these sources or they are not wanted."""
    if os.environ.get(VARIABLE) == "0":
        return None
    try:
        found = Loops(ctypes.CDLL(LIBRARY))
        with open(SOURCE, "rb") as source:
            return found if found.source == binascii.crc32(source.read()) else None
    except (OSError, AttributeError):  # none was made, or for another machine
        return None

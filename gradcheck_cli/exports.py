"""An exported tensor, and the precision it has to be judged by: its grid, not its container."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gradcheck_cli.errors import InputError, UsageError
from gradcheck_cli.numeric.logarithms import Arithmetic
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import (
    BFLOAT16,
    BY_NAME,
    FLOAT8,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    Precision,
    on_bfloat16,
    on_float16,
    on_float32,
)
from gradcheck_cli.records import dataclass
from gradcheck_cli.tensors import Decimals, Rows

Stored = np.ndarray[Any, np.dtype[Any]]

_LOOK = 1 << 16  # entries looked at together for the grid
_FIRST = 1 << 8  # of these are tried before the others
_LONGEST_NUMBER = 400  # characters
_FLUSHED = (FLOAT16, *FLOAT8)  # formats so short that gradients are subnormal in them
_ENOUGH = 8  # values other than 0 that a narrower grid must be seen on
ROUND_TRIP_DIGITS = 17  # decimal digits that hold every float64
_FLOAT32_DIGITS = 9  # decimal digits that hold every float32


@dataclass(frozen=True, eq=False)
class Export:
    """One tensor to be judged."""

    name: str
    rows: Rows
    grid: Precision
    compute: Precision
    native: Precision | None  # 16-bit arithmetic that may explain it
    decimals: Decimals | None
    logits: Precision | None = None  # what the logits were rounded to after the exporter had worked on them
    flushes: bool = False  # whether no value lies below the smallest normal number of the grid
    inferred: bool = True  # whether nobody said what it was computed in

    @property
    def finest(self) -> Model:
        """Return the best accuracy that can be told: softgrad's own is no better than float64."""
        return Model.TREE if self.compute is FLOAT64 else Model.CORRECTLY_ROUNDED

    @property
    def arithmetic(self) -> Arithmetic:
        """Return the loosest arithmetic that may explain it, for what is not affine in the probabilities."""
        return Arithmetic(self.compute, self.native, logits=self.logits)

    @property
    def tolerance(self) -> str:
        """Say in words what the proven allowance takes into account."""
        words = f"{self.compute.name} arithmetic in any order"
        if self.logits is not None:
            words = f"logits rounded to {self.logits.name}, {words}"
        if self.native is not None:
            words += f" or native {self.native.name}"
        if self.grid is not self.compute:
            words += f", stored as {self.grid.name}"
        if self.decimals is not None and any(rounding(self.decimals)):
            words += f", printed with {printed(self.decimals)}"
        return words


@dataclass(frozen=True)
class Scalar:
    """A number handed over on the command line or in a file of one value."""

    value: float
    grid: Precision
    compute: Precision
    rounding: float  # half a unit of the last digit shown
    native: Precision | None = None
    logits: Precision | None = None  # as of an export

    @property
    def arithmetic(self) -> Arithmetic:
        """Return the arithmetic that may explain it."""
        return Arithmetic(self.compute, self.native, logits=self.logits)

    @property
    def tolerance(self) -> str:
        """Say in words what the allowance takes into account."""
        words = f"{self.compute.name} arithmetic, summed in any order"
        return (
            f"half a unit of the last digit given ({self.rounding:g}) and {words}" if self.rounding else words
        )

    @classmethod
    def parse(cls, text: str, compute_dtype: str | None) -> Scalar:
        """Return the number a text stands for, judged by the digits it shows.

        Raises
        ------
        ValueError
            If the text is no number.
        UsageError
            If it is a number, but not finite.
        """
        value = float(text)
        if not (np.isfinite(value) and len(text) < _LONGEST_NUMBER):
            raise UsageError(f"{text[:40]}: --loss and --upstream need a finite number")
        mantissa, _, exponent = text.lower().partition("e")
        places = len(mantissa.partition(".")[2])
        digits = len(mantissa.replace(".", "").lstrip("+-0"))
        asked = BY_NAME.get(compute_dtype or "", FLOAT32 if digits <= _FLOAT32_DIGITS else FLOAT64)
        last = min(max((int(exponent or 0) if value else 0) - places, -400), 300)
        rounding = 0.0 if digits >= ROUND_TRIP_DIGITS else 0.5 * 10.0**last
        return cls(value, FLOAT64, FLOAT32 if asked.half else asked, rounding, asked if asked.half else None)

    @classmethod
    def read(cls, export: Export) -> Scalar:
        """Return the single value of a file."""
        value = np.empty(1)
        export.rows.read(0, 1, value)
        relative, absolute = rounding(export.decimals)
        error = relative * abs(float(value[0])) + absolute
        return cls(float(value[0]), export.grid, export.compute, error, export.native, export.logits)


def printed(decimals: Decimals) -> str:
    """Say how the numbers of a text file were printed."""
    if decimals.places is not None:
        return f"{_digits(decimals.places, '')} after the point"
    return _digits(decimals.significant, "significant ")


def _digits(count: int, kind: str) -> str:
    return f"{count} {kind}digit" + ("" if count == 1 else "s")


def rounding(decimals: Decimals | None) -> tuple[float, float]:
    """Return the relative and the absolute error of printing: half a unit of the last digit shown."""
    if decimals is None:
        return 0.0, 0.0
    if decimals.places is not None:  # the largest number shows more digits than the small ones
        return 0.0, 0.5 * 10.0**-decimals.places
    if decimals.significant >= ROUND_TRIP_DIGITS:
        return 0.0, 0.0
    return 0.5 * 10.0 ** (1 - decimals.significant), 0.0


def identify(name: str, rows: Rows, compute_dtype: str | None, logits_rounded: str | None = None) -> Export:
    """Return the export with the grid its values sit on and the arithmetic that may explain it.

    People upcast to save: a float32 file whose values are all bfloat16 numbers is judged as bfloat16.
    16-bit exports are usually float32 work rounded once, and sometimes 16-bit arithmetic throughout.
    """
    if not rows.tensor.dtype.startswith(("float", "bfloat", "text")):
        raise InputError(
            f"{rows.tensor.name}: {name} is stored as {rows.tensor.dtype}; floating point is needed"
        )
    grid = _grid(rows)
    compute, native = grid, None
    if grid.half:
        # No kernel adds up in 8 bits: what is stored in them was worked out in 16 or 32.
        compute, native = FLOAT32, BFLOAT16 if grid in FLOAT8 else grid
    if compute_dtype is not None:
        asked = BY_NAME[compute_dtype]
        compute, native = (FLOAT32, asked) if asked.half else (asked, None)
    hidden = None if logits_rounded is None else BY_NAME[logits_rounded]
    flushes = grid in _FLUSHED and not _any_subnormal(rows, grid)
    return Export(
        name, rows, grid, compute, native, rows.tensor.decimals, hidden, flushes, compute_dtype is None
    )


def _any_subnormal(rows: Rows, grid: Precision) -> bool:
    """Tell whether a value lies between 0 and the smallest normal number, so that nothing flushes there."""
    step = min(max(1, _LOOK // rows.classes), rows.count)
    room = np.empty((step, rows.classes) if rows.axis is not None else step)
    for start in range(0, rows.count, step):
        size = room[: min(step, rows.count - start)]
        rows.read(start, start + len(size), size)
        np.abs(size, out=size)
        if np.any((size > 0.0) & (size < grid.smallest_normal)):
            return True
    return False


def _grid(rows: Rows) -> Precision:
    step = max(1, _LOOK // rows.classes)
    starts = range(0, rows.count, step)
    stored = (rows.read_stored(start, min(start + step, rows.count)) for start in starts)
    return grid_of(rows.tensor.dtype, stored, rows.tensor.decimals)


def grid_of(container: str, parts: Iterable[Stored], decimals: Decimals | None = None) -> Precision:
    """Return the grid that values sit on, given in parts as they are stored in their container."""
    if container in BY_NAME and BY_NAME[container].half:
        return BY_NAME[container]
    narrow = decimals is not None and decimals.significant <= _FLOAT32_DIGITS
    wide = container in ("float64", "text")
    candidates = {BFLOAT16, FLOAT16}
    candidates |= {FLOAT32} if wide else set()
    seen = 0
    for part in parts:
        stored = part
        if narrow:
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                rounded = stored.astype(np.float32)
            if not np.array_equal(np.isfinite(rounded) & (rounded != 0), np.isfinite(stored) & (stored != 0)):
                return FLOAT64  # beyond the range of float32
            stored = rounded
        seen += int(np.count_nonzero(stored))
        candidates = {
            each for each in candidates if _sits(stored.flat[:_FIRST], each) and _sits(stored, each)
        }
        if not candidates:
            break
    if seen >= _ENOUGH:
        for each in (BFLOAT16, FLOAT16, FLOAT32):
            if each in candidates:
                return each
    return FLOAT32 if narrow or not wide else FLOAT64


def _sits(stored: Stored, grid: Precision) -> bool:
    if grid is FLOAT32:
        return on_float32(stored.astype(np.float64, copy=False))
    if grid is FLOAT16:
        return on_float16(stored)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrow = stored.astype(np.float32, copy=False)
    return bool(np.all((narrow == stored) | np.isnan(stored))) and on_bfloat16(narrow)

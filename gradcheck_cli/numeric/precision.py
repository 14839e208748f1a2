"""Floating-point formats: unit roundoff, spacing, and which grid a set of values sits on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.records import dataclass

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Precision:
    """A binary format with `digits` significand bits and gradual underflow."""

    name: str
    digits: int
    smallest_normal: float

    @property
    def unit(self) -> float:
        """Unit roundoff u: the largest relative error of rounding to nearest."""
        return float(2.0**-self.digits)

    @property
    def smallest_subnormal(self) -> float:
        """The spacing of the numbers around zero."""
        return float(self.smallest_normal * 2.0 ** (1 - self.digits))

    @property
    def half(self) -> bool:
        """Whether this is one of the 16-bit formats or shorter, whose own arithmetic is a story apart."""
        return self.digits < FLOAT32.digits


FLOAT64 = Precision("float64", 53, 2.0**-1022)
FLOAT32 = Precision("float32", 24, 2.0**-126)
BFLOAT16 = Precision("bfloat16", 8, 2.0**-126)
FLOAT16 = Precision("float16", 11, 2.0**-14)
FLOAT8 = (
    Precision("float8_e4m3fn", 4, 2.0**-6),
    Precision("float8_e5m2", 3, 2.0**-14),
    Precision("float8_e4m3fnuz", 4, 2.0**-7),
    Precision("float8_e5m2fnuz", 3, 2.0**-15),
)
BY_NAME = {each.name: each for each in (FLOAT64, FLOAT32, BFLOAT16, FLOAT16, *FLOAT8)}

_EXPONENT_BITS = np.int64(0x7FF0000000000000)


def power_below(x: Floats, out: Floats) -> Floats:
    """Return the largest power of two not above |x|, zero for |x| < 2^-1022: the exponent bits of x."""
    np.bitwise_and(x.view(np.int64), _EXPONENT_BITS, out=out.view(np.int64))
    return out


def storage_error(largest: Floats, grid: Precision, out: Floats) -> Floats:
    """Write what rounding costs up to `largest`, half a spacing there: max(u 2^floor(log2 x), eta/2)."""
    power_below(largest, out)
    out *= grid.unit
    np.maximum(out, grid.smallest_subnormal / 2.0, out=out)
    return out


def on_bfloat16(stored: NDArray[np.float32]) -> bool:
    """Tell whether each float32 value is a bfloat16 number: its low 16 bits are zero."""
    return not np.any(np.ascontiguousarray(stored).view(np.uint32) & np.uint32(0xFFFF))


def on_float16(stored: NDArray[np.floating]) -> bool:
    """Tell whether each value is a float16 number (or not finite)."""
    return _survives(stored, np.float16)


def on_float32(stored: NDArray[np.float64]) -> bool:
    """Tell whether each float64 value is a float32 number (or not finite)."""
    return _survives(stored, np.float32)


def _survives(stored: NDArray[np.floating], narrow: type[np.floating]) -> bool:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # a signalling NaN is invalid
        back = stored.astype(narrow).astype(stored.dtype)
    return bool(np.all((back == stored) | np.isnan(stored)))

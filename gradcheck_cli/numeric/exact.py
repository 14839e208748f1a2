"""Sums without rounding, so that they do not depend on the order."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass


@dataclass(frozen=True, eq=False)
class ExactSum:
    """A sum of float64 numbers without rounding, so that it does not depend on the order.

    Each number is an integer mantissa of 53 bits times a power of two; the mantissas are summed as
    integers, one counter for each exponent.
    """

    counters: dict[int, int]  # exponent -> integer sum of mantissas

    @classmethod
    def of(cls, values: Floats) -> ExactSum:
        """Return the exact sum of a (n,) block of finite numbers."""
        if not np.isfinite(values).all():
            raise ValueError("only finite numbers have an exact sum")
        fraction, exponent = np.frexp(values)
        mantissa = np.ldexp(fraction, 53).astype(np.int64)
        counters: dict[int, int] = {}
        for each in sorted(set(exponent[mantissa != 0].tolist())):  # np.unique imports numpy.ma
            chosen = mantissa[exponent == each]
            high, low = chosen >> 26, chosen & ((1 << 26) - 1)
            counters[each] = (int(high.sum()) << 26) + int(low.sum())
        return cls(counters)

    def merge(self, other: ExactSum) -> ExactSum:
        """Return the sum of both."""
        counters = dict(self.counters)
        for exponent, total in other.counters.items():
            counters[exponent] = counters.get(exponent, 0) + total
        return ExactSum(counters)

    def value(self) -> float:
        """Return the sum, rounded once."""
        lowest = min(self.counters, default=0)
        total = sum(count << (exponent - lowest) for exponent, count in self.counters.items())
        return _scaled(total, lowest - 53)


def _scaled(integer: int, exponent: int) -> float:
    """Return integer * 2^exponent, correctly rounded (Python's integer division is)."""
    try:
        return float(integer << exponent) if exponent >= 0 else integer / (1 << -exponent)
    except OverflowError:
        return float("inf") if integer > 0 else -float("inf")

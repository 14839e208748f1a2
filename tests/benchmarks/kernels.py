"""Right kernels as frameworks write them, in float32 and in 16-bit arithmetic, operation by operation.

A module of the benchmarks, not a program. NumPy and ml_dtypes round every elementwise operation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.benchmarks.points import DIVISOR, Convention, Rows

Array = npt.NDArray[Any]
Add = Callable[[Array], Array]
"""A sum along the last axis, in the dtype of the numbers: (n, K) to (n, 1)."""


def by_tree(x: Array) -> Array:
    """Return the sum by halves, zeros filling up to a power of two."""
    size = 1 << max(x.shape[1] - 1, 0).bit_length()
    x = np.pad(x, ((0, 0), (0, size - x.shape[1])))
    while x.shape[1] > 1:
        middle = x.shape[1] // 2
        x = x[:, :middle] + x[:, middle:]
    return x


def by_lanes(x: Array) -> Array:
    """Return the sum in eight lanes, each in order, and then of the lanes in order."""
    x = np.pad(x, ((0, 0), (0, -x.shape[1] % 8))).reshape(len(x), -1, 8)
    return in_order(np.add.accumulate(x, axis=1)[:, -1])


def in_order(x: Array) -> Array:
    """Return the sum from the first to the last."""
    last: Array = np.add.accumulate(x, axis=1)[:, -1:]
    return last


@dataclass(frozen=True)
class Kernel:
    """How a kernel works: its dtype, how it adds exponentials, and how it takes its probabilities.

    Sums are taken in float32, also of 16-bit numbers, and rounded to the dtype; but those of the targets,
    which log-softmax's backward takes as it takes any incoming gradient, are in a dtype of their own.
    """

    kind: Any
    add: Add
    way: str  # divide: exp(v - m) / S; log-softmax: exp(v - m - log S); fused: exp(v - lse)
    targets: Any = np.float32

    def gradient(self, rows: Rows, convention: Convention) -> Array:
        """Return the gradient that the kernel computes: (n, K), of its dtype."""
        one = np.dtype(self.kind).type
        z = rows.z.astype(self.kind)
        t = None if convention.softcap is None else np.tanh(z / one(convention.softcap))
        v = z if t is None else one(convention.softcap) * t
        if convention.temperature != 1.0:
            v = v / one(convention.temperature)
        p, lse = self._softmax(v)
        q = _targets(rows, convention, self.kind)
        add = self.add if self.targets is np.float32 else in_order
        mass = add(q.astype(self.targets)).astype(self.kind)
        upstream = (rows.upstream.astype(self.kind) / one(DIVISOR))[:, None]
        got = upstream * (mass * p - q)
        if convention.z_loss:
            got = got + one(2.0) * one(convention.z_loss) * upstream * lse * p
        if convention.temperature != 1.0:
            got = got / one(convention.temperature)
        finished: Array = got if t is None else got * (one(1.0) - t * t)
        return finished

    def _softmax(self, v: Array) -> tuple[Array, Array]:
        """Return probabilities and logsumexp: (n, K) to (n, K), (n, 1)."""
        m = v.max(axis=1, keepdims=True)
        e = np.exp(v - m)
        total = self.add(e.astype(np.float32)).astype(self.kind)
        lse = m + np.log(total)
        if self.way == "divide":
            return e / total, lse
        return np.exp(v - lse if self.way == "fused" else v - m - np.log(total)), lse


def _targets(rows: Rows, convention: Convention, kind: Any) -> Array:
    """Return the target weights as a kernel computes them: (n, K)."""
    n, classes = rows.z.shape
    one = np.dtype(kind).type
    if convention.soft:
        t = rows.targets.astype(kind)
    else:
        t = np.zeros((n, classes), dtype=kind)
        t[np.arange(n), rows.targets] = one(1.0)
    others = convention.smoothing_over == "others"
    if convention.smoothing and others:
        spread = one(convention.smoothing / max(classes - 1, 1)) * (one(1.0) - t)
        t = (one(1.0) - one(convention.smoothing)) * t + spread
    elif convention.smoothing:
        t = (one(1.0) - one(convention.smoothing)) * t + one(convention.smoothing) / one(classes)
    weights = convention.weights(classes)
    weighted: Array = t if weights is None else t * weights.astype(kind)
    return weighted

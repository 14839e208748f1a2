"""The softmax layer in 50 digits and more: f is written down, its gradient is f differenced.

No formula of a gradient stands here. With h = 1e-60 and 500 working digits neither truncation nor
cancellation reaches the 50th digit of entries down to 1e-320.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from mpmath import MPContext  # type: ignore[import-untyped,unused-ignore]

WIDE = MPContext()
WIDE.dps = 500
STEP = WIDE.mpf(10) ** -60

Reals = npt.NDArray[np.object_]


def _softmax(v: list[Any]) -> list[Any]:
    top = max(v)
    w = [WIDE.exp(x - top) if x != -math.inf else WIDE.mpf(0) for x in v]
    total = sum(w, WIDE.mpf(0))
    return [x / total for x in w]


def value(z: list[Any], t: list[Any], temperature: float, *, log: bool) -> Any:
    """Return <t, softmax(z/T)> or <t, log softmax(z/T)>, masked classes left out."""
    v = [x / WIDE.mpf(temperature) if x != -math.inf else x for x in z]
    a = _softmax(v)
    kept = [(p, x) for p, x, logit in zip(a, t, v, strict=True) if logit != -math.inf]
    return sum((x * (WIDE.log(p) if log else p) for p, x in kept), WIDE.mpf(0))


def gradient(z: Any, t: Any, temperature: float = 1.0, *, log: bool = False) -> Reals:
    """Return the gradient of each row by central differences: (N, K), (N, K) to (N, K)."""
    out = np.empty(np.shape(z), dtype=object)
    for i, (logits, upstream) in enumerate(zip(np.asarray(z), np.asarray(t), strict=True)):
        row = [WIDE.mpf(float(x)) if x != -math.inf else -math.inf for x in logits]
        pulls = [WIDE.mpf(float(x)) for x in upstream]
        for j, x in enumerate(row):
            out[i, j] = WIDE.mpf(0)
            if x == -math.inf:
                continue
            above, below = [*row], [*row]
            above[j], below[j] = x + STEP, x - STEP
            up = value(above, pulls, temperature, log=log)
            out[i, j] = (up - value(below, pulls, temperature, log=log)) / (2 * STEP)
    return out


def probabilities(z: Any, temperature: float = 1.0) -> Reals:
    """Return softmax(z/T) of each row: (N, K) to (N, K)."""
    rows = [[WIDE.mpf(float(x)) / WIDE.mpf(temperature) if x != -math.inf else x for x in row] for row in z]
    return np.array([_softmax(row) for row in rows], dtype=object)


def jacobian(z: Any, temperature: float = 1.0) -> Reals:
    """Return da_i/dz_j of one row by central differences of the softmax: (K,) to (K, K)."""
    row = [WIDE.mpf(float(x)) if x != -math.inf else -math.inf for x in z]
    out = np.empty((len(row), len(row)), dtype=object)
    out[...] = WIDE.mpf(0)
    for j, x in enumerate(row):
        if x == -math.inf:
            continue
        above, below = [*row], [*row]
        above[j], below[j] = x + STEP, x - STEP
        up, down = (
            _softmax([each / WIDE.mpf(temperature) if each != -math.inf else each for each in side])
            for side in (above, below)
        )
        out[:, j] = [(p - m) / (2 * STEP) for p, m in zip(up, down, strict=True)]
    return out

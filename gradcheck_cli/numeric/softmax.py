"""Softmax forward and backward on rows.

The functions with ``out`` or a work array are the inner loop's; the short ones beside them are the
formulas as one writes them down, used by the audit and the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.numeric.precision import Floats

Indices = NDArray[np.int64]


class UndefinedRow(ArithmeticError):  # noqa: N818 - named for what it found
    """A row has no softmax: it holds NaN or +inf, or nothing finite."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} has no softmax")
        self.row = row


DEEPEST = -1e300  # stands for the depth of a masked class: exp of it is 0 and 0 * depth is not NaN


@dataclass(frozen=True)
class Link:
    """How logits become the argument of softmax: v = c tanh(z/c) / T."""

    temperature: float = 1.0
    softcap: float | None = None

    def apply(self, z: Floats) -> Floats:
        """Return v: any shape to the same shape."""
        capped = z if self.softcap is None else self.softcap * np.tanh(z / self.softcap)
        return capped / self.temperature


@dataclass(frozen=True, eq=False)
class Forward:
    """Softmax of n rows, with what its error bounds need. Arrays are the inner loop's own buffers."""

    d: Floats  # (n, K)
    a: Floats  # (n, K)
    slope: Floats | None  # (n, K) dv/dz under a softcap; a temperature alone is kept in the scale
    top: Floats  # (n,) the maximum m of v
    reach: Floats  # (n,) largest |v| that the exporter may have had to round
    total: Floats  # (n,) S
    rest: Floats  # (n,) S without the pivot's term, free of cancellation
    log_total: Floats  # (n,) log S, relatively accurate where the pivot holds nearly everything
    pivot: Indices  # (n,) the label, or the largest logit
    rows: Indices  # (n,) 0 .. n-1

    @property
    def lse(self) -> Floats:
        """Return logsumexp(v): (n,)."""
        return self.top + self.log_total

    @property
    def others(self) -> Floats:
        """Return 1 - a[pivot] as a sum of positive terms: (n,)."""
        return self.rest / self.total

    def at_pivot(self, values: Floats) -> Floats:
        """Return each row's entry in its pivot column: (n, K) to (n,)."""
        picked: Floats = values[self.rows, self.pivot]
        return picked


def softmax(v: Floats) -> Floats:
    """Return exp(v_j - m) / sum_k exp(v_k - m) along the last axis."""
    w = np.exp(v - v.max(axis=-1, keepdims=True))
    a: Floats = w / w.sum(axis=-1, keepdims=True)
    return a


def logsumexp(v: Floats) -> Floats:
    """Return m + log(sum_k exp(v_k - m)) along the last axis."""
    m = v.max(axis=-1)
    total: Floats = m + np.log(np.exp(v - m[..., None]).sum(axis=-1))
    return total


def vjp(a: Floats, upstream: Floats) -> Floats:
    """Return (t - <t, a>) a, the softmax layer's backward: (n, K), (n, K) to (n, K)."""
    inner = np.sum(upstream * a, axis=-1, keepdims=True)
    bottom: Floats = (upstream - inner) * a
    return bottom


def jacobian(a: Floats) -> Floats:
    """Return da_k/dz_j = a_k (delta_kj - a_j): (K,) to (K, K)."""
    matrix: Floats = np.diag(a) - np.outer(a, a)
    np.fill_diagonal(matrix, a * (1 - a))
    return matrix


def shift(z: Floats, link: Link, work: Floats | None) -> tuple[Floats, Floats, Floats | None]:
    """Turn z into d in place; return the maxima of v, its largest |v|, and the softcap's slope.

    Rows must be finite or -inf, with one finite entry at least. The maximum is subtracted before the
    temperature divides, so that a common offset of the logits costs no accuracy.
    """
    slope = None
    if link.softcap is not None:
        _refuse_undefined(z.max(axis=1), z.min(axis=1))
        slope = _cap(z, link.softcap, link.temperature, work)
    m = z.max(axis=1)
    lowest = z.min(axis=1)
    _refuse_undefined(m)
    z -= m[:, None]
    if link.temperature != 1.0:
        z /= link.temperature
    if np.isneginf(lowest).any():
        np.maximum(z, DEEPEST, out=z)
        lowest = np.where(np.isneginf(lowest), m, lowest)
    top = m / link.temperature
    return top, np.maximum(np.abs(top), np.abs(lowest / link.temperature)), slope


def forward(z: Floats, pivot: Indices | None, link: Link, out: Floats, work: Floats | None = None) -> Forward:
    """Return softmax of the rows of z, which becomes d; a is written to `out`: (n, K) to Forward.

    `pivot` is the column whose complement 1 - a is summed over the others (the label); without one it
    is the row's maximum. Summing the others keeps the complement relatively accurate when a -> 1.
    """
    rows = np.arange(len(z))
    top, reach, slope = shift(z, link, work)
    if pivot is None:
        pivot = z.argmax(axis=1)
    np.exp(z, out=out)
    own = out[rows, pivot]
    out[rows, pivot] = 0.0
    rest = out.sum(axis=1)
    out[rows, pivot] = own
    total = rest + own
    out *= (1.0 / total)[:, None]
    log_total = np.where(own == 1.0, np.log1p(rest), np.log(total))
    return Forward(z, out, slope, top, reach, total, rest, log_total, pivot, rows)


def _refuse_undefined(*extremes: Floats) -> None:
    """Raise for the first row whose maximum (or minimum, where it matters) is not finite."""
    for extreme in extremes:
        bad = np.flatnonzero(~np.isfinite(extreme))
        if bad.size:
            raise UndefinedRow(int(bad[0]))


def _cap(z: Floats, c: float, temperature: float, work: Floats | None) -> Floats:
    """Replace z by c tanh(z/c) and return the slope sech^2(z/c) / T.

    With e = exp(-2|z/c|): tanh = (1 - e) / (1 + e) and sech^2 = 4 e / (1 + e)^2, which keeps its
    relative accuracy where 1 - tanh^2 cancels.
    """
    slope = np.empty_like(z) if work is None else work
    np.abs(z, out=slope)
    slope *= -2.0 / c
    np.exp(slope, out=slope)
    z /= c
    np.tanh(z, out=z)
    z *= c
    square = np.square(1.0 + slope)
    slope *= 4.0 / temperature
    slope /= square
    return slope

"""Softmax forward and backward on rows, in steps that a block of rows is worked out in.

shift (z becomes d), exponentials (d becomes exp d and its sums), sums (what each row needs); the
probabilities are the exponentials over their total.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.numeric import compiled
from gradcheck_cli.numeric.compiled import Loops, Stored
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass

Indices = NDArray[np.int64]
Extent = tuple[Floats, Floats]


FEW_CLASSES = 32
"""Rows of so few classes are kept column by column, so that NumPy's loops run along the rows."""


class UndefinedRow(ArithmeticError):
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
class Sums:
    """What the softmax of n rows needs besides the planes: (n,) arrays."""

    top: Floats  # the maximum m of v
    reach: Floats  # largest |v| that the exporter may have had to round
    total: Floats  # S
    rest: Floats  # S without the pivot's term, free of cancellation
    log_total: Floats  # log S, relatively accurate where the pivot holds nearly everything
    pivot: Indices  # the label, or the largest logit
    own_d: Floats  # d in the pivot column
    own_w: Floats  # exp of it
    own_a: Floats  # a in the pivot column
    classes: int

    @property
    def lse(self) -> Floats:
        """Return logsumexp(v): (n,)."""
        return self.top + self.log_total

    @property
    def others(self) -> Floats:
        """Return 1 - a[pivot] as a sum of positive terms: (n,)."""
        return self.rest / self.total

    @property
    def confident(self) -> NDArray[np.bool_]:
        """Return the rows whose pivot column holds more than half of the probability: (n,)."""
        return self.own_a > 0.5

    def part(self, rows: slice | Indices) -> Sums:
        """Return some of the rows."""
        return Sums(
            self.top[rows],
            self.reach[rows],
            self.total[rows],
            self.rest[rows],
            self.log_total[rows],
            self.pivot[rows],
            self.own_d[rows],
            self.own_w[rows],
            self.own_a[rows],
            self.classes,
        )


@dataclass(frozen=True, eq=False)
class Planes:
    """Softmax of some rows, entry by entry: (n, K) arrays, the inner loop's own buffers."""

    d: Floats
    a: Floats
    slope: Floats | None  # dv/dz under a softcap; a temperature alone is kept in the scale
    rows: Indices  # (n,) 0 .. n-1
    pivot: Indices  # (n,)

    def at_pivot(self, values: Floats) -> Floats:
        """Return each row's entry in its pivot column: (n, K) to (n,)."""
        picked: Floats = values[self.rows, self.pivot]
        return picked

    def put_pivot(self, values: Floats, entries: Floats) -> None:
        """Write each row's entry in its pivot column: (n, K), (n,)."""
        values[self.rows, self.pivot] = entries


def vjp(a: Floats, upstream: Floats, out: Floats | None = None) -> Floats:
    """Return (t - <t, a>) a, the softmax layer's backward: (n, K), (n, K) to (n, K).

    It may be written to the upstream gradient itself.
    """
    inner = row_sum(upstream * a)
    bottom: Floats = np.subtract(upstream, inner[:, None], out=out)
    bottom *= a
    return bottom


def shift(z: Floats, link: Link, work: Floats | None) -> tuple[Extent, Floats | None]:
    """Turn z into d in place; return the maxima of v and its largest |v|, and the softcap's slope.

    Rows must be finite or -inf, with one finite entry at least. The maximum is subtracted before the
    temperature divides, so that a common offset of the logits costs no accuracy.
    """
    slope = None
    if link.softcap is not None:
        _refuse_undefined(z.max(axis=1), z.min(axis=1))
        slope = _cap(z, link.softcap, link.temperature, work)
    m, lowest = descend(z, link, z)
    top, reach = extent(m, lowest, link)
    if np.isneginf(lowest).any():
        np.maximum(z, DEEPEST, out=z)
    return (top, reach), slope


def descend(z: Stored, link: Link, d: Floats) -> Extent:
    """Write d of z, already capped, to a plane, which may be z; return maxima and minima of z: (n,), (n,).

    Masked classes are left at -inf. Rows that :func:`extent` refuses become NaN.
    """
    m, lowest = z.max(axis=1).astype(np.float64), z.min(axis=1).astype(np.float64)
    np.subtract(z, m[:, None], out=d)
    if link.temperature != 1.0:
        d /= link.temperature
    return m, lowest


def extent(m: Floats, lowest: Floats, link: Link) -> Extent:
    """Return the maxima of v and its largest |v|, given the extremes of the capped z: (n,), (n,).

    Raises
    ------
    UndefinedRow
        For the first row with NaN or +inf, with nothing finite, or deeper than float64 reaches.
    """
    lowest = np.where(np.isneginf(lowest), m, lowest)
    deepest = (lowest - m) / link.temperature
    top = m / link.temperature
    _refuse_undefined(top, np.where(deepest > DEEPEST, deepest, np.nan))
    return top, np.maximum(np.abs(top), np.abs(lowest / link.temperature))


def row_sum(plane: Floats) -> Floats:
    """Return the sum of each row: (n, K) to (n,), the same bits however many rows there are.

    Few classes are added column by column, so that the loop runs along the rows; many pairwise.
    """
    if plane.shape[1] > FEW_CLASSES:
        pairwise: Floats = np.add.reduce(plane, axis=1)
        return pairwise
    total = plane[:, 0].copy()
    for column in range(1, plane.shape[1]):
        total += plane[:, column]
    return total


def exponentials(d: Floats, pivot: Indices, out: Floats) -> tuple[Floats, Floats]:
    """Write exp(d) to `out` and return its sum without the pivot column, and that column: (n,), (n,)."""
    rest, own = exponentials_beside(d, pivot, out)
    out[np.arange(len(d)), pivot] = own
    return rest, own


def exponentials_beside(d: Floats, pivot: Indices, out: Floats) -> tuple[Floats, Floats]:
    """Write exp(d) to `out`, but 0 in the pivot column; return its sum, and that column: (n,), (n,).

    The others are summed alone, so that 1 - a is relatively accurate when a -> 1.
    """
    at_pivot = (np.arange(len(d)), pivot)
    if (loops := _loops_for(d, out)) is not None:
        own = loops.exponential(d[at_pivot])
        return loops.exponentials(d, np.zeros(len(d)), 1.0, pivot, out), own
    np.exp(d, out=out)
    own = out[at_pivot]
    out[at_pivot] = 0.0
    return row_sum(out), own


def weigh(z: Stored, link: Link, pivot: Indices, w: Floats) -> Floats:
    """Write w = exp(d) of logits without a softcap, but 0 in the pivot column: (n, K), (n,), (n, K).

    Return maxima and minima of z, d in the pivot column, the sum of w, and exp(d) in that column: (5, n).
    """
    found = np.empty((5, len(z)))
    if (loops := _loops_for(z, w)) is not None:
        found[:2] = loops.extremes(z)
        found[2] = (z[np.arange(len(z)), pivot] - found[0]) / link.temperature
        found[3] = loops.exponentials(z, found[0], link.temperature, pivot, w)
        found[4] = loops.exponential(found[2])
        return found
    found[:2] = descend(z, link, w)
    found[2] = w[np.arange(len(w)), pivot]
    found[3:] = exponentials_beside(w, pivot, w)
    return found


def _loops_for(*planes: Stored) -> Loops | None:
    """Return the compiled loops where these planes are for them: rows of many classes."""
    many = all(each.shape[1] > FEW_CLASSES and each.flags.c_contiguous for each in planes)
    return compiled.loops() if many else None


def sums(extent: Extent, pivot: Indices, own: tuple[Floats, Floats], rest: Floats, classes: int) -> Sums:
    """Return the sums of rows, given d and exp(d) in the pivot column, and the others' sum: (n,)."""
    own_d, own_w = own
    total = rest + own_w
    log_total = np.where(own_w == 1.0, np.log1p(rest), np.log(total))
    top, reach = extent
    return Sums(top, reach, total, rest, log_total, pivot, own_d, own_w, own_w / total, classes)


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

"""The Jacobian of one row's softmax, in blocks of its rows: J_kj = da_k/dz_j, and what it may be off by.

    J_kj = -a_k a_j off the diagonal, a_j (1 - a_j) on it, over the temperature

1 - a_j is a sum of the other probabilities where a_j is the largest, and at least 1/2 elsewhere, so that
every entry is relatively accurate. J is symmetric, its column j is (e_j - a) a_j, its rows sum to 0, and it
is the Hessian of logsumexp. Moving z_j by tau, in units of T and with E = expm1(tau), changes

    a_k by -a_k a_j E / (1 + a_j E), a_j by a_j (1 - a_j) E / (1 + a_j E)

exactly. The second differences of logsumexp cancel nothing either: with E+ = expm1(h), E- = expm1(-h),

    l(h,h) - l(h,-h) - l(-h,h) + l(-h,-h) = log1p(-a_k a_j (E+ - E-)^2 / den)          over 4 h^2
    l(h) + l(-h) = log1p(a_j (1 - a_j) (E+ + E-))                                      over h^2

where l is log of 1 + a_k E + a_j E and den = (1 + a_k E+ + a_j E-)(1 + a_k E- + a_j E+): the terms linear in
E cancel on paper, and (1 + a E+)(1 + a E-) = 1 + a (1 - a)(E+ + E-) because E+ E- = -(E+ + E-).
"""

from __future__ import annotations

import math

import numpy as np

from gradcheck_cli.numeric import methods
from gradcheck_cli.numeric.accuracy import pairwise, probability_error, rounded_exponent
from gradcheck_cli.numeric.allowance import DEPTH_OF_ZERO
from gradcheck_cli.numeric.difference import AUDIT_STEP
from gradcheck_cli.numeric.half import native_exponent
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import Indices, Link, Sums, exponentials, shift, sums
from gradcheck_cli.records import dataclass

SECOND_STEP = 2.0**-26
"""Step of the second differences; their truncation, h^2/3 of an entry, is below rounding."""

_FUSED_CAP = 5e-4
"""Largest relative error of a probability that a rounded logsumexp is allowed: 1e-3 of an entry."""


@dataclass(frozen=True, eq=False)
class SoftmaxRow:
    """One row's softmax: (K,) arrays."""

    d: Floats
    a: Floats
    others: Floats  # 1 - a_j
    sums: Sums  # of this one row
    link: Link

    @property
    def classes(self) -> int:
        """Return K."""
        return len(self.a)

    @classmethod
    def of(cls, z: Floats, link: Link) -> SoftmaxRow:
        """Return the softmax of logits (K,).

        Raises
        ------
        UndefinedRow
            If the row has none.
        """
        d = z[None, :].copy()
        extent, _ = shift(d, link, None)
        pivot: Indices = d.argmax(axis=1)
        w = np.empty_like(d)
        rest, own = exponentials(d, pivot, w)
        found = sums(extent, pivot, (d[[0], pivot], own), rest, len(z))
        a = w[0] / found.total[0]
        others = 1.0 - a
        others[pivot[0]] = found.others[0]
        return cls(d[0], a, others, found, link)


def rows_of(at: SoftmaxRow, k: range, out: Floats) -> Floats:
    """Return rows k of the Jacobian: (n, K), written to `out`."""
    np.multiply(at.a[k.start : k.stop, None], -at.a[None, :], out=out)
    _put_diagonal(out, k, at.a * at.others)
    out /= at.link.temperature
    return out


def columns_of(at: SoftmaxRow, k: range) -> Floats:
    """Return rows k again, each read off the columns (e_j - a) a_j: (n, K).

    1 - a_j is the plain subtraction here, which is right to u.
    """
    rows: Floats = np.zeros((len(k), at.classes))
    rows[np.arange(len(k)), k] = 1.0
    rows -= at.a[k.start : k.stop, None]
    rows *= at.a[None, :] / at.link.temperature
    return rows


def differences_of(at: SoftmaxRow, k: range, h: float) -> Floats:
    """Return rows k by central differences of the softmax: column j from moving logit j: (n, K)."""

    def moved(tau: float | complex) -> Floats:
        e = np.expm1(tau)
        share: Floats = e / (1.0 + at.a * e)
        out: Floats = at.a[k.start : k.stop, None] * -(at.a * share)[None, :]
        _put_diagonal(out, k, at.a * at.others * share)
        return out

    return methods.slope(moved, "central", h) / at.link.temperature


def transposed_differences_of(at: SoftmaxRow, k: range, h: float) -> Floats:
    """Return rows k of the transposed matrix of central differences: (n, K)."""
    e, f = math.expm1(h), math.expm1(-h)
    own = at.a[k.start : k.stop, None]
    share = (e / (1.0 + own * e) - f / (1.0 + own * f)) / (2.0 * h)
    out: Floats = -at.a[None, :] * (own * share)
    _put_diagonal(out, k, (at.a * at.others)[k.start : k.stop] * share[:, 0], of_rows=True)
    return out / at.link.temperature


def second_differences_of(at: SoftmaxRow, k: range) -> Floats:
    """Return rows k by second differences of logsumexp, its Hessian over T: (n, K)."""
    h = SECOND_STEP
    up, down = math.expm1(h), math.expm1(-h)
    own, a = at.a[k.start : k.stop, None], at.a[None, :]
    denominator = (1.0 + own * up + a * down) * (1.0 + own * down + a * up)
    out: Floats = np.log1p(-own * a * (up - down) ** 2 / denominator) / (4.0 * h * h)
    both = 4.0 * math.sinh(h / 2.0) ** 2
    _put_diagonal(out, k, np.log1p(at.a * at.others * both) / (h * h))
    return out / at.link.temperature


def brute_force(at: SoftmaxRow, row: int, column: int) -> float:
    """Return one entry by five-point differences of the whole softmax."""

    def function(points: Floats) -> Floats:
        w = np.exp(points - points.max(axis=1, keepdims=True))
        value: Floats = w[:, row] / w.sum(axis=1)
        return value

    v = np.where(at.d > -1e299, at.d, -np.inf)
    return methods.five_point(function, v, column, AUDIT_STEP) / at.link.temperature


def _put_diagonal(block: Floats, k: range, diagonal: Floats, *, of_rows: bool = False) -> None:
    """Write the diagonal's entries that lie in rows k; the diagonal is that of all rows, or of these."""
    block[np.arange(len(k)), k] = diagonal if of_rows else diagonal[k.start : k.stop]


@dataclass(frozen=True, eq=False)
class Leeway:
    """What entries may be off by: relative errors rho of the probabilities, and what is beside them.

    |J_kj| (rho_k + rho_j + rho_k rho_j + products) off the diagonal; on it (1 - a_j) is known to within
    a_j rho_j + products, so a_j rho_j (1 - a_j) + a_j (a_j rho_j (1 + rho_j) + products).
    """

    rho: Floats  # (K,)
    products: float
    floor: float

    def rows_of(self, at: SoftmaxRow, k: range, out: Floats) -> Floats:
        """Write the allowance of rows k to `out`: (n, K)."""
        a, rho, t = at.a, self.rho, at.link.temperature
        own_rho = rho[k.start : k.stop, None]
        np.multiply(1.0 + own_rho, rho[None, :], out=out)
        out += own_rho + self.products
        out *= a[k.start : k.stop, None]
        out *= a[None, :]
        own = a * (rho * at.others + a * rho * (1.0 + rho) + self.products)
        _put_diagonal(out, k, own)
        out /= t
        out += self.floor
        return out


def computed(at: SoftmaxRow, u: Precision, sigma: float) -> Leeway:
    """Return the leeway of a Jacobian computed in u, from probabilities computed in u."""
    p = probability_error(at.sums, at.link, u, sigma)
    depth = np.minimum(-at.d, DEPTH_OF_ZERO)
    tiny = 4.0 * u.smallest_normal / at.link.temperature
    # fl(-1 - x) has one rounding more than rho_k + rho_j + rho_k rho_j carries; 6u covers it.
    return Leeway(p.fixed[0] + float(np.max(p.depth)) * depth, 6.0 * u.unit, tiny)


def reference(at: SoftmaxRow) -> Leeway:
    """Return the leeway of softgrad's own Jacobian, 1 - a_j included, which is relatively accurate."""
    return computed(at, FLOAT64, pairwise(at.classes))


def exported(
    at: SoftmaxRow,
    u: Precision,
    grid: Precision,
    logits: Precision | None = None,
    model: Model = Model.FUSED_LSE,
) -> Leeway:
    """Return the leeway of an exporter: its sums, a rounded logsumexp, an output kept in 16 bits.

    Where the logits were rounded afterwards, each probability may change by expm1(r_j) besides. What is
    correctly rounded has softgrad's own leeway alone.
    """
    own = reference(at)
    rho, products, floor = own.rho, own.products, own.floor
    if model is not Model.CORRECTLY_ROUNDED:
        whole = computed(at, u, model.sigma(at.classes))
        rho = whole.rho + rho + (grid.unit if grid.half else 0.0)
        products, floor = whole.products + products, whole.floor + floor
    if model >= Model.FUSED_LSE:
        fused = math.expm1(min(2.0 * u.unit * abs(float(at.sums.lse[0])), 1.0))
        rho = rho + min(fused, _FUSED_CAP)
    if logits is not None:
        exponent, steep = rounded_exponent(at.sums, at.link, logits)
        moved = exponent[0] + np.max(steep) * np.minimum(-at.d, DEPTH_OF_ZERO)
        rho = rho + np.expm1(np.minimum(1.001 * moved, 200.0))
    return Leeway(rho, products, floor)


def native(at: SoftmaxRow, half: Precision) -> Leeway:
    """Return the leeway of 16-bit arithmetic throughout, before it is capped."""
    fixed, depth = native_exponent(at.sums, at.link, half)
    exponent = fixed[0] + depth * np.minimum(-at.d, DEPTH_OF_ZERO)
    rho = np.expm1(np.minimum(1.001 * exponent, 200.0)) + 2.0 * half.unit
    return Leeway(rho, 8.0 * half.unit, 4.0 * half.smallest_subnormal / at.link.temperature)


def plain_columns(at: SoftmaxRow) -> Leeway:
    """Return the leeway of the column form against the Jacobian: 1 - a_j is subtracted there."""
    return Leeway(np.zeros(at.classes), 8.0 * FLOAT64.unit, 2.0**-1000)


def own_error(truncation: float) -> float:
    """Return what differences may be off by relative to the entry: truncation, and 32u of rounding.

    Both sides come from the same a, and nothing is divided by the step.
    """
    return truncation + 32.0 * FLOAT64.unit


SECOND_TRUNCATION = SECOND_STEP**2 / 3.0 * math.exp(4.0 * SECOND_STEP)
"""Of the mixed second difference, h^2/6 (f_kkkj + f_kjjj) with |f_kkkj| = a_k a_j |1 - 6 a_k (1 - a_k)|, at
most a_k a_j; the pure one has h^2/12 a_j (1 - a_j) |1 - 6 a_j (1 - a_j)|. They grow by e^4h at most."""

"""What the gradient of the softmax layer may be off by, entry by entry: a sum of named terms.

A computation in unit roundoff u knows a_k as a_k (1 + rho_k), |rho_k| <= fixed + depth D_k (`accuracy`,
probability_error). Its inner product s = <t, a> is then off by at most

    delta = sum |t_k| a_k (rho_k + (sigma + 2) u) + tiny sum |t_k|        (products, sum, flushed a_k)

and (t_j - s) a_j, or t_j a_j - s a_j, by at most

    a_j (1 + rho_j) delta + |t_j - s| a_j rho_j + 4u a_j (|t_j| + |s|)

where |t_j - s| a_j is the gradient itself and |t_j| <= |t_j - s| + |s|. So every allowance has the form

    |g_j| (relative + steep D_j) + a_j (fixed + depth D_j) + floor

with numbers of the row; the log-softmax, t_j - a_j sum t, has it too, with delta = u (sigma + 1) sum |t_k|.
The cancellation in t - <t, a> is in `fixed`: it is absolute in sum |t_k| a_k, and nothing makes it relative.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gradcheck_cli.numeric import half as halves
from gradcheck_cli.numeric.accuracy import (
    ANYTHING,
    FUSED_LSE_CAP,
    any_order,
    pairwise,
    probability_error,
    rounded_exponent,
)
from gradcheck_cli.numeric.allowance import DEPTH_OF_ZERO
from gradcheck_cli.numeric.difference import AUDIT_STEP
from gradcheck_cli.numeric.layer import LayerPoint
from gradcheck_cli.numeric.precision import FLOAT32, FLOAT64, Floats, Precision
from gradcheck_cli.numeric.ruler import FIFTH_DERIVATIVE_MAX
from gradcheck_cli.numeric.softmax import DEEPEST, Planes
from gradcheck_cli.records import dataclass

_DEEP = 104.0  # deeper entries are 0 in float32


@dataclass(frozen=True, eq=False)
class Slack:
    """The row's numbers in an allowance of the form above, at v: (n,) arrays."""

    relative: Floats
    steep: float | Floats
    fixed: Floats
    depth: float | Floats
    floor: Floats

    def __add__(self, other: Slack) -> Slack:
        """Return the allowance for both causes together."""
        return Slack(
            self.relative + other.relative,
            self.steep + other.steep,
            self.fixed + other.fixed,
            self.depth + other.depth,
            self.floor + other.floor,
        )

    def stored(self, grid: Precision) -> Slack:
        """Return the allowance after rounding to a grid, of a gradient with temperature 1."""
        more = 1.0 + grid.unit
        return Slack(
            self.relative * more + grid.unit,
            self.steep * more,
            self.fixed * more,
            self.depth * more,
            self.floor * more + grid.smallest_subnormal / 2.0,
        )

    def rounded(self, relative: float, absolute: float) -> Slack:
        """Return the allowance after printing in decimal."""
        return replace(self, relative=self.relative + relative, floor=self.floor + absolute)

    def over(self, temperature: float) -> Slack:
        """Return the allowance of the gradient at z = T v; |g| is already that of z."""
        return replace(
            self,
            fixed=self.fixed / temperature,
            depth=self.depth / temperature,
            floor=self.floor / temperature,
        )

    def part(self, rows: slice) -> Slack:
        """Return some of the rows."""
        each = (value[rows] if isinstance(value, np.ndarray) else value for value in vars(self).values())
        return Slack(*each)

    def spread(self, planes: Planes, g: Floats, out: Floats, work: Floats) -> Floats:
        """Write every entry's allowance to `out`: (n, K), given the true gradient g."""
        np.maximum(planes.d, -DEPTH_OF_ZERO, out=work)
        np.multiply(work, -_column(self.depth), out=out)
        out += _column(self.fixed)
        out *= planes.a
        work *= -_column(self.steep)
        work += _column(self.relative)
        work *= np.abs(g)
        out += work
        out += _column(self.floor)
        return out


def _column(x: float | Floats) -> float | Floats:
    return x[:, None] if isinstance(x, np.ndarray) else x


@dataclass(frozen=True, eq=False)
class _Inner:
    """What an inner product costs: its sum of sizes, of sizes times depth, its own size: (n,)."""

    size: Floats
    deep: Floats
    value: Floats


def gradient_error(at: LayerPoint, u: Precision, sigma: float) -> Slack:
    """Return the allowance of an exporter that computes in u, with a constant of summation."""
    by = at.by
    return _computed(at, u, sigma, _Inner(by.size, by.deep, np.abs(by.inner + by.shift)))


def reference_error(at: LayerPoint) -> Slack:
    """Return the allowance of softgrad's own float64 gradient: from t', which is rounded once itself."""
    by = at.by
    sigma = pairwise(at.sums.classes)
    return _computed(at, FLOAT64, sigma, _Inner(2.0 * by.moved, 2.0 * by.moved_deep, 2.0 * np.abs(by.inner)))


def _computed(at: LayerPoint, u: Precision, sigma: float, s: _Inner) -> Slack:
    p = probability_error(at.sums, at.link, u, sigma)
    tiny = 2.0 * u.smallest_normal
    whole = at.sums.classes * at.by.largest
    if at.log:
        total = np.abs(at.by.inner)
        delta = u.unit * (sigma + 3.0) * s.size
        return Slack(
            relative=np.full(len(total), 8.0 * u.unit),
            steep=0.0,
            fixed=total * p.fixed + delta * (1.0 + p.fixed) + 8.0 * u.unit * total,
            depth=(total + delta) * p.depth,
            floor=tiny * (total + delta + 1.0) + tiny,
        )
    delta = 1.001 * (s.size * (p.fixed + (sigma + 3.0) * u.unit) + p.depth * s.deep) + tiny * (whole + 1.0)
    return Slack(
        relative=p.fixed + 8.0 * u.unit,
        steep=p.depth,
        fixed=delta * (1.0 + p.fixed) + 8.0 * u.unit * s.value,
        depth=delta * p.depth,
        floor=tiny * (2.0 * at.by.largest + delta) + tiny,
    )


def fused_lse_error(at: LayerPoint, u: Precision, largest: Floats) -> Slack:
    """Return what a_k = exp(v_k - lse) with a rounded lse costs: 2u |lse| of each probability.

    As far as it costs at most a thousandth of the row's largest gradient (`largest`, at v): flash attention's
    backward computes its probabilities so.
    """
    whole = np.abs(at.by.inner) if at.log else at.by.size
    likeliest = 1.0 / at.sums.total
    cost = np.expm1(np.minimum(2.0 * u.unit * np.abs(at.sums.lse), 1.0))
    most = (0.0 if at.log else largest) + likeliest * whole
    rho = np.minimum(cost, FUSED_LSE_CAP * largest / np.maximum(most, 1e-300))
    nothing = np.zeros_like(rho)
    return Slack(nothing if at.log else rho, 0.0, rho * whole, 0.0, nothing)


def rounded_logits_error(at: LayerPoint, grid: Precision) -> Slack:
    """Return what it may cost that the logits were rounded after the exporter had worked on them.

    Each probability changes by the factor expm1(r_j) at most, r_j from `accuracy`, rounded_exponent.
    """
    exponent, depth = rounded_exponent(at.sums, at.link, grid)
    widest = np.minimum(1.001 * (exponent + depth * _DEEP), ANYTHING)
    kappa = 1.001 * np.expm1(widest) / widest
    fixed, steep = np.minimum(kappa * exponent, 1e200), np.minimum(kappa * depth, 1e200)
    nothing = np.zeros_like(fixed)
    if at.log:
        whole = np.abs(at.by.inner)
        return Slack(nothing, 0.0, whole * fixed, whole * steep, nothing)
    delta = at.by.size * fixed + at.by.deep * steep
    return Slack(fixed, steep, delta * (1.0 + fixed), delta * steep, nothing)


def saved_error(at: LayerPoint, grid: Precision) -> Slack:
    """Return what it costs that the layer's own output was stored in a 16-bit grid and read back.

    The backward of a layer works from its output: a_k (1 + u), or exp of a log a_k (1 + u), which is
    a_k expm1(u |log a_k|) off.
    """
    u, by = grid.unit, at.by
    nothing = np.zeros(len(by.inner))
    if at.log:
        total = np.abs(by.inner)
        widest = u * (_DEEP + math.log(at.sums.classes))
        kappa = math.expm1(widest) / widest
        fixed = kappa * u * at.sums.log_total
        return Slack(nothing, 0.0, total * fixed, total * kappa * u, nothing)
    lost = grid.smallest_subnormal * (at.sums.classes * by.largest + 2.0 * by.largest)
    return Slack(nothing + u, 0.0, by.size * u * (1.0 + u), 0.0, lost)


def native_error(
    at: LayerPoint, planes: Planes, half: Precision, g: Floats, room: tuple[Floats, Floats]
) -> Floats:
    """Return what 16-bit arithmetic throughout may cost, capped at a sixth of the row's largest |g|: (n, K).

    r^h of `half` for each probability; products, s, differences and results rounded to the half format,
    sums in float32.
    """
    fixed, depth = halves.native_exponent(at.sums, at.link, half)
    u, by = half.unit, at.by
    kappa = np.expm1(np.minimum(1.001 * (fixed + depth * _DEEP), ANYTHING)) / (fixed + depth * _DEEP)
    rho, steep = kappa * fixed, kappa * depth
    adding = FLOAT32.unit * any_order(at.sums.classes)
    least = half.smallest_subnormal
    if at.log:
        whole = np.abs(by.inner)
        delta = (4.0 * u + adding) * by.size
        slack = Slack(
            np.full(len(whole), 8.0 * u), 0.0, whole * rho + delta * (1.0 + rho) + 8.0 * u * whole,
            (whole + delta) * steep, least * (whole + 2.0),
        )  # fmt: skip
    else:
        delta = by.size * (rho + 4.0 * u + adding) + steep * by.deep
        delta = delta + least * at.sums.classes * (1.0 + by.largest)
        inner = np.abs(by.inner + by.shift)
        slack = Slack(
            rho + 8.0 * u, steep, delta * (1.0 + rho) + 8.0 * u * inner, delta * steep,
            least * (2.0 + 2.0 * by.largest),
        )  # fmt: skip
    out, work = room
    slack.over(at.link.temperature).spread(planes, g, out, work)
    largest = np.abs(g).max(axis=1)
    np.minimum(out, halves.NATIVE_CAP * largest[:, None], out=out)
    return out


def difference_error(at: LayerPoint, truncation: float, rounding: float) -> Slack:
    """Return the allowance of a difference against the analytic gradient, both from the same a and t'.

    Truncation in units of |g_j|, or for the log of |sum t| a_j; 16u of either and of the change; and two
    float64 sums of t' a, each off by u (sigma + 3) sum |t'_k| a_k.
    """
    u, by = FLOAT64.unit, at.by
    each = 16.0 * u * rounding
    nothing = np.zeros(len(by.inner))
    floor = nothing + 2.0**-1000 * (1.0 + by.largest)
    if at.log:
        whole = np.abs(by.inner)
        own = u * (pairwise(at.sums.classes) + 3.0) * by.size
        return Slack(nothing + 2.0 * each, 0.0, (truncation + 2.0 * each) * whole + 2.0 * own, 0.0, floor)
    sums = 2.0 * u * (pairwise(at.sums.classes) + 3.0) * by.moved
    return Slack(nothing + truncation + 2.0 * each, 0.0, sums, 0.0, floor)


def direction_error(at: LayerPoint, truncation: float) -> Floats:
    """Return the allowance of a central difference along a direction, at v: (n,).

    f changes by |sum (t_k - f) a_k E_k| / |1 + sum a_k E_k| <= 2 sum |t'_k| a_k times 3.53 times 1.86 of the
    step at most (see `stencil`, whose truncation is given), the log by 2 sum |t_k| likewise; sums of K terms
    in any order, (64 + 6K) u.
    """
    size = 2.0 * (at.by.size if at.log else at.by.moved)
    rounding = (64.0 + 6.0 * at.sums.classes) * FLOAT64.unit
    whole: Floats = (7.0 * truncation + rounding) * size + 2.0**-900 * (1.0 + at.by.largest)
    return whole


def audit_error(d: Floats, t: Floats, gradient: float, column: int, *, log: bool) -> float:
    """Return the allowance of the five-point brute-force difference of one entry, at v: d, t (K,).

    h^4/30 times the fifth derivative, which is at most |g_j| e^2h, or FIFTH_DERIVATIVE_MAX |sum t|; 1.5 E/h
    for the rounding E of a whole row's f; and the step's own rounding u (D_j + h)/h times the gradient.

    E of <t, w>/S: each w_k has the relative error u (D_k + c_e), the two sums sigma u each, and the mean
    depth is at most log K. E of sum t_k (d_k - log S): u (2 D_k + 7 log K + 8 + sigma) in each term, and
    sigma u of the sum of sizes.
    """
    u, h, sigma = FLOAT64.unit, AUDIT_STEP, pairwise(len(d))
    log_k = math.log(len(d))
    largest = np.abs(t)
    if log:
        depth = np.where(largest > 0, np.minimum(-d, -DEEPEST), 0.0) + log_k
        size = float(((sigma + 5.0) * largest * depth + largest * (sigma + 10.0 + 7.0 * log_k)).sum())
        fifth = FIFTH_DERIVATIVE_MAX * float(largest.sum())
    else:
        size = float(largest.max()) * (3.0 * log_k + 2.0 * sigma + 16.0)
        fifth = abs(gradient) * math.exp(2.0 * h)
    moved = -float(d[column]) + 2.0 * h
    truncation = h**4 / 30.0 * fifth
    return truncation + 1.5 * u * size / h + 2.0 * abs(gradient) * u * moved / h + 8.0 * u * abs(gradient)

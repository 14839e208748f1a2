"""What error is allowed, entry by entry: proven bounds, each a sum of named terms.

Sources: Blanchard, Higham & Higham, "Accurately computing the log-sum-exp and softmax functions",
IMA J. Numer. Anal. 41(4), 2021, whose shifted-softmax bound n + 2 + 2 (x_max - x_min) is taken here
a posteriori: with the depth D_j of the entry itself and the mean depth sum_k p_k D_k <= log K (the
entropy bound) in place of x_max - x_min. Worked through for a computation in unit roundoff u:

    d_j = fl(v_j - m)         relative error u, so exp(d_j) has the relative error u D_j + c_e u
    S   = fl(sum exp(d_k))    relative error u (sum_k p_k D_k + c_e + sigma) <= u (log K + c_e + sigma)
    p_j = fl(exp(d_j) / S)    one more u;
    or exp(d_j - log S)       c_l log S for the logarithm, |d_j - log S| = D_j + log S for the difference

so r_j = u (2 D_j + log K + 2 c_e + sigma + (c_l + 1) log S + 3) covers both ways of computing p_j,
and |fl(p_j) - p_j| <= p_j expm1(1.001 r_j). sigma is the constant of summation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.numeric.cross_entropy import Loss, Point, Scale, Targets
from gradcheck_cli.numeric.difference import AUDIT_STEP, STEP, unit_of
from gradcheck_cli.numeric.precision import FLOAT32, FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import FEW_CLASSES, Indices, Link, Planes, Sums

FIFTH_DERIVATIVE_MAX = 0.1276839220
"""sup |f^(5)| of t -> log(A + B e^t): q'(1 - 2p)(1 - 12 q') with q' = p(1 - p), at p = 0.30098."""

VAGUE = 1.0 / 6.0
"""Share of an entry that arithmetic may cost, from which on nothing can be said of its row: less than
three bits of it are sure."""

FUSED_LSE_CAP = 1e-3
"""Largest share of a row's largest gradient that a rounded logsumexp may cost."""

_ANYTHING = 700.0
"""Exponent from which on an error is as large as the numbers: expm1 of it is about 1e304."""

_DEPTH_OF_ZERO = 800.0
"""Depth beyond which a probability is 0 in float64, and with it whatever is multiplied by the depth."""

NATIVE_CAP = 1.0 / 6.0
"""Largest share of a row's largest gradient that 16-bit arithmetic may cost. Right half-precision
exports of the frameworks lose at most 13 %; the known read-modify-write bugs lose 18 % and more."""

_EXP_ULP = {FLOAT64: 4.0, FLOAT32: 8.0}  # c_e = c_l in u: 2 ulp for float64, 4 ulp for float32 libraries
_DEEPEST_RELEVANT = {FLOAT64: 745.2, FLOAT32: 104.0}  # exp(-D) is 0 beyond


_DIFFERENCE_ROUNDING = 16.0 * FLOAT64.unit
"""12u of the difference (:func:`difference_error`) and 3u of the analytic side, and one to spare."""


def any_order(classes: int) -> float:
    """Return sigma for summation in any order: K - 1."""
    return float(max(classes - 1, 0))


def pairwise(classes: int) -> float:
    """Return sigma for our own sums: numpy's pairwise over a contiguous row, 8 lanes up to 128, then halves.

    Rows of few classes lie column by column and are summed in order. The pivot's term is taken out and
    added again: two roundings more.
    """
    if classes <= FEW_CLASSES:
        return any_order(classes) + 2.0
    return min(any_order(classes), 20.0 + math.ceil(math.log2(max(classes, 128) / 128))) + 2.0


@dataclass(frozen=True, eq=False)
class Allowance:
    """What each entry may be off by, slope_j a_j (fixed + depth D_j) + target q_j + relative |g_j| + floor.

    Under a softcap also bent ((|s| Q + |zeta|) a_j + |s| q_j), the error of 1 - tanh^2.

    Each entry's own; nothing in it grows with the number of entries. (n,) arrays unless said.
    """

    fixed: Floats
    depth: float | Floats
    target: float | Floats
    floor: float | Floats
    relative: float = 0.0
    bent: float = 0.0  # absolute in the slope

    def __add__(self, other: Allowance) -> Allowance:
        """Return the allowance for both causes together."""
        return Allowance(
            self.fixed + other.fixed,
            self.depth + other.depth,
            self.target + other.target,
            self.floor + other.floor,
            self.relative + other.relative,
            self.bent + other.bent,
        )

    def stored(self, grid: Precision) -> Allowance:
        """Return the allowance after rounding to `grid`: |fl(g) - g| <= u |g| + eta/2 (g as computed)."""
        more = 1.0 + grid.unit
        return Allowance(
            self.fixed * more,
            self.depth * more,
            self.target * more,
            self.floor * more + grid.smallest_subnormal / 2.0,
            self.relative * more + grid.unit,
            self.bent * more,
        )

    def rounded(self, relative: float, absolute: float) -> Allowance:
        """Return the allowance after printing in decimal: half a unit of the last digit shown."""
        return replace(self, relative=self.relative + relative, floor=self.floor + absolute)

    def at_pivot(self, at: Point, slope: Floats | float, g: Floats | float) -> Floats:
        """Return the pivot column's allowance: (n,), given the slope and the gradient there."""
        p, q = at.sums.own_a, at.q
        affine = slope * p * (self.fixed - self.depth * np.maximum(at.sums.own_d, -_DEPTH_OF_ZERO))
        bent = self.bent * (at.magnitude * p + np.abs(at.by.s) * q.at_pivot)
        total: Floats = affine + bent + self.target * q.at_pivot + self.relative * np.abs(g) + self.floor
        return total

    def spread(self, at: Point, planes: Planes, g: Floats, out: Floats, work: Floats) -> Floats:
        """Write every entry's allowance to `out`: (n, K), given the true gradient g."""
        self.outside_pivot(at, planes, g, out, work)
        slope = 1.0 if planes.slope is None else planes.at_pivot(planes.slope)
        planes.put_pivot(out, self.at_pivot(at, slope, planes.at_pivot(g)))
        return out

    def outside_pivot(self, at: Point, planes: Planes, g: Floats, out: Floats, work: Floats) -> Floats:
        """Write the allowance of entries to `out`, none of them treated as the pivot's: (n, K)."""
        if isinstance(self.depth, float) and self.depth == 0.0:
            np.multiply(planes.a, _column(self.fixed), out=out)
        else:
            np.maximum(planes.d, -_DEPTH_OF_ZERO, out=out)
            out *= -_column(self.depth)
            out += _column(self.fixed)
            out *= planes.a
        if planes.slope is not None:
            out *= planes.slope
            np.multiply(planes.a, _column(self.bent * at.magnitude), out=work)
            out += work
        if not at.q.sparse:
            np.multiply(at.q.plane(), _column(self.target + self.bent * np.abs(at.by.s)), out=work)
            out += work
        if self.relative:
            np.abs(g, out=work)
            work *= self.relative
            out += work
        out += _column(self.floor)
        return out

    def part(self, rows: slice | Indices) -> Allowance:
        """Return the allowance of some of the rows."""

        def of(value: float | Floats) -> float | Floats:
            return value[rows] if isinstance(value, np.ndarray) else value

        return Allowance(
            self.fixed[rows],
            of(self.depth),
            of(self.target),
            of(self.floor),
            self.relative,
            self.bent,
        )


def _column(x: float | Floats) -> float | Floats:
    """Return per-row numbers as a column that broadcasts over the classes."""
    return x[:, None] if isinstance(x, np.ndarray) else x


def _link_error(sums: Sums, link: Link) -> tuple[float | Floats, float]:
    """Return what the link adds to r_j, in units of u: a fixed part and one per depth.

    z/T before the shift costs u |v_j| in each term and u |v| on average, |v_j| <= |m| + D_j and the mean
    depth <= log K; T itself, or 1/T, rounded to u costs as much again. Softcap: tanh (4 ulp, 8u), its
    argument, c, T and the two products cost 13u |v| each way at the most, |v| <= reach.
    """
    if link.softcap is not None:
        return 26.0 * sums.reach, 0.0
    if link.temperature != 1.0:
        return 4.0 * np.abs(sums.top) + 2.0 * math.log(sums.classes), 2.0
    return 0.0, 0.0


def _amplification(r_largest: float | Floats) -> Floats:
    """Return kappa with expm1(1.001 r) <= kappa r for 0 < r <= r_largest (expm1(r)/r increases)."""
    widest = np.minimum(1.001 * np.asarray(r_largest), _ANYTHING)
    kappa: Floats = 1.001 * np.expm1(widest) / widest
    return kappa


def probability_error(sums: Sums, link: Link, u: Precision, sigma: float) -> Allowance:
    """Return the allowance of p_j computed in precision u with summation constant sigma.

    p_j expm1(1.001 r_j) + 2 eta_n (1 + K p_j), r_j as in the module's head plus the link's share, and
    eta_n the smallest normal number: exponentials below it may be flushed to zero.
    """
    c = _EXP_ULP[u]
    log_k = math.log(sums.classes)
    link_fixed, link_depth = _link_error(sums, link)
    fixed = log_k + 2 * c + sigma + (c + 1) * sums.log_total + 3.0 + link_fixed
    depth = 2.0 + link_depth
    widest = 3.0 + 2 * c + sigma + (c + 2) * log_k + depth * _DEEPEST_RELEVANT[u] + link_fixed
    kappa = _amplification(u.unit * widest)
    tiny = 2.0 * u.smallest_normal
    return Allowance(
        fixed=np.minimum(u.unit * kappa * fixed + tiny * sums.classes, 1e200),
        depth=np.minimum(u.unit * kappa * depth, 1e200),
        target=0.0,
        floor=tiny,
    )


def _lse_error(sums: Sums, link: Link, u: Precision, sigma: float) -> Floats:
    """Return |fl(lse) - lse| <= u (c_l log S + log K + c_e + sigma + |m| + |lse| + link): (n,)."""
    c = _EXP_ULP[u]
    link_fixed, _ = _link_error(sums, link)
    inner = c * sums.log_total + math.log(sums.classes) + c + sigma
    total: Floats = u.unit * (inner + np.abs(sums.top) + np.abs(sums.lse) + link_fixed)
    return total


def gradient_error(at: Point, u: Precision, sigma: float) -> Allowance:
    """Return the allowance of (s Q + zeta) a - s q computed in u from the exact logits.

    |A| p_j expm1(1.001 r_j), A = |s| Q + |zeta|; 4u (|s| (Q p_j + q_j) + |zeta| p_j) for p - q, the
    product with Q, the targets' own rounding (1 - e, e/K, w_y) and the sum, and where 1 - e cancels
    u e / (1 - e) of q more, twice; z-loss as in
    :func:`_square_error`; 6u |g_j| for upstream, divisor and storage in u, and the error of a divisor that
    is itself a sum. A softcap adds 16u |g_j| and, for a slope computed as 1 - tanh^2,
    12u ((|s| Q + |zeta|) p_j + |s| q_j) / T; the slope is at most 1/T.
    """
    link = at.loss.link
    p = probability_error(at.sums, link, u, sigma)
    lse = _square_error(at, u, sigma) if at.loss.z_loss else 0.0
    capped = link.softcap is not None
    steepest = 1.0 / link.temperature if capped else 1.0  # without a softcap it is in s already
    smoothed = at.loss.smoothing
    magnitude = at.magnitude
    return Allowance(
        fixed=magnitude * (p.fixed + 4.0 * u.unit) + lse,
        depth=magnitude * p.depth,
        target=(4.0 + 2.0 * smoothed / (1.0 - smoothed)) * u.unit * np.abs(at.by.s) * steepest,
        floor=magnitude * p.floor * steepest + 2.0 * u.smallest_normal,
        relative=((22.0 if capped else 6.0) + at.loss.divisor_terms) * u.unit,
        bent=12.0 * u.unit * steepest if capped else 0.0,
    )


def _square_error(at: Point, u: Precision, sigma: float) -> Floats:
    """Return what z-loss adds for each p_j: (n,).

    2 lambda times the error of lse; and zeta p_j is often zeta exp(v_j - lse) with a rounded lse, the
    backward of logsumexp: |zeta| expm1(u (2 |lse| + 8)).
    """
    lse = np.abs(at.sums.lse)
    fused = np.abs(at.by.zeta) * np.expm1(np.minimum(u.unit * (2.0 * lse + 8.0), _ANYTHING))
    total: Floats = np.abs(at.by.z) * _lse_error(at.sums, at.loss.link, u, sigma) + fused
    return total


def fused_lse_error(at: Point, u: Precision) -> Floats:
    """Return what exp(v_j - lse) with a rounded lse costs each p_j, for the gradient: (n,).

    |A| expm1(2u |lse|) (lse rounded, and m + log S), as far as it costs at most a thousandth of the row's
    largest gradient: a kernel that loses more should subtract the maximum and log S one after the other.
    The largest gradient is at least that of the pivot, or of the likeliest class where that is another.
    """
    sums, magnitude = at.sums, at.magnitude
    likeliest = 1.0 / sums.total
    others = np.where(sums.own_d < 0.0, np.abs(at.coefficient) * likeliest, 0.0)
    largest = np.maximum(np.abs(at.own_gradient), others)
    cost = magnitude * np.expm1(np.minimum(2.0 * u.unit * np.abs(sums.lse), 1.0))
    return np.minimum(cost, FUSED_LSE_CAP * largest / likeliest)


def reference_error(at: Point) -> Allowance:
    """Return the allowance of softgrad's own float64 gradient.

    The same bound with u = 2^-53, c_e = c_l = 4 and our own sigma. The slope of a softcap is computed as
    4e/(1 + e)^2, e = exp(-2|z/c|), relative error u (12 + 4 |z/c|), and 0 where |z/c| > 373.
    """
    whole = gradient_error(at, FLOAT64, pairwise(at.sums.classes))
    if at.loss.link.softcap is None:
        return whole
    return replace(whole, relative=whole.relative + (12.0 + 4.0 * 373.0) * FLOAT64.unit)


def difference_error(at: Point) -> Allowance:
    """Return the allowance of central difference against analytic gradient, both from the same a.

    Truncation h^2/6 sup|f'''|, |f'''| = p (1-p) |1-2p| <= p e^h within the step; z-loss has
    (lse^2)''' <= 2 p (3 + |lse| + h). Rounding: expm1, the argument of log1p, log1p and the products
    cost 12u relative, the analytic side 3u; nothing is divided by h, because expm1(h) carries no
    cancellation. Under a softcap (unit steps H, slope k <= 1/T) the chain rule gives, per slope,
    (Q p + q) 4/c^2 + Q p (6/(cT) + 1/T^2).
    """
    link, s = at.loss.link, np.abs(at.by.s)
    h = STEP * unit_of(link) if link.softcap is not None else STEP
    second = h * h / 6.0 * math.exp(4.0 * STEP)
    rounding = _DIFFERENCE_ROUNDING
    target: float | Floats = rounding * s
    first, cross, cube = 1.0, 0.0, 0.0
    if link.softcap is not None:
        c, t = link.softcap, link.temperature
        first, cross, cube = 1.0 / t**2, 6.0 / (c * t), 4.0 / c**2
        rounding *= 4.0
        target = s * (second * cube + rounding) / t  # the slope is at most 1/T
    truncation = second * s * at.q.mass * (first + cross + cube)
    if at.loss.z_loss:
        depth = np.abs(at.sums.lse) + STEP
        square = (3.0 + depth) * first + (1.0 + depth) * cross + depth * cube
        truncation = truncation + second * np.abs(at.by.z) * square
    magnitude = at.magnitude
    return Allowance(
        fixed=truncation + rounding * magnitude,
        depth=0.0,
        target=target,
        floor=2.0**-1000 * (1.0 + magnitude),
    )


def difference_at_pivot(at: Point, whole: Allowance, slope: Floats | float) -> Floats:
    """Return the difference's allowance in the pivot column, relative to 1 - a there: (n,).

    p (1-p) <= 1 - p, and neither side subtracts p from 1, so a saturated label is held to its own
    size and not to the row's (a first draft that used a cancelled 1 - p was off by 2e5).
    """
    direct = whole.at_pivot(at, slope, 0.0)
    if at.loss.link.softcap is not None:
        return direct
    second = STEP * STEP / 6.0 * math.exp(4.0 * STEP)
    q, rounding = at.q, _DIFFERENCE_ROUNDING
    total: Floats = np.abs(at.by.s) * ((second + rounding) * q.mass * at.sums.others + rounding * q.others)
    if at.loss.z_loss:
        square = np.abs(at.by.z) * (3.0 + np.abs(at.sums.lse) + STEP) * second
        total = total + (square + rounding * np.abs(at.by.zeta)) * at.sums.own_a
    return np.where(at.sums.confident, total + whole.floor, direct)


def audit_error(z: Floats, q: Floats, loss: Loss, gradient: float, column: int) -> float:
    """Return the allowance of the five-point brute-force difference of one entry of a row's gradient.

    h^4/30 sup|f^(5)| + 1.5 E/h (weights 8, 8, 1, 1 over 12), E the rounding of a whole-row loss, and the
    step's own rounding u |z_j| / h times the gradient. A softcap or z-loss multiplies the fifth
    derivative; their factors are bounded by the worst case of the Bell polynomial, 64 (1 + |lse|).
    """
    u = FLOAT64.unit
    link = loss.link
    h = AUDIT_STEP * unit_of(link)
    v = link.apply(z)
    finite = v[np.isfinite(v)]
    m = float(finite.max())
    mass = float(q.sum())
    log_k = math.log(len(z))
    invariant = link.softcap is None and loss.z_loss == 0.0
    base = 0.0 if invariant else float(np.abs(finite).max())
    depth = float(np.where(q > 0, q * np.where(np.isfinite(v), m - v, 0.0), 0.0).sum())
    lse = abs(m) + log_k
    sigma = pairwise(len(z))
    size = mass * (7.0 * log_k + 8.0 + sigma) + (sigma + 4.0) * depth + 16.0 * base * mass
    size += loss.z_loss * (lse * lse + 2 * lse * (sigma + 16.0 + base)) if loss.z_loss else 0.0
    fifth = FIFTH_DERIVATIVE_MAX * mass if invariant else 64.0 * (mass + loss.z_loss * (1.0 + lse))
    truncation = AUDIT_STEP**4 / 30.0 * fifth / unit_of(link) * math.exp(4 * AUDIT_STEP)
    moved = abs(float(z[column] - (z.max() if invariant else 0.0))) + h
    return truncation + 1.5 * u * size / h + 2.0 * abs(gradient) * u * moved / h + 8.0 * u * abs(gradient)


def _native_exponent(sums: Sums, link: Link, half: Precision) -> tuple[Floats, float]:
    """Return r^h of native half arithmetic, every elementwise operation rounded to the half format.

    r^h_j = u_h (D_j + log K - log p_j + log S + 6 + link) + the float32 sums: fixed part, per depth.
    """
    c = _EXP_ULP[FLOAT32]
    link_fixed, link_depth = _link_error(sums, link)
    adding = FLOAT32.unit * (any_order(sums.classes) + 2 * c + c * sums.log_total + 4.0)
    fixed = half.unit * (math.log(sums.classes) + 2.0 * sums.log_total + 6.0 + link_fixed) + adding
    return fixed, half.unit * (2.0 + link_depth)


def native_error(
    at: Point, planes: Planes, half: Precision, g: Floats, room: tuple[Floats, Floats]
) -> Floats:
    """Return what native half arithmetic may cost, capped at a sixth of the row's largest |g|: (n, K).

    A p_j expm1(r^h_j) + 2 u_h (|s| (Q p_j + q_j) + |zeta| p_j) + 4 u_h |g_j| + a subnormal of the result
    and of what is scaled; a softcap (1 - tanh^2 in u_h) 4 u_h (A p_j + |s| q_j) / T and 16 u_h |g_j|; for
    z-loss
    |zeta| p_j expm1(u_h (2 |lse| + 8)) for a rounded lse; for dense targets, each s q_k rounded to
    within half a subnormal in the same direction and summed by log-softmax's backward,
    eta (p_j (K + sum of max(1, w_k)) + 4). The first plane of the room is returned.
    """
    out, work = room
    u, s, magnitude = half.unit, np.abs(at.by.s), at.magnitude
    fixed, depth = _native_exponent(at.sums, at.loss.link, half)
    np.multiply(planes.d, -depth, out=out)
    out += _column(fixed)
    np.minimum(out, _ANYTHING, out=out)
    np.expm1(out, out=out)
    out += 2.0 * u
    out *= planes.a
    out *= _column(magnitude)
    np.multiply(planes.a, _column(_native_sums(at, half)), out=work)
    out += work
    target, relative = 2.0 * u * s, 4.0 * u
    if planes.slope is not None:
        out *= planes.slope
        steepest = 1.0 / at.loss.link.temperature
        np.multiply(planes.a, _column(4.0 * u * magnitude * steepest), out=work)
        out += work
        target, relative = 6.0 * u * s * steepest, 20.0 * u
    if not at.q.sparse:
        np.multiply(at.q.plane(), _column(target), out=work)
        out += work
    peak = at.q.at_pivot if at.q.sparse else at.q.peak
    planes.put_pivot(out, planes.at_pivot(out) + target * peak)
    np.abs(g, out=work)
    largest = work.max(axis=1)
    work *= relative
    out += work
    out += half.smallest_subnormal * ((1.0 if at.q.sparse else 5.0) + _column(magnitude))
    np.minimum(out, NATIVE_CAP * largest[:, None], out=out)
    return out


def _native_sums(at: Point, half: Precision) -> Floats:
    """Return what native half arithmetic adds for each p_j beside the exponent's error: (n,)."""
    extra = np.zeros(len(at.sums.top))
    if at.loss.z_loss:
        exponent = np.minimum(half.unit * (2.0 * np.abs(at.sums.lse) + 8.0), _ANYTHING)
        extra += np.abs(at.by.zeta) * np.expm1(exponent)
    if not at.q.sparse:
        weights = at.loss.class_weights
        heaviest = at.sums.classes if weights is None else float(np.maximum(weights, 1.0).sum())
        extra += half.smallest_subnormal * (at.sums.classes + heaviest)
    return extra


def bare(sums: Sums, link: Link) -> Point:
    """Return the softmax alone, as a point whose gradient is a itself: no targets, mass 1.

    Its planes have no slope: what the link does to v is in the error of the exponent.
    """
    nothing = np.zeros(len(sums.top))
    one = nothing + 1.0
    q = Targets(nothing, one, one, nothing)
    return Point.of(Loss(link), sums, q, Scale(one, nothing, nothing))


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic that may explain an export: precision u, sums in any order, or native half."""

    compute: Precision
    native: Precision | None = None


REFERENCE = Arithmetic(FLOAT64)


def _log_error(sums: Sums, link: Link, by: Arithmetic) -> tuple[Floats, float]:
    """Return the error of log p_j in an arithmetic, fixed part and per depth: r_j of the module's head.

    2u |m| more for lse formed as m + log S before it is subtracted; native half adds its own r^h.
    """
    u, half = by.compute, by.native
    c = _EXP_ULP[u]
    link_fixed, link_depth = _link_error(sums, link)
    fixed = math.log(sums.classes) + 2 * c + any_order(sums.classes) + (c + 1) * sums.log_total + 3.0
    fixed = u.unit * (fixed + link_fixed + 2.0 * np.abs(sums.top))
    depth = u.unit * (2.0 + link_depth)
    if half is not None:
        native_fixed, native_depth = _native_exponent(sums, link, half)
        fixed, depth = fixed + native_fixed, depth + native_depth
    return fixed, depth


def log_probability_error(sums: Sums, d: Floats, link: Link, by: Arithmetic, out: Floats) -> Floats:
    """Write the allowance of log p_j, absolute: 1.001 r_j of the arithmetic and of float64: (n, K).

    A kernel that takes the logarithm of a rounded p near 1 loses log p to u absolute, inside 3u; one
    that flushes p < 2^-126 to 0 and takes its logarithm has -inf, and fails: log p is representable.
    """
    fixed, depth = _log_error(sums, link, by)
    own_fixed, own_depth = _log_error(sums, link, REFERENCE)
    np.multiply(d, -1.001 * (depth + own_depth), out=out)
    out += _column(1.001 * (fixed + own_fixed))
    return out


def gradient_at_probabilities_error(
    at: Point, planes: Planes, by: Arithmetic, sides: tuple[Floats, Floats], out: Floats
) -> Floats:
    """Write the allowance of -s q_k / a_k, the sides being what was got and what is right: (n, K).

    |.| expm1(1.001 (r_k + r_k of float64) + 6u). A probability below the smallest number eta that surely
    is not flushed to zero (float16 has gradual underflow, which costs eta/2 of it; the others may flush
    what is subnormal) bounds the quotient from below only: anything of the right sign and at
    least |s| q / (p + 4 eta), an infinity included, is right.
    """
    got, expected = sides
    u, half = by.compute, by.native
    fixed, depth = _log_error(at.sums, at.loss.link, by)
    own_fixed, own_depth = _log_error(at.sums, at.loss.link, REFERENCE)
    np.multiply(planes.d, -1.001 * (depth + own_depth), out=out)
    out += _column(1.001 * (fixed + own_fixed) + 6.0 * u.unit + (0.0 if half is None else 6.0 * half.unit))
    eta = u.smallest_normal
    if half is not None and half.smallest_normal > eta:
        eta = half.smallest_subnormal
        out += eta / np.maximum(planes.a, eta)
    np.minimum(out, _ANYTHING, out=out)
    np.expm1(out, out=out)
    size = np.abs(expected)
    out *= np.minimum(size, 1e300)
    lowest = 0.9 * size * (planes.a / (planes.a + 4.0 * eta))
    flushed = (
        (planes.a < 4.0 * eta) & (size > 0) & (np.abs(got) >= lowest) & (np.sign(got) == np.sign(expected))
    )
    out[flushed] = np.inf
    return out


def loss_error(at: Point, plain: Floats, by: Arithmetic) -> Floats:
    """Return the allowance of each row's loss, `plain` being its cross-entropy part: (n,).

    Q times the error of lse (|m| included: lse - z_y is a common way), 4u l for differences and
    products, and the K-term sum of dense targets in any order, sum q_k v_k included; z-loss adds
    lambda (2 |lse| + error) error + 3 u lambda lse^2. Native half: lse off by
    u_h (4 log S + log K + 8 + 2 |m| + 2 |lse| + link), and the same products in u_h.
    """
    u, half, sums, q = by.compute, by.native, at.sums, at.q
    link, z_loss = at.loss.link, at.loss.z_loss
    sigma = any_order(sums.classes)
    lse = _lse_error(sums, link, u, sigma)
    dense = 0.0 if q.sparse else sigma
    _, link_depth = _link_error(sums, link)
    offset = u.unit * (1.0 + dense) * np.abs(sums.top)
    total: Floats = q.mass * (lse + offset) + u.unit * (4.0 + dense + link_depth) * plain
    square = np.square(sums.lse)
    if z_loss:
        total = total + z_loss * ((2.0 * np.abs(sums.lse) + lse) * lse + 3.0 * u.unit * square)
    if half is not None:
        link_fixed, _ = _link_error(sums, link)
        inner = 4.0 * sums.log_total + math.log(sums.classes) + 8.0 + link_fixed
        native = half.unit * (inner + 2.0 * np.abs(sums.top) + 2.0 * np.abs(sums.lse))
        total = total + q.mass * native + 6.0 * half.unit * plain
        total = total + z_loss * ((2.0 * np.abs(sums.lse) + native) * native + 8.0 * half.unit * square)
    return total

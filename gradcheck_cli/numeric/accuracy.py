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

from gradcheck_cli.numeric.cross_entropy import Loss, Scale, Targets
from gradcheck_cli.numeric.difference import AUDIT_STEP, STEP, unit_of
from gradcheck_cli.numeric.precision import FLOAT32, FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import Forward, Link

FIFTH_DERIVATIVE_MAX = 0.1276839220
"""sup |f^(5)| of t -> log(A + B e^t): q'(1 - 2p)(1 - 12 q') with q' = p(1 - p), at p = 0.30098."""

NATIVE_CAP = 1.0 / 6.0
"""Largest share of a row's largest gradient that 16-bit arithmetic may cost. Right half-precision
exports of the frameworks lose at most 13 %; the known read-modify-write bugs lose 18 % and more."""

_EXP_ULP = {FLOAT64: 4.0, FLOAT32: 8.0}  # c_e = c_l in u: 2 ulp for float64, 4 ulp for float32 libraries
_DEEPEST_RELEVANT = {FLOAT64: 745.2, FLOAT32: 104.0}  # exp(-D) is 0 beyond


def any_order(classes: int) -> float:
    """Return sigma for summation in any order: K - 1."""
    return float(max(classes - 1, 0))


def pairwise(classes: int) -> float:
    """Return sigma for numpy's pairwise sum over a contiguous row: 8 lanes up to 128, then halves."""
    return min(any_order(classes), 20.0 + math.ceil(math.log2(max(classes, 128) / 128)))


@dataclass(frozen=True, eq=False)
class Allowance:
    """allowed_j = slope_j a_j (fixed + depth D_j) + bent (Q a_j + q_j) + relative |g_j| + target q_j + floor.

    Each entry's own; nothing in it grows with the number of entries. (n,) arrays unless said.
    """

    fixed: Floats
    depth: float | Floats
    target: float | Floats
    floor: float | Floats
    relative: float = 0.0
    bent: float | Floats = 0.0  # only under a softcap: error of 1 - tanh^2, absolute in the slope

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

    def at_pivot(self, f: Forward, q: Targets) -> Floats:
        """Return the pivot column's allowance, without the part relative to |g|: (n,)."""
        p, d = f.at_pivot(f.a), f.at_pivot(f.d)
        slope = 1.0 if f.slope is None else f.at_pivot(f.slope)
        bent = self.bent * (q.mass * p + q.at_pivot)
        total: Floats = (
            slope * p * (self.fixed - self.depth * d) + bent + self.target * q.at_pivot + self.floor
        )
        return total

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

    def spread(self, f: Forward, q: Targets, g: Floats, out: Floats, work: Floats) -> Floats:
        """Write every entry's allowance to `out`: (n, K), given the true gradient g."""
        np.multiply(f.d, -_column(self.depth), out=out)
        out += _column(self.fixed)
        out *= f.a
        if f.slope is not None:
            out *= f.slope
            np.multiply(f.a, _column(self.bent * q.mass), out=work)
            out += work
        if not q.sparse:
            np.multiply(q.plane(), _column(self.target + self.bent), out=work)
            out += work
        if self.relative:
            np.abs(g, out=work)
            work *= self.relative
            out += work
        out += _column(self.floor)
        out[f.rows, f.pivot] += (self.target + self.bent) * (q.peak if not q.sparse else q.at_pivot)
        return out


def _column(x: float | Floats) -> float | Floats:
    """Return per-row numbers as a column that broadcasts over the classes."""
    return x[:, None] if isinstance(x, np.ndarray) else x


def _magnitude(q: Targets, by: Scale) -> Floats:
    """Return |s| Q + |zeta|, what multiplies a_j before anything cancels: (n,)."""
    return np.abs(by.s) * q.mass + np.abs(by.zeta)


def _link_error(f: Forward, link: Link) -> tuple[float | Floats, float]:
    """Return what the link adds to r_j, in units of u: a fixed part and one per depth.

    z/T before the shift: u |v_j| in each term and u |v| on average, |v_j| <= |m| + D_j. Softcap: tanh
    (2 ulp), its argument, the product by c and the quotient by T cost 7u |v| each way.
    """
    if link.softcap is not None:
        return 14.0 * f.reach + 8.0, 0.0
    if link.temperature != 1.0:
        return 2.0 * np.abs(f.top), 1.0
    return 0.0, 0.0


def _amplification(r_largest: float | Floats) -> Floats:
    """Return kappa with expm1(1.001 r) <= kappa r for 0 < r <= r_largest (expm1(r)/r increases)."""
    widest = 1.001 * np.asarray(r_largest)
    kappa: Floats = 1.001 * np.expm1(widest) / widest
    return kappa


def probability_error(f: Forward, link: Link, u: Precision, sigma: float) -> Allowance:
    """Return the allowance of p_j computed in precision u with summation constant sigma.

    p_j expm1(1.001 r_j) + 2 eta_n (1 + K p_j), r_j as in the module's head plus the link's share, and
    eta_n the smallest normal number: exponentials below it may be flushed to zero.
    """
    classes = f.a.shape[1]
    c = _EXP_ULP[u]
    link_fixed, link_depth = _link_error(f, link)
    fixed = math.log(classes) + 2 * c + sigma + (c + 1) * f.log_total + 3.0 + link_fixed
    depth = 2.0 + link_depth
    widest = 3.0 + 2 * c + sigma + (c + 2) * math.log(classes) + depth * _DEEPEST_RELEVANT[u] + link_fixed
    kappa = _amplification(u.unit * widest)
    tiny = 2.0 * u.smallest_normal
    return Allowance(
        fixed=u.unit * kappa * fixed + tiny * classes,
        depth=u.unit * kappa * depth,
        target=0.0,
        floor=tiny,
    )


def _lse_error(f: Forward, link: Link, u: Precision, sigma: float) -> Floats:
    """Return |fl(lse) - lse| <= u (c_l log S + log K + c_e + sigma + |m| + |lse| + link): (n,)."""
    c = _EXP_ULP[u]
    link_fixed, _ = _link_error(f, link)
    inner = c * f.log_total + math.log(f.a.shape[1]) + c + sigma
    total: Floats = u.unit * (inner + np.abs(f.top) + np.abs(f.lse) + link_fixed)
    return total


def gradient_error(f: Forward, q: Targets, by: Scale, loss: Loss, u: Precision, sigma: float) -> Allowance:
    """Return the allowance of (s Q + zeta) a - s q computed in u from the exact logits.

    |A| p_j expm1(1.001 r_j), A = |s| Q + |zeta|; 4u (|s| (Q p_j + q_j) + |zeta| p_j) for p - q, the
    product with Q, the targets' own rounding (1 - e, e/K, w_y) and the sum; the error of lse times
    2 lambda p_j; 6u |g_j| for upstream, divisor and storage in u. A softcap adds 16u |g_j| and, for a
    slope computed as 1 - tanh^2, 12u |s| (Q p_j + q_j) / T.
    """
    p = probability_error(f, loss.link, u, sigma)
    magnitude = _magnitude(q, by)
    lse = np.abs(by.z) * _lse_error(f, loss.link, u, sigma) if loss.z_loss else 0.0
    capped = f.slope is not None
    return Allowance(
        fixed=magnitude * (p.fixed + 4.0 * u.unit) + lse,
        depth=magnitude * p.depth,
        target=4.0 * u.unit * np.abs(by.s),
        floor=magnitude * p.floor + 2.0 * u.smallest_normal,
        relative=(22.0 if capped else 6.0) * u.unit,
        bent=12.0 * u.unit * np.abs(by.s) / loss.link.temperature if capped else 0.0,
    )


def reference_error(f: Forward, q: Targets, by: Scale, loss: Loss) -> Allowance:
    """Return the allowance of softgrad's own float64 gradient.

    The same bound with u = 2^-53, c_e = c_l = 4 and numpy's pairwise sigma. The slope of a softcap is
    computed as 4e/(1 + e)^2, e = exp(-2|z/c|), relative error u (12 + 4 |z/c|).
    """
    return gradient_error(f, q, by, loss, FLOAT64, pairwise(f.a.shape[1]))


def difference_error(f: Forward, q: Targets, by: Scale, loss: Loss) -> Allowance:
    """Return the allowance of central difference against analytic gradient, both from the same a.

    Truncation h^2/6 sup|f'''|, |f'''| = p (1-p) |1-2p| <= p e^h within the step; z-loss has
    (lse^2)''' <= 2 p (3 + |lse| + h). Rounding: log1p, its argument and the products cost 12u relative,
    and the pivot's two logarithms 4u more; nothing is divided by h, because expm1(h) carries no
    cancellation. Under a softcap (unit steps H, slope k <= 1/T) the chain rule gives, per slope,
    (Q p + q) 4/c^2 + Q p (6/(cT) + 1/T^2).
    """
    link = loss.link
    h = STEP * unit_of(link) if f.slope is not None else STEP
    second = h * h / 6.0 * math.exp(4.0 * STEP)
    rounding = 16.0 * FLOAT64.unit
    target: float | Floats = 0.0
    first, cross, cube = 1.0, 0.0, 0.0
    if link.softcap is not None:
        c, t = link.softcap, link.temperature
        first, cross, cube = 1.0 / t**2, 6.0 / (c * t), 4.0 / c**2
        rounding *= 4.0
        target = np.abs(by.s) * second * cube
    plain = np.abs(by.s) * q.mass * (first + cross + cube)
    depth = np.abs(f.lse) + STEP
    square = np.abs(by.z) * ((3.0 + depth) * first + (1.0 + depth) * cross + depth * cube)
    return Allowance(
        fixed=second * (plain + square) + rounding * _magnitude(q, by),
        depth=0.0,
        target=target + rounding * np.abs(by.s),
        floor=2.0**-1000 * (1.0 + _magnitude(q, by)),
    )


def difference_at_pivot(f: Forward, q: Targets, by: Scale, loss: Loss, whole: Allowance) -> Floats:
    """Return the difference's allowance in the pivot column, relative to 1 - a there: (n,).

    p (1-p) <= 1 - p, and neither side subtracts p from 1, so a saturated label is held to its own
    size and not to the row's (a first draft that used a cancelled 1 - p was off by 2e5).
    """
    if f.slope is not None:
        return whole.at_pivot(f, q)
    second = STEP * STEP / 6.0 * math.exp(4.0 * STEP)
    rounding = 16.0 * FLOAT64.unit
    own = np.abs(by.s) * ((second + rounding) * q.mass * f.others + rounding * q.others)
    square = (np.abs(by.z) * (3.0 + np.abs(f.lse) + STEP) * second + rounding * np.abs(by.zeta)) * f.at_pivot(
        f.a
    )
    total: Floats = own + square + whole.floor
    return total


def audit_error(z: Floats, q: Floats, loss: Loss, gradient: float, column: int) -> float:
    """Return the allowance of the five-point brute-force difference of one entry of a row's gradient.

    h^4/30 sup|f^(5)| + 1.5 E/h, E the rounding of a whole-row loss (F4 of the derivation), and the
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


def native_error(f: Forward, q: Targets, by: Scale, loss: Loss, half: Precision) -> Allowance:
    """Return the coefficients of r^h, the exponent of native half arithmetic, as an Allowance.

    Every elementwise operation rounds to the half format: r^h_j = u_h (D_j + log K - log p_j + log S + 6
    + link) + the float32 sums; used by :func:`native_half`, which applies expm1.
    """
    c = _EXP_ULP[FLOAT32]
    link_fixed, link_depth = _link_error(f, loss.link)
    classes = f.a.shape[1]
    log_k = math.log(classes)
    sums = FLOAT32.unit * (any_order(classes) + 2 * c + c * f.log_total + 4.0)
    fixed = half.unit * (log_k + 2.0 * f.log_total + 6.0 + link_fixed) + sums
    return Allowance(fixed=fixed, depth=half.unit * (2.0 + link_depth), target=0.0, floor=0.0)


def native_half(  # noqa: PLR0913 - a block's arrays
    f: Forward, q: Targets, by: Scale, loss: Loss, half: Precision, g: Floats, out: Floats, work: Floats
) -> Floats:
    """Write what native half arithmetic may cost each entry, capped at a sixth of the row's largest |g|.

    A p_j expm1(r^h_j) + 2 u_h (|s| (Q p_j + q_j) + |zeta| p_j) + 4 u_h |g_j| + one subnormal: (n, K).
    """
    r = native_error(f, q, by, loss, half)
    np.multiply(f.d, -float(np.max(r.depth)), out=out)
    out += _column(r.fixed)
    np.minimum(out, 700.0, out=out)
    np.expm1(out, out=out)
    magnitude = _magnitude(q, by)
    out += 2.0 * half.unit
    out *= f.a
    out *= _column(magnitude)
    if f.slope is not None:
        out *= f.slope
        np.multiply(f.a, _column(4.0 * half.unit * np.abs(by.s) * q.mass / loss.link.temperature), out=work)
        out += work
    target = (2.0 if f.slope is None else 6.0) * half.unit * np.abs(by.s)
    if not q.sparse:
        np.multiply(q.plane(), _column(target), out=work)
        out += work
    out[f.rows, f.pivot] += target * (q.peak if not q.sparse else q.at_pivot)
    np.abs(g, out=work)
    largest = work.max(axis=1)
    work *= (4.0 if f.slope is None else 20.0) * half.unit
    out += work
    out += half.smallest_subnormal * (1.0 + _column(magnitude))
    np.minimum(out, NATIVE_CAP * largest[:, None], out=out)
    return out


def bare(f: Forward) -> tuple[Forward, Targets]:
    """Return the softmax alone, as a problem without slope and targets whose mass is 1."""
    nothing = np.zeros(len(f.rows))
    return replace(f, slope=None), Targets(nothing, nothing + 1.0, nothing, nothing)


def _exponent_error(f: Forward, link: Link, u: Precision, half: Precision | None, out: Floats) -> Floats:
    """Write the error of log p_j in the compute model to `out`: (n, K), r_j of the module's head.

    u (2 D_j + log K + 2 c_e + sigma + (c_l + 1) log S + 3), any order; 2u |m| more for lse formed as
    m + log S before it is subtracted; native half arithmetic adds its own r^h.
    """
    c = _EXP_ULP[u]
    classes = f.a.shape[1]
    link_fixed, link_depth = _link_error(f, link)
    fixed = math.log(classes) + 2 * c + any_order(classes) + (c + 1) * f.log_total + 3.0 + link_fixed
    fixed = u.unit * (fixed + 2.0 * np.abs(f.top))
    depth = u.unit * (2.0 + link_depth)
    if half is not None:
        fixed = fixed + half.unit * (math.log(classes) + 2.0 * f.log_total + 6.0 + link_fixed)
        depth += half.unit * (2.0 + link_depth)
    np.multiply(f.d, -depth, out=out)
    out += _column(fixed)
    return out


def log_probability_error(
    f: Forward, link: Link, u: Precision, half: Precision | None, out: Floats
) -> Floats:
    """Write the allowance of log p_j, absolute: 1.001 r_j of the model and of float64: (n, K).

    A kernel that takes the logarithm of a rounded p near 1 loses log p to u absolute, inside 3u; one
    that flushes p < 2^-126 to 0 and takes its logarithm has -inf, and fails: log p is representable.
    """
    _exponent_error(f, link, u, half, out)
    out *= 1.001
    own = _exponent_error(f, link, FLOAT64, None, np.empty_like(out))
    out += own
    return out


def gradient_at_probabilities_error(
    f: Forward, link: Link, u: Precision, half: Precision | None, expected: Floats, out: Floats
) -> Floats:
    """Write the allowance of -s q_k / a_k: |.| expm1(1.001 r_k + 6u): (n, K).

    The quotient by a probability below the smallest normal number of u is not bounded: it may have
    been flushed to zero, and an infinity is allowed there.
    """
    _exponent_error(f, link, u, half, out)
    out *= 1.001
    out += 6.0 * u.unit + (0.0 if half is None else 6.0 * half.unit)
    np.minimum(out, 700.0, out=out)
    np.expm1(out, out=out)
    size = np.abs(expected)
    smallest = u.smallest_normal if half is None else max(u.smallest_normal, half.smallest_normal)
    unbounded = (f.a < 4.0 * smallest) & (size > 0)
    out *= np.minimum(size, 1e300)
    out[unbounded] = np.inf
    return out


def loss_error(
    f: Forward, q: Targets, loss: Loss, plain: Floats, u: Precision, half: Precision | None
) -> Floats:
    """Return the allowance of each row's loss, `plain` being its cross-entropy part: (n,).

    Q times the error of lse (|m| included: lse - z_y is a common way), u (D + D) for differences and
    products, i.e. 4u l, and the K-term sum of dense targets in any order; z-loss adds
    lambda (2 |lse| + error) error + 3 u lambda lse^2. Native half: the same roundings in u_h.
    """
    classes = f.a.shape[1]
    sigma = any_order(classes)
    lse = _lse_error(f, loss.link, u, sigma)
    dense = 0.0 if q.sparse else sigma
    _, link_depth = _link_error(f, loss.link)
    total = q.mass * (lse + u.unit * np.abs(f.top)) + u.unit * (4.0 + dense + link_depth) * plain
    total += loss.z_loss * ((2.0 * np.abs(f.lse) + lse) * lse + 3.0 * u.unit * f.lse**2)
    if half is not None:
        rounded = q.mass * (4.0 * f.log_total + 4.0 + 2.0 * np.abs(f.top)) + 6.0 * plain
        total += half.unit * (rounded + loss.z_loss * 8.0 * (1.0 + f.lse**2))
    return total

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
from dataclasses import replace

import numpy as np

from gradcheck_cli.numeric.allowance import Allowance
from gradcheck_cli.numeric.cross_entropy import Loss, Point, Scale, Targets
from gradcheck_cli.numeric.precision import FLOAT32, FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import FEW_CLASSES, Link, Sums

VAGUE = 1.0 / 6.0
"""Share of an entry that arithmetic may cost, from which on nothing can be said of its row: less than
three bits of it are sure."""

FUSED_LSE_CAP = 1e-3
"""Largest share of a row's largest gradient that a rounded logsumexp may cost."""

ANYTHING = 700.0
"""Exponent from which on an error is as large as the numbers: expm1 of it is about 1e304."""

_UNDERFLOWS = 500.0
"""Exponent by which a probability must move before one that is 0 in float64 may be seen in float32."""

EXP_ULP = {FLOAT64: 4.0, FLOAT32: 8.0}  # c_e = c_l in u: 2 ulp for float64, 4 ulp for float32 libraries
_DEEPEST_RELEVANT = {FLOAT64: 745.2, FLOAT32: 104.0}  # exp(-D) is 0 beyond


def any_order(classes: int) -> float:
    """Return sigma for summation in any order: K - 1."""
    return float(max(classes - 1, 0))


def pairwise(classes: int) -> float:
    """Return sigma for our own sums: numpy's pairwise over a contiguous row, 8 lanes up to 128, then halves.

    Rows of few classes lie column by column and are summed in order. The compiled loops add 128 numbers as a
    tree and those sums with what rounding loses of them: nine at most. The pivot's term is
    taken out and added again: two roundings more.
    """
    if classes <= FEW_CLASSES:
        return any_order(classes) + 2.0
    return min(any_order(classes), 20.0 + math.ceil(math.log2(max(classes, 128) / 128))) + 2.0


def link_error(sums: Sums, link: Link) -> tuple[float | Floats, float]:
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
    widest = np.minimum(np.maximum(1.001 * np.asarray(r_largest), 2.0**-500), ANYTHING)
    kappa: Floats = 1.001 * np.expm1(widest) / widest
    return kappa


def probability_error(sums: Sums, link: Link, u: Precision, sigma: float) -> Allowance:
    """Return the allowance of p_j computed in precision u with summation constant sigma.

    p_j expm1(1.001 r_j) + 2 eta_n (1 + K p_j), r_j as in the module's head plus the link's share, and
    eta_n the smallest normal number: exponentials below it may be flushed to zero.
    """
    c = EXP_ULP[u]
    log_k = math.log(sums.classes)
    link_fixed, link_depth = link_error(sums, link)
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


def lse_error(sums: Sums, link: Link, u: Precision, sigma: float) -> Floats:
    """Return |fl(lse) - lse| <= u (c_l log S + log K + c_e + sigma + |m| + |lse| + link): (n,)."""
    c = EXP_ULP[u]
    link_fixed, _ = link_error(sums, link)
    inner = c * sums.log_total + math.log(sums.classes) + c + sigma
    total: Floats = u.unit * (inner + np.abs(sums.top) + np.abs(sums.lse) + link_fixed)
    return total


def gradient_error(at: Point, u: Precision, sigma: float) -> Allowance:
    """Return the allowance of (s Q + zeta) a - s q computed in u from the exact logits.

    |A| p_j expm1(1.001 r_j), A = |s| Q + |zeta|; 4u (|s| (Q p_j + q_j) + |zeta| p_j) for p - q, the
    product with Q, the targets' own rounding (1 - e, e/K, w_y) and the sum, and where 1 - e cancels
    u e / (1 - e) of q more, twice; where Q is a sum of many targets :func:`target_sum_error`; z-loss as in
    :func:`_square_error`; 6u |g_j| for upstream, divisor and storage in u, and the error of a divisor that
    is itself a sum. A softcap adds 16u |g_j| and, for a slope computed as 1 - tanh^2 with tanh good to 8u,
    18u ((|s| Q + |zeta|) p_j + |s| q_j) / T; the slope is at most 1/T.
    """
    link = at.loss.link
    p = probability_error(at.sums, link, u, sigma)
    lse = _square_error(at, u, sigma) if at.loss.z_loss else 0.0
    capped = link.softcap is not None
    steepest = 1.0 / link.temperature if capped else 1.0  # without a softcap it is in s already
    smoothed = at.loss.smoothing
    magnitude = at.magnitude
    return Allowance(
        fixed=magnitude * (p.fixed + 4.0 * u.unit) + lse + np.abs(at.by.s) * target_sum_error(at, u, sigma),
        depth=magnitude * p.depth,
        target=(4.0 + 2.0 * smoothed / (1.0 - smoothed)) * u.unit * np.abs(at.by.s) * steepest,
        floor=magnitude * p.floor * steepest + 2.0 * u.smallest_normal,
        relative=((22.0 if capped else 6.0) + at.loss.divisor_terms) * u.unit,
        bent=18.0 * u.unit * steepest if capped else 0.0,
    )


def target_sum_error(at: Point, u: Precision, sigma: float) -> Floats | float:
    """Return what summing dense targets costs Q, as log-softmax's backward does: (n,), 0 for labels alone.

    sigma u Q; but adding x to a sum never costs more than x, because the sum itself could be the result,
    so no more than the targets outside the pivot column and u Q for that one.
    """
    if at.q.sparse:
        return 0.0
    return np.minimum(sigma * u.unit * at.q.mass, at.q.others + u.unit * at.q.mass)


def _square_error(at: Point, u: Precision, sigma: float) -> Floats:
    """Return what z-loss adds for each p_j: (n,).

    2 lambda times the error of lse; and zeta p_j is often zeta exp(v_j - lse) with a rounded lse, the
    backward of logsumexp: |zeta| expm1(u (2 |lse| + 8)).
    """
    lse = np.abs(at.sums.lse)
    fused = np.abs(at.by.zeta) * np.expm1(np.minimum(u.unit * (2.0 * lse + 8.0), ANYTHING))
    total: Floats = np.abs(at.by.z) * lse_error(at.sums, at.loss.link, u, sigma) + fused
    return total


def fused_lse_error(at: Point, u: Precision) -> Floats:
    """Return what exp(v_j - lse) with a rounded lse costs each p_j, for the gradient: (n,).

    |A| expm1(2u |lse|) (lse rounded, and m + log S), as far as it costs at most a thousandth of the row's
    largest gradient: a kernel that loses more should subtract the maximum and log S one after the other.
    The largest gradient is at least that of the pivot, or of the likeliest class where that is another.
    """
    cost = at.magnitude * np.expm1(np.minimum(2.0 * u.unit * np.abs(at.sums.lse), 1.0))
    likeliest = 1.0 / at.sums.total
    return np.minimum(cost, FUSED_LSE_CAP * at.largest / likeliest)


def rounded_exponent(sums: Sums, link: Link, grid: Precision) -> tuple[Floats, float]:
    """Return by how much log p_j moves when logits are rounded to `grid`: fixed part, per depth.

    |fl(z_j) - z_j| <= u |z_j| + eta/2, so v_j moves by e_j <= u (|m| + D_j) + eta/2T, and logsumexp by at
    most the largest of sum p_k e_k and log sum p_k exp(e_k), both <= u (|m| + log K) + eta/2T:
    sum p_k D_k = H(p) - log S, and sum w_k^(1-u) <= K^u S^(1-u). Under a softcap e_j <= 1.1 u |v_j| + eta/2T,
    because x sech^2(x) <= tanh(x).
    """
    least = grid.smallest_subnormal / link.temperature
    if link.softcap is not None:
        return 2.2 * grid.unit * sums.reach + least, 0.0
    return grid.unit * (2.0 * np.abs(sums.top) + math.log(sums.classes)) + least, grid.unit


def rounded_logits_error(at: Point, grid: Precision, slope: Floats | float) -> tuple[Allowance, Floats]:
    """Return what the gradient may differ by when softgrad was given rounded logits, and in the pivot column.

    A p_j expm1(r_j), r_j from :func:`rounded_exponent`. In the pivot column the odds p / (1 - p) move by
    r_j and what the logarithm of the others' sum lies deeper, so A p (1 - p) expm1(r'). z-loss moves with
    lse. The slope of a softcap moves by u |x| sup |d sech^2/dx| / T: sup 2 x sech^2 tanh x = 0.64.
    Where r_j may be hundreds, a probability that is 0 here may have been none: then anything is allowed.
    """
    link, sums, magnitude = at.loss.link, at.sums, at.magnitude
    exponent, depth = rounded_exponent(sums, link, grid)
    kappa = _amplification(exponent + depth * _DEEPEST_RELEVANT[FLOAT32])
    lost = np.where(exponent + depth * _DEEPEST_RELEVANT[FLOAT64] > _UNDERFLOWS, magnitude, 0.0)
    moved = np.abs(at.by.z) * exponent
    bent = 0.8 * grid.unit / link.temperature if link.softcap is not None else 0.0
    outside = Allowance(
        fixed=np.minimum(magnitude * kappa * exponent + moved, 1e200),
        depth=np.minimum(magnitude * kappa * depth, 1e200),
        target=0.0,
        floor=lost,
        bent=bent,
    )
    deeper = grid.unit * np.maximum(-np.log(np.maximum(sums.rest, 2.0**-1074)), 0.0)
    odds = np.minimum(1.001 * (exponent - depth * np.maximum(sums.own_d, -1e6) + deeper), ANYTHING)
    most = np.minimum(magnitude * sums.others * np.expm1(odds) + moved, 1e300)  # of a that may be 0
    own = slope * sums.own_a * most + lost
    return outside, own + bent * (magnitude * sums.own_a + np.abs(at.by.s) * at.q.at_pivot)


def reference_error(at: Point) -> Allowance:
    """Return the allowance of softgrad's own float64 gradient.

    The same bound with u = 2^-53, c_e = c_l = 4 and our own sigma. The slope of a softcap is computed as
    4e/(1 + e)^2, e = exp(-2|z/c|), relative error u (12 + 4 |z/c|), and 0 where |z/c| > 373.
    """
    whole = gradient_error(at, FLOAT64, pairwise(at.sums.classes))
    if at.loss.link.softcap is None:
        return whole
    return replace(whole, relative=whole.relative + (12.0 + 4.0 * 373.0) * FLOAT64.unit)


def bare(sums: Sums, link: Link) -> Point:
    """Return the softmax alone, as a point whose gradient is a itself: no targets, mass 1.

    Its planes have no slope: what the link does to v is in the error of the exponent.
    """
    nothing = np.zeros(len(sums.top))
    one = nothing + 1.0
    q = Targets(nothing, one, one, nothing)
    return Point.of(Loss(link), sums, q, Scale(one, nothing, nothing))

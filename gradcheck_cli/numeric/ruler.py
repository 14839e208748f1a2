"""What the ruler itself may be off by: finite differences against the analytic gradient."""

from __future__ import annotations

import math

import numpy as np

from gradcheck_cli.numeric.accuracy import pairwise
from gradcheck_cli.numeric.allowance import Allowance
from gradcheck_cli.numeric.cross_entropy import Loss, Point
from gradcheck_cli.numeric.difference import AUDIT_STEP, STEP, unit_of
from gradcheck_cli.numeric.precision import FLOAT64, Floats

FIFTH_DERIVATIVE_MAX = 0.1276839220
"""sup |f^(5)| of t -> log(A + B e^t): q'(1 - 2p)(1 - 12 q') with q' = p(1 - p), at p = 0.30098."""

_DIFFERENCE_ROUNDING = 16.0 * FLOAT64.unit
"""12u of the difference (:func:`difference_error`) and 3u of the analytic side, and one to spare."""


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


def relative_error() -> float:
    """Return what the difference may be off by outside the pivot column, relative to the gradient's entry.

    Of :func:`difference_error` without softcap and z-loss, where it is one number times |s| Q a_j.
    """
    return STEP * STEP / 6.0 * math.exp(4.0 * STEP) + _DIFFERENCE_ROUNDING


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
    u, link = FLOAT64.unit, loss.link
    h = AUDIT_STEP * unit_of(link)
    invariant = link.softcap is None and loss.z_loss == 0.0
    lse = lse_size(z, loss)
    size = whole_row_rounding(z, q, loss, shifted=invariant)
    mass = float(q.sum())
    fifth = FIFTH_DERIVATIVE_MAX * mass if invariant else 64.0 * (mass + loss.z_loss * (1.0 + lse))
    truncation = AUDIT_STEP**4 / 30.0 * fifth / unit_of(link) * math.exp(4 * AUDIT_STEP)
    moved = abs(float(z[column] - (z.max() if invariant else 0.0))) + h
    return truncation + 1.5 * u * size / h + 2.0 * abs(gradient) * u * moved / h + 8.0 * u * abs(gradient)


def lse_size(z: Floats, loss: Loss) -> float:
    """Return how large the logsumexp of a row may be: |m| + log K."""
    v = loss.link.apply(z)
    return abs(float(v[np.isfinite(v)].max())) + math.log(len(z))


def whole_row_rounding(z: Floats, q: Floats, loss: Loss, *, shifted: bool) -> float:
    """Return the rounding of a whole row's loss, in u, as `cross_entropy.plain_loss` computes it: (K,), (K,).

    Q (7 log K + 8 + sigma) for the logarithm of the sum, (sigma + 4) sum q_k D_k for the dot product, and
    16 |v| Q for what is rounded before the maximum is subtracted: nothing where logits that were `shifted`
    are taken as they are.
    """
    v = loss.link.apply(z)
    finite = v[np.isfinite(v)]
    m, mass, log_k, sigma = float(finite.max()), float(q.sum()), math.log(len(z)), pairwise(len(z))
    base = 0.0 if shifted else float(np.abs(finite).max())
    depth = float(np.where(q > 0, q * np.where(np.isfinite(v), m - v, 0.0), 0.0).sum())
    size = mass * (7.0 * log_k + 8.0 + sigma) + (sigma + 4.0) * depth + 16.0 * base * mass
    lse = abs(m) + log_k
    return size + (loss.z_loss * (lse * lse + 2 * lse * (sigma + 16.0 + base)) if loss.z_loss else 0.0)

"""A linear layer z = x W + b under the loss: x (n, D), W (D, K), b (K,), G = dE/dz (n, K).

    dE/dW = x^T G        dE/db = sum_n G_n        dE/dx = G W^T

Moving W_ij by h moves z_nj by h x_ni in every row n, so with t = h x_ni and E = expm1 the loss changes by

    sum_n s_n Q_n log1p(a_nj E(t)) - s_n q_nj t

exactly; log1p(a E(t)) - log1p(a E(-t)) = log1p(a (E(t) - E(-t)) / (1 + a E(-t))). Moving x_ni by h moves z_nk
by h W_ik, and the sum of exponentials by the factor 1 + sum_k a_nk E(h W_ik), which is a matrix product.
The bias is one more row of W, with x = 1.

Steps are powers of two, scaled so that no |t| exceeds 2^-26 (in units of T): truncation is below rounding.
A z-loss adds zeta to s Q, and what is left out of its square is z t^2 / 2, below rounding too.
"""

from __future__ import annotations

import math

import numpy as np

from gradcheck_cli.numeric.accuracy import ANYTHING, pairwise, reference_error
from gradcheck_cli.numeric.cross_entropy import Point, losses
from gradcheck_cli.numeric.difference import AUDIT_STEP, STEP, unit_of
from gradcheck_cli.numeric.precision import FLOAT64, Floats, Precision
from gradcheck_cli.numeric.ruler import FIFTH_DERIVATIVE_MAX
from gradcheck_cli.numeric.softmax import Planes
from gradcheck_cli.records import dataclass

CACHED = 1 << 16
"""Entries of a plane that stays in a core's second-level cache."""

TOGETHER = 8
"""Input columns worked on together: their planes come of one product of rank two."""

_BENT = 0.8
"""sup |d sech^2(x)/dx| = 0.77: by how much the slope of a softcap moves with its argument."""


def dot_error(u: Precision, sigma: float) -> float:
    """Return the relative error of an inner product, to sum |x||w|: gamma of sigma and three roundings."""
    n = (sigma + 3.0) * u.unit
    return n / (1.0 - n) if n < 1.0 else math.inf


def logits_moved(at: Point, planes: Planes, moved: Floats, out: Floats, work: Floats) -> Floats:
    """Write what a gradient may change by when each logit moves by up to `moved`, (n,): (n, K).

    The odds a / (1 - a) change by the factor exp(2e) at most, e = moved / T, so a changes by at most
    a (1 - a) expm1(2e); logsumexp by e, and the slope of a softcap c by 0.77 e / c.
    """
    link, e = at.loss.link, np.minimum(moved / at.loss.link.temperature, 1e300)
    factor = np.expm1(np.minimum(2.002 * e, ANYTHING))
    np.subtract(1.0, planes.a, out=out)
    planes.put_pivot(out, at.sums.others)
    out *= planes.a
    out *= (at.magnitude * factor)[:, None]
    if at.loss.z_loss:
        np.multiply(planes.a, (np.abs(at.by.z) * e * (1.0 + factor))[:, None], out=work)
        out += work
    if planes.slope is not None and link.softcap is not None:
        bent = np.minimum(_BENT * e / link.softcap, 2.0 / link.temperature)[:, None]
        out *= planes.slope + bent
        sizes(at, planes, work)
        work *= bent
        out += work
    return out


def sizes(at: Point, planes: Planes, out: Floats) -> Floats:
    """Write (|s| Q + |zeta|) a + |s| q to `out`: what a gradient is made of before anything cancels."""
    np.multiply(planes.a, at.magnitude[:, None], out=out)
    s = np.abs(at.by.s)
    own = planes.at_pivot(out)
    if not at.q.sparse:
        out += at.q.plane() * s[:, None]
    planes.put_pivot(out, own + s * at.q.at_pivot)
    return out


def pulled(at: Point, planes: Planes, out: Floats) -> Floats:
    """Write s q to `out`: (n, K)."""
    out[...] = at.q.plane() * at.by.s[:, None]
    planes.put_pivot(out, at.by.s * at.q.at_pivot)
    return out


def step_for(largest: float, unit: float) -> float:
    """Return the step of a weight whose inputs are at most so large: t <= 2^-26 units, a power of two."""
    if largest == 0.0:
        return STEP * unit
    return STEP * 2.0 ** (math.floor(math.log2(unit)) - math.ceil(math.log2(largest)))


def column_differences(a: Floats, coefficient: Floats, x: Floats, steps: Floats, out: Floats) -> None:
    """Add each input column's central differences, but for what the targets pull, to `out`: (m, K).

    a (n, K), coefficient s Q + zeta (n,), x (n, m) inputs of m columns, steps (m,). 1 / (1 + a E(-t)) is
    taken as 1 - a E(-t), which is right to t^2 <= 2u; one logarithm an entry, in planes that stay in cache.
    """
    classes = a.shape[1]
    m = min(TOGETHER, x.shape[1])
    rows = max(1, CACHED // (m * classes))
    room = np.empty(rows * m * classes)
    sums = np.zeros_like(out)
    for start in range(0, len(a), rows):
        part = slice(start, start + rows)
        share, weight, t = a[part], coefficient[part], x[part] * steps
        base = np.stack([share, np.square(share)], axis=1)
        spans = 2.0 * np.sinh(t)
        factors = np.stack([spans, -spans * np.expm1(-t)], axis=2)  # of a and of a^2
        for first in range(0, x.shape[1], m):
            columns = slice(first, first + m)
            of_columns = factors[:, columns]
            plane = room[: of_columns.shape[0] * of_columns.shape[1] * classes]
            plane = plane.reshape(*of_columns.shape[:2], classes)
            np.log1p(np.matmul(of_columns, base, out=plane), out=plane)
            sums[columns] += (weight @ plane.reshape(len(weight), -1)).reshape(-1, classes)
    out += sums / (2.0 * steps)[:, None]


def bent_moves(at: Point, planes: Planes, t: Floats) -> tuple[Floats, Floats]:
    """Return what steps of +t and -t in the logits do to v: (n, 1) or (n, K), to (n, K) under a softcap.

    tanh(x + t) - tanh(x) = tanh(t) sech^2(x) / (1 + tanh(t) tanh(x)); the slope holds sech^2 / T.
    """
    link = at.loss.link
    if link.softcap is None or planes.slope is None:
        return t, -t  # steps are in units of T
    c = link.softcap
    small = np.tanh(t / c)
    bent = (planes.d + at.sums.top[:, None]) * (link.temperature / c) * small
    reach = c * small * planes.slope
    return reach / (1.0 + bent), -reach / (1.0 - bent)


def bent_column_difference(at: Point, planes: Planes, pull: Floats, x: Floats, step: float) -> Floats:
    """Return one input column's central differences under a softcap, targets included: (K,)."""
    up, down = bent_moves(at, planes, (x * step)[:, None])
    lower = np.expm1(down)
    ratio = np.log1p(planes.a * (np.expm1(up) - lower) / (1.0 + planes.a * lower))
    total: Floats = (at.coefficient[:, None] * ratio - pull * (up - down)).sum(axis=0) / (2.0 * step)
    return total


@dataclass(frozen=True, eq=False)
class InputMoves:
    """What moving each input up and down by its step does to the exponentials of the classes: (D, K)."""

    w: Floats
    steps: Floats  # (D,)
    down: Floats  # E(-t)
    span: Floats  # E(t) - E(-t)

    @classmethod
    def of(cls, w: Floats, steps: Floats) -> InputMoves:
        """Return the moves of the inputs of a weight."""
        down = np.multiply(w, -steps[:, None])
        span = -2.0 * np.sinh(down)
        return cls(w, steps, np.expm1(down, out=down), span)


def input_differences(at: Point, a: Floats, pull: Floats, by: InputMoves) -> Floats:
    """Return dE/dx by central differences: (n, D); no softcap."""
    ratio: Floats = a @ by.span.T
    below = a @ by.down.T
    below += 1.0
    ratio /= below
    np.log1p(ratio, out=ratio)
    ratio *= at.coefficient[:, None]
    ratio /= 2.0 * by.steps
    ratio -= pull @ by.w.T
    return ratio


def bent_input_differences(at: Point, planes: Planes, pull: Floats, w: Floats, steps: Floats) -> Floats:
    """Return dE/dx by central differences under a softcap, for the inputs whose weights are w: (m, K)."""
    out = np.empty((len(planes.a), len(w)))
    for column, (weights, step) in enumerate(zip(w, steps, strict=True)):
        up, down = bent_moves(at, planes, np.broadcast_to(weights * step, planes.a.shape))
        above = (planes.a * np.expm1(up)).sum(axis=1)
        below = (planes.a * np.expm1(down)).sum(axis=1)
        ratio = at.coefficient * np.log1p((above - below) / (1.0 + below))
        out[:, column] = (ratio - (pull * (up - down)).sum(axis=1)) / (2.0 * step)
    return out


def difference_error(at: Point, terms: int) -> float:
    """Return what sums of differences may be off by, to the sum of :func:`sizes` times |x| (or |W|).

    32u for the logarithm, its argument, the truncation t^2/6 (8 t^2/6 for an input, whose weights have a
    third cumulant of at most 8 max^2 E|W|) and the analytic side; four times that and 11 t^2/6 under a
    softcap, whose slope is 1/T at most; and 3 sums of so many terms, in any order.
    """
    capped = at.loss.link.softcap is not None
    each = 192.0 if capped else 48.0
    return (each + 3.0 * terms) * FLOAT64.unit / (at.loss.link.temperature if capped else 1.0)


def shift_is_nothing(at: Point) -> bool:
    """Tell whether the loss stays as it is where all logits of a row move together."""
    return at.loss.link.softcap is None and at.loss.z_loss == 0.0


def analytic_error(at: Point, planes: Planes, g: Floats, reach: Floats, features: int) -> Floats:
    """Return what the gradient at the logits may be off by, those multiplied out in any order: (n, K).

    The logits themselves, sums of |x||w| up to `reach` (n,), may be off besides.
    """
    out, moved, work = np.empty_like(g), np.empty_like(g), np.empty_like(g)
    reference_error(at).spread(at, planes, g, out, work)
    off = (dot_error(FLOAT64, float(features)) + 4.0 * FLOAT64.unit) * reach
    out += logits_moved(at, planes, off, moved, work)
    return out


def audit_truncation(at: Point) -> Floats:
    """Return the truncation of a five-point difference of each row's loss, to |x|: (n,).

    h^4/30 sup |f^(5)| for a step of the logit of at most h, as of the audit in `ruler`: x^5 h^4 is at most
    |x| of what a step of h gives.
    """
    s, z = _loss_scales(at)
    if shift_is_nothing(at):
        fifth = FIFTH_DERIVATIVE_MAX * s * at.q.mass
    else:
        fifth = 64.0 * (s * at.q.mass + z * (1.0 + np.abs(at.sums.top) + math.log(at.sums.classes)))
    whole: Floats = AUDIT_STEP**4 / 30.0 * math.exp(4.0 * AUDIT_STEP) * fifth / unit_of(at.loss.link)
    return whole


def audit_errors(at: Point, planes: Planes, reach: Floats, features: int) -> tuple[Floats, Floats]:
    """Return the rounding of each row's loss, and that of a logit multiplied out again, times 1.1: (n,).

    In u of the loss, Q (7 log K + 8 + sigma) for the logarithm of the sum, (sigma + 4) sum q_k D_k for the
    dot product, where the cross-entropy is at least that sum, 16 |v| Q for what is rounded before the
    maximum is subtracted, and for a z-loss lse^2 + 2 lse (sigma + 16 + |v|). The logit's own rounding counts
    by the slope of the loss, at most 1/T under a softcap. A tenth more for what two steps change of either.
    """
    link, (s, z) = at.loss.link, _loss_scales(at)
    sigma, log_k = pairwise(at.sums.classes), math.log(at.sums.classes)
    base = 0.0 if shift_is_nothing(at) else at.sums.reach
    depth = losses(at, planes.d, np.empty_like(planes.d))
    entropy = at.q.mass * (7.0 * log_k + 8.0 + sigma + 16.0 * base) + (sigma + 4.0) * depth
    lse = np.abs(at.sums.top) + log_k
    rounding = FLOAT64.unit * (s * entropy + z * (lse * lse + 2.0 * lse * (sigma + 16.0 + base)))
    moved = (dot_error(FLOAT64, pairwise(features) + 3.0) + 4.0 * FLOAT64.unit) * (
        reach + AUDIT_STEP * unit_of(link)
    )
    steepest = 1.0 / link.temperature if link.softcap is not None else 1.0
    return 1.1 * rounding, 1.1 * steepest * moved


def _loss_scales(at: Point) -> tuple[Floats, Floats]:
    """Return what multiplies a row's cross-entropy, and the square of its logsumexp, in size: (n,), (n,)."""
    chain = 1.0 if at.loss.link.softcap is not None else at.loss.link.temperature
    return np.abs(at.by.s) * chain, 0.5 * chain * np.abs(at.by.z)

"""Finite differences of the loss: every partial derivative at the price of one logarithm.

Moving one logit of a row by h multiplies one term of S: with E = expm1(h),

    l(z + h e_j) - l(z) = Q log1p(a_j E) - q_j h        (exactly, for plain cross-entropy)

so a true difference of the loss costs O(1) per entry and has no cancellation of two large losses.
"""

from __future__ import annotations

import math

import numpy as np

from gradcheck_cli.numeric import compiled, methods
from gradcheck_cli.numeric.cross_entropy import Loss, Point, plain_loss, subtract_targets
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices, Link, Planes, row_sum
from gradcheck_cli.records import dataclass

STEP = 2.0**-26
"""Step of the rank-one difference. Its rounding error does not grow as h shrinks, because expm1(h) and
log1p cancel nothing; so the step is taken where the truncation error h^2/6 = 3.7e-17 of a is below
rounding, and the ruler is good to a few units in the last place."""

AUDIT_STEP = 2.0**-9
"""Step of the brute-force audit. Five points leave h^4/30 f^(5) <= 6.2e-14, below the rounding of two
whole-row losses, about 1e-15/h = 5e-13 (accuracy of F4)."""


def unit_of(link: Link) -> float:
    """Return the scale of the logits that steps are measured in: T, or the softcap where smaller."""
    return link.temperature if link.softcap is None else min(link.temperature, link.softcap)


@dataclass(frozen=True, eq=False)
class Moves:
    """What a step of +h and -h in one logit does to its v: scalars, or (n, K) under a softcap."""

    up: Floats | float
    down: Floats | float
    step: float  # in z under a softcap, in v otherwise (the scale holds 1/T)


def moves(at: Point, slope: Floats | None, d: Floats, top: Floats, h: float) -> Moves:
    """Return the exact changes of v, given slope, d and the rows' maxima in matching shapes.

    tanh(x + t) - tanh(x) = tanh(t) sech^2(x) / (1 + tanh(t) tanh(x)), free of cancellation.
    """
    link = at.loss.link
    if slope is None or link.softcap is None:
        return Moves(h, -h, h)
    c = link.softcap
    h *= unit_of(link)
    t = math.tanh(h / c)
    bent = (d + top) * (t * link.temperature / c)  # tanh(t) tanh(z/c)
    return Moves(c * t * slope / (1.0 + bent), -c * t * slope / (1.0 - bent), h)


def central(at: Point, planes: Planes, out: Floats, work: Floats) -> Floats:
    """Return (E(z + h e_j) - E(z - h e_j)) / 2h of every entry outside the pivot column: (n, K), in `out`.

    log1p(a E+) - log1p(a E-) is one logarithm, log1p(a (E+ - E-) / (1 + a E-)).
    """
    move = moves(at, planes.slope, planes.d, at.sums.top[:, None], STEP)
    _log_ratio(planes.a, move, out)
    if at.loss.z_loss:
        _add_square(at, planes, move, out, work)
    else:
        out *= (at.by.s * at.q.mass / (2.0 * move.step))[:, None]
    if planes.slope is None:
        subtract_targets(at, out, work)
    elif not at.q.sparse:
        np.multiply(at.q.plane(), at.by.s[:, None], out=work)
        work *= (move.up - move.down) / (2.0 * move.step)
        out -= work
    return out


@dataclass(frozen=True, eq=False)
class Quotients:
    """What the log ratios of n rows show, and their quotients over w: (n,) each."""

    sums: Floats  # of the log ratios
    lowest: Floats  # NaN where some w_j is 0 but for the class that is left out, or is NaN
    highest: Floats
    exact: Floats  # 2h / S, what the quotients are without rounding and truncation
    farthest: Floats  # no less than what any quotient is off, times w_j
    surely: Floats  # what some quotient is off, times w_j, but for rounding; 0 where that is not known

    @property
    def off(self) -> Floats:
        """Return how far the quotients of each row lie from the exact one at most, relatively: (n,)."""
        off: Floats = np.maximum(self.highest - self.exact, self.exact - self.lowest)
        off /= self.exact
        return off

    @property
    def single(self) -> Floats:
        """Return the quotients of rows of one class: (n,)."""
        return np.where(self.highest > self.exact, self.highest, self.lowest)


def quotients(w: Floats, inverse: Floats, left_out: Indices | None, work: Floats) -> Quotients:
    """Return what the log ratios log1p(a E+) - log1p(a E-) of a = w inverse show: (n, K), (n,).

    They are 2h times the central difference over s Q, without softcap, z-loss and targets outside the pivot
    column. The class that is left out of each row has w = 0.
    """
    exact = inverse * (2.0 * STEP)
    loops = compiled.loops()
    if loops is not None:
        down = math.expm1(-STEP)
        step = compiled.Step(math.expm1(STEP) - down, down, 2.0 * STEP)
        sums, lowest, highest, farthest = loops.quotients(w, inverse, step, 0 if left_out is None else 1)
        return Quotients(sums, lowest, highest, exact, farthest, surely=farthest)
    _log_ratio(w, Moves(STEP, -STEP, STEP), work, inverse[:, None])
    sums = row_sum(work)
    np.divide(work, w, out=work)
    if left_out is not None:
        work[np.arange(len(w)), left_out] = exact
    lowest, highest = np.minimum.reduce(work, axis=1), np.maximum.reduce(work, axis=1)
    farthest = np.maximum(highest - exact, exact - lowest)
    return Quotients(sums, lowest, highest, exact, farthest, surely=np.zeros_like(farthest))


def central_at_pivot(at: Point, slope: Floats | None) -> Floats:
    """Return the central difference in the pivot column: (n,), given the softcap's slope there.

    Where the column holds more than half, the others are moved instead (softmax is shift invariant),
    which keeps the difference accurate when a -> 1.
    """
    sums, by = at.sums, at.by
    move = moves(at, slope, sums.own_d, sums.top, STEP)
    direct = np.empty_like(sums.own_a)
    _log_ratio(sums.own_a, move, direct)
    moved = move.up - move.down
    shrink = np.log1p(sums.others * np.expm1(-move.up)) - np.log1p(sums.others * np.expm1(-move.down))
    complement = at.q.others * moved + at.q.mass * shrink
    total: Floats = by.s * np.where(sums.confident, complement, at.q.mass * direct - at.q.at_pivot * moved)
    if at.loss.z_loss:
        total = total + direct * (by.zeta + by.z / 2.0 * _log_product(sums.own_a, move))
    return total / (2.0 * move.step)


def _log_ratio(w: Floats, move: Moves, out: Floats, inverse: Floats | float = 1.0) -> None:
    """Write log1p(a E+) - log1p(a E-) of a = w inverse to `out`.

    For steps up to 2^-26, 1 / (1 + a E-) is taken as 1 - a E-: what is left out is (a E-)^2 <= 2u.
    """
    if isinstance(move.up, float) and isinstance(move.down, float) and move.up <= 2.0**-26:
        down = math.expm1(move.down)
        span = (math.expm1(move.up) - down) * inverse
        np.multiply(w, -span * down * inverse, out=out)
        out += span
        out *= w
    else:
        lower = np.expm1(move.down) * inverse
        np.multiply(w, lower, out=out)
        out += 1.0
        np.divide(w, out, out=out)
        out *= np.expm1(move.up) * inverse - lower
    np.log1p(out, out=out)


def _log_product(a: Floats, move: Moves) -> Floats:
    """Return log1p(a E+) + log1p(a E-)."""
    total: Floats = np.log1p(a * np.expm1(move.up)) + np.log1p(a * np.expm1(move.down))
    return total


def _add_square(at: Point, planes: Planes, move: Moves, out: Floats, work: Floats) -> None:
    """Turn log ratios l into s Q l + (z/2) l (2 lse + product), each over 2h: z-loss is a square."""
    work[...] = _log_product(planes.a, move)
    work *= (at.by.z / 2.0)[:, None]
    work += at.coefficient[:, None]
    out *= work
    out /= 2.0 * move.step


def five_point(z: Floats, q: Floats, loss: Loss, column: int) -> tuple[float, float]:
    """Return dl/dz_j of one row by brute force, and the step taken: (K,), (K,) to two scalars.

    [8 (l(z + h) - l(z - h)) - (l(z + 2h) - l(z - 2h))] / 12h on whole rows, with the loss as
    :func:`plain_loss` writes it down; z is shifted by its maximum first unless a softcap or a z-loss
    makes the loss depend on it.
    """
    invariant = loss.link.softcap is None and loss.z_loss == 0.0
    base = z - z.max() if invariant else z
    h = AUDIT_STEP * unit_of(loss.link)
    return methods.five_point(lambda points: plain_loss(points, q[None, :], loss), base, column, h), h

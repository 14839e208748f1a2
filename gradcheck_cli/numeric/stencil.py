"""Differences of the loss by any method and step: what a step changes, and what a difference may be off by.

The default, central at 2^-26, has a path of its own (`difference`, `ruler`); this is the general one.

Steps are in units of the temperature, or of the softcap where that is smaller. Without either a softcap or a
z-loss, the derivatives of `methods` give the truncation. With them it comes of analyticity: if the change
phi(t) = sum c_n t^n is at most M in size for complex |t| <= R, then |c_n| <= M / R^n, and with rho = h/R

    forward          M/R rho / (1 - rho)
    central, complex M/R rho^2 / (1 - rho^2)
    richardson       M/R (2 rho)^4 / (3 (1 - 4 rho^2))

R is 1/3.6 of a unit. There |tanh'| grows by 1/cos^2(1/2) e at most, so that v moves by |dv| <= 3.53 |t| times
the slope, at most 1; |1 - a + a e^dv| >= cos(1/2) (1 - a + a e^Re dv), so |log1p(a E)| <= 3.1 a |dv|, and
|log sum a_k e^dv_k| <= |dv| / cos 1 <= 1.86 |dv|.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck_cli.numeric import methods
from gradcheck_cli.numeric.accuracy import pairwise
from gradcheck_cli.numeric.allowance import Allowance
from gradcheck_cli.numeric.cross_entropy import Loss, Point, plain_loss
from gradcheck_cli.numeric.difference import unit_of
from gradcheck_cli.numeric.methods import Change, Method
from gradcheck_cli.numeric.precision import FLOAT64, Floats
from gradcheck_cli.numeric.ruler import whole_row_rounding
from gradcheck_cli.numeric.softmax import Planes, row_sum

RADIUS = 1.0 / 3.6
_MOVED = 3.53  # |dv| over slope and step
_OWN = 3.1 * _MOVED  # of log1p(a E), over a
_ALL = 1.86 * _MOVED  # of the logarithm of a whole sum
_ROUNDING = 16.0 * FLOAT64.unit


def scale(at: Point) -> float:
    """Return what a step of 1 is in the logits as the row scales see them, which hold 1/T."""
    return unit_of(at.loss.link) if at.loss.link.softcap is not None else 1.0


def move(at: Point, planes: Planes, tau: Any) -> Any:
    """Return what a step of tau units in each logit does to its v, exactly.

    Under a softcap tanh(x + t) - tanh(x) = tanh(t) sech^2(x) / (1 + tanh(t) tanh(x)); slopes hold 1/T.
    """
    link = at.loss.link
    if link.softcap is None or planes.slope is None:
        return tau
    t = np.tanh(np.asarray(tau) * (unit_of(link) / link.softcap))
    capped = (planes.d + at.sums.top[:, None]) * (link.temperature / link.softcap)
    moved: Floats = link.softcap * t * planes.slope / (1.0 + t * capped)
    return moved


def change(at: Point, planes: Planes) -> Change:
    """Return what a step in each logit alone changes in E: (n, K).

    In the pivot column the others are moved instead where a > 1/2 and there is no softcap.
    """
    q = np.array(np.broadcast_to(at.q.plane(), planes.a.shape))
    planes.put_pivot(q, at.q.at_pivot)
    s, sums = at.by.s[:, None], at.sums

    def changed(tau: float | complex) -> Floats:
        moved = move(at, planes, tau)
        grown: Floats = np.log1p(planes.a * np.expm1(moved))
        out: Floats = s * (at.q.mass[:, None] * grown - q * moved)
        if planes.slope is None:
            shrunk = np.log1p(sums.others * np.expm1(-tau))
            complement = at.by.s * (at.q.mass * shrunk + at.q.others * tau)
            planes.put_pivot(out, np.where(sums.confident, complement, planes.at_pivot(out)))
        if at.loss.z_loss:
            out += grown * (at.by.zeta[:, None] + (at.by.z / 2.0)[:, None] * grown)
        return out

    return changed


def along(at: Point, planes: Planes, direction: Floats) -> Change:
    """Return what a step along a direction of signs changes in E: (K,) to (n,)."""
    pulled = row_sum(at.q.plane() * direction * np.ones_like(planes.a))
    pulled += direction[planes.pivot] * at.q.peak

    def changed(tau: float | complex) -> Floats:
        moved: Any = move(at, planes, tau * direction)
        grown: Any = np.log1p(row_sum(planes.a * np.expm1(moved)))
        pull = pulled * tau if planes.slope is None else _pull(at, planes, moved)
        out: Floats = at.by.s * (at.q.mass * grown - pull)
        if at.loss.z_loss:
            out += grown * (at.by.zeta + at.by.z / 2.0 * grown)
        return out

    return changed


def _pull(at: Point, planes: Planes, moved: Floats) -> Floats:
    """Return sum q dv of each row: (n,)."""
    q = np.array(np.broadcast_to(at.q.plane(), planes.a.shape))
    planes.put_pivot(q, at.q.at_pivot)
    return row_sum(q * moved)


def cauchy(method: str, h: float) -> float:
    """Return the truncation of a method in units of M/R, for steps of h units."""
    rho = h / RADIUS
    if method == "forward":
        return rho / (1.0 - rho)
    if method == "richardson":
        return (2.0 * rho) ** 4 / (3.0 * (1.0 - 4.0 * rho**2))
    return rho**2 / (1.0 - rho**2)


def difference_error(at: Point, by: Method) -> Allowance:
    """Return the allowance of a difference by a method against the analytic gradient, from the same a."""
    s, link = np.abs(at.by.s), at.loss.link
    rounding = _ROUNDING * methods.amplification(by.name, by.step) * (1.0 if link.softcap is None else 4.0)
    floor = 2.0**-1000 * (1.0 + at.magnitude) / min(1.0, by.step)
    if link.softcap is None and not at.loss.z_loss:
        truncation = methods.truncation(by.name, by.step)
        fixed = truncation * s * at.q.mass + rounding * at.magnitude
        return Allowance(fixed=fixed, depth=0.0, target=rounding * s, floor=floor)
    order = cauchy(by.name, by.step)
    square = np.abs(at.by.z) * (np.abs(at.sums.lse) + 1.0)
    return Allowance(
        fixed=order * _OWN * (s * at.q.mass + square) + rounding * at.magnitude,
        depth=0.0,
        target=s * (order * _MOVED + rounding) / (1.0 if link.softcap is None else link.temperature),
        floor=floor,
    )


def difference_at_pivot(at: Point, by: Method, whole: Allowance, slope: Floats | float) -> Floats:
    """Return the allowance in the pivot column, relative to 1 - a there where a > 1/2: (n,)."""
    direct = whole.at_pivot(at, slope, 0.0)
    if at.loss.link.softcap is not None or at.loss.z_loss:
        return direct
    rounding = _ROUNDING * methods.amplification(by.name, by.step)
    truncation = methods.truncation(by.name, by.step) + rounding
    own: Floats = np.abs(at.by.s) * (truncation * at.q.mass * at.sums.others + rounding * at.q.others)
    return np.where(at.sums.confident, own + whole.floor, direct)


def direction_error(at: Point, h: float) -> Floats:
    """Return the allowance of a central difference along a direction against <g, direction>: (n,).

    Truncation by analyticity; (64 + 6K) u of the sizes for sums of K terms in any order.
    """
    link, s = at.loss.link, np.abs(at.by.s)
    steepest = 1.0 if link.softcap is None else 1.0 / link.temperature
    square = np.abs(at.by.z) * (np.abs(at.sums.lse) + 1.0)
    truncation = cauchy("central", h) * (_ALL * (s * at.q.mass + square) + _MOVED * s * at.q.mass)
    rounding = (64.0 + 6.0 * at.sums.classes) * FLOAT64.unit * (at.magnitude + s * at.q.mass)
    whole: Floats = (truncation + rounding) * steepest + 2.0**-1000 / min(1.0, h)
    return whole


def whole_row(z: Floats, q: Floats, loss: Loss, column: int, by: Method) -> float:
    """Return a derivative as most people write it: the whole row's loss at moved logits, (K,), (K,).

    Forward or central; the step is H units, and z + H is what float64 makes of it.
    """
    h = by.step * unit_of(loss.link)
    points = np.repeat(z[None, :], 2, axis=0)
    points[0, column] += h
    if by.name == "central":
        points[1, column] -= h
    above, below = plain_loss(points, q[None, :], loss)
    return float((above - below) / (2.0 * h if by.name == "central" else h))


def whole_row_error(  # noqa: PLR0913, PLR0917 - as whole_row, and where it is
    z: Floats, q: Floats, at: Point, a: float, column: int, by: Method
) -> float:
    """Return the allowance of :func:`whole_row` for a class of probability a; its rounding grows as 1/h.

    Truncation as of the closed form; 2E/(2h) or 2E/h for the rounding E of a whole row's loss (`ruler`,
    whole_row_rounding, and what (sigma + 4) Q h adds to its depth); and z_j + h is off by u (|z_j| + h) on
    each side, times the slope there, at most 2 (Q + 2 lambda |lse|).
    """
    loss, u, unit = at.loss, FLOAT64.unit, unit_of(at.loss.link)
    mass, lse, h = float(q.sum()), abs(float(at.sums.lse[0])) + 1.0, by.step * unit
    untouched = loss.link.softcap is None and loss.link.temperature == 1.0
    if loss.link.softcap is None and not loss.z_loss:
        truncation = methods.truncation(by.name, by.step) * mass * a / loss.link.temperature
    else:
        size = mass * (_OWN + _MOVED) + 2.0 * loss.z_loss * _OWN * lse
        truncation = cauchy(by.name, by.step) * size / loss.link.temperature
    rounding = whole_row_rounding(z, q, loss, shifted=untouched) + (pairwise(len(z)) + 4.0) * mass
    off = (abs(float(z[column])) + h) * 2.0 * (mass + 2.0 * loss.z_loss * lse) / loss.link.temperature
    sides = 2.0 if by.name == "central" else 1.0
    return truncation + u * (2.0 * rounding + sides * off) / (sides * h)

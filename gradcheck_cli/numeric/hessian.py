"""Second derivatives of the loss: its Hessian times a direction, and differences of its gradient along it.

With the softmax's Jacobian J = diag(a) - a a^T, the gradient s (Q a - q) + zeta a, and zeta = z lse,

    H r = (s Q + zeta) J r + z <a, r> a

Moving all logits of a row by tau along signs r (in units of T), with P = sum a_k expm1(tau r_k), changes

    a_j by a_j (expm1(tau r_j) - P) / (1 + P), lse by log1p P

exactly, so a difference of gradients subtracts no gradients. The targets q drop out: the Hessian does not
depend on them.

A softcap c bends that. With x = z/c, X = tanh x and the slope k = sech^2(x) / T of v = c X / T, the gradient
is k e, e = (s Q + zeta) a - s q, and

    H r = k ((s Q + zeta) J m + z <a, m> a) - k e 2 X r / c,    m = k r

A step of w = tanh(t/c) along the sign r moves v by c k r w / (1 + b), b = r w X, and the slope by the factor
(1 - w^2) / (1 + b)^2, from the addition theorems of tanh and cosh: nothing cancels there either.
"""

from __future__ import annotations

import math

import numpy as np

from gradcheck_cli.numeric.cross_entropy import Point, subtract_targets
from gradcheck_cli.numeric.difference import unit_of
from gradcheck_cli.numeric.precision import FLOAT64, Floats
from gradcheck_cli.numeric.softmax import Planes, row_sum, vjp
from gradcheck_cli.numeric.stencil import cauchy

STEP = 2.0**-30
"""Truncation, about 1e-16 of a, is below rounding, which does not grow as the step shrinks."""

_ONE = 10.2
_LOG = 3.4


def times(at: Point, planes: Planes, direction: Floats) -> Floats:
    """Return H r at z for a step in units of T (of the softcap, if that is smaller): (n, K), given r (K,)."""
    if planes.slope is None:
        return _product(at, planes, np.broadcast_to(direction, planes.a.shape))
    bent = -2.0 * direction * _tanh(at, planes) / _cap(at)
    out = _product(at, planes, planes.slope * direction)
    out += bent * _excess(at, planes)
    out *= planes.slope * unit_of(at.loss.link)
    return out


def _product(at: Point, planes: Planes, m: Floats) -> Floats:
    """Return (s Q + zeta) J m + z <a, m> a: (n, K), (n, K) to (n, K)."""
    out: Floats = at.coefficient[:, None] * vjp(planes.a, m)
    if at.loss.z_loss:
        out += (at.by.z * row_sum(planes.a * m))[:, None] * planes.a
    return out


def difference(at: Point, planes: Planes, direction: Floats, h: float) -> Floats:
    """Return the central difference of the gradient along a direction: (n, K)."""
    return (_change(at, planes, direction, h) - _change(at, planes, direction, -h)) / (2.0 * h)


def _change(at: Point, planes: Planes, direction: Floats, tau: float) -> Floats:
    """Return g(v + tau r) - g(v), or g(z + tau c r) - g(z) under a softcap: (n, K)."""
    if planes.slope is None:
        return _moved(at, planes, np.expm1(tau * direction))
    cap = _cap(at)
    w = math.tanh(tau * unit_of(at.loss.link) / cap)
    bent = direction * w * _tanh(at, planes)
    out = _moved(at, planes, np.expm1(cap * planes.slope * (direction * w) / (1.0 + bent)))
    steeper = -(w * w + 2.0 * bent + bent * bent) / np.square(1.0 + bent)  # the slope's factor, less 1
    out *= 1.0 + steeper
    out += steeper * _excess(at, planes)
    out *= planes.slope
    return out


def _moved(at: Point, planes: Planes, step: Floats) -> Floats:
    """Return what (s Q + zeta) a - s q changes by where exp(v) changes by the factor 1 + step: (n, K)."""
    total = row_sum(planes.a * step)[:, None]
    moved: Floats = planes.a * (step - total) / (1.0 + total)
    out: Floats = at.coefficient[:, None] * moved
    if at.loss.z_loss:
        out += (at.by.z[:, None] * np.log1p(total)) * (planes.a + moved)
    return out


def _cap(at: Point) -> float:
    """Return the softcap of a loss that has one."""
    return at.loss.link.softcap or math.inf


def _tanh(at: Point, planes: Planes) -> Floats:
    """Return tanh(z/c) = v T/c: (n, K); masked classes have -1."""
    whole = (planes.d + at.sums.top[:, None]) * (at.loss.link.temperature / _cap(at))
    return np.clip(whole, -1.0, 1.0)


def _excess(at: Point, planes: Planes) -> Floats:
    """Return (s Q + zeta) a - s q, the gradient before the slope: (n, K)."""
    out = planes.a * at.coefficient[:, None]
    subtract_targets(at, out, np.empty_like(out))
    planes.put_pivot(out, at.own_gradient)
    return out


def difference_error(at: Point, planes: Planes, h: float) -> Floats:
    """Return what the difference may be off by against H r, both from the same a: (n, K).

    Truncation by analyticity (`stencil`), within |tau| <= 1/3.6: |a_j(tau)| <= 1.81 a_j, for the size of
    sum a e^(tau r) is at least cos(1/3.6) e^(-1/3.6), so M/R <= 10.2 a_j, and 3.4 |z| a_j for the logarithm.
    Rounding is absolute in a_j: 64u, and 4K u for sums in any order.

    Under a softcap |w| <= tan(1/3.6), so |v(tau) - v| <= 0.40, |a_j(tau)| <= 2.42 a_j, |log| <= 0.63, and
    the slope's factor is at most 2.12: M/R <= k (23 a_j (|s| Q + |zeta|) + 12 |z| a_j + 12 |s| q_j). Rounding
    is twice that of before, and 64u |s| q_j; the slope k, which is at most 1/T, multiplies everything.
    """
    z, magnitude = np.abs(at.by.z), at.magnitude
    order, sums = cauchy("central", h), 4.0 * at.sums.classes
    if planes.slope is None:
        rounding = (64.0 + sums) * FLOAT64.unit * (magnitude + z)
        allowed: Floats = (order * (_ONE * magnitude + _LOG * z) + rounding)[:, None] * planes.a
        return allowed + 2.0**-1000
    rounding = (128.0 + sums) * FLOAT64.unit * (magnitude + z)
    allowed = (order * (23.0 * magnitude + 12.0 * z) + rounding)[:, None] * planes.a
    pull = np.multiply(at.q.plane(), np.abs(at.by.s)[:, None], out=np.empty_like(planes.a))
    planes.put_pivot(pull, np.abs(at.by.s) * at.q.at_pivot)
    allowed += (12.0 * order + 64.0 * FLOAT64.unit) * pull
    allowed *= planes.slope
    return allowed + 2.0**-1000

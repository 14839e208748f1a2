"""Second derivatives of the loss: its Hessian times a direction, and differences of its gradient along it.

With the softmax's Jacobian J = diag(a) - a a^T, the gradient s (Q a - q) + zeta a, and zeta = z lse,

    H r = (s Q + zeta) J r + z <a, r> a

Moving all logits of a row by tau along signs r (in units of T), with P = sum a_k expm1(tau r_k), changes

    a_j by a_j (expm1(tau r_j) - P) / (1 + P), lse by log1p P

exactly, so a difference of gradients subtracts no gradients. The targets q drop out: the Hessian does not
depend on them. A softcap, whose own second derivative comes in, is not treated here.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.numeric.cross_entropy import Point
from gradcheck_cli.numeric.precision import FLOAT64, Floats
from gradcheck_cli.numeric.softmax import Planes, row_sum, vjp
from gradcheck_cli.numeric.stencil import cauchy

STEP = 2.0**-30
"""Truncation, about 1e-16 of a, is below rounding, which does not grow as the step shrinks."""

_ONE = 10.2
_LOG = 3.4


def times(at: Point, planes: Planes, direction: Floats) -> Floats:
    """Return H r at z, times T once more for a step in units of T: (n, K), given r (K,)."""
    spread = np.broadcast_to(direction, planes.a.shape)
    out: Floats = at.coefficient[:, None] * vjp(planes.a, spread)
    if at.loss.z_loss:
        out += (at.by.z * row_sum(planes.a * direction))[:, None] * planes.a
    return out


def difference(at: Point, planes: Planes, direction: Floats, h: float) -> Floats:
    """Return the central difference of the gradient along a direction: (n, K)."""
    return (_change(at, planes, direction, h) - _change(at, planes, direction, -h)) / (2.0 * h)


def _change(at: Point, planes: Planes, direction: Floats, tau: float) -> Floats:
    """Return g(v + tau r) - g(v): (n, K)."""
    step = np.expm1(tau * direction)
    total = row_sum(planes.a * step)[:, None]
    moved: Floats = planes.a * (step - total) / (1.0 + total)
    out: Floats = at.coefficient[:, None] * moved
    if at.loss.z_loss:
        out += (at.by.z[:, None] * np.log1p(total)) * (planes.a + moved)
    return out


def difference_error(at: Point, planes: Planes, h: float) -> Floats:
    """Return what the difference may be off by against H r, both from the same a: (n, K).

    Truncation by analyticity (`stencil`), within |tau| <= 1/3.6: |a_j(tau)| <= 1.81 a_j, for the size of
    sum a e^(tau r) is at least cos(1/3.6) e^(-1/3.6), so M/R <= 10.2 a_j, and 3.4 |z| a_j for the logarithm.
    Rounding is absolute in a_j: 64u, and 4K u for sums in any order.
    """
    z = np.abs(at.by.z)
    truncation = cauchy("central", h) * (_ONE * at.magnitude + _LOG * z)
    rounding = (64.0 + 4.0 * at.sums.classes) * FLOAT64.unit * (at.magnitude + z)
    allowed: Floats = (truncation + rounding)[:, None] * planes.a + 2.0**-1000
    return allowed

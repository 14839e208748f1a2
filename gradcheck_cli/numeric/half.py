"""What 16-bit arithmetic throughout may cost: every elementwise operation rounded to the half format."""

from __future__ import annotations

import math

import numpy as np

from gradcheck_cli.numeric.accuracy import ANYTHING, EXP_ULP, any_order, link_error, target_sum_error
from gradcheck_cli.numeric.allowance import column
from gradcheck_cli.numeric.cross_entropy import Point
from gradcheck_cli.numeric.precision import FLOAT32, Floats, Precision
from gradcheck_cli.numeric.softmax import Link, Planes, Sums

NATIVE_CAP = 1.0 / 6.0
"""Largest share of a row's largest gradient that 16-bit arithmetic may cost. Right half-precision
exports of the frameworks lose at most 13 %; the known read-modify-write bugs lose 18 % and more."""


def native_exponent(sums: Sums, link: Link, half: Precision) -> tuple[Floats, float]:
    """Return r^h of native half arithmetic, every elementwise operation rounded to the half format.

    r^h_j = u_h (D_j + log K - log p_j + log S + 6 + link) + the float32 sums: fixed part, per depth.
    """
    c = EXP_ULP[FLOAT32]
    link_fixed, link_depth = link_error(sums, link)
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
    eta (p_j (K + sum of max(1, w_k)) + 4); and these targets summed in the half format. The first plane of
    the room is returned.
    """
    out = native_terms(at, planes, half, g, room)
    planes.put_pivot(out, planes.at_pivot(out) + native_target(at, half))
    return capped(out, np.abs(g, out=room[1]).max(axis=1), half)


def capped(terms: Floats, largest: Floats, half: Precision) -> Floats:
    """Cap the terms at a sixth of each row's largest |g|, in place: (n, K), (n,).

    The cap leaves a subnormal, for a row may have no more.
    """
    return np.minimum(terms, (NATIVE_CAP * largest + half.smallest_subnormal)[:, None], out=terms)


def native_target(at: Point, half: Precision) -> Floats:
    """Return what the pivot column has more than the others: (n,)."""
    peak = at.q.at_pivot if at.q.sparse else at.q.peak
    return _target(at, half) * peak


def _target(at: Point, half: Precision) -> Floats:
    """Return what q_j costs: (n,)."""
    steepest = 1.0 if at.loss.link.softcap is None else 3.0 / at.loss.link.temperature
    return 2.0 * half.unit * steepest * np.abs(at.by.s)


def least_rate(sums: Sums, link: Link, half: Precision, depth: Floats | float) -> Floats:
    """Return what native half arithmetic allows at least of |g_j| at some depth of plain rows: (n,)."""
    fixed, per_depth = native_exponent(sums, link, half)
    exponent = np.minimum(fixed + per_depth * depth, ANYTHING)
    return np.minimum(np.expm1(exponent) + 6.0 * half.unit, NATIVE_CAP)


def least_floor(magnitude: Floats, rate: Floats, largest: Floats, half: Precision) -> Floats:
    """Return what native half arithmetic allows at least beside `rate` of |g_j| in plain rows: (n,) each.

    A subnormal of what is scaled where that reaches no cap, given the largest |g| of each row; one of the
    result in any case.
    """
    scaled = half.smallest_subnormal * magnitude
    uncapped = rate * largest + scaled <= NATIVE_CAP * largest
    return half.smallest_subnormal + np.where(uncapped, scaled, 0.0)


def native_terms(
    at: Point, planes: Planes, half: Precision, g: Floats, room: tuple[Floats, Floats]
) -> Floats:
    """Return the terms of :func:`native_error` before they are capped, no entry treated as the pivot's."""
    out, work = room
    u, magnitude = half.unit, at.magnitude
    fixed, depth = native_exponent(at.sums, at.loss.link, half)
    np.multiply(planes.d, -depth, out=out)
    out += column(fixed)
    np.minimum(out, ANYTHING, out=out)
    np.expm1(out, out=out)
    out += 2.0 * u
    out *= planes.a
    out *= column(magnitude)
    np.multiply(planes.a, column(_native_sums(at, half)), out=work)
    out += work
    relative = 4.0 * u
    if planes.slope is not None:
        out *= planes.slope
        steepest = 1.0 / at.loss.link.temperature
        np.multiply(planes.a, column(4.0 * u * magnitude * steepest), out=work)
        out += work
        relative = 20.0 * u
    if not at.q.sparse:
        np.multiply(at.q.plane(), column(_target(at, half)), out=work)
        out += work
    np.abs(g, out=work)
    work *= relative
    out += work
    out += half.smallest_subnormal * ((1.0 if at.q.sparse else 5.0) + column(magnitude))
    return out


def _native_sums(at: Point, half: Precision) -> Floats:
    """Return what native half arithmetic adds for each p_j beside the exponent's error: (n,)."""
    extra = np.zeros(len(at.sums.top))
    if at.loss.z_loss:
        exponent = np.minimum(half.unit * (2.0 * np.abs(at.sums.lse) + 8.0), ANYTHING)
        extra += np.abs(at.by.zeta) * np.expm1(exponent)
    if not at.q.sparse:
        weights = at.loss.class_weights
        heaviest = at.sums.classes if weights is None else float(np.maximum(weights, 1.0).sum())
        extra += half.smallest_subnormal * (at.sums.classes + heaviest)
        extra += np.abs(at.by.s) * target_sum_error(at, half, any_order(at.sums.classes))
    return extra

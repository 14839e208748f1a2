"""The softmax layer alone, between an upstream gradient t and the bottom gradient g: (n, K) blocks.

    softmax      g = (t - <t, a>) a / T          the gradient of f(z) = <t, softmax(z/T)>
    log-softmax  g = (t - a sum t) / T           the gradient of f(z) = <t, log softmax(z/T)>

A constant may be added to t without changing the first, for <a, 1> = 1; the entry of the pivot column, where
a is largest, is taken off every row, so that a saturated row cancels nothing: there g = -<t, a> a and the
inner product runs over the small probabilities alone.

Moving one logit of v = z/T by tau, with E = expm1(tau), changes f by

    softmax      (t_j - f) a_j E / (1 + a_j E)
    log-softmax  t_j tau - (sum t) log1p(a_j E)

exactly: (f S + t_j w_j E) / (S + w_j E) - f for weights w = a S, and log S' - log S = log1p(a_j E).
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from gradcheck_cli.numeric.methods import Change
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Link, Planes, Sums, row_sum
from gradcheck_cli.records import dataclass


@dataclass(frozen=True, eq=False)
class Pull:
    """What the upstream gradients of n rows amount to: (n,) arrays.

    In the rows of ``log`` the probabilities take no part in the sums, and nothing is subtracted from t.
    """

    shift: Floats  # t in the pivot column, which was subtracted from t
    inner: Floats  # <t', a> of the shifted upstream; the log: sum t
    others: Floats  # the log: sum of t outside the pivot column
    size: Floats  # sum |t_k| a_k, t as it came; the log: sum |t_k|
    deep: Floats  # sum |t_k| a_k D_k; the log: 0
    moved: Floats  # sum |t'_k| a_k; the log: sum |t_k|
    moved_deep: Floats  # sum |t'_k| a_k D_k; the log: 0
    largest: Floats  # max |t_k|

    def part(self, rows: slice) -> Pull:
        """Return some of the rows."""
        return Pull(*(getattr(self, each.name)[rows] for each in fields(self)))


@dataclass(frozen=True, eq=False)
class LayerPoint:
    """Where f is differentiated: n rows of softmax and upstream, without their planes."""

    sums: Sums
    by: Pull
    link: Link
    log: bool


def pull(t: Floats, planes: Planes, work: tuple[Floats, Floats], *, log: bool) -> Pull:
    """Return what the upstream amounts to; for the softmax t becomes t', its pivot entry taken off."""
    size, deep = work
    nothing = np.zeros(len(t))
    np.abs(t, out=size)
    largest = size.max(axis=1)
    own = planes.at_pivot(t)
    if log:
        whole = row_sum(size)
        planes.put_pivot(t, nothing)
        others = row_sum(t)
        planes.put_pivot(t, own)
        return Pull(nothing, others + own, others, whole, nothing, whole, nothing, largest)
    told = _sizes(planes, size, deep)
    t -= own[:, None]
    np.multiply(t, planes.a, out=size)
    inner = row_sum(size)
    np.abs(t, out=size)
    moved = _sizes(planes, size, deep)
    return Pull(own, inner, nothing, *told, *moved, largest)


def _sizes(planes: Planes, size: Floats, deep: Floats) -> tuple[Floats, Floats]:
    """Return the sums of |t| a and of |t| a D, given |t|, which is overwritten: (n,), (n,)."""
    size *= planes.a
    np.multiply(size, planes.d, out=deep)
    return row_sum(size), -row_sum(deep)


def backward(at: LayerPoint, t: Floats, planes: Planes, out: Floats) -> Floats:
    """Return the gradient at v, before 1/T: (n, K), written to `out`."""
    by, sums = at.by, at.sums
    if not at.log:
        np.subtract(t, by.inner[:, None], out=out)
        out *= planes.a
        return out
    np.multiply(planes.a, -by.inner[:, None], out=out)
    out += t
    planes.put_pivot(out, np.where(sums.confident, by.inner * sums.others - by.others, planes.at_pivot(out)))
    return out


def change(at: LayerPoint, t: Floats, planes: Planes) -> Change:
    """Return what moving an entry of v changes in f, entry by entry: tau to (n, K).

    f is summed anew, from products the other way around, so that a wrong inner product shows. In the
    pivot column of the log the others are moved instead where a > 1/2.
    """
    if at.log:
        return _log_change(at, t, planes)
    inner = row_sum(planes.a[:, ::-1] * t[:, ::-1])[:, None]
    gap = t - inner

    def moved(tau: float | complex) -> Floats:
        step: Floats = planes.a * np.expm1(tau)
        step /= 1.0 + step
        step *= gap
        return step

    return moved


def _log_change(at: LayerPoint, t: Floats, planes: Planes) -> Change:
    sums, by = at.sums, at.by
    own, own_t = planes.at_pivot(planes.a), planes.at_pivot(t)

    def moved(tau: float | complex) -> Floats:
        e = np.expm1(tau)
        out: Floats = t * tau - by.inner[:, None] * np.log1p(planes.a * e)
        direct = own_t * tau - by.inner * np.log1p(own * e)
        complement = -by.others * tau - by.inner * np.log1p(sums.others * np.expm1(-tau))
        planes.put_pivot(out, np.where(sums.confident, complement, direct))
        return out

    return moved


def along(at: LayerPoint, t: Floats, planes: Planes, direction: Floats) -> Change:
    """Return what a step along a direction of signs changes in f: (K,) to (n,)."""
    ahead = direction > 0
    share_ahead, share_behind = (planes.a[:, side].sum(axis=1) for side in (ahead, ~ahead))
    if at.log:
        pulled = (t * direction).sum(axis=1)
        return lambda tau: (
            pulled * tau - at.by.inner * np.log1p(share_ahead * np.expm1(tau) + share_behind * np.expm1(-tau))
        )
    pull = (t - at.by.inner[:, None]) * planes.a
    pull_ahead, pull_behind = (pull[:, side].sum(axis=1) for side in (ahead, ~ahead))

    def moved(tau: float | complex) -> Floats:
        e, f = np.expm1(tau), np.expm1(-tau)
        out: Floats = (pull_ahead * e + pull_behind * f) / (1.0 + share_ahead * e + share_behind * f)
        return out

    return moved


def plain(z: Floats, t: Floats, *, log: bool) -> Floats:
    """Return f as one writes it down, on whole rows of v: (..., K), (..., K) to (...).

    The function whose brute-force differences audit the closed form. Masked classes add nothing.
    """
    d = z - z.max(axis=-1, keepdims=True)
    w = np.exp(d)
    total = w.sum(axis=-1)
    if not log:
        softmax: Floats = np.sum(t * w, axis=-1) / total
        return softmax
    logs = np.where(np.isneginf(d), 0.0, d - np.log(total)[..., None])
    whole: Floats = np.sum(t * logs, axis=-1)
    return whole

"""What known bugs make of the backward of a softmax: (n, K) planes at v, each with its error.

    softmax (t - <t, a>) a        log-softmax t - a sum t

With e = a rho (`piece.py`) a product t a is off by |t| e and an inner product <t, a> by <|t|, e>.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck_cli.diagnosis.pulled.piece import Pulled, dot, stored
from gradcheck_cli.numeric.precision import Floats

Made = tuple[Floats, Floats]

_OVERFLOWS = {24: 88.73, 53: 709.79}
"""exp of more is infinite, by the digits of the format."""


def right(piece: Pulled) -> Made:
    """Return what is right, and what the check allows it."""
    return piece.right, piece.allowed


def tight(piece: Pulled) -> Made:
    """Return what is right, and what the check allows it without 16-bit arithmetic."""
    return piece.right, piece.plain


def backward(a: Floats, e: Floats, t: Floats, off: Floats | float = 0.0) -> Made:
    """Return (t - <t, a>) a, where t itself may be off by so much."""
    size = np.abs(t)
    inner, whole = dot(t, a), dot(size, a)
    return (t - inner) * a, (size + whole) * e + a * dot(size, e) + (off + dot(a, off + 0.0 * a)) * a


def soft(piece: Pulled) -> Made:
    """Return the backward of softmax."""
    return stored(piece, *backward(piece.a, piece.error, piece.t))


def log_soft(piece: Pulled) -> Made:
    """Return the backward of log-softmax."""
    return stored(piece, *_log(piece, piece.t))


def _log(piece: Pulled, t: Floats) -> Made:
    return log_backward(piece.a, piece.error, t)


def log_backward(a: Floats, e: Floats, t: Floats) -> Made:
    """Return t - a sum t."""
    total, size = t.sum(axis=1, keepdims=True), np.abs(t).sum(axis=1, keepdims=True)
    return t - a * total, e * size + _least(a, e) * (a * size + np.abs(t))


def _least(a: Floats, e: Floats) -> Floats:
    """Return the least relative error of a row's probabilities, as that of its sums: (n, 1)."""
    relative = np.divide(e, a, out=np.zeros_like(a), where=a > 0.0)
    least: Floats = np.where(a > 0.0, relative, np.inf).min(axis=1, keepdims=True)
    return np.where(np.isfinite(least), least, 0.0)


def _unit(piece: Pulled) -> Floats:
    return _least(piece.a, piece.error)


def diagonal(piece: Pulled) -> Made:
    """Return t a (1 - a)."""
    t, a = piece.t, piece.a
    return stored(piece, t * a * (1.0 - a), 3.0 * np.abs(t) * piece.error)


def log_diagonal(piece: Pulled) -> Made:
    """Return t (1 - a)."""
    return stored(piece, piece.t * (1.0 - piece.a), np.abs(piece.t) * (piece.error + _unit(piece)))


def no_dot(piece: Pulled) -> Made:
    """Return t a."""
    return stored(piece, piece.t * piece.a, 2.0 * np.abs(piece.t) * piece.error)


def over_tile(width: int, *, own: bool) -> Callable[[Pulled], Made]:
    """Return what takes the inner product over the first so many columns, or over each tile's own."""

    def made(piece: Pulled) -> Made:
        starts = np.arange(0, piece.a.shape[1], width)
        inner = np.add.reduceat(piece.t * piece.a, starts, axis=1)
        size = np.add.reduceat(np.abs(piece.t) * piece.a, starts, axis=1)
        off = np.add.reduceat(np.abs(piece.t) * piece.error, starts, axis=1)
        of = np.arange(piece.a.shape[1]) // width if own else np.zeros(piece.a.shape[1], dtype=np.int64)
        inner, size, off = inner[:, of], size[:, of], off[:, of]
        error = (np.abs(piece.t) + size) * piece.error + piece.a * off
        return stored(piece, (piece.t - inner) * piece.a, error)

    return made


def passed_on(piece: Pulled) -> Made:
    """Return t."""
    return stored(piece, piece.t.copy(), np.zeros_like(piece.t))


def bare_dot(piece: Pulled) -> Made:
    """Return (t - sum t) a."""
    total = piece.t.sum(axis=1, keepdims=True)
    size = np.abs(piece.t).sum(axis=1, keepdims=True)
    return stored(piece, (piece.t - total) * piece.a, 2.0 * (np.abs(piece.t) + size) * piece.error)


def log_bare(piece: Pulled) -> Made:
    """Return t - sum t."""
    total = piece.t.sum(axis=1, keepdims=True)
    size = np.abs(piece.t) + np.abs(piece.t).sum(axis=1, keepdims=True)
    return stored(piece, piece.t - total, _unit(piece) * size)


def log_mean(piece: Pulled) -> Made:
    """Return t - mean t."""
    mean, size = piece.t.mean(axis=1, keepdims=True), np.abs(piece.t)
    return stored(piece, piece.t - mean, _unit(piece) * (size + size.mean(axis=1, keepdims=True)))


def ignored(piece: Pulled) -> Made:
    """Return a (1 - a), the derivative entry by entry with no upstream at all."""
    return stored(piece, piece.a * (1.0 - piece.a), 3.0 * piece.error)


def log_ignored(piece: Pulled) -> Made:
    """Return 1 - K a, the upstream taken as 1."""
    return stored(piece, *_log(piece, np.ones_like(piece.t)))


def squared(piece: Pulled) -> Made:
    """Return the backward of t^2, softmax."""
    return stored(piece, *backward(piece.a, piece.error, piece.t * piece.t))


def log_squared(piece: Pulled) -> Made:
    """Return the backward of t^2, log-softmax."""
    return stored(piece, *_log(piece, piece.t * piece.t))


def weighted_again(piece: Pulled) -> Made:
    """Return t times what is right."""
    return piece.t * piece.right, np.abs(piece.t) * piece.allowed


def _again(piece: Pulled) -> Made:
    """Return the softmax of the probabilities, and its error."""
    w = np.exp(piece.a - piece.a.max(axis=1, keepdims=True))
    again = w / w.sum(axis=1, keepdims=True)
    moved = piece.error.max(axis=1, keepdims=True)
    return again, again * (4.0 * moved + 4.0 * _unit(piece))


def double(piece: Pulled) -> Made:
    """Return the backward of a softmax of a softmax."""
    again, e = _again(piece)
    inner, off = backward(again, e, piece.t)
    return stored(piece, *backward(piece.a, piece.error, inner, off))


def double_short(piece: Pulled) -> Made:
    """Return the backward of softmax with the softmax of the probabilities."""
    return stored(piece, *backward(*_again(piece), piece.t))


def jacobian_again(piece: Pulled) -> Made:
    """Return J(a) J(a) t."""
    inner, off = backward(piece.a, piece.error, piece.t)
    return stored(piece, *backward(piece.a, piece.error, inner, off))


def sigmoid(piece: Pulled) -> Made:
    """Return t s (1 - s), s the logistic function of v."""
    s = 1.0 / (1.0 + np.exp(-np.clip(piece.v, -700.0, 700.0)))
    small = s * (1.0 - s)
    return stored(piece, piece.t * small, np.abs(piece.t) * small * _unit(piece) * (4.0 + np.abs(piece.v)))


def probabilities(piece: Pulled) -> Made:
    """Return a."""
    return piece.a, piece.error + piece.share * piece.a + piece.absolute


def logits(piece: Pulled) -> Made:
    """Return z."""
    z = piece.v * piece.temperature
    size = np.where(np.isfinite(z), np.abs(z), 0.0)
    size = size + np.abs(piece.top[:, None] * piece.temperature)
    return z, piece.share * np.abs(np.where(np.isfinite(z), z, 0.0)) + 2.0**-50 * size + piece.absolute


def unwritten(piece: Pulled) -> Made:
    """Return what is right but for the rows that are exported as 0 throughout."""
    there = piece.got.any(axis=1, keepdims=True)
    return np.where(there, piece.right, 0.0), np.where(there, piece.allowed, 0.0)


def poisoned(piece: Pulled) -> Made:
    """Return NaN in wholly masked rows."""
    return np.where(piece.gone[:, None], np.nan, piece.right), piece.allowed


def overflown(digits: int) -> Callable[[Pulled], Made]:
    """Return what makes NaN of rows whose largest logit has no exponential in a format."""
    limit = _OVERFLOWS.get(digits, _OVERFLOWS[24])

    def made(piece: Pulled) -> Made:
        return np.where(piece.top[:, None] > limit, np.nan, piece.right), piece.allowed

    return made

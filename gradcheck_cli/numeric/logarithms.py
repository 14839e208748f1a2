"""What the logarithm of a probability may be off by, and what is made of it: loss, log-softmax, -y/a."""

from __future__ import annotations

import math

import numpy as np

from gradcheck_cli.numeric.accuracy import ANYTHING, EXP_ULP, link_error, lse_error, rounded_exponent
from gradcheck_cli.numeric.allowance import column
from gradcheck_cli.numeric.cross_entropy import Point
from gradcheck_cli.numeric.half import native_exponent
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import Link, Planes, Sums
from gradcheck_cli.records import dataclass


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic that may explain an export: precision u, how sums are formed, native half if any.

    `model` below "tree" leaves the exporter no arithmetic at all; `logits` is the format that the logits
    were rounded to after the exporter had worked on them.
    """

    compute: Precision
    native: Precision | None = None
    model: Model = Model.ANY_ORDER
    logits: Precision | None = None


REFERENCE = Arithmetic(FLOAT64)


def _log_error(sums: Sums, link: Link, by: Arithmetic) -> tuple[Floats, float]:
    """Return the error of log p_j in an arithmetic, fixed part and per depth: r_j of the module's head.

    2u |m| more for lse formed as m + log S before it is subtracted; native half adds its own r^h.
    """
    u, half = by.compute, by.native
    c = EXP_ULP[u]
    link_fixed, link_depth = link_error(sums, link)
    sigma = by.model.sigma(sums.classes)
    fixed = math.log(sums.classes) + 2 * c + sigma + (c + 1) * sums.log_total + 3.0
    fixed = u.unit * (fixed + link_fixed + 2.0 * np.abs(sums.top))
    depth = u.unit * (2.0 + link_depth)
    if by.model < Model.TREE:
        fixed, depth = np.zeros_like(fixed), 0.0
    if half is not None:
        native_fixed, native_depth = native_exponent(sums, link, half)
        fixed, depth = fixed + native_fixed, depth + native_depth
    if by.logits is not None:
        moved_fixed, moved_depth = rounded_exponent(sums, link, by.logits)
        fixed, depth = fixed + moved_fixed, depth + moved_depth
    return fixed, depth


def log_probability_error(sums: Sums, d: Floats, link: Link, by: Arithmetic, out: Floats) -> Floats:
    """Write the allowance of log p_j, absolute: 1.001 r_j of the arithmetic and of float64: (n, K).

    A kernel that takes the logarithm of a rounded p near 1 loses log p to u absolute, inside 3u; one
    that flushes p < 2^-126 to 0 and takes its logarithm has -inf, and fails: log p is representable.
    """
    fixed, depth = _log_error(sums, link, by)
    own_fixed, own_depth = _log_error(sums, link, REFERENCE)
    np.multiply(d, -1.001 * (depth + own_depth), out=out)
    out += column(1.001 * (fixed + own_fixed))
    return out


def gradient_at_probabilities_error(
    at: Point, planes: Planes, by: Arithmetic, sides: tuple[Floats, Floats], out: Floats
) -> Floats:
    """Write the allowance of -s q_k / a_k, the sides being what was got and what is right: (n, K).

    |.| expm1(1.001 (r_k + r_k of float64) + 6u). A probability below the smallest number eta that surely
    is not flushed to zero (float16 has gradual underflow, which costs eta/2 of it; the others may flush
    what is subnormal) bounds the quotient from below only: anything of the right sign and at
    least |s| q / (p + 4 eta), an infinity included, is right.
    """
    got, expected = sides
    u, half = by.compute, by.native
    fixed, depth = _log_error(at.sums, at.loss.link, by)
    own_fixed, own_depth = _log_error(at.sums, at.loss.link, REFERENCE)
    np.multiply(planes.d, -1.001 * (depth + own_depth), out=out)
    products = 0.0 if by.model < Model.TREE else 6.0 * u.unit
    out += column(1.001 * (fixed + own_fixed) + products + (0.0 if half is None else 6.0 * half.unit))
    eta = u.smallest_normal
    if half is not None and half.smallest_normal > eta:
        eta = half.smallest_subnormal
        out += eta / np.maximum(planes.a, eta)
    np.minimum(out, ANYTHING, out=out)
    np.expm1(out, out=out)
    size = np.abs(expected)
    out *= np.minimum(size, 1e300)
    lowest = 0.9 * size * (planes.a / (planes.a + 4.0 * eta))
    flushed = (
        (planes.a < 4.0 * eta) & (size > 0) & (np.abs(got) >= lowest) & (np.sign(got) == np.sign(expected))
    )
    out[flushed] = np.inf
    return out


def loss_error(at: Point, plain: Floats, by: Arithmetic) -> Floats:
    """Return the allowance of each row's loss, `plain` being its cross-entropy part: (n,).

    Q times the error of lse (|m| included: lse - z_y is a common way), 4u l for differences and
    products, and the K-term sum of dense targets in any order, sum q_k v_k included; z-loss adds
    lambda (2 |lse| + error) error + 3 u lambda lse^2. Native half: lse off by
    u_h (4 log S + log K + 8 + 2 |m| + 2 |lse| + link), and the same products in u_h.
    """
    half, sums, q = by.native, at.sums, at.q
    link, z_loss = at.loss.link, at.loss.z_loss
    square = np.square(sums.lse)
    total = np.zeros_like(plain) if by.model < Model.TREE else _rounded_sums(at, plain, by)
    if by.logits is not None:
        exponent, depth = rounded_exponent(sums, link, by.logits)
        total = total + q.mass * exponent + depth * plain
        total = total + z_loss * (2.0 * np.abs(sums.lse) + exponent) * exponent
    if half is not None:
        link_fixed, _ = link_error(sums, link)
        inner = 4.0 * sums.log_total + math.log(sums.classes) + 8.0 + link_fixed
        native = half.unit * (inner + 2.0 * np.abs(sums.top) + 2.0 * np.abs(sums.lse))
        total = total + q.mass * native + 6.0 * half.unit * plain
        total = total + z_loss * ((2.0 * np.abs(sums.lse) + native) * native + 8.0 * half.unit * square)
    return total


def _rounded_sums(at: Point, plain: Floats, by: Arithmetic) -> Floats:
    """Return what plain arithmetic in u costs each row's loss: (n,)."""
    u, sums, q, z_loss = by.compute, at.sums, at.q, at.loss.z_loss
    sigma = by.model.sigma(sums.classes)
    lse = lse_error(sums, at.loss.link, u, sigma)
    dense = 0.0 if q.sparse else sigma
    _, link_depth = link_error(sums, at.loss.link)
    offset = u.unit * (1.0 + dense) * np.abs(sums.top)
    total: Floats = q.mass * (lse + offset) + u.unit * (4.0 + dense + link_depth) * plain
    if z_loss:
        square = np.square(sums.lse)
        total = total + z_loss * ((2.0 * np.abs(sums.lse) + lse) * lse + 3.0 * u.unit * square)
    return total

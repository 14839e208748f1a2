"""Cross-entropy under every convention that exporters use: loss, gradient, and the chain to a - y."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices, Link, Planes, Sums, row_sum
from gradcheck_cli.records import dataclass


@dataclass(frozen=True, eq=False)
class Loss:
    """What the loss of one row is, before any reduction."""

    link: Link
    smoothing: float = 0.0
    smoothing_over: str = "classes"
    class_weights: Floats | None = None  # (K,)
    z_loss: float = 0.0
    divisor_terms: float = 0.0  # roundings of a divisor that is itself a sum, in u

    def spread(self, classes: int) -> float:
        """Return the share of the target that smoothing gives to each class."""
        if self.smoothing_over == "classes":
            return self.smoothing / classes
        return self.smoothing / (classes - 1) if classes > 1 else 0.0


@dataclass(frozen=True, eq=False)
class Targets:
    """Effective target weights q of n rows: what smoothing and class weights make of the labels.

    q_k = even + shared_k + dense_k, and `peak` more in the pivot column. At most one of the three is
    there; a hard label without smoothing has none of them, and then q is `peak` at the label alone.
    """

    peak: Floats  # (n,)
    mass: Floats  # (n,) Q
    others: Floats  # (n,) Q less the pivot's weight, as a sum of the other weights
    at_pivot: Floats  # (n,) q of the pivot column
    even: float = 0.0
    shared: Floats | None = None  # (K,)
    dense: Floats | None = None  # (n, K)

    @property
    def sparse(self) -> bool:
        """Whether q is zero outside the pivot column."""
        return self.even == 0.0 and self.shared is None and self.dense is None

    def part(self, rows: slice | Indices) -> Targets:
        """Return some of the rows."""
        dense = None if self.dense is None else self.dense[rows]
        each = (self.peak[rows], self.mass[rows], self.others[rows], self.at_pivot[rows])
        return Targets(*each, even=self.even, shared=self.shared, dense=dense)

    @classmethod
    def joined(cls, parts: Sequence[Targets]) -> Targets:
        """Return the targets of several sets of rows, none of which has any outside the pivot column."""
        return cls(
            peak=np.concatenate([part.peak for part in parts]),
            mass=np.concatenate([part.mass for part in parts]),
            others=np.concatenate([part.others for part in parts]),
            at_pivot=np.concatenate([part.at_pivot for part in parts]),
        )

    def plane(self) -> Floats:
        """Return the part of q that is not at the pivot alone, broadcastable to (n, K)."""
        if self.dense is not None:
            return self.dense
        if self.shared is not None:
            return self.shared
        return np.array(self.even)


def class_targets(labels: Indices, classes: int, loss: Loss) -> Targets:
    """Return q of class labels: (n,) to Targets; labels must lie in 0 .. K-1.

    PyTorch's form of smoothing with class weights: (1 - e) w_y at the label plus (e/K) w_k everywhere;
    over the others: (1 - e) w_y at the label and e/(K-1) w_k elsewhere.
    """
    weights = loss.class_weights
    each = loss.spread(classes)
    w = np.ones(len(labels)) if weights is None else weights[labels]
    label = (1.0 - loss.smoothing) * w
    if each == 0.0:
        return Targets(peak=label, mass=label, others=np.zeros_like(label), at_pivot=label)
    on_label = each * w
    if weights is None:
        others = np.full_like(label, each * (classes - 1))
    else:
        others = each * np.maximum(weights.sum() - w, 0.0)
    if loss.smoothing_over == "others":
        at_pivot, peak = label, label - on_label
    else:
        at_pivot, peak = label + on_label, label
    shared = None if weights is None else each * weights
    even = each if weights is None else 0.0
    return Targets(peak, others + at_pivot, others, at_pivot, even=even, shared=shared)


def distribution_targets(t: Floats, pivot: Indices, loss: Loss) -> Targets:
    """Return q of target distributions, which need not sum to 1; t becomes q: (n, K), (n,) to Targets.

    Smoothing and weights as PyTorch: q_k = w_k ((1 - e) t_k + e/K).
    """
    rows = np.arange(len(t))
    if loss.smoothing:
        t *= 1.0 - loss.smoothing
        t += loss.spread(t.shape[1])
    if loss.class_weights is not None:
        t *= loss.class_weights
    own = t[rows, pivot]
    t[rows, pivot] = 0.0
    others = row_sum(t)
    t[rows, pivot] = own
    return Targets(np.zeros_like(own), others + own, others, own, dense=t)


@dataclass(frozen=True, eq=False)
class Scale:
    """What multiplies the loss of each row on its way to E: (n,) arrays, zero for ignored rows."""

    s: Floats  # upstream / divisor, and 1/T where there is no softcap
    zeta: Floats  # 2 lambda lse upstream / z-loss divisor, likewise
    z: Floats  # 2 lambda upstream / z-loss divisor: zeta / lse

    def part(self, rows: slice | Indices) -> Scale:
        """Return some of the rows."""
        return Scale(self.s[rows], self.zeta[rows], self.z[rows])

    @classmethod
    def joined(cls, parts: Sequence[Scale]) -> Scale:
        """Return the scales of several sets of rows."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("s", "zeta", "z")))


@dataclass(frozen=True, eq=False)
class Point:
    """Where the loss is differentiated: n rows of logits, targets and scales, without their planes."""

    loss: Loss
    sums: Sums
    q: Targets
    by: Scale
    coefficient: Floats  # (n,) s Q + zeta, what multiplies a_j in the gradient
    own_gradient: Floats  # (n,) the gradient in the pivot column, before a softcap's slope

    @classmethod
    def of(cls, loss: Loss, sums: Sums, q: Targets, by: Scale) -> Point:
        """Return the point, with what its gradient needs of each row."""
        own = by.s * excess_at_pivot(sums, q) + by.zeta * sums.own_a
        return cls(loss, sums, q, by, by.s * q.mass + by.zeta, own)

    @cached_property
    def magnitude(self) -> Floats:
        """Return |s| Q + |zeta|, what multiplies a_j before anything cancels: (n,)."""
        return np.abs(self.by.s) * self.q.mass + np.abs(self.by.zeta)

    @cached_property
    def largest(self) -> Floats:
        """Return what the largest |g| of each row is at least, before a softcap's slope: (n,).

        That of the pivot, or of the likeliest class where that is another. Where there are no targets outside
        the pivot column it is the largest, for the pivot's is the sum of all others.
        """
        others = np.where(self.sums.own_d < 0.0, np.abs(self.coefficient) * (1.0 / self.sums.total), 0.0)
        return np.maximum(np.abs(self.own_gradient), others)

    def part(self, rows: slice | Indices) -> Point:
        """Return some of the rows."""
        own = self.own_gradient[rows]
        sums, q, by = self.sums.part(rows), self.q.part(rows), self.by.part(rows)
        return Point(self.loss, sums, q, by, self.coefficient[rows], own)


def excess_at_pivot(sums: Sums, q: Targets) -> Floats:
    """Return Q a - q in the pivot column: (n,).

    Where a > 1/2 it is taken as sum of the other q - Q sum of the other a, so that a confident label
    keeps its relative accuracy instead of the cancelled a - 1; elsewhere that would cancel.
    """
    complement = q.others - q.mass * sums.others
    return np.where(sums.confident, complement, q.mass * sums.own_a - q.at_pivot)


def scale(sums: Sums | None, loss: Loss, upstream: Floats, z_upstream: Floats) -> Scale:
    """Return the row scales, given dE/d(row loss) and dE/d(row z-loss): (n,), (n,) to Scale.

    Without a z-loss they do not depend on the sums.
    """
    chain = 1.0 if loss.link.softcap is not None else 1.0 / loss.link.temperature
    z = (2.0 * loss.z_loss * chain) * z_upstream
    return Scale(upstream * chain, z if sums is None or not loss.z_loss else z * sums.lse, z)


def label_losses(at: Point) -> Floats:
    """Return what the label alone contributes to the losses, all of them for sparse targets: (n,)."""
    total: Floats = at.q.mass * at.sums.log_total - at.q.peak * at.sums.own_d
    return total


def losses(at: Point, d: Floats, work: Floats) -> Floats:
    """Return -sum_k q_k log a_k = sum_k q_k (log S + D_k) without z-loss: (n,), all terms >= 0."""
    total = label_losses(at)
    if not at.q.sparse:
        np.multiply(d, at.q.plane(), out=work)
        total = total - row_sum(work)
    return total


def gradient(at: Point, planes: Planes, out: Floats, work: Floats) -> Floats:
    """Return dE/dz = ((s Q + zeta) a - s q) dv/dz: (n, K), written to `out`."""
    np.multiply(planes.a, at.coefficient[:, None], out=out)
    subtract_targets(at, out, work)
    planes.put_pivot(out, at.own_gradient)
    if planes.slope is not None:
        out *= planes.slope
    return out


def subtract_targets(at: Point, out: Floats, work: Floats) -> None:
    """Subtract s q from `out` outside the pivot column (inside it, without the peak)."""
    if at.q.sparse:
        return
    np.multiply(at.q.plane(), at.by.s[:, None], out=work)
    out -= work


def gradient_at_probabilities(at: Point, planes: Planes, out: Floats) -> Floats:
    """Return dE/da = -s q / a, and 0 where q is 0: (n, K), written to `out`. z-loss is no function of a."""
    chain = 1.0 if planes.slope is not None else at.loss.link.temperature
    s = at.by.s * chain
    out[...] = 0.0
    if not at.q.sparse:
        np.multiply(at.q.plane(), -s[:, None], out=out)
        np.divide(out, planes.a, out=out, where=out != 0.0)
    own = -s * at.q.at_pivot
    planes.put_pivot(out, np.divide(own, at.sums.own_a, out=np.zeros_like(own), where=own != 0.0))
    return out


def plain_loss(z: Floats, q: Floats, loss: Loss) -> Floats:
    """Return the whole row loss as one writes it down: (..., K), (..., K) to (...).

    -sum_k q_k log softmax(v)_k + lambda logsumexp(v)^2, the function whose brute-force differences
    audit the inner loop. Masked classes (-inf) must carry no weight.
    """
    v = loss.link.apply(z)
    m = v.max(axis=-1, keepdims=True)
    d = np.subtract(v, m, out=v)
    np.maximum(d, -1e300, out=d)
    log_total = np.log(np.exp(d).sum(axis=-1))
    entropy = q.sum(axis=-1) * log_total - np.multiply(q, d, out=d).sum(axis=-1)
    total: Floats = entropy + loss.z_loss * (m[..., 0] + log_total) ** 2
    return total

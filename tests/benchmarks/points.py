"""Rows made to hurt, and softgrad's numbers of them: what the measured bounds are measured on.

A module of the benchmarks, not a program.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from gradcheck_cli.numeric import cross_entropy, softmax
from gradcheck_cli.numeric.cross_entropy import Loss, Point
from gradcheck_cli.numeric.precision import FLOAT32, Floats, Precision
from gradcheck_cli.numeric.softmax import Link, Planes
from tests import oracle

DIVISOR = 7.0
"""What the row losses are divided by: a number that makes quotients round."""


def _almost_half_a_unit(classes: int, precision: Precision) -> Floats:
    """Return one large term, and others that a sum in order forgets one by one."""
    z = np.full(classes, math.log(0.49 * 2.0 * precision.unit))
    z[0] = 0.0
    return z


FAMILIES: Mapping[str, Callable[[np.random.Generator, int], Floats]] = MappingProxyType(
    {
        "flat": lambda rng, k: 1e-3 * rng.normal(size=k),
        "usual": lambda rng, k: rng.normal(size=k),
        "wide": lambda rng, k: 30 * rng.normal(size=k),
        "huge": lambda rng, k: 1e4 * rng.normal(size=k),
        "offset": lambda rng, k: 1e4 + rng.normal(size=k),
        "far offset": lambda rng, k: 1e15 + np.round(4 * rng.normal(size=k)),
        "ties": lambda rng, k: np.round(rng.normal(size=k)),
        "saturated": lambda rng, k: rng.normal(size=k) + 40.0 * (np.arange(k) == 0),
        "underflowing": lambda rng, k: rng.normal(size=k) + 720.0 * (np.arange(k) == 0),
        "subnormal": lambda rng, k: rng.normal(size=k) + 738.0 * (np.arange(k) == 0),
        "tiny": lambda rng, k: 1e-310 * rng.normal(size=k),
        "forgotten": lambda _, k: _almost_half_a_unit(k, FLOAT32),
    }
)
"""Logits by name: (K,)."""


@dataclass(frozen=True)
class Convention:
    """A loss, for softgrad and for the oracle."""

    name: str
    smoothing: float = 0.0
    smoothing_over: str = "classes"
    weighted: bool = False
    soft: bool = False
    temperature: float = 1.0
    softcap: float | None = None
    z_loss: float = 0.0

    def loss(self, classes: int) -> Loss:
        """Return what softgrad knows the loss as."""
        link, weights = Link(self.temperature, self.softcap), self.weights(classes)
        return Loss(link, self.smoothing, self.smoothing_over, weights, self.z_loss)

    def oracle(self, classes: int, normalizer: float | None = DIVISOR) -> oracle.Convention:
        """Return what the oracle knows it as."""
        return oracle.Convention(
            reduction="mean" if normalizer else "none",
            normalizer=normalizer,
            label_smoothing=self.smoothing,
            smoothing_over=self.smoothing_over,
            class_weights=self.weights(classes),
            temperature=self.temperature,
            softcap=self.softcap,
            z_loss=self.z_loss,
        )

    def weights(self, classes: int) -> Floats | None:
        """Return class weights between 1/16 and 4, exact in every dtype, one of them 0: (K,)."""
        if not self.weighted:
            return None
        weights = np.random.default_rng([classes, 7]).integers(1, 65, classes) / 16.0
        weights[classes // 2 :][:1] = 0.0 if classes > 2 else 1.5
        return weights


CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        each.name: each
        for each in (
            Convention("plain"),
            Convention("smoothing", 0.1),
            Convention("smoothing over others", 0.1, "others"),
            Convention("class weights", 0.1, weighted=True),
            Convention("soft targets", soft=True),
            Convention("temperature", temperature=0.3),
            Convention("softcap", softcap=20.0),
            Convention("softcap and temperature", softcap=30.0, temperature=0.7),
            Convention("z-loss", z_loss=1e-2),
        )
    }
)


@dataclass(frozen=True, eq=False)
class Rows:
    """A few rows under a convention, worked out as softgrad does."""

    words: str  # which they are
    z: Floats  # (n, K)
    targets: Any  # (n,) labels or (n, K) distributions
    upstream: Floats  # (n,)
    at: Point
    planes: Planes
    g: Floats  # (n, K)
    plain: Floats  # (n,) cross-entropy of each row

    @property
    def slope(self) -> Floats | float:
        """Return the softcap's slope in the pivot column: (n,), or 1 without."""
        return 1.0 if self.planes.slope is None else self.planes.at_pivot(self.planes.slope)


def work_out(words: str, z: Floats, targets: Any, convention: Convention, upstream: Floats) -> Rows:
    """Return softgrad's numbers of some rows: (n, K), (n,) or (n, K), (n,)."""
    n, classes = z.shape
    loss, d, rows = convention.loss(classes), z.copy(), np.arange(n)
    extent, slope = softmax.shift(d, loss.link, np.empty_like(z))
    pivot = d.argmax(axis=1) if convention.soft else targets
    own_d, w = d[rows, pivot], np.empty_like(z)
    rest, own = softmax.exponentials(d, pivot, w)
    found = softmax.sums(extent, pivot, (own_d, own), rest, classes)
    planes = Planes(d, w * (1.0 / found.total)[:, None], slope, rows, pivot)
    if convention.soft:
        q = cross_entropy.distribution_targets(targets.copy(), pivot, loss)
    else:
        q = cross_entropy.class_targets(pivot, classes, loss)
    incoming = upstream / DIVISOR
    at = Point.of(loss, found, q, cross_entropy.scale(found, loss, incoming, incoming))
    g = cross_entropy.gradient(at, planes, np.empty_like(z), np.empty_like(z))
    plain = cross_entropy.losses(at, d, np.empty_like(z))
    return Rows(words, z, targets, upstream, at, planes, g, plain)


def some_rows(convention: Convention, family: str, classes: int, kind: Any = np.float64) -> Rows:
    """Return rows of a family whose logits are numbers of a dtype: the label first, last and likeliest."""
    rng = np.random.default_rng([classes, *family.encode()])
    count = 3 if classes < 1000 else 2
    z = np.stack([FAMILIES[family](rng, classes) for _ in range(count)]).astype(kind).astype(np.float64)
    targets: Any = np.array([0, classes - 1, int(z[-1].argmax())])[:count]
    if convention.soft:
        targets = rng.gamma(0.3, size=z.shape) + 1e-12
        targets /= targets.sum(axis=1, keepdims=True)
        targets = targets.astype(kind).astype(np.float64)  # does not sum to 1 exactly
    upstream = rng.normal(size=count).astype(kind).astype(np.float64)
    words = f"{convention.name}, {family}, {classes:,} class" + ("" if classes == 1 else "es")
    return work_out(words, z, targets, convention, upstream)


def adversaries(convention: Convention, sizes: tuple[int, ...], kind: Any = np.float64) -> Iterator[Rows]:
    """Yield rows of every family and size that the convention has a truth for and the dtype room."""
    for family in FAMILIES:
        if convention.softcap is not None and family in ("huge", "far offset", "offset"):
            continue  # tanh saturates: slope and gradient underflow alike
        if family == "far offset" and not np.isfinite(np.asarray(1e15).astype(kind)):
            continue
        for classes in sizes:
            yield some_rows(convention, family, classes, kind)

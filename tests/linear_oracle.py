"""A linear layer under softmax cross-entropy in 100 digits: the loss written down, gradients differenced.

The loss of the rows is that of `tests.oracle`; what stands here is z = x W + b, moved one number at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tests import oracle
from tests.oracle import DIGITS_50, Convention, Reals

_DIGITS = 100
_STEP = DIGITS_50.mpf(10) ** -40


@dataclass(frozen=True)
class Layer:
    """Inputs (N, D), weight (D, K), bias (K,), all mpf; labels (N,) and the loss convention."""

    x: Reals
    w: Reals
    b: Reals
    labels: npt.NDArray[Any]
    convention: Convention
    upstream: Any


def exactly(values: Any) -> Reals:
    """Return float64 numbers as mpf, of the same shape."""
    exact: Reals = np.vectorize(lambda value: DIGITS_50.mpf(float(value)), otypes=[object])(values)
    return exact


def loss(layer: Layer) -> Any:
    """Return the reduced loss times upstream."""
    z = layer.x.dot(layer.w) + layer.b
    shape = np.zeros(z.shape)
    by_entropy, by_rows = oracle.divisors(shape, layer.labels, layer.convention)
    total = DIGITS_50.mpf(0)
    counted = oracle.valid_rows(layer.labels, layer.convention)
    upstream = np.broadcast_to(layer.upstream, (len(z),))
    for row, (logits, label) in enumerate(zip(z, layer.labels, strict=True)):
        if counted[row]:
            q = oracle.target_weights(label, len(logits), layer.convention)
            entropy, z_loss = oracle._loss_parts(list(logits), q, layer.convention)
            total += DIGITS_50.mpf(float(upstream[row])) * (entropy / by_entropy + z_loss / by_rows)
    return total


def gradient(layer: Layer, at: str) -> Reals:
    """Return the gradient at "x", "w" or "b" by central differences of the loss."""
    values: Reals = getattr(layer, at)
    out = np.empty(values.shape, dtype=object)
    with DIGITS_50.workdps(_DIGITS):
        for place in np.ndindex(values.shape):
            sides = []
            for step in (_STEP, -_STEP):
                moved = values.copy()
                moved[place] = moved[place] + step
                sides.append(loss(_with(layer, at, moved)))
            out[place] = (sides[0] - sides[1]) / (2 * _STEP)
    return out


def _with(layer: Layer, at: str, values: Reals) -> Layer:
    if at == "x":
        return replace(layer, x=values)
    return replace(layer, w=values) if at == "w" else replace(layer, b=values)


def logits(layer: Layer) -> Reals:
    """Return x W + b."""
    z: Reals = layer.x.dot(layer.w) + layer.b
    return z

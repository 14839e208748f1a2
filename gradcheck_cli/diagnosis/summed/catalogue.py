"""The bugs that only a linear layer can have."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnosis.bug import ROUNDING
from gradcheck_cli.diagnosis.guess import Name
from gradcheck_cli.numeric.precision import Floats

_ENOUGH = 4  # entries that agree on mu
_SHARP = 1.1  # largest over smallest mu that the entries leave

NOT_REDUCED = Name(
    "bias-not-reduced", "G of the {which} example",
    "the bias has the gradient of the {which} example, not the sum over all",
    "sum dE/dz over the examples: dE/db = sum_n G_n",
)  # fmt: skip
SUMMED_OVER_ALL = Name(
    "bias-summed-over-everything", "sum over examples and classes",
    "every class has the same number, the sum over examples and classes, which is 0 but for rounding",
    "sum over the examples alone: one number for each class",
)  # fmt: skip
WITH_INPUTS = Name(
    "bias-multiplied-by-inputs", "{of} of dE/dW over the inputs",
    "the bias has the {of} of the weight's gradient over the inputs: its examples are multiplied by x too",
    "the bias has an input that is always 1: dE/db = sum_n G_n, without x",
)  # fmt: skip
TURNED = Name(
    "weight-transposed", "{formula}", "{what}", "{advice}",
)  # fmt: skip
DECAY = Name(
    "weight-decay-folded-in", "G + {decay:.6g} W",
    "{decay:.6g} times the parameter itself is added to its gradient, as weight decay is",
    "export the gradient before the optimiser adds weight decay",
)  # fmt: skip
AFTER_SUM = Name(
    "upstream-after-sum", "{of} g times the sum of unweighted examples",
    "the examples are summed without their upstream gradients, and the sum is multiplied by {of} of these",
    "weight each example before the sum: dE/dW = sum_n g_n x_n (a - y)_n",
)  # fmt: skip
RUNNING = Name(
    "low-precision-accumulation", "acc = {grid}(acc + x^T G of {each})",
    "the sum over the examples is kept in {grid}, rounded {chunks:,} times, after every {each}{way}: a sum "
    "made so gives every entry",
    "keep the sum in float32 and round it once at the end; the error grows with the number of chunks",
    ROUNDING,
)  # fmt: skip

OF_TURNED = {
    "grad-weight": {
        "formula": "(x^T G)^T",
        "what": "the gradient of the weight is transposed: read so, all of it is right",
        "advice": "write G^T x where the weight is (out, in), x^T G where it is (in, out)",
    },
    "grad-inputs": {
        "formula": "G W", "what": "the gradient is led back through W where W^T belongs",
        "advice": "multiply by the transpose of what the forward pass multiplied by",
    },
}  # fmt: skip

NAMES = (NOT_REDUCED, SUMMED_OVER_ALL, WITH_INPUTS, TURNED, DECAY, AFTER_SUM, RUNNING)


def decay_of(got: Floats, plane: Floats, weight: Floats, allowed: Floats) -> tuple[float, float] | None:
    """Return the mu with got = plane + mu W in every entry within what is allowed, if they are near."""
    with np.errstate(all="ignore"):
        told = weight != 0.0
        if not np.isfinite(got).all() or not told.any():
            return None
        if not (np.abs(got - plane) <= allowed)[~told].all():
            return None
        middle, width = (got - plane)[told] / weight[told], allowed[told] / np.abs(weight[told])
        low, high = float((middle - width).max()), float((middle + width).min())
    if not low <= high or low <= 0.0 <= high or int(told.sum()) < _ENOUGH:
        return None
    return (low, high) if max(abs(low), abs(high)) <= _SHARP * min(abs(low), abs(high)) else None

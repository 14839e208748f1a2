"""What this data could not have shown of a linear layer's gradients, whether the check passed or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradcheck_cli.choices import LinearSettings
from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.dense.problem import LinearProblem
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.weakness import LOOK, Weakness
from gradcheck_cli.diagnosis.weakness import weaknesses as of_logits
from gradcheck_cli.numeric.precision import FLOAT32

OF_ENTRIES = frozenset({
    "class-ignored", "low-precision-rmw", "clamped-probability", "no-max-subtraction", "tail-columns",
    "padded-lanes",
})  # fmt: skip
"""Bugs of single rows and entries, which are looked for in dE/dz alone: a sum does not show them."""

DECAY = "weight-decay-folded-in"


def weaknesses(problem: LinearProblem, settings: LinearSettings) -> tuple[Weakness, ...]:
    """Return what the data of the gradients lacks, the most telling first."""
    gradients = [each for each in problem.exports if each.name != "logits"]
    if not gradients:
        return ()
    tolerance = Tolerance.asked(settings.rtol, settings.atol)
    situation = Situation(problem.head, settings.of_check(problem.head.axis), gradients[0], tolerance)
    told = of_logits(situation)
    if gradients[0].name != "grad":
        told = tuple(part for each in told for part in _of_sums(each))
    return *told, *(part for each in gradients for part in _own(problem, each.name))


def _of_sums(weakness: Weakness) -> Iterator[Weakness]:
    """Yield what is hidden of it in a sum over the examples, if anything is."""
    hides = tuple(each for each in weakness.hides if each.split(" ")[0] not in OF_ENTRIES)
    if hides:
        yield replace(weakness, hides=hides)


def _own(problem: LinearProblem, name: str) -> Iterator[Weakness]:
    """Yield what a gradient of the layer lacks."""
    square = problem.features == problem.classes
    if name == "grad-bias":
        if problem.rows == 1:
            yield Weakness("one-example", "there is only one example", ("bias-not-reduced",))
        yield from _of_inputs(problem)
        if not problem.bias.any():
            yield Weakness("no-bias", "the bias is 0", (f"{DECAY} (of the bias)",))
    if name == "grad-weight" and not problem.weight.any():
        yield Weakness("zero-weight", "the weight is 0", (DECAY,))
    if name == "grad-inputs" and not problem.weight.any():
        lacks = "the weight is 0, so the right gradient at the inputs is 0"
        yield Weakness("zero-weight", lacks, ("sign-flipped", "accumulated", "upstream-ignored"))
    elif name == "grad-inputs" and square and np.array_equal(problem.weight, problem.weight.T):
        yield Weakness("symmetric-weight", "the weight is symmetric", ("weight-transposed",))


def _of_inputs(problem: LinearProblem) -> Iterator[Weakness]:
    """Yield what the inputs of the first rows lack, as far as these go."""
    some = range(min(problem.rows, max(1, LOOK // problem.features)))
    x = np.empty((len(some), problem.features))
    problem.inputs.read(some.start, some.stop, x)
    among = "" if len(some) == problem.rows else f" (of {len(some):,} rows looked at)"
    room = 4.0 * FLOAT32.unit * np.maximum(1.0, np.abs(x).sum(axis=1))
    for of, total in (("sum", x.sum(axis=1)), ("mean", x.mean(axis=1))):
        if problem.features > 1 and (np.abs(total - 1.0) <= room).all():
            lacks = f"the {of} of the inputs is 1 in every row{among}"
            yield Weakness("inputs-make-one", lacks, (f"bias-multiplied-by-inputs (their {of})",))

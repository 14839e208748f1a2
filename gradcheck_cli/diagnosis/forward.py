"""Bugs that probabilities, their logarithms, -g q/a and losses of rows have for themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from gradcheck_cli.diagnosis.bug import DEFECT, Bug, Variant
from gradcheck_cli.diagnosis.chain import softmax_of
from gradcheck_cli.diagnosis.readout import at_probabilities, logarithms
from gradcheck_cli.diagnosis.recipe import Recipe, standard
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.numeric.precision import FLOAT32, Floats

Make = Callable[[Recipe], Floats]
"""Makes a plane of a recipe: (n, K), of losses (n, 1)."""


def _held(made: Make, sizes: Make | None = None) -> partial[Iterable[Variant]]:
    """Return the variant that exports something else; `sizes` add up its terms where some cancel."""
    return partial(_instead, made, sizes)


def _log(made: Make) -> partial[Iterable[Variant]]:
    """Return the variant that exports another logarithm, which is off by what its argument is relatively."""
    return partial(_instead, made, lambda recipe: 1.0 + _size(made(recipe)))


def _instead(made: Make, sizes: Make | None, sample: Sample) -> Iterable[Variant]:  # noqa: ARG001
    def finish(recipe: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:  # noqa: ARG001
        found = made(recipe)
        return found, _size(found) if sizes is None else sizes(recipe)

    yield Variant(change=lambda recipe: recipe.changed(finish=finish))


def _size(plane: Floats) -> Floats:
    return np.abs(np.where(np.isfinite(plane), plane, 0.0))


def _again(_: Sample) -> Iterable[Variant]:
    yield Variant(change=lambda recipe: recipe.changed(a=softmax_of(recipe.a)))


def _shifted(recipe: Recipe) -> Floats:
    """Return v less its maximum in the row: (n, K)."""
    v = recipe.loss.link.apply(recipe.logits)
    found: Floats = v - v.max(axis=1, keepdims=True)
    return found


def _per_row(made: Make) -> Make:
    """Return the sum over the classes of what is made, 0 in ignored rows, as a column."""
    return lambda recipe: (np.nansum(made(recipe), axis=1) * recipe.counted)[:, None]


def _weighted_logits(recipe: Recipe) -> Floats:
    return np.where(recipe.q != 0.0, recipe.q * recipe.loss.link.apply(recipe.logits), 0.0)


def _flushed(sample: Sample) -> Iterable[Variant]:
    """Yield the logarithm of probabilities that were 0 in a format before it was taken."""
    for grid in dict.fromkeys((sample.situation.export.compute, FLOAT32)):

        def finish(
            recipe: Recipe, plane: Floats, size: Floats, least: float = grid.smallest_normal
        ) -> tuple[Floats, Floats]:
            lost = (recipe.a < least) & np.isneginf(recipe.got)
            return np.where(lost, -np.inf, plane), size

        yield Variant(change=partial(Recipe.then, finish=finish), parameters={"type": grid.name})


def _of_class_0(sample: Sample) -> Iterable[Variant]:
    """Yield ignored rows that are given the loss of class 0, which stands in for a label out of range."""
    if sample.situation.problem.ignored_rows:

        def change(recipe: Recipe) -> Recipe:
            labels = np.where(recipe.counted, recipe.labels, 0)
            return recipe.dealt(labels, counted=np.ones_like(recipe.counted))

        yield Variant(change=change, parameters={"holds": "the loss of class 0"})


def _less_targets(sample: Sample) -> Iterable[Variant]:
    """Yield a - q with ignored rows as they are, and with ignored rows zeroed."""

    def plain(recipe: Recipe, which: int) -> Floats:
        return standard(recipe.targeted(recipe.counted).changed(mass=np.ones_like(recipe.mass)))[which]

    def zeroed(recipe: Recipe, which: int) -> Floats:
        return standard(recipe)[which] * recipe.counted[:, None]

    for made in (plain, zeroed):
        yield from _held(partial(made, which=0), partial(made, which=1))(sample)


def _gradient(recipe: Recipe, which: int) -> Floats:
    """Return the gradient at the logits (0), or the sizes of its terms (1)."""
    return recipe.changed(finish=None).gradient()[which]


def _everywhere(recipe: Recipe) -> Floats:
    s = recipe.upstream * recipe.counted * recipe.mass / recipe.divisor
    found: Floats = -s[:, None] / recipe.a
    return found


def _base(value: float) -> Callable[[Sample], Iterable[Variant]]:
    return lambda _: [Variant(value=1.0 / math.log(value), parameters={"factor": 1.0 / math.log(value)})]


def _averaged(sample: Sample) -> Iterable[Variant]:
    divisor = sample.situation.problem.divisor
    if divisor != 1.0:
        yield Variant(value=1.0 / divisor, parameters={"factor": 1.0 / divisor, "divisor": divisor})


def _with_upstream(sample: Sample) -> Iterable[Variant]:
    if sample.situation.problem.upstream != 1.0:
        yield Variant(factor=lambda recipe: recipe.upstream)


def _sign(_: Sample) -> Iterable[Variant]:
    yield Variant(value=-1.0, parameters={"factor": -1.0})


SIGN = Bug(
    "sign-flipped", DEFECT, "the negative",
    "every entry has the opposite sign",
    "negate once: log-probabilities and dE/da are never above 0, losses never below",
    "scale", _sign,
)  # fmt: skip

LOGARITHMS = (
    Bug(
        "log-base-two", DEFECT, "log2 for log",
        "the logarithm is taken to base 2",
        "take the natural logarithm, or multiply by log(2) = 0.693147",
        "scale", _base(2.0),
    ),
    Bug(
        "log-base-ten", DEFECT, "log10 for log",
        "the logarithm is taken to base 10",
        "take the natural logarithm, or multiply by log(10) = 2.302585",
        "scale", _base(10.0),
    ),
)  # fmt: skip

_TWICE = Bug(
    "double-softmax", DEFECT, "softmax(softmax(z)) for softmax(z)",
    "softmax is applied twice: what is taken for logits are probabilities",
    "hand over the logits, before any softmax",
    "softmax", _again,
)  # fmt: skip

OF_PROBS = (
    Bug(
        "log-probs-exported", DEFECT, "log a",
        "these are the logarithms of the probabilities",
        "take exp of them, or hand them in as --log-probs",
        "finish", _log(logarithms),
    ),
    Bug(
        "logits-exported", DEFECT, "z",
        "the file holds the logits, not probabilities",
        "export the softmax, or the buffer that it was written to",
        "finish", _held(lambda recipe: recipe.logits),
    ),
    Bug(
        "not-normalised", DEFECT, "exp(z - max)",
        "the exponentials are not divided by their sum",
        "divide by the sum of the row's exponentials",
        "finish", _held(lambda recipe: np.exp(_shifted(recipe))),
    ),
    Bug(
        "onehot-subtracted", DEFECT, "Q a - q",
        "the target is subtracted: this is the gradient of each row's loss, or was overwritten by it",
        "export the probabilities before the backward pass writes in place",
        "finish", _less_targets,
    ),
    _TWICE,
)  # fmt: skip

OF_LOGS = (
    Bug(
        "probs-exported", DEFECT, "a",
        "these are the probabilities, not their logarithms",
        "take the logarithm (better log-softmax of the logits), or hand them in as --probs",
        "finish", _held(lambda recipe: recipe.a),
    ),
    Bug(
        "logits-exported", DEFECT, "z",
        "the file holds the logits, not log-probabilities",
        "export the log-softmax, or the buffer that it was written to",
        "finish", _held(lambda recipe: recipe.logits),
    ),
    Bug(
        "not-normalised", DEFECT, "z - max",
        "the logarithm of the sum of exponentials is not subtracted",
        "subtract logsumexp: log a = (z - max) - log sum exp(z - max)",
        "finish", _log(_shifted),
    ),
    Bug(
        "log-of-flushed-probs", DEFECT, "log(a), a flushed to 0",
        "-inf where the probability is below the normal numbers of {type}: the logarithm is taken of what "
        "the softmax had rounded to 0",
        "work out log-softmax from the logits: (z - max) - log sum exp(z - max)",
        "dropped", _flushed,
    ),
    _TWICE,
)  # fmt: skip

OF_AT_PROBS = (
    Bug(
        "log-probs-gradient", DEFECT, "-g q",
        "this is the gradient at the log-probabilities: it is not divided by the probabilities",
        "divide by a: dE/da = -q/a",
        "finish", _held(lambda recipe: at_probabilities(recipe) * recipe.a),
    ),
    Bug(
        "logits-gradient", DEFECT, "g (Q a - q)",
        "this is the gradient at the logits",
        "hand it in as --grad, or export the gradient before it is led back through the softmax",
        "finish", _held(partial(_gradient, which=0), partial(_gradient, which=1)),
    ),
    Bug(
        "onehot-missing", DEFECT, "-g Q / a in every column",
        "the derivative -1/a is there in every column, and not at the targets alone",
        "multiply by the target weight, which is 0 outside the label",
        "finish", _held(_everywhere),
    ),
    _TWICE,
)  # fmt: skip

OF_LOSSES = (
    Bug(
        "log-missing", DEFECT, "-sum q a, or 1 less that",
        "the probability of the target stands where its logarithm belongs",
        "take the logarithm: the loss is -sum q log a",
        "finish",
        lambda sample: [
            *_held(_per_row(lambda recipe: -recipe.q * recipe.a))(sample),
            *_held(
                _per_row(lambda recipe: recipe.q * (1.0 - recipe.a)),
                _per_row(lambda recipe: recipe.q * (1.0 + recipe.a)),
            )(sample),
        ],
    ),
    Bug(
        "label-logit-missing", DEFECT, "Q lse(z)",
        "the losses are logsumexp alone: the logit of the label is not subtracted",
        "subtract the label's logit: the loss is lse(z) - z_y",
        "finish", _log(lambda recipe: (recipe.mass * recipe.lse * recipe.counted)[:, None]),
    ),
    Bug(
        "not-normalised", DEFECT, "-sum q z",
        "the losses are the negated logits of the labels: logsumexp is not added",
        "add it: the loss is lse(z) - z_y",
        "finish", _log(_per_row(lambda recipe: -_weighted_logits(recipe))),
    ),
    Bug(
        "ignored-rows-not-zeroed", DEFECT, "-log a_0 in ignored rows",
        "ignored rows have a loss: {holds}",
        "write 0 where the label is the ignored one",
        "ignored", _of_class_0,
    ),
    _TWICE,
)  # fmt: skip

OF_LOSS_ROWS = (
    Bug(
        "row-losses-divided", DEFECT, "loss_i / {divisor:,.9g}",
        "each row's loss is divided by {divisor:,.9g} already, as their mean is",
        "export the losses of the rows before they are reduced",
        "scale", _averaged,
    ),
    Bug(
        "upstream-applied", DEFECT, "g_i loss_i",
        "the losses are multiplied by the upstream gradient",
        "export the losses themselves: the upstream gradient belongs to the backward pass",
        "rows", _with_upstream,
    ),
)  # fmt: skip

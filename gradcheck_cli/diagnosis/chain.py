"""D. The way from the loss back to the logits: Jacobians left out, cut short, or applied twice."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from gradcheck_cli.diagnosis.bug import DEFECT, Bug, Variant
from gradcheck_cli.diagnosis.recipe import Core, Recipe, standard
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.numeric.precision import Floats


def _by(core: Core) -> Variant:
    """Return the variant that puts a - q together in another way."""
    return Variant(change=lambda recipe: recipe.changed(core=core))


def _backward(a: Floats, t: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Return (t - <t, a>) a and the sizes of its terms."""
    inner = np.einsum("ij,ij->i", t, a)[:, None]
    sizes = np.einsum("ij,ij->i", size, a)[:, None]
    return (t - inner) * a, (size + sizes) * a


def _at_probabilities(recipe: Recipe) -> Floats:
    """Return -q / a, and 0 where q is 0."""
    return -np.divide(recipe.q, recipe.a, out=np.zeros_like(recipe.q), where=recipe.q != 0.0)


def _diagonal(recipe: Recipe) -> tuple[Floats, Floats]:
    return -recipe.q * (1.0 - recipe.a), recipe.q * (1.0 + recipe.a)


def _no_dot(recipe: Recipe) -> tuple[Floats, Floats]:
    return -recipe.q, recipe.q


def _batch_dot(recipe: Recipe) -> tuple[Floats, Floats]:
    pulled = recipe.a * (recipe.situation.counted * recipe.mass[:, None])
    return pulled - recipe.q, pulled + recipe.q


def _bare_dot(recipe: Recipe) -> tuple[Floats, Floats]:
    pulled = recipe.a * -_at_probabilities(recipe).sum(axis=1, keepdims=True)
    return pulled - recipe.q, pulled + recipe.q


def _confused(recipe: Recipe) -> tuple[Floats, Floats]:
    return _backward(recipe.a, -recipe.q, recipe.q)


def _log_of_probabilities(recipe: Recipe) -> tuple[Floats, Floats]:
    t = _at_probabilities(recipe)
    pulled = recipe.a * -t.sum(axis=1, keepdims=True)
    return t + pulled, pulled - t


def softmax_of(a: Floats) -> Floats:
    """Return the softmax of the probabilities."""
    w = np.exp(a - a.max(axis=1, keepdims=True))
    again: Floats = w / w.sum(axis=1, keepdims=True)
    return again


def _double(recipe: Recipe) -> tuple[Floats, Floats]:
    twice = recipe.changed(a=softmax_of(recipe.a))
    return _backward(recipe.a, *standard(twice))


def _double_short(recipe: Recipe) -> tuple[Floats, Floats]:
    return standard(recipe.changed(a=softmax_of(recipe.a)))


def _jacobian_again(recipe: Recipe) -> tuple[Floats, Floats]:
    return _backward(recipe.a, *standard(recipe))


def _probs_gradient(recipe: Recipe) -> tuple[Floats, Floats]:
    t = _at_probabilities(recipe)
    return t, -t


def _cores(*cores: Core) -> partial[Iterable[Variant]]:
    return partial(_each, cores)


def _each(cores: tuple[Core, ...], sample: Sample) -> Iterable[Variant]:  # noqa: ARG001 - always possible
    for core in cores:
        yield _by(core)


CHAIN = (
    Bug(
        "diagonal-jacobian", DEFECT, "t_j a_j (1 - a_j), t = -q/a",
        "only the diagonal of the softmax Jacobian is used: what is not a target is 0",
        "add the part off the diagonal: the backward of softmax is (t - <t, a>) a",
        "chain", _cores(_diagonal),
    ),
    Bug(
        "missing-dot-term", DEFECT, "t a, t = -q/a",
        "the backward of softmax lacks the dot product: the rows hold -q, scaled",
        "subtract <t, a> before multiplying by a: the backward of softmax is (t - <t, a>) a",
        "chain", _cores(_no_dot),
    ),
    Bug(
        "dot-over-batch", DEFECT, "(t - sum over all rows of <t, a>) a",
        "the dot product in the softmax backward is taken over the whole batch",
        "reduce <t, a> along the class axis alone",
        "chain", _cores(_batch_dot),
    ),
    Bug(
        "dot-without-probs", DEFECT, "(t - sum t) a, t = -q/a",
        "the softmax backward subtracts the sum of t where <t, a> belongs",
        "weight the upstream gradient by the probabilities before summing it",
        "chain", _cores(_bare_dot),
    ),
    Bug(
        "log-softmax-confused", DEFECT, "(t - <t, a>) a with t = -q; or t - a sum t with t = -q/a",
        "the backward of softmax is given the gradient at the log-probabilities, or the other way round",
        "the gradient of the loss is -q/a at the probabilities and -q at their logarithms: pair them",
        "chain", _cores(_confused, _log_of_probabilities),
    ),
    Bug(
        "double-softmax", DEFECT, "J(a) (softmax(a) - y)",
        "softmax is applied twice: the loss is given probabilities and takes their softmax again",
        "hand logits to the loss, or take the loss of probabilities",
        "chain", _cores(_double, _double_short),
    ),
    Bug(
        "jacobian-applied-twice", DEFECT, "J(a) (a - y)",
        "the softmax backward is applied to a - y, which holds it already",
        "a - y is the gradient at the logits: pass it on as it is",
        "chain", _cores(_jacobian_again),
    ),
    Bug(
        "probs-gradient", DEFECT, "-q/a",
        "this is the gradient at the probabilities, not at the logits",
        "lead it back through the softmax, or export it as --grad-probs",
        "chain", _cores(_probs_gradient),
    ),
)  # fmt: skip

"""What a recipe makes of each export: the gradient, probabilities, their logarithms, -q/a, or a row's loss.

    dE/da_k = -g q_k / a_k        loss_i = -sum_k q_k log a_k + lambda lse^2

A bug that changes an ingredient changes all of them, so the catalogue serves them all. Sizes are chosen so
that `slack.py` holds: a logarithm of a probability is off by the probability's relative error, absolutely.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.numeric.precision import Floats

Read = tuple[Floats, Floats, Floats]
"""Probabilities that tell the depth of each entry, the predicted plane, and the sizes of its terms."""

_TINY = 1e-290  # a probability whose logarithm is still accurate


def read(recipe: Recipe) -> Read:
    """Return what a recipe makes of its situation's export: (n, K) each, (n, 1) of losses."""
    reader = _READERS.get(recipe.situation.export.name)
    if reader is None:
        return recipe.a, *recipe.gradient()
    a, plane, size = reader(recipe)
    if recipe.finish is not None:
        plane, size = recipe.finish(recipe, plane, size)
    return a, plane, size


def logarithms(recipe: Recipe) -> Floats:
    """Return log a, by way of the logits where a is too small: (n, K)."""
    a = recipe.a
    with np.errstate(all="ignore"):
        found: Floats = np.log(a)
        if (a < _TINY).any():
            deep = recipe.loss.link.apply(recipe.logits) - recipe.lse[:, None]
            deep = deep if recipe.by is None else deep + np.log(recipe.by)[:, None]
            found = np.where(a < _TINY, deep, found)
    return found


def at_probabilities(recipe: Recipe) -> Floats:
    """Return -g q / a, 0 where q is 0: (n, K)."""
    s = recipe.upstream * recipe.counted / recipe.divisor
    q = recipe.q
    found: Floats = -s[:, None] * np.divide(q, recipe.a, out=np.zeros_like(q), where=q != 0.0)
    return found


def _probs(recipe: Recipe) -> Read:
    return recipe.a, recipe.a, recipe.a


def _log_probs(recipe: Recipe) -> Read:
    found = logarithms(recipe)
    return recipe.a, found, 1.0 + np.abs(np.where(np.isfinite(found), found, 0.0))


def _grad_probs(recipe: Recipe) -> Read:
    found = at_probabilities(recipe)
    return recipe.a, found, np.abs(found)


def losses(recipe: Recipe) -> tuple[Floats, Floats, Floats]:
    """Return each row's -sum q log a, lambda lse^2, and sum of its targets: (n,) each."""
    weights = recipe.weights
    square = recipe.z_factor * recipe.lse**2 * recipe.z_counted
    if weights.dense is not None:
        terms = np.where(weights.dense != 0.0, weights.dense * logarithms(recipe), 0.0)
        return -terms.sum(axis=1), square, weights.dense.sum(axis=1)
    columns = weights.columns[:, None]
    by = 1.0 if recipe.by is None else recipe.by
    a = np.take_along_axis(recipe.base, columns, axis=1)[:, 0] * by
    with np.errstate(all="ignore"):
        log = np.log(a)
        if (a < _TINY).any():
            v = recipe.loss.link.apply(np.take_along_axis(recipe.logits, columns, axis=1)[:, 0])
            log = np.where(a < _TINY, v - recipe.lse + np.log(by), log)
        plain = -np.where(weights.own != 0.0, weights.own * log, 0.0)
    return plain, square, weights.own


def _losses(recipe: Recipe) -> Read:
    """Return the losses as a column."""
    plain, square, q = losses(recipe)
    found = (plain * recipe.counted + square)[:, None]
    depth = np.divide(plain, q, out=np.zeros_like(plain), where=q > 0.0)
    size = np.abs(found) + (np.abs(q) * recipe.counted + recipe.z_factor * np.abs(recipe.lse))[:, None]
    return np.exp(-np.clip(depth, 0.0, 700.0))[:, None], found, size


_READERS: dict[str, Callable[[Recipe], Read]] = {
    "probs": _probs, "log-probs": _log_probs, "grad-probs": _grad_probs, "loss": _losses,
}  # fmt: skip

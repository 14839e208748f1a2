"""Files in each other's places, as far as a few rows can tell: what was most likely meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.outcome import Warning  # noqa: A004 - the word of the JSON contract
from gradcheck_cli.problem import Problem
from gradcheck_cli.tensors import Rows

ROWS = 8
"""Rows that are looked at, from the first that counts."""

_NEAR = 1.0 / 64.0
"""How far the sum of a row of probabilities may be from 1: bfloat16 has 8 bits, and errors cancel."""

_LEAST_CLASSES = 3
"""Of two classes the rows of a gradient, g and -g, are good logits as well."""


def mistaken(problem: Problem) -> tuple[Warning, ...]:
    """Return a warning for each file that looks like another than it was given as."""
    return tuple(Warning(code, told) for code, told in (*_logits(problem), *_probs(problem)))


def _logits(problem: Problem) -> Iterator[tuple[str, str]]:
    if problem.classes < _LEAST_CLASSES:
        return
    logits, name = problem.logits, problem.logits.tensor.name
    if problem.rows - problem.first_counted > 1 and _all(_one_hot, problem, logits):
        yield (
            "logits-look-like-labels",
            f"every row of {name} looked at is one 1 among zeros: labels? they are the second file, "
            "logits the first",
        )
    elif _all(_probabilities, problem, logits):
        yield (
            "logits-look-like-probabilities",
            f"the rows of {name} looked at lie in 0 .. 1 and sum to 1: probabilities? the logits are what "
            "the softmax is taken of (with their logarithms instead everything holds)",
        )
    elif _all(lambda rows: _gradients(problem, rows), problem, logits):
        yield (
            "logits-look-like-gradients",
            f"the rows of {name} looked at sum to 0 and are negative at the label alone: a gradient? it goes "
            "with --grad, after logits and labels",
        )


def _probs(problem: Problem) -> Iterator[tuple[str, str]]:
    for export in problem.exports:
        if export.name != "probs" or problem.classes < 2:
            continue
        if _all(_one_hot, problem, export.rows):
            yield (
                "probs-look-like-labels",
                f"every row of {export.rows.tensor.name} looked at is one 1 among zeros: targets? they are "
                "the second file; --probs is the softmax of the logits",
            )


def _all(looks: Callable[[Floats], bool], problem: Problem, tensor: Rows) -> bool:
    """Tell whether rows look like something: the first that counts, and only then the others."""
    return all(looks(_first(problem, tensor, limit)) for limit in (1, ROWS))


def _first(problem: Problem, tensor: Rows, limit: int) -> Floats:
    """Return the first rows from the one that counts on: (n, K)."""
    start = problem.first_counted
    rows = np.empty((min(limit, problem.rows - start), problem.classes))
    tensor.read(start, start + len(rows), rows)
    return rows


def _one_hot(rows: Floats) -> bool:
    return bool((((rows == 0.0) | (rows == 1.0)).all()) and (rows.sum(axis=1) == 1.0).all())


def _probabilities(rows: Floats) -> bool:
    with np.errstate(all="ignore"):
        inside = ((rows >= 0.0) & (rows <= 1.0)).all()
        return bool(inside and (np.abs(rows.sum(axis=1) - 1.0) < _NEAR).all())


def _gradients(problem: Problem, rows: Floats) -> bool:
    """Tell whether rows with class labels are 0 throughout, or sum to 0 with one negative, at the label."""
    if problem.soft or not np.isfinite(rows).all():
        return False
    labels = np.empty(len(rows), dtype=np.int64)
    problem.targets.read(problem.first_counted, problem.first_counted + len(rows), labels)
    counted = rows[labels != problem.ignore_index]
    labels = labels[labels != problem.ignore_index]
    with np.errstate(all="ignore"):
        sums = np.abs(counted.sum(axis=1)) <= _NEAR * np.abs(counted).sum(axis=1)
        alone = (counted < 0.0).sum(axis=1) == 1
    return bool((sums & alone & (counted.argmin(axis=1) == labels)).all())

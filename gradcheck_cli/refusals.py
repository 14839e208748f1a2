"""What to say of rows that have no softmax, or no finite loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.errors import InputError
from gradcheck_cli.numeric.cross_entropy import Point
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import DEEPEST
from gradcheck_cli.problem import Problem
from gradcheck_cli.tensors import Rows

Flags = NDArray[np.bool_]


def undefined(logits: Rows, row: int) -> str:
    """Say which logit makes a row's softmax undefined."""
    z = np.empty((1, logits.classes))
    logits.read(row, row + 1, z)
    where = logits.tensor.name
    wrong = np.flatnonzero(np.isnan(z[0]) | np.isposinf(z[0]))
    if wrong.size:
        place = list(logits.index_of(row, int(wrong[0])))
        return (
            f"{where}, entry {place}: logit {z[0, wrong[0]]:g}: a softmax needs finite logits, "
            "or -inf for masked classes"
        )
    place = list(logits.index_of(row))
    if np.isneginf(z).all():
        return f"{where}, row {place}: every class is masked (-inf), so the softmax is undefined"
    if not np.isneginf(z).any():
        return f"{where}, row {place}: the logits over the temperature leave the range of float64"
    return (
        f"{where}, row {place}: a masked class (-inf) under --softcap is ambiguous "
        "(c tanh(-inf/c) = -c is not masked): apply the mask after the cap, or export without it"
    )


def refuse_masked_targets(problem: Problem, start: int, at: Point, counted: Flags, w: Floats) -> None:
    """Refuse rows whose target lies on a masked class: their loss is infinite."""
    masked = (at.sums.own_d <= DEEPEST) & (at.q.at_pivot > 0) & counted
    if not at.q.sparse:
        masked |= _weight_on_masked(problem, start, at, w) & counted
    _refuse(
        problem,
        start,
        masked,
        "its label" if at.q.sparse else "a class with target weight (labels, smoothing)",
    )


def refuse_masked_labels(problem: Problem, start: int, own_d: Floats, weight: Floats, counted: Flags) -> None:
    """Refuse rows whose label is a masked class, given its depth and its target weight: (n,), (n,), (n,)."""
    _refuse(problem, start, (own_d <= DEEPEST) & (weight > 0) & counted, "its label")


def _refuse(problem: Problem, start: int, masked: Flags, cause: str) -> None:
    if masked.any():
        row = start + int(np.flatnonzero(masked)[0])
        raise InputError(
            f"{problem.logits.tensor.name}, row {list(problem.logits.index_of(row))}: {cause} is a "
            "masked class (-inf), so the loss is infinite and has no gradient"
        )


def _weight_on_masked(problem: Problem, start: int, at: Point, w: Floats) -> Flags:
    """Return the rows with target weight on a masked class; the logits are read again where w is 0."""
    doubtful: Flags = ((w == 0.0) & (at.q.plane() > 0.0)).any(axis=1)
    for row in np.flatnonzero(doubtful):
        z = np.empty((1, problem.classes))
        problem.logits.read(start + int(row), start + int(row) + 1, z)
        weights = np.broadcast_to(at.q.plane(), w.shape)[row]
        doubtful[row] = bool((np.isneginf(z[0]) & (weights > 0)).any())
    return doubtful

"""F. The gradient's buffer used for something else: the losses of the rows are still in its first entries."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from gradcheck_cli.diagnosis.bug import DEFECT, Bug, Variant
from gradcheck_cli.diagnosis.readout import losses
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.view import Rows
from gradcheck_cli.numeric.precision import Floats

_LOOKED_AT = 4  # rows whose losses are looked for first
_NEAR = 0.02  # relative error of a loss in 16 bits, and more


def _of_rows(rows: range, source: Rows) -> Floats:
    """Return the losses of some rows, 0 where ignored: (n,)."""
    recipe = source.view(rows).recipe
    plain, square, _ = losses(recipe)
    return np.asarray(plain * recipe.counted + square)


def _all_of(situation: Situation) -> Floats:
    """Return the losses of all rows: (N,); worked out once."""
    known: Floats | None = situation.kept.get("losses")
    if known is None:
        step = max(1, min(situation.rows, (1 << 16) // situation.classes))
        source = Rows(situation, step)
        starts = range(0, situation.rows, step)
        ends = [range(start, min(start + step, situation.rows)) for start in starts]
        known = np.concatenate([_of_rows(rows, source) for rows in ends])
        situation.kept["losses"] = known
    return known


def _possible(sample: Sample) -> bool:
    """Tell whether the first entries hold the losses of the first rows, or those over the divisor."""
    situation = sample.situation
    count = min(_LOOKED_AT, situation.rows, situation.classes)
    firsts = [(view, place) for view in sample.views for place in np.flatnonzero(view.recipe.numbers == 0)]
    got = [view.got[place, :count] for view, place in firsts if view.failing[place, :count].any()]
    if not got or (got[0] < 0.0).any():  # a loss is never below 0
        return False
    wanted = _of_rows(range(count), Rows(situation, count))
    divisors = np.array([[1.0], [situation.problem.divisor]])
    near = np.abs(got[0] - wanted / divisors) <= _NEAR * np.abs(wanted / divisors)
    return bool(wanted.any() and near.all(axis=1).any())


def _left_there(sample: Sample) -> Iterable[Variant]:
    situation = sample.situation
    for divisor in dict.fromkeys((1.0, situation.problem.divisor)):

        def finish(
            recipe: Recipe, plane: Floats, size: Floats, divisor: float = divisor
        ) -> tuple[Floats, Floats]:
            return _written(recipe, plane, divisor), _written(recipe, size, divisor, least=1.0)

        words = "" if divisor == 1.0 else f", divided by {divisor:,.9g}"
        told = {"rows": situation.rows, "divided": words}
        yield Variant(change=partial(Recipe.then, finish=finish), parameters=told)


def _written(recipe: Recipe, plane: Floats, divisor: float, *, least: float = 0.0) -> Floats:
    """Return a plane of the gradient's buffer with the losses in its first entries."""
    situation = recipe.situation
    found = plane.copy()
    for place in np.flatnonzero(recipe.numbers * situation.classes < situation.rows):
        start = int(recipe.numbers[place]) * situation.classes
        left = _all_of(situation)[start : start + situation.classes]
        found[place, : len(left)] = (np.abs(left) + least if least else left) / divisor
    return found


SCRATCH = (
    Bug(
        "losses-in-gradient", DEFECT, "loss_i in the i-th entry of the buffer, i < {rows:,}",
        "the first {rows:,} entries of the gradient hold the losses of the rows{divided}: its buffer was "
        "used for them, and not overwritten",
        "write the gradient of every row once its loss is out of the buffer, or keep the losses elsewhere",
        "finish", _left_there, possible=_possible,
    ),
)  # fmt: skip

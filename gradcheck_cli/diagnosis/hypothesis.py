"""Bugs taken together: what they would have produced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcheck_cli.diagnosis.bug import Suspect
from gradcheck_cli.diagnosis.quotients import explained
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.slack import Prediction, least
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """Changes of the recipe, a factor of each row, and one of all: any of them may be absent."""

    changes: tuple[Suspect, ...] = ()
    row: Suspect | None = None
    scale: Suspect | None = None

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """Return the bugs, the convention of the divisor first, as it is the first thing to be told."""
        return tuple(each for each in (self.scale, self.row, *self.changes) if each is not None)

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the codes of the bugs."""
        return tuple(each.bug.code for each in self.suspects)

    def changed(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the changes made."""
        return apply(self.changes, recipe)

    def multiplier(self, recipe: Recipe) -> Floats:
        """Return what each row is multiplied by besides, given the right recipe: (n,)."""
        value = 1.0 if self.scale is None or self.scale.variant.value is None else self.scale.variant.value
        found = np.full(len(recipe.counted), value)
        if self.row is not None and self.row.variant.factor is not None:
            found = found * self.row.variant.factor(recipe)
        return found

    def predict(self, recipe: Recipe) -> Prediction:
        """Return what is predicted of the right recipe's rows."""
        return Prediction.of(self.changed(recipe)).times(self.multiplier(recipe))

    def refuted(self, recipe: Recipe, *, loose: bool) -> Flags:
        """Return the entries that the hypothesis does not explain: (n, K)."""
        with np.errstate(all="ignore"):
            changed, by = self.changed(recipe), self.multiplier(recipe)
            line = changed.line
            if line is None:
                return _refuted(changed, by, loose=loose)
            refuted = np.zeros(recipe.got.shape, dtype=bool)
            rows = np.flatnonzero(~explained(changed, line, by))
            if rows.size:
                refuted[rows] = _refuted(changed.picked(rows), by[rows], loose=loose)
        return refuted


def _refuted(changed: Recipe, by: Floats, *, loose: bool) -> Flags:
    """Return the entries that a recipe does not predict, each row multiplied: (n,) to (n, K).

    What every entry may be off by at least is looked at first, which is cheap and does for most.
    """
    found = Prediction.of(changed).times(by)
    error = np.abs(found.got - found.plane)
    sure = np.abs(found.plane)
    sure = sure if changed.finish is None else np.minimum(sure, found.size)
    refuted: Flags = ~(error <= sure * least(changed))
    rows = np.flatnonzero(refuted.any(axis=1))
    if not rows.size:
        return refuted
    left = found.picked(rows)
    allowed = left.slack
    scaled = allowed.loose if loose and allowed.loose is not None else allowed.scaled
    same = (np.isnan(left.plane) & np.isnan(left.got)) | (left.plane == left.got)
    refuted[rows] = ~((error[rows] <= scaled + allowed.floor) | same)
    return refuted


def apply(changes: Sequence[Suspect], recipe: Recipe) -> Recipe:
    """Return the recipe with the changes made, one after the other."""
    for each in changes:
        if each.variant.change is not None:
            recipe = each.variant.change(recipe)
    return recipe

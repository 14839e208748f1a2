"""Bugs taken together: what they would have produced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.diagnosis.bug import Suspect
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.slack import Prediction, least
from gradcheck_cli.numeric.precision import Floats
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

    def predict(self, recipe: Recipe) -> tuple[Floats, Floats]:
        """Return the predicted gradient and the sum of the sizes of its terms: (n, K) each."""
        by = self.multiplier(recipe)[:, None]
        plane, size = self.changed(recipe).gradient()
        return plane * by, size * np.abs(by)

    def refuted(self, recipe: Recipe, *, loose: bool) -> Flags:
        """Return the entries that the hypothesis does not explain: (n, K).

        What every entry may be off by at least is looked at first, which is cheap and does for most.
        """
        with np.errstate(all="ignore"):
            changed, by = self.changed(recipe), self.multiplier(recipe)[:, None]
            plane, size = changed.gradient()
            plane, size = plane * by, size * np.abs(by)
            error = np.abs(recipe.got - plane)
            sure = np.abs(plane) if changed.finish is None else np.minimum(np.abs(plane), size)
            sure *= least(changed)
            refuted: Flags = ~(error <= sure)
            rows = np.flatnonzero(refuted.any(axis=1))
            if not rows.size:
                return refuted
            part, plane = changed.picked(rows), plane[rows]
            got, allowed = part.got, Prediction.made(part, plane, size[rows]).slack
            scaled = allowed.loose if loose and allowed.loose is not None else allowed.scaled
            left = ~(error[rows] <= scaled + allowed.floor)
        left &= ~((np.isnan(plane) & np.isnan(got)) | (plane == got))
        refuted[rows] = left
        return refuted


def apply(changes: Sequence[Suspect], recipe: Recipe) -> Recipe:
    """Return the recipe with the changes made, one after the other."""
    for each in changes:
        if each.variant.change is not None:
            recipe = each.variant.change(recipe)
    return recipe

"""What the extremes of got / a tell of rows whose gradient is predicted to be one number times a_j.

They say whether every entry of a row lies within the least that a prediction may be off by, but for the
column that the target is taken away in, which is looked at by itself.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.slack import Prediction, Terms, least
from gradcheck_cli.diagnosis.weights import Line
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags

HAIR = 2.0**-45
"""More than what a quotient and two products round, relative to the larger side."""


@dataclass(frozen=True, eq=False)
class Extremes:
    """The least and the largest got_j / a_j of each row, outside a column or two: (n,) each."""

    lowest: Floats
    highest: Floats

    def within(self, middle: Floats, leeway: Floats) -> Flags:
        """Tell in which rows every quotient is so near to a number of the row."""
        room = leeway - HAIR * np.abs(middle)
        found: Flags = (self.highest - middle <= room) & (middle - self.lowest <= room)
        return found

    def beyond(self, middle: Floats, leeway: Floats) -> Flags:
        """Tell in which rows every quotient is farther away, and all on one side."""
        room = leeway + HAIR * (np.abs(middle) + leeway)
        found: Flags = (self.lowest - middle > room) | (middle - self.highest > room)
        return found


def explained(changed: Recipe, line: Line, by: Floats) -> Flags:
    """Tell which rows a hypothesis explains for sure, given its line and the factor of each row: (n,)."""
    quotient = changed.got / changed.base
    quotient[changed.places, line.columns] = line.coefficient * by
    extremes = Extremes(quotient.min(axis=1), quotient.max(axis=1))
    return fitted(changed, line, by, extremes, line.columns[:, None])


def fitted(changed: Recipe, line: Line, by: Floats, extremes: Extremes, columns: Indices) -> Flags:
    """Tell in which rows the quotients fit, and a few columns beside them: (n,), (n, m) to (n,)."""
    coefficient, rows = line.coefficient * by, changed.places[:, None]
    a, got = changed.base[rows, columns], changed.got[rows, columns]
    taken = np.where(columns == line.columns[:, None], line.taken[:, None], 0.0)
    plane = by[:, None] * (line.coefficient[:, None] * a - taken)
    size = np.abs(by)[:, None] * (line.size[:, None] * a + np.abs(taken))
    own = a if changed.by is None else a * changed.by[:, None]
    allowed = Prediction(changed.situation, Terms.of(changed), own, got, plane, size).slack
    fits: Flags = extremes.within(coefficient, least(changed) * np.abs(coefficient))
    fits &= (np.abs(got - plane) <= allowed.scaled + allowed.floor).all(axis=1)
    return fits

"""What one look at got / a tells of a tile: rows that are right, wrong, or explained throughout.

Where the label is the only target, the right gradient and many a wrong one is one number of its row times
a_j, but for a column or two. So the extremes of got_j / a_j in a row tell whether all its other entries lie
within the least that is allowed, or all of them outside the most; rows of which neither can be said are
looked at entry by entry.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from gradcheck_cli.blocks import Block
from gradcheck_cli.bounds import ACCEPTED
from gradcheck_cli.diagnosis.quotients import HAIR, Extremes, fitted
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.view import Sight
from gradcheck_cli.diagnosis.weights import Line
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices, Planes
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags


def outlined(situation: Situation, block: Block) -> bool:
    """Tell whether the right gradient of a block is a number of its row times a_j outside the labels."""
    plain = block.at.q.sparse and block.room.slope is None
    return situation.of_gradient and situation.classes > 1 and plain


def judged_at_once(situation: Situation) -> bool:
    """Tell whether what the check allows is the same share of every a_j of a row, but for its depth."""
    export = situation.export
    return export.native is None and not export.grid.half and not export.flushes


@dataclass(frozen=True, eq=False)
class Outline:
    """A tile by its quotients."""

    sight: Sight
    quotient: Floats  # (n, K)
    labels: Indices
    beside: Indices  # another column of each row

    @classmethod
    def of(cls, sight: Sight, room: Floats) -> Outline:
        """Return that of a tile; the quotients are written to the room."""
        planes = sight.tile.planes
        quotient = np.divide(sight.got, planes.a, out=sight.tile.plane(room))
        beside = (planes.pivot + 1) % sight.situation.classes
        quotient[planes.rows, planes.pivot] = quotient[planes.rows, beside]
        return cls(sight, quotient, planes.pivot, beside)

    @cached_property
    def others(self) -> Extremes:
        """Return the extremes outside the label's column."""
        return Extremes(self.quotient.min(axis=1), self.quotient.max(axis=1))

    def without(self, columns: Indices, neutral: Floats) -> Extremes:
        """Return the extremes outside the label's column and another: (n,); `neutral` stands in for both."""
        if np.array_equal(columns, self.labels):
            return self.others
        rows = self.sight.tile.planes.rows
        before = self.quotient[rows, columns].copy()
        self.quotient[rows, columns] = neutral
        self.quotient[rows, self.labels] = neutral
        found = Extremes(self.quotient.min(axis=1), self.quotient.max(axis=1))
        self.quotient[rows, columns] = before
        self.quotient[rows, self.labels] = self.quotient[rows, self.beside]
        return found

    @cached_property
    def limits(self) -> tuple[Floats, Floats]:
        """Return the least and the most that the check allows got_j / a_j of each row: (n,), (n,)."""
        tile, situation = self.sight.tile, self.sight.situation
        sums, size = tile.at.sums, np.abs(tile.at.coefficient)
        deepest = np.abs(sums.top) + sums.reach  # of classes that are not masked
        smallest = np.exp(-deepest) / sums.total
        if situation.tolerance is not None:
            share = situation.tolerance.rtol * size
            return share, share + situation.tolerance.atol / smallest
        allowance = self.sight.ladder.bound(ACCEPTED).allowance.part(tile.rows)
        share = allowance.fixed + allowance.relative * size
        return share, share + allowance.depth * deepest + allowance.floor / smallest

    def failing(self, rows: Indices) -> Flags:
        """Return the entries of some rows that the check refuses: (m, K).

        Between the least and the most that is allowed each entry is held against its own bound.
        """
        tile = self.sight.tile
        least, most = (each[rows, None] for each in self.limits)
        middle = tile.at.coefficient[rows, None]
        quotient = self.quotient if len(rows) == len(self.labels) else self.quotient[rows]
        off = np.subtract(quotient, middle, out=tile.room.error[: len(rows)])
        np.abs(off, out=off)
        hair = HAIR * np.abs(middle)
        failing: Flags = off > most + HAIR * (np.abs(middle) + most)
        told = off <= least - hair
        told |= failing
        doubtful = np.flatnonzero(~told.all(axis=1))
        within, columns = np.divmod(np.flatnonzero(~told[doubtful]), self.sight.situation.classes)
        if columns.size:
            at = doubtful[within], columns
            failing[at] = self._refused(rows[at[0]], columns)
        got, right, allowed = (each[rows] for each in self.at_label)
        failing[np.arange(len(rows)), self.labels[rows]] = ~(np.abs(got - right) <= allowed)
        return failing

    def _refused(self, rows: Indices, columns: Indices) -> Flags:
        """Hold single entries outside the label's column against their own bounds, as rows of one class."""
        tile, situation = self.sight.tile, self.sight.situation
        a, d, got = (each[rows, columns][:, None] for each in (tile.planes.a, tile.planes.d, self.sight.got))
        right = a * tile.at.coefficient[rows, None]
        allowed, work = np.empty((2, len(rows), 1))
        if situation.tolerance is not None:
            situation.tolerance.spread(right, allowed)
        else:
            none = np.zeros(len(rows), dtype=np.int64)
            single = Planes(d, a, None, np.arange(len(rows)), none)
            allowance = self.sight.ladder.bound(ACCEPTED).allowance.part(tile.rows).part(rows)
            allowance.outside_pivot(tile.at.part(rows), single, right, allowed, work)
        refused: Flags = ~(np.abs(got - right) <= allowed)[:, 0]
        return refused

    @cached_property
    def at_label(self) -> tuple[Floats, Floats, Floats]:
        """Return what was got, what is right and what is allowed in the label's column: (n,) each."""
        tile, situation = self.sight.tile, self.sight.situation
        got, right = tile.planes.at_pivot(self.sight.got), tile.at.own_gradient
        if situation.tolerance is not None:
            return got, right, situation.tolerance.spread(right, np.empty_like(right))
        return got, right, self.sight.ladder.bound(ACCEPTED).own[tile.rows]

    def explained(self, changed: Recipe, line: Line, by: Floats) -> Flags:
        """Tell which rows a hypothesis explains for sure, given its line and the factor of each row: (n,)."""
        extremes = self.without(line.columns, line.coefficient * by)
        return fitted(changed, line, by, extremes, np.stack([self.labels, line.columns], axis=1))

"""A tile's entries against an affine allowance: one product and one comparison, where that is enough.

Outside the pivot column of a row, allowed_j >= rate a_j and |g_j| = size a_j. So `error <= limit a` with
limit = min(rate margin, size relative), margin and relative being what is already on record, tells that no
entry adds anything to the statistics; the rate of the tightest model that explains all so far is a third
limit. What is left is looked at entry by entry, or as a whole tile where it is much. The result is the same
as if every entry had been compared in full.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.blocks import Block, Tile
from gradcheck_cli.bounds import ACCEPTED, Bound, Ladder
from gradcheck_cli.findings import A_HAIR_LESS, Finding, Sides, Tally, compare
from gradcheck_cli.grades import ARITHMETIC, tightest
from gradcheck_cli.numeric.cross_entropy import Point
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices, Planes

_NOTHING = np.empty(0, dtype=np.int64)

_FEW = 1.0 / 16.0
"""Share of a tile's entries up to which they are looked at one by one."""


@dataclass(frozen=True, eq=False)
class Screen:
    """The allowance of a block's entries; the pivot column is kept apart, for it has its own."""

    block: Block
    point: Point
    bound: Bound
    ladder: Ladder | None  # the tighter bounds, where the comparison is graded
    own_got: Floats  # (n,) filled tile by tile
    own_expected: Floats  # (n,) likewise
    rate: Floats | None  # (n,) None where the allowance has terms that do not shrink with a_j
    size: Floats  # (n,)
    _nothing: Floats  # (n,) zeros

    @classmethod
    def of(cls, block: Block, point: Point, bound: Bound, ladder: Ladder | None = None) -> Screen:
        """Return the screen of a block."""
        size = np.abs(point.coefficient)
        plain = point.loss.link.softcap is None and point.q.sparse
        rate = _rate(bound, size) if plain else None
        own_got, own_expected, nothing = np.zeros((3, block.size))
        return cls(block, point, bound, ladder, own_got, own_expected, rate, size, nothing)

    def gather(self, tile: Tile, planes: Planes, expected: Floats) -> None:
        """Take the pivot column out of the room's plane `got`."""
        self.own_got[tile.rows] = planes.at_pivot(tile.room.got)
        self.own_expected[tile.rows] = planes.at_pivot(expected)

    def compare(
        self, tile: Tile, planes: Planes, expected: Floats, tally: Tally, refill: Callable[[Tile], None]
    ) -> None:
        """Compare the room's plane `got` with `expected`, but for the pivot column.

        The plane becomes the error; `refill` fills it again for those entries that are looked at closely.
        """
        if self.rate is None:
            self._in_full(tile, planes, expected, tally)
            return
        error = tile.plane(tile.room.got)
        np.subtract(error, expected, out=error)
        np.abs(error, out=error)
        planes.put_pivot(error, self._nothing[: len(planes.rows)])
        remarkable = self._remarkable(tile, planes, error, self.rate, tally)
        if remarkable is None:
            refill(tile)
            self._in_full(tile, planes, expected, tally)
        elif remarkable.size:
            refill(tile)
            self._one_by_one(tile, planes, expected, remarkable, tally)

    def end(self, tally: Tally) -> None:
        """Compare the pivot column."""
        pivot, start = self.point.sums.pivot, self.block.start
        sides = Sides(self.own_got, self.own_expected, self.bound.own)
        look = tally.look(lambda row: (start + row, int(pivot[row])))
        error = np.empty_like(self.own_got)
        finding = compare(sides, look, error, np.empty_like(error))
        self._grade(finding, error, tally, lambda bound: bound.own)
        tally.add(finding)

    def _grade(
        self, finding: Finding, error: Floats, tally: Tally, spread: Callable[[Bound], Floats]
    ) -> None:
        """Note the tightest model that explains the errors of a comparison."""
        ladder = self.ladder
        if ladder is None:
            return
        if finding.failing:
            tally.needs(Model.NONE)
            return

        def explains(model: Model) -> bool:
            return bool((error <= spread(ladder.bound(model))).all())

        tally.needs(tightest(tally.model, (*ARITHMETIC, ACCEPTED), explains))

    def _remarkable(
        self, tile: Tile, planes: Planes, error: Floats, rate: Floats, tally: Tally
    ) -> Indices | None:
        """Pass over what is unremarkable; return the flat indices of the rest, or None if it is much."""
        margin, relative = tally.thresholds()
        limit = np.minimum(rate[tile.rows] * margin, self.size[tile.rows] * relative)
        if self.ladder is not None and tally.model < ACCEPTED:
            tight = _rate(self.ladder.bound(tally.model), self.size)[tile.rows]
            np.minimum(limit, A_HAIR_LESS * tight, out=limit)
        ceiling = tile.plane(tile.room.work)
        np.multiply(planes.a, limit[:, None], out=ceiling)
        quiet = np.less_equal(error, ceiling, out=tile.plane(tile.room.quiet))
        found = _NOTHING if quiet.all() else np.flatnonzero(~quiet)
        if len(found) > _FEW * error.size:
            return None
        # No error is above the limit times the row's largest a, 1/S: most tiles set no new record.
        largest = float((limit / tile.at.sums.total).max())
        if found.size or largest > tally.finding.max_abs:
            largest = float(error.max())
            if not largest < np.inf:
                return None
            tally.pass_over(error.size - len(planes.rows) - len(found), largest)
        else:
            tally.pass_over(error.size - len(planes.rows), 0.0)
        return found

    def _one_by_one(self, tile: Tile, planes: Planes, expected: Floats, at: Indices, tally: Tally) -> None:
        """Compare single entries in full, as rows of one class each."""
        rows, columns = np.divmod(at, planes.a.shape[1])
        right = expected[rows, columns][:, None]
        single = Planes(planes.d[rows, columns][:, None], planes.a[rows, columns][:, None], None, rows, rows)
        of_block = rows + tile.rows.start
        point = self.point.part(of_block)
        allowed, error, work = np.empty((3, len(at), 1))

        def spread(bound: Bound) -> Floats:
            return bound.allowance.part(of_block).outside_pivot(point, single, right, allowed, work)

        sides = Sides(tile.room.got[rows, columns][:, None], right, spread(self.bound))
        look = tally.look(lambda position: (tile.start + int(rows[position]), int(columns[position])))
        finding = compare(sides, look, error, work)
        self._grade(finding, error, tally, spread)
        tally.add(finding)

    def _in_full(self, tile: Tile, planes: Planes, expected: Floats, tally: Tally) -> None:
        """Compare every entry of the tile; the pivot column, made equal, adds nothing."""
        room = tile.room
        planes.put_pivot(room.got, planes.at_pivot(expected))
        allowed, error, work = (tile.plane(each) for each in (room.allowed, room.error, room.work))
        point = self.point.part(tile.rows)

        def spread(bound: Bound) -> Floats:
            bound.allowance.part(tile.rows).outside_pivot(point, planes, expected, allowed, work)
            planes.put_pivot(allowed, bound.own[tile.rows])
            return allowed

        sides = Sides(tile.plane(room.got), expected, spread(self.bound))
        finding = compare(sides, tally.look(tile.place), error, work)
        self._grade(finding, error, tally, spread)
        tally.add(replace(finding, entries=finding.entries - len(planes.rows)))


def _rate(bound: Bound, size: Floats) -> Floats:
    """Return what an allowance is at least, for each a_j: (n,)."""
    return bound.allowance.fixed + bound.allowance.relative * size

"""One look at every row that passes over what cannot matter: the fast way through a plain problem.

Hard labels without smoothing, softcap and z-loss: outside the label's column every entry of a gradient, of
its finite difference and of the probabilities is one number of its row times a_j. So the extremes of
got_j / a_j tell how far the worst entry of a row is off, relatively. Where that is no more than what is on
record already (a margin, a relative error, an absolute one, the model that explains) nothing of the row can
change the result but the count of entries. What may change it is compared in full: entry by entry when the
bounds of many rows are worked out together, or at once by a close look at the tile where it is much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gradcheck_cli.blocks import Grid, Room, Seen, enter, sums_of
from gradcheck_cli.coming import Coming
from gradcheck_cli.numeric.cross_entropy import Point, Scale, Targets
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices, row_sum
from gradcheck_cli.problem import Problem
from gradcheck_cli.refusals import Flags, refuse_masked_labels

_MANY_ROWS = 4096
"""Rows whose bounds are worked out together at most."""


@dataclass(frozen=True, eq=False)
class Glimpse:
    """Some rows with their probabilities, just worked out; the planes are the room's."""

    start: int
    waiting: int  # rows whose bounds are still to be worked out, before these
    a: Floats
    d: Floats  # the same plane as a where nothing asks how deep an entry lies
    labels: Indices
    rows: Indices  # 0 .. n-1
    coefficient: Floats  # (n,) the gradient over a_j, outside the label's column
    likeliest: Floats  # (n,) the largest a_j
    room: Room

    def plane(self, of: Floats) -> Floats:
        """Return a plane of the room, cut to the rows."""
        return of[: len(self.rows)]


class Watch(Protocol):
    """A comparison of every entry that can be made at a glance."""

    name: str

    def look(self, seen: Glimpse) -> Flags | None:
        """Look at rows; return which of them need a close look, or None if none does."""

    def settle(self, seen: Seen) -> None:
        """Compare what was left open, now that the bounds of the rows are known."""


class Owner(Protocol):
    """Who glances, and does what a glance leaves to do."""

    watches: Sequence[Watch]

    def look_closely(self, rows: range, name: str) -> None:
        """Compare every entry of some rows in full for one check; the room's planes are free for it."""

    def settle(self, seen: Seen, a_sums: Floats) -> None:
        """Compare what is open in rows whose bounds can be worked out now, given the sums of their a."""


@dataclass(frozen=True, eq=False)
class _Piece:
    coming: Coming
    found: Floats  # (5, n) of `enter`
    a_sums: Floats


class Glance:
    """Looks at pieces of the rows, and settles what they left open for many rows together."""

    def __init__(self, problem: Problem, grid: Grid, room: Room, owner: Owner) -> None:
        self.problem = problem
        self.grid = grid
        self.room = room
        self._owner = owner
        self._pieces: list[_Piece] = []
        self._waiting = 0
        self._patience = 1

    def take(self, rows: range) -> None:
        """Look at consecutive rows."""
        n = len(rows)
        piece = _Piece(Coming.of(self.problem, rows), np.empty((5, n)), np.empty(n))
        for start in range(0, n, self.grid.tile):
            self._tile(piece, slice(start, min(start + self.grid.tile, n)))
        refuse_masked_labels(
            self.problem, rows.start, piece.found[2], piece.coming.q.at_pivot, piece.coming.counted
        )
        self._pieces.append(piece)
        self._waiting += n
        if self._waiting >= self._patience:
            self.settle()
            self._patience = min(4 * self._patience, _MANY_ROWS)

    def _tile(self, piece: _Piece, part: slice) -> None:
        coming, room = piece.coming, self.room
        start, n = coming.rows.start + part.start, part.stop - part.start
        labels = coming.labels[part]
        found, _ = enter(self.problem, start, slice(0, n), labels, room)
        piece.found[:, part] = found
        likeliest = 1.0 / (found[3] + found[4])
        a = room.w[:n]
        a *= likeliest[:, None]
        piece.a_sums[part] = row_sum(a)
        coefficient = (coming.by.s * coming.q.mass)[part]
        seen = Glimpse(
            start, self._waiting + part.start, a, room.d[:n], labels, self.grid.numbers[:n], coefficient,
            likeliest, room,
        )  # fmt: skip
        again = [
            (watch.name, needed) for watch in self._owner.watches if (needed := watch.look(seen)) is not None
        ]
        for name, needed in again:  # the planes are overwritten now
            for run in _runs(needed):
                self._owner.look_closely(range(start + run.start, start + run.stop), name)

    def settle(self) -> None:
        """Compare what was left open in the rows seen since the last time."""
        if not self._pieces:
            return
        coming = [each.coming for each in self._pieces]
        labels = np.concatenate([each.labels for each in coming])
        found = np.concatenate([each.found for each in self._pieces], axis=1)
        sums = sums_of(found, labels, self.problem.classes)
        at = Point.of(
            self.problem.loss,
            sums,
            Targets.joined([c.q for c in coming]),
            Scale.joined([c.by for c in coming]),
        )
        numbers = np.concatenate([np.arange(each.rows.start, each.rows.stop) for each in coming])
        seen = Seen(numbers, at, np.concatenate([each.counted for each in coming]))
        a_sums = np.concatenate([each.a_sums for each in self._pieces])
        self._pieces.clear()
        self._waiting = 0
        self._owner.settle(seen, a_sums)


def _runs(chosen: Flags) -> Sequence[range]:
    """Return where flags are set, as ranges."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [range(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]

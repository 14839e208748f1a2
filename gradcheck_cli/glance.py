"""One look at every row that passes over what cannot matter: the fast way through a plain problem.

Hard labels without smoothing, softcap and z-loss: outside the label's column every entry of a gradient, of
its finite difference and of the probabilities is one number of its row times w_j = exp(d_j). So the extremes
of got_j / w_j tell how far the worst entry of a row is off, relatively. Where that is no more than what is on
record already (a margin, a relative error, an absolute one, the model that explains) nothing of the row can
change the result but the count of entries. What may change it is compared in full: entry by entry when the
bounds of many rows are worked out together, or at once by a close look at the tile where it is much.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from gradcheck_cli.blocks import Room, Seen, sums_of
from gradcheck_cli.coming import Coming
from gradcheck_cli.errors import InputError
from gradcheck_cli.grid import Grid
from gradcheck_cli.numeric import difference
from gradcheck_cli.numeric.cross_entropy import Point, Scale, Targets
from gradcheck_cli.numeric.difference import Quotients
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import (
    DEEPEST,
    Indices,
    UndefinedRow,
    extent,
    weigh,
)
from gradcheck_cli.problem import Problem
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags, refuse_masked_labels, undefined

FIRST = 8
"""Part of a tile that is looked at before anything is known, and therefore closely."""

_MANY_ROWS = 4096
"""Rows whose bounds are worked out together at most."""


@dataclass(frozen=True, eq=False)
class Glimpse:
    """Some rows with their exponentials, just worked out; the planes are the room's."""

    start: int
    waiting: int  # rows whose bounds are still to be worked out, before these
    w: Floats  # exp(d), 0 in the label's column: a_j is w_j times the inverse
    own: Floats  # (n,) exp(d) in the label's column
    rest: Floats  # (n,) the sum of the others
    inverse: Floats  # (n,) 1 / S, the largest a_j
    labels: Indices
    rows: Indices  # 0 .. n-1
    coefficient: Floats  # (n,) the gradient over a_j, outside the label's column
    quotients: Quotients  # of the finite difference
    shift: Floats  # (n,) the maximum of the logits, which d was shifted by
    lowest: Floats  # (n,) their minimum, -inf where a class is masked
    problem: Problem
    room: Room

    def plane(self, of: Floats) -> Floats:
        """Return a plane of the room, cut to the rows."""
        return of[: len(self.rows)]

    @cached_property
    def least(self) -> Floats:
        """Return the least w of each row, 0 where a class is masked: (n,); the label's is not looked at."""
        least: Floats = np.exp((self.lowest - self.shift) / self.problem.loss.link.temperature)
        return least

    def depths(self, at: tuple[Indices, Indices]) -> Floats:
        """Return d of some entries, by row and column; their rows are read again."""
        rows, columns = at
        first, stop = int(rows.min()), int(rows.max()) + 1
        z = self.room.read_floats(self.problem.logits, self.start + first, self.room.error[: stop - first])
        d = (z[rows - first, columns] - self.shift[rows]) / self.problem.loss.link.temperature
        return np.maximum(d, DEEPEST)


class Watch(Protocol):
    """A comparison of every entry that can be made at a glance."""

    name: str

    def look(self, seen: Glimpse) -> Flags | None:
        """Look at rows; return which of them need a close look, or None if none does."""

    def settle(self, seen: Seen) -> None:
        """Compare what was left open, now that all is known of the rows but their planes."""

    def finish(self) -> None:
        """Do what is done once, after the last rows."""


class Owner(Protocol):
    """Who glances, and does what a glance leaves to do."""

    watches: Sequence[Watch]

    def look_closely(self, rows: range, name: str) -> None:
        """Compare every entry of some rows in full for one check; the room's planes are free for it."""

    def settle(self, seen: Seen, ratio_sums: Floats) -> None:
        """Compare what is open in rows whose bounds can be worked out now.

        Their log ratios, summed over all columns but the label's, are given as well: (n,).
        """


@dataclass(frozen=True, eq=False)
class _Piece:
    coming: Coming
    found: Floats  # (5, n) for `sums_of`
    ratio_sums: Floats

    def close(self, problem: Problem) -> None:
        """Finish what is known of the rows, once all of them have been seen; refuse those without a loss."""
        coming, found = self.coming, self.found
        try:
            found[:2] = extent(found[0], found[1], problem.loss.link)
        except UndefinedRow as undefined_row:
            raise InputError(undefined(problem.logits, coming.rows.start + undefined_row.row)) from None
        np.maximum(found[2], DEEPEST, out=found[2])
        refuse_masked_labels(problem, coming.rows.start, found[2], coming.q.at_pivot, coming.counted)


class Glance:
    """Looks at pieces of the rows, and settles what they left open for many rows together."""

    def __init__(self, problem: Problem, grid: Grid, room: Room, owner: Owner, first: int) -> None:
        self.problem = problem
        self.grid = grid
        self.room = room
        self._owner = owner
        self._first = first  # so many rows are looked at before anything is known
        self._pieces: list[_Piece] = []
        self._waiting = 0
        self._patience = 1

    def take(self, rows: range) -> None:
        """Look at consecutive rows; until the first are settled nothing is known to be unremarkable."""
        n, tile = len(rows), self.grid.tile
        if self._patience == 1 and n > self._first:
            self.take(rows[: self._first])
            self.take(rows[self._first :])
            return
        piece = _Piece(Coming.of(self.problem, rows), np.empty((5, n)), np.empty(n))
        for start in range(0, n, tile):
            self._tile(piece, slice(start, min(start + tile, n)))
        piece.close(self.problem)
        self._pieces.append(piece)
        self._waiting += n
        if self._waiting >= self._patience:
            self.settle()
            self._patience = min(16 * self._patience, _MANY_ROWS)

    def _tile(self, piece: _Piece, part: slice) -> None:
        seen = self._see(piece, part)
        again = [
            (watch.name, needed) for watch in self._owner.watches if (needed := watch.look(seen)) is not None
        ]
        for name, needed in again:  # the planes are overwritten now
            for run in _runs(needed):
                rows = range(seen.start + run.start, seen.start + run.stop)
                self._owner.look_closely(rows, name)

    def _see(self, piece: _Piece, part: slice) -> Glimpse:
        """Work out the exponentials of rows and the log ratios of their finite differences."""
        coming, room = piece.coming, self.room
        start, n = coming.rows.start + part.start, part.stop - part.start
        labels, rows, w = coming.labels[part], self.grid.numbers[:n], room.w[:n]
        z = room.read_floats(self.problem.logits, start, w)
        found = piece.found[:, part] = weigh(z, self.problem.loss.link, labels, w)
        inverse = 1.0 / (found[3] + found[4])
        quotients = difference.quotients(w, inverse, labels, room.got[:n])
        piece.ratio_sums[part] = quotients.sums
        return Glimpse(
            start=start,
            waiting=self._waiting + part.start,
            w=w,
            own=found[4],
            rest=found[3],
            inverse=inverse,
            labels=labels,
            rows=rows,
            coefficient=coming.coefficient[part],
            quotients=quotients,
            shift=found[0],
            lowest=found[1],
            problem=self.problem,
            room=room,
        )

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
        ratio_sums = np.concatenate([each.ratio_sums for each in self._pieces])
        self._pieces.clear()
        self._waiting = 0
        self._owner.settle(seen, ratio_sums)


def places(chosen: Flags) -> tuple[Indices, Indices]:
    """Return rows and columns of what is chosen of a plane; of a flattened one NumPy finds it faster."""
    if chosen.flags.c_contiguous:
        return np.divmod(np.flatnonzero(chosen), chosen.shape[1])
    columns, rows = np.divmod(np.flatnonzero(chosen.T), len(chosen))
    return rows, columns


def _runs(chosen: Flags) -> Sequence[range]:
    """Return where flags are set, as ranges."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [range(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]

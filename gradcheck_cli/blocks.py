"""Rows of the problem as numbers: a block has the sums of its rows, its tiles the planes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck_cli.coming import labels_of, scale_of
from gradcheck_cli.errors import InputError
from gradcheck_cli.grid import Grid
from gradcheck_cli.numeric import cross_entropy
from gradcheck_cli.numeric.compiled import Stored
from gradcheck_cli.numeric.cross_entropy import Point, Targets
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import (
    FEW_CLASSES,
    Indices,
    Planes,
    Sums,
    UndefinedRow,
    exponentials,
    shift,
    sums,
)
from gradcheck_cli.problem import Problem
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags, refuse_masked_targets, undefined
from gradcheck_cli.tensors import Rows


@dataclass(frozen=True, eq=False)
class Room:
    """The planes one process works in, reused for every block; d and w of a block, the rest of a tile."""

    d: Floats
    w: Floats  # exp(d), a in the end; the same plane as d where the depth is not asked for
    slope: Floats | None
    targets: Floats | None
    g: Floats
    got: Floats
    error: Floats
    work: Floats
    allowed: Floats
    read_into: Floats | None  # where rows are read in their own order, if the planes have another

    @classmethod
    def of(cls, problem: Problem, grid: Grid, *, depth: bool) -> Room:
        """Return room for the blocks of a grid."""
        slope = problem.loss.link.softcap is not None
        return cls.cut(problem.classes, grid, depth=depth, slope=slope, targets=problem.soft)

    @classmethod
    def cut(cls, classes: int, grid: Grid, *, depth: bool, slope: bool, targets: bool) -> Room:
        """Return room for blocks of so many classes, with the planes that are asked for."""
        few = classes <= FEW_CLASSES

        def plane(rows: int) -> Floats:
            return np.empty((rows, classes), order="F" if few else "C")

        d = plane(grid.block)
        return cls(
            d=d,
            w=plane(grid.block) if depth else d,
            slope=plane(grid.block) if slope else None,
            targets=plane(grid.block) if targets else None,
            g=plane(grid.tile),
            got=plane(grid.tile),
            error=plane(grid.tile),
            work=plane(grid.tile),
            allowed=plane(grid.tile),
            read_into=np.empty((grid.tile, classes)) if few else None,
        )

    def read(self, rows: Rows, start: int, plane: Floats) -> None:
        """Read as many rows from `start` on as the plane has, in tiles at most."""
        if self.read_into is None:
            rows.read(start, start + len(plane), plane)
            return
        for first in range(0, len(plane), len(self.read_into)):
            part = plane[first : first + len(self.read_into)]
            stored = self.read_into[: len(part)]
            rows.read(start + first, start + first + len(part), stored)
            part[...] = stored

    def read_floats(self, rows: Rows, start: int, plane: Floats) -> Stored:
        """Read as many rows as the plane has, which is filled only where the file has no float32 numbers.

        What is returned lasts until rows are read again.
        """
        if self.read_into is None:
            return rows.read_floats(start, start + len(plane), plane)
        self.read(rows, start, plane)
        return plane


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of some rows once all their entries have been looked at."""

    numbers: Indices  # (n,) of the rows
    at: Point
    counted: Flags  # (n,) rows that are not ignored

    def part(self, rows: slice | Indices) -> Seen:
        """Return some of the rows."""
        return Seen(self.numbers[rows], self.at.part(rows), self.counted[rows])


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive rows, worked out but for their planes; the room is theirs until the next block."""

    start: int
    at: Point
    counted: Flags  # (n,) rows that are not ignored
    room: Room
    grid: Grid

    @property
    def size(self) -> int:
        """Return the number of rows."""
        return len(self.counted)

    @property
    def seen(self) -> Seen:
        """Return what is known of the rows, but for their planes."""
        return Seen(np.arange(self.start, self.start + self.size), self.at, self.counted)

    def at_pivot(self, plane: Floats) -> Floats:
        """Return each row's entry of a block's plane in its pivot column: (n,)."""
        picked: Floats = plane[np.arange(self.size), self.at.sums.pivot]
        return picked

    def tiles(self) -> Iterator[Tile]:
        """Yield the block's tiles, with softmax and gradient in their planes, one after the other."""
        for start in range(0, self.size, self.grid.tile):
            yield self._tile(slice(start, min(start + self.grid.tile, self.size)))

    def _tile(self, rows: slice) -> Tile:
        room, at = self.room, self.at.part(rows)
        n = rows.stop - rows.start
        slope = None if room.slope is None else room.slope[rows]
        a = room.w[rows]
        a *= (1.0 / at.sums.total)[:, None]
        planes = Planes(room.d[rows], a, slope, self.grid.numbers[:n], at.sums.pivot)
        g = cross_entropy.gradient(at, planes, room.g[:n], room.work[:n])
        return Tile(self.start + rows.start, rows, at, planes, g, room)


@dataclass(frozen=True, eq=False)
class Tile:
    """Some rows of a block with their planes."""

    start: int
    rows: slice  # of the block
    at: Point
    planes: Planes
    g: Floats
    room: Room

    @property
    def stop(self) -> int:
        """Return the row after the last."""
        return self.start + len(self.planes.rows)

    def plane(self, of: Floats) -> Floats:
        """Return a plane of the room, cut to the tile's rows."""
        return of[: len(self.planes.rows)]

    def planes_of_room(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the room's planes for what was got, what is allowed, the error, and work."""
        got, allowed, error, work = (
            self.plane(each) for each in (self.room.got, self.room.allowed, self.room.error, self.room.work)
        )
        return got, allowed, error, work

    def place(self, position: int) -> tuple[int, int]:
        """Return row and column of a position in the flattened tile."""
        row, column = divmod(position, self.at.sums.classes)
        return self.start + row, column


def work_out(problem: Problem, rows: range, grid: Grid, room: Room) -> Block:
    """Return the block of some rows: read, shifted, exponentials summed, targets and scales."""
    labels, counted = labels_of(problem, rows)
    found = _sums(problem, rows, labels, grid, room)
    q = _targets(problem, rows, found.pivot, room)
    at = Point.of(problem.loss, found, q, scale_of(problem, rows, found, counted))
    refuse_masked_targets(problem, rows.start, at, counted, room.w[: len(rows)])
    return Block(rows.start, at, counted, room, grid)


def _sums(problem: Problem, rows: range, labels: Indices | None, grid: Grid, room: Room) -> Sums:
    """Read the logits, tile by tile, leave d and exp(d) in the room, and return the sums."""
    found = np.empty((5, len(rows)))
    pivot = np.empty(len(rows), dtype=np.int64) if labels is None else labels
    for start in range(0, len(rows), grid.tile):
        part = slice(start, min(start + grid.tile, len(rows)))
        chosen = None if labels is None else labels[part]
        found[:, part], pivot[part] = enter(problem, rows.start + start, part, chosen, room)
    return sums_of(found, pivot, problem.classes)


def enter(
    problem: Problem, first: int, part: slice, labels: Indices | None, room: Room
) -> tuple[Floats, Indices]:
    """Read the logits of rows, leave d and exp(d) in a part of the room's planes, and return their sums.

    (5, n) for :func:`sums_of`, and the pivot columns: the labels, or the largest logits.
    """
    d = room.d[part]
    found = np.empty((5, len(d)))
    slope = None if room.slope is None else room.slope[part]
    room.read(problem.logits, first, d)
    try:
        (found[0], found[1]), _ = shift(d, problem.loss.link, slope)
    except UndefinedRow as undefined_row:
        raise InputError(undefined(problem.logits, first + undefined_row.row)) from None
    pivot = d.argmax(axis=1) if labels is None else labels
    found[2] = d[np.arange(len(d)), pivot]
    found[3], found[4] = exponentials(d, pivot, room.w[part])
    return found, pivot


def sums_of(found: Floats, pivot: Indices, classes: int) -> Sums:
    """Return the sums of rows from what :func:`enter` found: (5, n), (n,)."""
    top, reach, own_d, rest, own = found
    return sums((top, reach), pivot, (own_d, own), rest, classes)


def _targets(problem: Problem, rows: range, pivot: Indices, room: Room) -> Targets:
    if room.targets is None:
        return cross_entropy.class_targets(pivot, problem.classes, problem.loss)
    targets = room.targets[: len(rows)]
    room.read(problem.targets, rows.start, targets)
    lowest, highest = targets.min(axis=1), targets.max(axis=1)
    bad = np.flatnonzero(~((lowest >= 0.0) & (highest < np.inf)))
    if bad.size:
        row = int(bad[0])
        column = int(np.flatnonzero(~((targets[row] >= 0) & (targets[row] < np.inf)))[0])
        place = list(problem.targets.index_of(rows.start + row, column))
        raise InputError(
            f"{problem.targets.tensor.name}, entry {place}: target {targets[row, column]:g} is not "
            "a finite number >= 0 (labels have the logits' own shape, so they are taken as distributions; "
            "are LOGITS and LABELS swapped?)"
        )
    return cross_entropy.distribution_targets(targets, pivot, problem.loss)

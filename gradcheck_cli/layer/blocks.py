"""Rows of the softmax layer as numbers; a block is one of the softmax alone with the upstream beside it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck_cli.blocks import Block, Room, Tile
from gradcheck_cli.errors import InputError
from gradcheck_cli.grid import Grid
from gradcheck_cli.layer.problem import LayerProblem
from gradcheck_cli.numeric import accuracy, layer
from gradcheck_cli.numeric.layer import LayerPoint
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import (
    DEEPEST,
    Indices,
    Planes,
    Sums,
    UndefinedRow,
    exponentials,
    shift,
    sums,
)
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags, undefined
from gradcheck_cli.tensors import Rows
from gradcheck_cli.visible import visible

LARGEST_UPSTREAM = 1e150
"""Sums of products with it stay far inside float64."""


@dataclass(frozen=True, eq=False)
class LayerRoom(Room):
    """The room of a layer; it knows the wholly masked rows of the block that is in it."""

    gone: Flags
    first: Indices  # (1,) the block's first row
    leaves_out: bool

    def read(self, rows: Rows, start: int, plane: Floats) -> None:
        """Read rows of the block; wholly masked ones that are left out of the check hold what is right."""
        super().read(rows, start, plane)
        if self.leaves_out:
            of_block = start - int(self.first[0])
            nothing = -np.inf if rows.tensor.role == "log-probs" else 0.0
            plane[self.gone[of_block : of_block + len(plane)]] = nothing


@dataclass(frozen=True, eq=False)
class LayerTile(Tile):
    """A tile whose gradient is that of the layer; `t` is the upstream, shifted unless it is a log-softmax."""

    t: Floats
    point: LayerPoint
    gone: Flags


@dataclass(frozen=True, eq=False)
class LayerBlock(Block):
    """Consecutive rows of the layer."""

    problem: LayerProblem
    gone: Flags  # (n,) wholly masked rows

    def tiles(self) -> Iterator[LayerTile]:
        """Yield the block's tiles, with softmax and gradient in their planes, one after the other."""
        for start in range(0, self.size, self.grid.tile):
            yield self._tile(slice(start, min(start + self.grid.tile, self.size)))

    def _tile(self, rows: slice) -> LayerTile:
        room, at, n = self.room, self.at.part(rows), rows.stop - rows.start
        a, gone = room.w[rows], self.gone[rows]
        a *= (1.0 / at.sums.total)[:, None]
        a[gone] = 0.0
        room.d[rows][gone] = DEEPEST
        planes = Planes(room.d[rows], a, None, self.grid.numbers[:n], at.sums.pivot)
        t = self._upstream(rows, planes)
        log = self.problem.log
        by = layer.pull(t, planes, (room.error[:n], room.work[:n]), log=log)
        point = LayerPoint(at.sums, by, self.problem.link, log)
        g = layer.backward(point, t, planes, room.g[:n])
        g[gone] = 0.0
        g /= self.problem.link.temperature
        return LayerTile(self.start + rows.start, rows, at, planes, g, room, t, point, gone)

    def _upstream(self, rows: slice, planes: Planes) -> Floats:
        """Read the upstream of a tile; where a row is left out it is 0."""
        problem, start = self.problem, self.start + rows.start
        if self.room.targets is None:
            raise ValueError("a layer's room has a plane for the upstream")
        t = self.room.targets[: rows.stop - rows.start]
        self.room.read(problem.upstream, start, t)
        t[self.gone[rows]] = 0.0
        bad = ~(np.abs(t) <= LARGEST_UPSTREAM)
        if bad.any():
            row, column = (int(each[0]) for each in np.nonzero(bad))
            place = list(problem.upstream.index_of(start + row, column))
            raise InputError(
                f"{visible(problem.upstream.tensor.path)}, entry {place}: the upstream gradient "
                f"{t[row, column]:g} is not a number of at most {LARGEST_UPSTREAM:g}"
            )
        if problem.log:
            self._refuse_masked_upstream(t, planes, start)
        return t

    def _refuse_masked_upstream(self, t: Floats, planes: Planes, start: int) -> None:
        """Refuse an upstream at a class whose log-probability is -inf: <t, log a> is infinite."""
        doubtful = np.argwhere((planes.a == 0.0) & (t != 0.0))
        for row, column in doubtful:
            z = np.empty((1, self.problem.classes))
            self.problem.logits.read(start + int(row), start + int(row) + 1, z)
            if np.isneginf(z[0, column]):
                place = list(self.problem.upstream.index_of(start + int(row), int(column)))
                raise InputError(
                    f"{visible(self.problem.upstream.tensor.path)}, entry {place}: the upstream gradient "
                    f"{t[row, column]:g} stands at a masked class (-inf), whose log-softmax has no gradient"
                )


def room_of(problem: LayerProblem, grid: Grid) -> LayerRoom:
    """Return room for the blocks of a grid."""
    plain = Room.cut(problem.classes, grid, depth=True, slope=False, targets=True)
    gone, first = np.zeros(grid.block, dtype=bool), np.zeros(1, dtype=np.int64)
    return LayerRoom(**vars(plain), gone=gone, first=first, leaves_out=problem.masked_rows == "ignore")


def work_out(problem: LayerProblem, rows: range, grid: Grid, room: LayerRoom) -> LayerBlock:
    """Return the block of some rows: read, shifted, exponentials summed."""
    n = len(rows)
    room.first[0] = rows.start
    found, gone = _sums(problem, rows, grid, room), room.gone[:n]
    at = accuracy.bare(found, problem.link)
    at.own_gradient[gone] = 0.0
    at.sums.own_a[gone] = 0.0
    return LayerBlock(rows.start, at, ~gone, room, grid, problem, gone)


def _sums(problem: LayerProblem, rows: range, grid: Grid, room: LayerRoom) -> Sums:
    """Read the logits, tile by tile, leave d and exp(d) in the room, and return the sums."""
    n = len(rows)
    top, reach, rest, own, own_d = np.empty((5, n))
    pivot: Indices = np.empty(n, dtype=np.int64)
    for start in range(0, n, grid.tile):
        part = slice(start, min(start + grid.tile, n))
        d = room.d[part]
        Room.read(room, problem.logits, rows.start + part.start, d)
        room.gone[part] = False
        if problem.masked_rows != "refuse":
            room.gone[part] = np.isneginf(d.max(axis=1))
            d[room.gone[part]] = 0.0
        try:
            (top[part], reach[part]), _ = shift(d, problem.link, None)
        except UndefinedRow as found:
            row = rows.start + part.start + found.row
            raise InputError(_undefined(problem, row)) from None
        pivot[part] = d.argmax(axis=1)
        own_d[part] = d[np.arange(len(d)), pivot[part]]
        rest[part], own[part] = exponentials(d, pivot[part], room.w[part])
    return sums((top, reach), pivot, (own_d, own), rest, problem.classes)


def _undefined(problem: LayerProblem, row: int) -> str:
    """Say why a row has no softmax, and what can be done where all of it is masked."""
    told = undefined(problem.logits, row)
    if "every class is masked" in told:
        return (
            f"{told}; pass --masked-rows zero where the kernel writes 0 there, "
            "--masked-rows ignore where what it writes does not matter (NaN)"
        )
    return told

"""Where the errors of a failing case are and how large: a second pass over its blocks, for a drawing.

The passes that judge keep counts and the worst entries; a map of all errors is needed only for a failing case
that somebody wants to look at.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np

from gradcheck_cli.batch.case import Case
from gradcheck_cli.batch.kinds import KINDS, open_inputs, settings_of
from gradcheck_cli.blocks import Grid, Room, Tile, work_out
from gradcheck_cli.comparisons import expected_of
from gradcheck_cli.exports import Export
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.problem import PLANES, Problem, pose

ROWS, COLUMNS = 48, 64
"""Cells of a map at most."""

SMALLEST, LARGEST = -24, 6
"""Decades that errors are counted in; what lies beyond counts in the first or the last."""


def pictures_of(case: Case) -> list[dict[str, Any]]:
    """Return for each exported plane of a check the largest error of each part, and errors by decade."""
    if KINDS[case.command] is not KINDS["check"]:
        return []
    settings = settings_of(case.command, dict(case.options))
    with contextlib.ExitStack() as opened:
        tensors, scalars = open_inputs(case, settings, opened)
        problem = pose(tensors, scalars, settings)
        drawn = [_Picture(each, problem) for each in problem.exports if each.name in PLANES]
        grid = Grid.of(problem)
        room = Room.of(problem, grid, depth=True)
        with np.errstate(all="ignore"):
            for number in range(grid.blocks):
                block = work_out(problem, grid.rows_of(number), grid, room)
                for tile in block.tiles():
                    for each in drawn:
                        each.add(tile)
    return [each.record() for each in drawn]


class _Picture:
    """The map of one exported tensor as it fills."""

    def __init__(self, export: Export, problem: Problem) -> None:
        self.export = export
        self.rows, self.classes = problem.rows, problem.classes
        height, width = min(ROWS, self.rows), min(COLUMNS, self.classes)
        self.map = np.zeros((height, width))
        self.starts = np.arange(width) * self.classes // width  # first column of each cell
        self.counts = np.zeros(LARGEST - SMALLEST + 1, dtype=np.int64)
        self.exact = 0

    def add(self, tile: Tile) -> None:
        """Add the errors of a tile."""
        got = tile.plane(tile.room.got)
        tile.room.read(self.export.rows, tile.start, got)
        _, expected = expected_of(self.export, tile)
        error = np.abs(got - expected)
        error[got == expected] = 0.0
        error[np.isnan(error)] = np.inf
        widest = np.maximum.reduceat(error, self.starts, axis=1)
        cells = np.arange(tile.start, tile.stop) * len(self.map) // self.rows
        np.maximum.at(self.map, cells, widest)
        self._count(error)

    def _count(self, error: Floats) -> None:
        there = error[error > 0.0]
        self.exact += int(error.size - there.size)
        decades = np.clip(np.floor(np.log10(there)), SMALLEST, LARGEST).astype(np.int64)
        self.counts += np.bincount(decades - SMALLEST, minlength=len(self.counts))

    def record(self) -> dict[str, Any]:
        """Return the picture as plain values; an error that is no number is infinite, and a word."""
        cells = [[each if math.isfinite(each) else "Infinity" for each in row] for row in self.map.tolist()]
        seen = np.flatnonzero(self.counts)
        histogram = [[int(each) + SMALLEST, int(self.counts[each])] for each in seen]
        return {
            "check": self.export.name,
            "rows": self.rows,
            "classes": self.classes,
            "largest": cells,
            "decades": histogram,
            "exact": self.exact,
        }

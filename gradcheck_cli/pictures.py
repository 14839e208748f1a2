"""Where the failing entries are, in a few thousand parts, and how large the errors are.

A second pass over the rows, made after a failure and only where somebody is to see it. The counts are those
of the check itself: the same judges look at the same tiles.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradcheck_cli.blocks import Grid, Room, Tile, work_out
from gradcheck_cli.comparisons import Exported, Tolerance
from gradcheck_cli.findings import Finding, Tally
from gradcheck_cli.grades import Grade, octaves
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.outcome import Picture
from gradcheck_cli.problem import PLANES, Problem

HEIGHT, WIDTH = 48, 96
"""Parts of a map at most, of the rows and of the classes; who has less room joins neighbours."""


def pictures(
    problem: Problem, tolerance: Tolerance | None, findings: Mapping[str, Finding], failed: tuple[str, ...]
) -> tuple[Picture, ...]:
    """Return a picture of each exported tensor with the logits' shape; a map where it failed."""
    planes = [each for each in problem.exports if each.name in PLANES]
    maps = {each.name: _Map(Exported(each, tolerance), problem) for each in planes if each.name in failed}
    if maps:
        grid = Grid.of(problem)
        room = Room.of(problem, grid, depth=True)
        with np.errstate(all="ignore"):
            for number in range(grid.blocks):
                block = work_out(problem, grid.rows_of(number), grid, room)
                judges = [(each.comparison.begin(block), each) for each in maps.values()]
                for tile in block.tiles():
                    for judge, each in judges:
                        before = each.tally.finding.failing
                        judge.tile(tile, each.tally)
                        if each.tally.finding.failing > before:
                            each.add(tile)
    none = np.zeros((0, 0), dtype=np.int64)
    return tuple(
        _picture(each.name, problem, maps[each.name].counts if each.name in maps else none, findings)
        for each in planes
    )


def _picture(
    name: str, problem: Problem, counts: np.ndarray[tuple[int, int], np.dtype[np.int64]],
    findings: Mapping[str, Finding],
) -> Picture:  # fmt: skip
    grade: Grade = findings[name].grade
    return Picture(
        name,
        problem.rows,
        problem.classes,
        tuple(tuple(map(int, row)) for row in counts),
        octaves(grade.ulps),
    )


class _Map:
    """The failing entries of one exported tensor, counted by parts of it."""

    def __init__(self, comparison: Exported, problem: Problem) -> None:
        self.comparison = comparison
        self.tally = Tally(comparison.grid, 0)
        self._rows, self._classes = problem.rows, problem.classes
        self.counts = np.zeros((min(HEIGHT, self._rows), min(WIDTH, self._classes)), dtype=np.int64)
        width = self.counts.shape[1]
        self._starts = np.arange(width) * self._classes // width  # first column of each part

    def add(self, tile: Tile) -> None:
        """Count the failing entries of a tile; its judge has left errors and allowances in the room."""
        failing = _failing(
            *(tile.plane(each) for each in (tile.room.got, tile.room.error, tile.room.allowed))
        )
        by_columns = np.add.reduceat(failing, self._starts, axis=1, dtype=np.int64)
        parts = np.arange(tile.start, tile.stop) * len(self.counts) // self._rows
        np.add.at(self.counts, parts, by_columns)


def _failing(got: Floats, error: Floats, allowed: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return which entries fail, as :func:`gradcheck_cli.findings.compare` has it."""
    margin = error / allowed
    unclear = np.isnan(margin)
    margin[unclear] = np.where(error <= allowed, 0.0, np.inf)[unclear]
    failing: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = ~(margin <= 1.0)
    return failing | np.isnan(got) | ~(allowed >= 0.0)

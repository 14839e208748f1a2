"""Some rows of the problem as dense arrays, beside what was exported for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.blocks import Block, Room, Tile, work_out
from gradcheck_cli.bounds import Ladder
from gradcheck_cli.diagnosis.judging import judged
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.weights import Places
from gradcheck_cli.grid import Grid
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags

_ARRAYS = ("counted", "got", "right", "allowed", "own_a", "pivot")


@dataclass(frozen=True, eq=False)
class View:
    """Rows of a problem, mostly consecutive ones: (n, K) planes in C order, (n,) arrays."""

    situation: Situation
    rows: range
    counted: Flags
    got: Floats
    right: Floats
    allowed: Floats
    recipe: Recipe
    own_a: Floats  # the label's probability, or that of the likeliest class
    pivot: Indices
    columns: Indices | None = None  # those that hypotheses are tried on, where there are very many

    @cached_property
    def failing(self) -> Flags:
        """Return the entries that the check refuses."""
        with np.errstate(all="ignore"):
            wrong: Flags = ~(np.abs(self.got - self.right) <= self.allowed)
        wrong &= ~((self.got == self.right) & np.isinf(self.got))
        return wrong

    @cached_property
    def got_there(self) -> Floats:
        """Return what was exported in the columns that hypotheses are tried on: (n, m)."""
        return self.got if self.columns is None else self.got[:, self.columns]

    @property
    def right_there(self) -> Floats:
        """Return what is right there: (n, m)."""
        return self.right if self.columns is None else self.right[:, self.columns]

    @cached_property
    def failing_there(self) -> Flags:
        """Return what fails there: (n, m)."""
        return self.failing if self.columns is None else self.failing[:, self.columns]

    def narrowed(self, most: int) -> View:
        """Return the view with the columns to try hypotheses on, if there are more than so many.

        Those of labels and of failures, the likeliest and the worst, the ends, and some spread evenly.
        """
        classes = self.got.shape[1]
        if classes <= most:
            return self
        failing = np.flatnonzero(self.failing.any(axis=0))
        spread = [each[:: max(1, len(each) // (most // 8))] for each in (failing, np.arange(classes))]
        ends = np.concatenate([np.arange(64), np.arange(classes - 64, classes)])
        labels = [(self.pivot + offset) % classes for offset in (-1, 0, 1)]
        if not self.situation.problem.soft:
            labels += [np.clip(self.recipe.labels_beside(each), 0, classes - 1) for each in (-1, 1)]
        with np.errstate(all="ignore"):
            extreme = [self.right.argmax(axis=1), np.abs(self.got - self.right).argmax(axis=1)]
        some = np.concatenate([*labels, *extreme, *spread, ends])
        chosen = np.array(sorted(set(some.tolist())))  # np.unique imports numpy.ma
        return replace(self, columns=chosen)

    def picked(self, places: Places) -> View:
        """Return the view of some of the rows, by their places here."""
        cut: dict[str, Any] = {name: getattr(self, name)[places] for name in _ARRAYS}
        return replace(self, recipe=self.recipe.picked(places), **cut)


@dataclass(frozen=True, eq=False)
class Sight:
    """A tile beside what was exported for it, both in the planes of a room; a view is made when needed."""

    situation: Situation
    tile: Tile
    ladder: Ladder
    counted: Flags  # (n,)
    got: Floats  # (n, K)

    @property
    def rows(self) -> range:
        """Return the numbers of the rows."""
        return range(self.tile.start, self.tile.stop)

    @cached_property
    def recipe(self) -> Recipe:
        """Return the right recipe, whose planes are the room's."""
        return Recipe.of(self.situation, self.tile, self.rows, self.counted, self.got)

    @cached_property
    def view(self) -> View:
        """Return the rows with planes of their own."""
        got, sums = np.array(self.got, order="C"), self.tile.at.sums
        right, allowed = judged(self.situation, self.tile, self.ladder, self.counted, self.got)
        return View(
            situation=self.situation,
            rows=self.rows,
            counted=self.counted,
            got=got,
            right=right,
            allowed=allowed,
            recipe=replace(self.recipe, got=got, base=np.array(self.recipe.base, order="C")),
            own_a=sums.own_a,
            pivot=sums.pivot if self.situation.width > 1 else np.zeros_like(sums.pivot),
        )


def sights_of(situation: Situation, block: Block) -> Iterator[Sight]:
    """Yield a block's tiles with what was exported for them."""
    slope = 1.0 if block.room.slope is None else block.at_pivot(block.room.slope)
    ladder = Ladder(block.at, situation.export, slope)
    for tile in block.tiles():
        rows = situation.export.rows
        if rows.axis is None:
            got = np.empty((tile.stop - tile.start, 1))
            rows.read(tile.start, tile.stop, got[:, 0])
        else:
            got = tile.plane(block.room.got)
            block.room.read(rows, tile.start, got)
        yield Sight(situation, tile, ladder, block.counted[tile.rows], got)


class Rows:
    """Views of any rows of a problem, worked out as they are asked for."""

    def __init__(self, situation: Situation, most: int) -> None:
        """Make room for views of at most so many rows."""
        problem = situation.problem
        self.situation = situation
        self.grid = Grid(problem.rows, most, most)
        self.room = Room.of(problem, self.grid, depth=True)

    def view(self, rows: range) -> View:
        """Return the view of some consecutive rows."""
        with np.errstate(all="ignore"):
            block = work_out(self.situation.problem, rows, self.grid, self.room)
            (sight,) = sights_of(self.situation, block)
            return sight.view

    def gathered(self, chosen: list[int], most: int) -> Iterator[View]:
        """Yield views that hold the chosen rows, in their order, of at most so many rows each."""
        room = len(self.grid.numbers)
        for start in range(0, len(chosen), most):
            part = chosen[start : start + most]
            first, stop = min(part), max(part) + 1
            if stop - first <= room:
                whole, places = self.view(range(first, stop)), [row - first for row in part]
                yield whole if places == list(range(stop - first)) else whole.picked(places)
            else:
                yield joined([self.view(run) for run in _runs(part, room)])


def _runs(rows: list[int], most: int) -> list[range]:
    """Return the rows as runs of consecutive ones."""
    runs: list[range] = []
    for row in rows:
        if runs and runs[-1].stop == row and len(runs[-1]) < most:
            runs[-1] = range(runs[-1].start, row + 1)
        else:
            runs.append(range(row, row + 1))
    return runs


def joined(views: list[View]) -> View:
    """Return one view of the rows of several; its range is that of the first."""
    if len(views) == 1:
        return views[0]
    parts: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in views]) for name in _ARRAYS
    }
    return replace(views[0], recipe=Recipe.joined([each.recipe for each in views]), **parts)

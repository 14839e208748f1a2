"""Bugs of the loss as a linear layer passes them on: (n, K) gradients at the logits with their errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from gradcheck_cli.blocks import Room, Tile, work_out
from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.dense.problem import LinearProblem
from gradcheck_cli.dense.rows import leeway_of, logits_error, summed_error
from gradcheck_cli.diagnosis import view
from gradcheck_cli.diagnosis.bug import Suspect, suspects
from gradcheck_cli.diagnosis.catalogue import CHANGES
from gradcheck_cli.diagnosis.hypothesis import apply
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.diagnosis.scale import SCALES
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.slack import Prediction
from gradcheck_cli.diagnosis.upstream import ROW_FACTORS
from gradcheck_cli.exports import Export
from gradcheck_cli.grid import Grid
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass

PASSED_ON = frozenset({
    "upstream-ignored", "upstream-first-row-only", "upstream-applied-twice", "weights-applied-twice",
    "weights-by-row", "mean-of-means", "sum-of-means", "onehot-not-subtracted", "soft-target-sum-ignored",
    "label-off-by-one", "label-shifted", "ignored-rows-not-zeroed", "zloss-on-ignored-rows",
    "smoothing-missing", "smoothing-over-others", "smoothing-mass-wrong", "smoothing-weighted-otherwise",
    "weights-missing", "weights-per-column", "temperature-missing", "softcap-missing",
    "softcap-derivative-missing", "softcap-after-temperature", "softcap-misapplied", "zloss-missing",
    "zloss-factor", "zloss-weighted", "sigmoid-for-softmax", "local-denominator", "diagonal-jacobian",
    "missing-dot-term", "dot-over-batch", "dot-without-probs", "log-softmax-confused", "double-softmax",
    "jacobian-applied-twice", "probs-gradient",
})  # fmt: skip
"""Bugs whose parameters the problem alone says: a sum over rows shows nothing of single ones."""

Made = tuple[Floats, Floats]

Together = tuple[Suspect, ...]
"""Bugs of the loss that are there at once."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear problem with one of its exports, and how that was judged."""

    problem: LinearProblem
    situation: Situation
    tolerance: Tolerance | None

    @property
    def export(self) -> Export:
        """Return the export."""
        return self.situation.export

    def suspects(self) -> tuple[list[Suspect], list[Suspect]]:
        """Return the bugs of the loss that can be there: factors of all entries, and others."""
        nothing = Sample(self.situation, (), whole=False, source=view.Rows(self.situation, 1))
        others = (each for each in (*CHANGES, *ROW_FACTORS) if each.code in PASSED_ON)
        return suspects(SCALES, nothing), suspects(others, nothing)

    def tiles(
        self, grid: Grid | None = None, blocks: Iterable[int] | None = None
    ) -> Iterator[tuple[Tile, Floats, Recipe]]:
        """Yield some blocks, or all, tile by tile: with the inputs (n, D) and the right recipe."""
        head = self.problem.head
        grid = Grid.of(head) if grid is None else grid
        room = Room.of(head, grid, depth=True)
        for number in range(grid.blocks) if blocks is None else blocks:
            block = work_out(head, grid.rows_of(number), grid, room)
            for tile in block.tiles():
                rows = range(tile.start, tile.stop)
                x = np.empty((len(rows), self.problem.features))
                self.problem.inputs.read(rows.start, rows.stop, x)
                nothing = np.zeros((len(rows), self.problem.classes))
                yield tile, x, Recipe.of(self.situation, tile, rows, block.counted[tile.rows], nothing)

    def right(self, tile: Tile) -> Made:
        """Return the right gradient at the logits and what the check allows it on the way to the export."""
        g = np.array(tile.g, order="C")
        return g, leeway_of(self.problem, tile, self.export)

    def plane(self, bugs: Together, recipe: Recipe) -> tuple[Recipe, Floats, Floats]:
        """Return the recipe that bugs change, the gradient at the logits, and the size of its terms."""
        changed = apply(bugs, recipe)
        plane, size = changed.gradient()
        for each in bugs:
            if each.variant.factor is not None:
                by = each.variant.factor(recipe)[:, None]
                plane, size = plane * by, size * np.abs(by)
        return changed, plane, size

    def made(self, bugs: Together, tile: Tile, recipe: Recipe) -> Made:
        """Return what bugs make of the gradient at the logits, and what that may be off by."""
        changed, plane, size = self.plane(bugs, recipe)
        link = self.problem.head.loss.link
        moved = 2.0 * logits_error(self.problem, tile, self.export) / min(link.temperature, 1.0)
        error = (
            Prediction.made(changed, (changed.a, plane, size)).slack.scaled
            if self.tolerance is None
            else np.zeros_like(plane)
        )
        error = error + size * np.expm1(np.minimum(moved, 1.0))[:, None]
        if self.export.grid.half:
            error = error + self.export.grid.unit * np.abs(plane) + self.export.grid.smallest_subnormal
        return plane, error

    def summed(self, terms: int) -> float:
        """Return the relative error of a sum of so many products."""
        return summed_error(self.export, terms)

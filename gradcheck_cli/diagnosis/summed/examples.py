"""The gradient at the inputs, example by example: dE/dx = G W^T."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from gradcheck_cli.diagnosis.fit import HAIR
from gradcheck_cli.diagnosis.guess import interval
from gradcheck_cli.diagnosis.summed.piece import Part, allowed_of, stored_as
from gradcheck_cli.diagnosis.summed.standing import guess_of
from gradcheck_cli.diagnosis.summed.suspects import Layer, Made, Together
from gradcheck_cli.grid import BLOCK_ROWS, Grid
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass

_SAMPLED, _GLANCED = 1 << 14, 1 << 12  # logits of each run of examples looked at first, and before that
_FEWEST = 4  # examples of a run


@dataclass(frozen=True, eq=False)
class Examples:
    """The gradient at the inputs."""

    layer: Layer

    def glance(self, tried: Sequence[Together]) -> list[Together]:
        """Return the bugs that would explain a few examples in the middle."""
        grid, export = self._grid(_GLANCED), self.layer.export
        few = list(self._parts(grid, [grid.blocks // 2], tried))
        factors = {each: interval(few, guess_of(each), export) for each in tried}
        return [each for each, (low, high) in factors.items() if low <= high + HAIR * abs(high)]

    def few(self, tried: Sequence[Together]) -> list[Part]:
        """Return the first examples, some in the middle, and the last."""
        grid = self._grid(_SAMPLED)
        last = grid.blocks - 1
        return list(self._parts(grid, sorted({0, last // 2, last}), tried))

    def every(self, tried: Sequence[Together]) -> Iterator[Part]:
        """Yield all examples, tile by tile."""
        grid = Grid.of(self.layer.problem.head)
        return self._parts(grid, range(grid.blocks), tried)

    def _grid(self, entries: int) -> Grid:
        """Return the cut into runs of so many logits."""
        head = self.layer.problem.head
        rows = min(max(_FEWEST, entries // head.classes), BLOCK_ROWS, head.rows)
        return Grid(head.rows, rows, rows)

    def _parts(self, grid: Grid, blocks: Iterable[int], tried: Sequence[Together]) -> Iterator[Part]:
        layer, problem = self.layer, self.layer.problem
        rounded = layer.summed(problem.classes)
        turned, size = problem.weight.T, np.abs(problem.weight).T
        square = problem.features == problem.classes
        for tile, _, recipe in layer.tiles(grid, blocks):

            def led(made: Made, turned: Floats = turned, size: Floats = size) -> Made:
                plane, error = made
                whole = np.abs(plane)
                whole *= rounded
                whole += error
                return plane @ turned, whole @ size

            right = layer.right(tile)
            g, leeway = led(right)
            got = np.empty_like(g)
            layer.export.rows.read(tile.start, tile.stop, got)
            yield Part(
                start=tile.start,
                got=got,
                right=g,
                allowed=allowed_of(layer, leeway, g, got),
                made={each: stored_as(layer, *led(layer.made(each, tile, recipe))) for each in tried},
                ends=None,
                folded=None,
                weight=None,
                other=stored_as(layer, *led(right, turned.T, size.T)) if square else None,
            )

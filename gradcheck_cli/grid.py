"""How rows are cut into blocks and tiles.

A block is large, so that what is worked out once for each row is worked out for many rows together; a tile is
small, so that what is worked out for each entry stays in a core's cache. A row longer than a tile is a tile.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np

from gradcheck_cli.numeric import compiled
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.records import dataclass

TILE_ENTRIES = 1 << 16
"""Entries of a tile, as NumPy goes through it: three float64 planes of it stay in a core's second-level
cache, and a call of NumPy on it takes ten times as long as the call itself costs."""

BLOCK_ROWS = 1 << 13
"""Rows of a block at most: some dozens of numbers for each row stay in the cache as well."""

TILES = 8
"""Tiles of a block, where that is not too many rows."""


class Extent(Protocol):
    """So many rows of so many classes."""

    @property
    def rows(self) -> int:
        """Number of rows N."""

    @property
    def classes(self) -> int:
        """Number of classes K."""


@dataclass(frozen=True)
class Grid:
    """How the rows are cut."""

    rows: int
    tile: int  # rows of a tile
    block: int  # rows of a block, a multiple

    @cached_property
    def numbers(self) -> Indices:
        """Return 0 .. n-1 for the rows of a tile."""
        return np.arange(self.tile)

    @classmethod
    def of(cls, problem: Extent) -> Grid:
        """Return the cut of a problem's rows."""
        tile = min(max(1, TILE_ENTRIES // problem.classes), BLOCK_ROWS, problem.rows)
        tiles = TILES if problem.classes <= TILE_ENTRIES else 1
        return cls(problem.rows, tile, min(tile * max(1, min(tiles, BLOCK_ROWS // tile)), problem.rows))

    @property
    def tiled(self) -> Grid:
        """Return the same cut with a block for each tile."""
        return Grid(self.rows, self.tile, self.tile)

    @property
    def for_a_glance(self) -> Grid:
        """Return the cut of those who keep nothing of a tile for a block.

        The compiled loops go through row after row, so that a tile may be a whole block; NumPy goes through
        all of a tile again and again.
        """
        return self.tiled if compiled.loops() is None else Grid(self.rows, self.block, self.block)

    @property
    def blocks(self) -> int:
        """Return the number of blocks."""
        return -(-self.rows // self.block)

    def rows_of(self, block: int) -> range:
        """Return the rows of a block."""
        start = block * self.block
        return range(start, min(start + self.block, self.rows))

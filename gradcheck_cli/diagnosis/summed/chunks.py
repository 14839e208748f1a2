"""A sum over the examples that is kept in 16 bits: every chunk of them that is added to it is rounded.

    acc = fl(acc + x^T G of a chunk)

Rounding is monotone. So the least and the most that a chunk's share may be, after the arithmetic before it,
give the least and the most that the running sum may be: what a kernel gets lies between, and most often both
are one number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.blocks import Tile
from gradcheck_cli.dense.rows import leeway_of, logits_error, summed_error
from gradcheck_cli.diagnosis.numerics import rounded
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.summed.piece import Part
from gradcheck_cli.diagnosis.summed.suspects import Layer, Made
from gradcheck_cli.exports import Export
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import FLOAT32, Floats, Precision
from gradcheck_cli.records import dataclass


@dataclass(frozen=True)
class Way:
    """What was rounded to 16 bits besides the sum."""

    logits: bool
    gradient: bool  # at the logits
    share: bool  # of a chunk, before it was added

    @property
    def words(self) -> str:
        """Say it, as what comes before the sum."""
        named = {"the logits": self.logits, "dE/dz": self.gradient, "each share": self.share}
        *others, last = [name for name, there in named.items() if there] or [""]
        told = f"{', '.join(others)} and {last}" if others else last
        return f", with {told} in the same format" if told else ""


@dataclass(frozen=True)
class Running:
    """A running sum that reproduces an export."""

    way: Way
    size: int  # rows of a chunk
    rows: int  # of all

    @property
    def chunks(self) -> int:
        """Return how many chunks there are."""
        return -(-self.rows // self.size)

    @property
    def each(self) -> str:
        """Say what a chunk is."""
        return "example" if self.size == 1 else f"{self.size:,} examples"


def multiplied(x: Floats, part: Part) -> Floats:
    """Return what the gradient at the logits is multiplied by: 1 for the bias."""
    return np.ones((len(x), 1)) if part.ends is not None else x


def gradient(layer: Layer, tile: Tile, recipe: Recipe, *, logits: bool) -> Made:
    """Return the gradient at the logits, of rounded ones if so, and what float32 may cost it: (n, K)."""
    plain, grid = _plain(layer.export), layer.export.grid
    off = leeway_of(layer.problem, tile, plain, Model.TREE)
    if not logits:
        return np.array(tile.g, order="C"), off
    blur = logits_error(layer.problem, tile, plain, Model.TREE)[:, None]
    link = layer.problem.head.loss.link
    low, high = rounded(recipe.logits - blur, grid), rounded(recipe.logits + blur, grid)
    stored = recipe.changed(read={**recipe.read, "logits": 0.5 * (low + high)}).relinked(link)
    plane, size = stored.gradient()
    moved = 0.5 * (high - low) / link.temperature
    moved = moved + np.einsum("ij,ij->i", moved, stored.a)[:, None]
    return plane, off + size * np.expm1(np.minimum(moved, 1.0))


def _plain(export: Export) -> Export:
    """Return an export as one that was worked out, and is stored, in float32."""
    compute = FLOAT32 if export.compute.half else export.compute
    return replace(export, grid=compute, compute=compute, native=None, decimals=None, flushes=False)


def narrowed(made: Made, grid: Precision) -> Made:
    """Return a plane after it was rounded to the grid, and what it may be off by then."""
    plane, off = made
    low, high = rounded(plane - off, grid), rounded(plane + off, grid)
    return 0.5 * (low + high), 0.5 * (high - low)


def shares(x: Floats, g: Floats, off: Floats, rows: int, layer: Layer) -> Floats:
    """Return the least and the most that x g may be as a part of a chunk of so many rows: (2, ...).

    `off` is what g may be off by.
    """
    error = np.abs(x) @ (off + summed_error(_plain(layer.export), rows, Model.TREE) * np.abs(g))
    share = x @ g
    return np.stack([share - error, share + error])


def add(state: Floats, share: Floats, grid: Precision) -> None:
    """Add a chunk's share, the least to the least and the most to the most, and round: (2, ...) each.

    The sum may have been rounded to float32 first.
    """
    slip = FLOAT32.unit * np.abs(state)
    state += share
    state[0] -= slip[0]
    state[1] += slip[1]
    state[...] = rounded(state, grid)

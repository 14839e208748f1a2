"""The check `difference` by another method or step than the default: slower, and for study."""

from __future__ import annotations

import random

import numpy as np

from gradcheck_cli.blocks import Block, Tile
from gradcheck_cli.comparisons import Comparison, Judge
from gradcheck_cli.findings import Sides, Tally, compare
from gradcheck_cli.numeric import hessian, methods, stencil
from gradcheck_cli.numeric.methods import Method
from gradcheck_cli.numeric.precision import Floats, Precision
from gradcheck_cli.records import dataclass
from gradcheck_cli.self_checks import Difference

DIRECTIONS = 8
"""Directions that each row is moved along by the method directional."""


def difference_by(method: str, step: float | None, seed: int) -> Comparison:
    """Return what compares the analytic gradient with finite differences by a method, at its step."""
    by = Method.asked(method, step)
    if by == Method.asked("central", None):
        return Difference()
    return Directional(by.step, seed) if by.name == "directional" else Pointwise(by)


def words_of(method: str, seed: int) -> tuple[str, str]:
    """Return where the allowance of the difference comes from, and what the method covers."""
    if method == "directional":
        covered = f"{DIRECTIONS} random directions of every row (seed {seed})"
        return (
            "truncation of the central difference along a direction and float64 rounding",
            f"{covered}, no single entries: an error that cancels along all of them is not seen",
        )
    return f"truncation of the {method} difference and float64 rounding", "every entry"


def signs(classes: int, seed: int) -> Floats:
    """Return seeded directions of random signs, the same for every row: (DIRECTIONS, K)."""
    rng = random.Random(seed)
    drawn = [rng.getrandbits(classes) for _ in range(DIRECTIONS)]
    bits = np.array([[each >> k & 1 for k in range(classes)] for each in drawn], dtype=np.float64)
    flipped: Floats = 2.0 * bits - 1.0
    return flipped


@dataclass(frozen=True)
class Pointwise:
    """Analytic gradient against a difference by a method that moves one logit at a time, every entry."""

    by: Method
    name: str = "difference"
    grid: Precision | None = None

    def begin(self, block: Block) -> Judge:  # noqa: ARG002 - the tiles say it all
        """Compare tile by tile."""
        return self

    def tile(self, tile: Tile, tally: Tally) -> None:
        """Compare a tile's entries."""
        at, planes = tile.at, tile.planes
        got = methods.slope(stencil.change(at, planes), self.by.name, self.by.step) / stencil.scale(at)
        error, work, allowed = (
            tile.plane(each) for each in (tile.room.error, tile.room.work, tile.room.allowed)
        )
        whole = stencil.difference_error(at, self.by)
        whole.spread(at, planes, tile.g, allowed, work)
        slope = 1.0 if planes.slope is None else planes.at_pivot(planes.slope)
        planes.put_pivot(allowed, stencil.difference_at_pivot(at, self.by, whole, slope))
        tally.add(compare(Sides(got, tile.g, allowed), tally.look(tile.place), error, work))

    def end(self, tally: Tally) -> None:
        """Every entry has been seen."""


@dataclass(frozen=True)
class Directional:
    """The gradient's products with random directions against differences along them, every row."""

    step: float
    seed: int
    name: str = "difference"
    grid: Precision | None = None

    def begin(self, block: Block) -> Judge:
        """Compare tile by tile."""
        return _Directional(self.step, signs(block.at.sums.classes, self.seed))


@dataclass(frozen=True, eq=False)
class _Directional:
    step: float
    directions: Floats

    def tile(self, tile: Tile, tally: Tally) -> None:
        at, planes = tile.at, tile.planes
        expected = np.stack([(tile.g * each).sum(axis=1) for each in self.directions], axis=1)
        changes = (stencil.along(at, planes, each) for each in self.directions)
        got = np.stack([methods.slope(each, "central", self.step) for each in changes], axis=1)
        got /= stencil.scale(at)
        allowed = np.repeat(stencil.direction_error(at, self.step)[:, None], len(self.directions), axis=1)
        look = tally.look(lambda position: (tile.start + position // len(self.directions), 0))
        tally.add(compare(Sides(got, expected, allowed), look, np.empty_like(got), np.empty_like(got)))

    def end(self, tally: Tally) -> None:
        """Every row has been seen."""


CURVES = 2
"""Directions that the Hessian is multiplied with."""


@dataclass(frozen=True)
class Curvature:
    """The Hessian of the loss times random directions against differences of the gradient, every entry."""

    seed: int
    name: str = "hessian"
    grid: Precision | None = None

    def begin(self, block: Block) -> Judge:
        """Compare tile by tile."""
        return _Curvature(signs(block.at.sums.classes, self.seed)[:CURVES])


@dataclass(frozen=True, eq=False)
class _Curvature:
    directions: Floats

    def tile(self, tile: Tile, tally: Tally) -> None:
        at, planes = tile.at, tile.planes
        for direction in self.directions:
            expected = hessian.times(at, planes, direction)
            got = hessian.difference(at, planes, direction, hessian.STEP)
            allowed = hessian.difference_error(at, planes, hessian.STEP)
            error, work = tile.plane(tile.room.error), tile.plane(tile.room.work)
            tally.add(compare(Sides(got, expected, allowed), tally.look(tile.place), error, work))

    def end(self, tally: Tally) -> None:
        """Every entry has been seen."""

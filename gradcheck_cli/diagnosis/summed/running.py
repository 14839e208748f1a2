"""Whether a sum over the examples was kept in 16 bits: named only where such a sum gives every entry."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnosis.bug import nice
from gradcheck_cli.diagnosis.numerics import rounded
from gradcheck_cli.diagnosis.summed.chunks import Running, add, gradient, multiplied, narrowed, shares
from gradcheck_cli.diagnosis.summed.looked import likely
from gradcheck_cli.diagnosis.summed.piece import Part
from gradcheck_cli.diagnosis.summed.suspects import Layer, Made
from gradcheck_cli.numeric.precision import Floats, power_below
from gradcheck_cli.outcome import Fact

_WORK = 1 << 31  # roundings
_TOLD = 16  # entries that only the running sum explains
_MOST_CLAIMS = 2

_FEWEST, _WIDESPREAD = 64, 0.25  # entries, and the share of them that are off by more than one rounding
_CHANCE = 4.0  # standard deviations
_TAIL = 16.0  # largest to median error
_MEDIAN = 0.6745 / np.sqrt(
    12.0
)  # of a sum of errors of one rounding each: ulps, over the root of their number


def reproduced(layer: Layer, part: Part) -> Running | None:
    """Return the running sum in 16 bits that gives every entry of an export, if there is one."""
    grid = layer.export.grid
    if not grid.half or not np.isfinite(part.got).all() or layer.problem.rows < 2:
        return None
    for running in likely(layer, part)[:_MOST_CLAIMS]:
        if running.chunks * part.got.size > _WORK:
            continue
        low, high = _whole(layer, running, part)
        fits, told = _held(part.got, (low, high), rounded(part.right, grid))
        if fits and told >= _TOLD:
            return running
    return None


def rounding_like(layer: Layer, part: Part) -> Fact | None:
    """Return what is to be said of errors that look like rounding, where no running sum gives them.

    As often up as down, without a factor, in many entries, and none far beyond the others.
    """
    grid, error = layer.export.grid, part.got - part.right
    if not grid.half or error.size < _FEWEST or not np.isfinite(error).all():
        return None
    size = np.maximum(np.abs(part.right), np.median(np.abs(part.right)))
    ulps = error / (
        np.maximum(power_below(size, np.empty_like(size)), grid.smallest_normal) * 2.0 * grid.unit
    )
    typical, largest = float(np.median(np.abs(ulps))), float(np.abs(ulps).max())
    lopsided = np.abs(np.sign(ulps).sum()) > _CHANCE * np.sqrt(ulps.size)
    pull = error * part.right
    pulled = np.abs(pull.sum()) > _CHANCE * np.sqrt(np.square(pull).sum())
    few = np.count_nonzero(np.abs(ulps) > 1.0) < _WIDESPREAD * ulps.size
    number = (typical / _MEDIAN) ** 2
    if lopsided or pulled or few or largest > _TAIL * typical or number > layer.problem.rows:
        return None
    return Fact(
        "rounding-like",
        f"errors go up and down alike, and by no factor: typically {typical:.2g} ulps of {grid.name}, "
        f"at most {largest:.2g}, as about {nice(number):,.9g} roundings on the way would leave: is the sum "
        f"over the examples kept in {grid.name}?",
        layer.export.name,
    )


def _held(got: Floats, ends: Made, once: Floats) -> tuple[bool, int]:
    """Tell whether every entry lies between the ends, and count those that rounding once does not give."""
    low, high = ends
    fits = bool(((low <= got) & (got <= high)).all())
    return fits, int(np.count_nonzero((low == high) & (low != once)))


def _whole(layer: Layer, running: Running, part: Part) -> Made:
    """Return the least and the most that every entry may be."""
    state, share = np.zeros((2, 2, *part.got.shape))
    count = 0
    for tile, x, recipe in layer.tiles():
        made = gradient(layer, tile, recipe, logits=running.way.logits)
        g, off = narrowed(made, layer.export.grid) if running.way.gradient else made
        by, start = multiplied(x, part), 0
        while start < len(by):
            rows = slice(start, start + running.size - count)
            share += shares(by[rows].T, g[rows], off[rows], running.size, layer)
            count, start = count + len(by[rows]), rows.stop
            if count == running.size:
                _take(state, share, running, layer)
                count = 0
    if count:
        _take(state, share, running, layer)
    return state[0], state[1]


def _take(state: Floats, share: Floats, running: Running, layer: Layer) -> None:
    """Add the share of a chunk, and begin the next one."""
    grid = layer.export.grid
    add(state, rounded(share, grid) if running.way.share else share, grid)
    share.fill(0.0)

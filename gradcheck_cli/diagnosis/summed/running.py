"""A sum over the examples that was kept in 16 bits: every chunk of them that was added to it was rounded.

    acc = fl(acc + x^T G of a chunk)

Rounding is monotone. So the least and the most that a chunk's share may be, after the arithmetic before it,
give the least and the most that the running sum may be: what a kernel gets lies between, and most often both
are one number. Only a sum that is reproduced so in every entry is named.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.blocks import Tile
from gradcheck_cli.dense.rows import leeway_of, logits_error, summed_error
from gradcheck_cli.diagnosis.bug import nice
from gradcheck_cli.diagnosis.numerics import rounded
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.summed.piece import Part
from gradcheck_cli.diagnosis.summed.suspects import Layer, Made
from gradcheck_cli.exports import Export
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import FLOAT32, Floats, Precision, power_below
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.outcome import Fact
from gradcheck_cli.records import dataclass

_INPUTS, _ENTRIES = 4, 16  # looked at first: where most fails
_MOST_PARTS = 64  # micro-batches whose number is tried; beyond, chunks of a power of two rows
_MOST_CHUNKS = 1 << 12
_KEPT = 1 << 24  # numbers of all examples that are kept for a look
_WORK = 1 << 31  # roundings
_TOLD = 16  # entries that only the running sum explains
_MOST_CLAIMS = 2

_FEWEST, _WIDESPREAD = 64, 0.25  # entries, and the share of them that are off by more than one rounding
_CHANCE = 4.0  # standard deviations
_TAIL = 16.0  # largest to median error
_MEDIAN = 0.6745 / np.sqrt(
    12.0
)  # of a sum of errors of one rounding each: ulps, over the root of their number


@dataclass(frozen=True)
class Way:
    """What was rounded to 16 bits besides the sum."""

    logits: bool
    gradient: bool  # at the logits
    share: bool  # of a chunk, before it was added

    @property
    def words(self) -> str:
        """Say it, as what comes before the sum."""
        named = {"logits": self.logits, "dE/dz": self.gradient, "each chunk's share": self.share}
        told = [name for name, there in named.items() if there]
        return f", with {' and '.join(told)} in the same format" if told else ""


WAYS = tuple(Way(z, g, p) for z in (False, True) for g in (False, True) for p in (False, True))


Tried = dict[int, tuple[Way, ...]]
"""What is tried: by the rows of a chunk."""

Places = tuple[Indices, Indices]
"""Some inputs, and some classes."""


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


def reproduced(layer: Layer, part: Part) -> Running | None:
    """Return the running sum in 16 bits that gives every entry of an export, if there is one."""
    grid = layer.export.grid
    if not grid.half or not np.isfinite(part.got).all() or layer.problem.rows < 2:
        return None
    every = dict.fromkeys(_sizes(layer.problem.rows), WAYS)
    left = _fitting(layer, part, _worst(part), every)
    left = _fitting(layer, part, _spread(part), left) if left else left
    rows = layer.problem.rows
    claims = [Running(way, size, rows) for size, ways in left.items() for way in ways]
    for running in claims[:_MOST_CLAIMS]:
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


def _fitting(layer: Layer, part: Part, at: Places, tried: Tried) -> Tried:
    """Return the running sums that give some entries."""
    rows, grid = layer.problem.rows, layer.export.grid
    if rows * (len(at[0]) + 4 * len(at[1])) > _KEPT:
        return {}
    x, planes = _gathered(layer, at, part)
    got, found = part.got[np.ix_(*at)].ravel(), {}
    for size, ways in tried.items():
        shares = [_shares(x, planes, way, size, layer) for way in ways]
        low, high = (np.stack([each[end] for each in shares], axis=1) for end in (0, 1))
        state = np.zeros((2, *low.shape[1:]))
        for share in zip(low, high, strict=True):
            _add(state, np.stack(share), grid)
        fits = ((state[0] <= got) & (got <= state[1])).all(axis=1)
        if fits.any():
            found[size] = tuple(way for way, fit in zip(ways, fits, strict=True) if fit)
    return found


def _sizes(rows: int) -> list[int]:
    """Return how many rows a chunk may have, few chunks first."""
    even = {-(-rows // parts) for parts in range(2, min(_MOST_PARTS, rows) + 1)}
    powers = {1 << power for power in range(rows.bit_length()) if 1 << power < rows}
    return sorted((each for each in even | powers if -(-rows // each) <= _MOST_CHUNKS), reverse=True)


def _worst(part: Part) -> Places:
    """Return the inputs and the classes where most entries fail."""
    failing = part.failing
    inputs = np.argsort(-failing.sum(axis=1), kind="stable")[:_INPUTS]
    classes = np.argsort(-failing.sum(axis=0), kind="stable")[: _ENTRIES // len(inputs)]
    return np.sort(inputs), np.sort(classes)


def _spread(part: Part) -> Places:
    """Return more inputs and classes, which lie evenly."""
    inputs = np.unique(np.linspace(0, len(part.got) - 1, 2 * _INPUTS).astype(np.int64))
    most = 8 * _ENTRIES // len(inputs)
    return inputs, np.unique(np.linspace(0, part.got.shape[1] - 1, most).astype(np.int64))


def _gathered(layer: Layer, at: Places, part: Part) -> tuple[Floats, dict[bool, Made]]:
    """Return the inputs of all rows (N, d), and their gradients (N, k) by whether logits were rounded."""
    xs: list[Floats] = []
    planes: dict[bool, tuple[list[Floats], list[Floats]]] = {False: ([], []), True: ([], [])}
    for tile, x, recipe in layer.tiles():
        xs.append(_inputs(x, part)[:, at[0]])
        for logits, (right, off) in planes.items():
            g, error = _gradient(layer, tile, recipe, logits=logits)
            right.append(g[:, at[1]])
            off.append(error[:, at[1]])
    return np.concatenate(xs), {
        logits: (np.concatenate(right), np.concatenate(off)) for logits, (right, off) in planes.items()
    }


def _inputs(x: Floats, part: Part) -> Floats:
    """Return what the gradient at the logits is multiplied by: 1 for the bias."""
    return np.ones((len(x), 1)) if part.ends is not None else x


def _gradient(layer: Layer, tile: Tile, recipe: Recipe, *, logits: bool) -> Made:
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


def _narrowed(made: Made, grid: Precision) -> Made:
    """Return a plane after it was rounded to the grid, and what it may be off by then."""
    plane, off = made
    low, high = rounded(plane - off, grid), rounded(plane + off, grid)
    return 0.5 * (low + high), 0.5 * (high - low)


def _shares(x: Floats, planes: dict[bool, Made], way: Way, size: int, layer: Layer) -> Made:
    """Return the least and the most that each chunk's share may be: (chunks, entries) each."""
    g, off = planes[way.logits]
    if way.gradient:
        g, off = _narrowed((g, off), layer.export.grid)
    chunks = -(-len(x) // size)
    lacking = ((0, chunks * size - len(x)), (0, 0))
    x, g, off = (np.pad(each, lacking).reshape(chunks, size, -1) for each in (x, g, off))
    return _ends(x.swapaxes(1, 2), g, off, way, layer)


def _ends(x: Floats, g: Floats, off: Floats, way: Way, layer: Layer) -> Made:
    """Return the least and the most that x g may be, given what g is off by: (..., entries) each."""
    error = np.abs(x) @ (off + summed_error(_plain(layer.export), g.shape[-2], Model.TREE) * np.abs(g))
    share = x @ g
    ends = share - error, share + error
    if way.share:
        ends = rounded(ends[0], layer.export.grid), rounded(ends[1], layer.export.grid)
    flat = (*share.shape[:-2], -1)
    return ends[0].reshape(flat), ends[1].reshape(flat)


def _add(state: Floats, share: Floats, grid: Precision) -> None:
    """Add a chunk's share, the least to the least and the most to the most, and round: (2, ...) each.

    The sum may have been rounded to float32 first.
    """
    slip = FLOAT32.unit * np.abs(state)
    state += share
    state[0] -= slip[0]
    state[1] += slip[1]
    state[...] = rounded(state, grid)


def _whole(layer: Layer, running: Running, part: Part) -> Made:
    """Return the least and the most that every entry may be."""
    state = np.zeros((2, *part.got.shape))
    held: list[tuple[Floats, Floats, Floats]] = []
    count = 0
    for tile, x, recipe in layer.tiles():
        made = _gradient(layer, tile, recipe, logits=running.way.logits)
        g, off = _narrowed(made, layer.export.grid) if running.way.gradient else made
        multiplied, start = _inputs(x, part), 0
        while start < len(multiplied):
            stop = min(len(multiplied), start + running.size - count)
            held.append((multiplied[start:stop], g[start:stop], off[start:stop]))
            count, start = count + stop - start, stop
            if count == running.size:
                _take(state, held, running, layer)
                held, count = [], 0
    if held:
        _take(state, held, running, layer)
    return state[0], state[1]


def _take(state: Floats, held: list[tuple[Floats, Floats, Floats]], running: Running, layer: Layer) -> None:
    """Add the rows that are held, a chunk of them."""
    x, g, off = (np.concatenate(each) for each in zip(*held, strict=True))
    ends = _ends(x.T, g, off, running.way, layer)
    _add(state, np.stack(ends).reshape(state.shape), layer.export.grid)

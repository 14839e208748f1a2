"""Which chunks a running sum in 16 bits may have had: a look at a few of its entries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcheck_cli.diagnosis.numerics import rounded
from gradcheck_cli.diagnosis.summed.chunks import Running, Way, add, gradient, multiplied, narrowed, shares
from gradcheck_cli.diagnosis.summed.piece import Part
from gradcheck_cli.diagnosis.summed.suspects import Layer, Made
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices

_INPUTS, _ENTRIES = 4, 16  # looked at first: where most fails
_MOST_PARTS = 64  # micro-batches whose number is tried
_MOST_CHUNKS = 1 << 12
_KEPT = 1 << 24  # numbers of all examples that are kept for a look

_KINDS = tuple((logits, plane) for logits in (False, True) for plane in (False, True))
"""Whether the logits, and the gradient at them, were rounded."""

Places = tuple[Indices, Indices]
"""Some inputs, and some classes."""


def likely(layer: Layer, part: Part) -> list[Running]:
    """Return the running sums that give a few of the entries, few chunks first."""
    sizes = _sizes(layer.problem.rows)
    found = _fitting(layer, part, _worst(part), sizes)
    if not found:
        return []
    again = _fitting(layer, part, _spread(part), list(dict.fromkeys(each.size for each in found)))
    return [each for each in again if each in found]


def _fitting(layer: Layer, part: Part, at: Places, sizes: Sequence[int]) -> list[Running]:
    """Return the running sums that give some entries, all sizes of chunks step by step at once."""
    rows, grid = layer.problem.rows, layer.export.grid
    if not sizes or rows * (len(at[0]) + 2 * len(_KINDS) * len(at[1])) > _KEPT:
        return []
    x, (g, off) = _gathered(layer, at, part)
    coming = [_shares(x, g, off, size, layer) for size in sizes]
    state = np.zeros((len(sizes), *coming[0].shape[1:]))
    going = 0
    for step in range(len(coming[-1])):
        while len(coming[going]) <= step:
            going += 1
        now = np.stack([each[step] for each in coming[going:]], axis=1)
        add(state[going:].swapaxes(0, 1), now, grid)
    got = part.got[np.ix_(*at)][None, :, None, :]
    low, high = state.reshape(len(sizes), 2, 2, len(at[0]), len(_KINDS), len(at[1])).swapaxes(0, 1)
    fits = ((low <= got) & (got <= high)).all(axis=(2, 4))
    return [
        Running(Way(*_KINDS[kind], bool(share)), sizes[size], rows)
        for size, share, kind in np.argwhere(fits).tolist()
    ]


def _sizes(rows: int) -> list[int]:
    """Return how many rows a chunk may have, few chunks first: even parts, and numbers that people choose."""
    even = {-(-rows // parts) for parts in range(2, min(_MOST_PARTS, rows) + 1)}
    chosen = {first << power for first in (1, 3) for power in range(rows.bit_length())}
    chosen |= {first * 10**power for first in (1, 2, 5) for power in range(len(str(rows)))}
    sizes = even | {each for each in chosen if each < rows}
    return sorted((each for each in sizes if -(-rows // each) <= _MOST_CHUNKS), reverse=True)


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


def _gathered(layer: Layer, at: Places, part: Part) -> tuple[Floats, Made]:
    """Return the inputs of all rows (N, d), and their gradients of all kinds: (N, kinds k)."""
    xs: list[Floats] = []
    planes: list[Floats] = []
    offs: list[Floats] = []
    for tile, x, recipe in layer.tiles():
        xs.append(multiplied(x, part)[:, at[0]])
        made = []
        for logits in (False, True):
            plane, off = gradient(layer, tile, recipe, logits=logits)
            plain = plane[:, at[1]], off[:, at[1]]
            made += [plain, narrowed(plain, layer.export.grid)]
        planes.append(np.concatenate([plane for plane, _ in made], axis=1))
        offs.append(np.concatenate([off for _, off in made], axis=1))
    return np.concatenate(xs), (np.concatenate(planes), np.concatenate(offs))


def _shares(x: Floats, g: Floats, off: Floats, size: int, layer: Layer) -> Floats:
    """Return the least and the most that each chunk's share may be: (chunks, 2, entries).

    As it is, and rounded.
    """
    chunks = -(-len(x) // size)
    lacking = ((0, chunks * size - len(x)), (0, 0))
    x, g, off = (np.pad(each, lacking).reshape(chunks, size, -1) for each in (x, g, off))
    ends = shares(x.swapaxes(1, 2), g, off, size, layer).reshape(2, chunks, -1)
    whole: Floats = np.concatenate([ends, rounded(ends, layer.export.grid)], axis=2).swapaxes(0, 1)
    return whole

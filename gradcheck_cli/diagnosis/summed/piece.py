"""A judged gradient of the layer in pieces, with the planes that bugs make of it beside what is right.

dE/dW = x^T G        dE/db = sum G        dE/dx = G W^T
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gradcheck_cli.blocks import Grid
from gradcheck_cli.diagnosis.guess import Core, Piece
from gradcheck_cli.diagnosis.summed.suspects import Layer, Made, Together
from gradcheck_cli.exports import rounding
from gradcheck_cli.judging import stored
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass

_SAMPLED, _GLANCED = 16, 4  # inputs whose sums are looked at first, and before that


@dataclass(frozen=True, eq=False)
class Part(Piece):
    """Rows of a gradient of the layer: of inputs for the weight, of examples for the inputs."""

    made: dict[Together, Made]
    ends: tuple[Made, Made] | None  # of the bias: the first example's share, and the last one's
    folded: Made | None  # of the bias: the weight's gradient summed over the inputs
    weight: Floats | None  # the parameter's own rows
    other: Made | None  # of the inputs: G W in place of G W^T


def of_bugs(bugs: Together) -> Core[Part]:
    """Return the core that looks up what bugs of the loss made."""
    return lambda part: part.made[bugs]


def pieces(layer: Layer, tried: Sequence[Together], *, sample: bool) -> Iterator[Part]:
    """Yield the judged gradient, all of it or a sample, with what the bugs made."""
    name = layer.export.name
    if name == "grad-inputs":
        return _of_examples(layer, tried, sample=sample)
    features = layer.problem.features
    if name == "grad-bias":
        chosen: list[int] | None = None
    elif sample:
        most = _GLANCED if layer.coarse else _SAMPLED
        chosen = sorted(set(np.linspace(0, features - 1, min(features, most)).astype(int).tolist()))
    else:
        chosen = list(range(features))
    return iter([_sums(layer, tried, chosen)])


def _sums(layer: Layer, tried: Sequence[Together], chosen: list[int] | None) -> Part:
    """Return sums over all examples for some inputs, or for the bias."""
    problem, rounded = layer.problem, layer.summed(layer.problem.rows)
    count = 1 if chosen is None else len(chosen)
    right, leeway = np.zeros((2, count, problem.classes))
    sums = {each: (np.zeros_like(right), np.zeros_like(right)) for each in tried}
    first: Made | None = None
    last: Made = (right, leeway)
    folded = np.zeros_like(right), np.zeros_like(right)
    again = layer.summed(problem.rows + problem.features)
    for tile, inputs, recipe in layer.tiles():
        x = np.ones((len(inputs), 1)) if chosen is None else inputs[:, chosen]
        size, (g, off) = np.abs(x), layer.right(tile)
        right += x.T @ g
        leeway += size.T @ (off + rounded * np.abs(g))
        first = (g[:1], off[:1]) if first is None else first
        last = g[-1:], off[-1:]
        if chosen is None:
            folded[0][...] += inputs.sum(axis=1) @ g
            folded[1][...] += np.abs(inputs).sum(axis=1) @ (off + again * np.abs(g))
        for each in tried:
            plane, error = layer.made(each, tile, recipe)
            sums[each][0][...] += x.T @ plane
            sums[each][1][...] += size.T @ (error + rounded * np.abs(plane))
    got = _read(layer, chosen, right.shape)
    return Part(
        start=0,
        got=got,
        right=right,
        allowed=_allowed(layer, leeway, right, got),
        made={key: _stored(layer, *each) for key, each in sums.items()},
        ends=None if first is None or chosen is not None else (_stored(layer, *first), _stored(layer, *last)),
        folded=None if chosen is not None else _stored(layer, *folded),
        weight=problem.bias[None] if chosen is None else problem.weight[chosen],
        other=None,
    )


def _read(layer: Layer, chosen: list[int] | None, shape: tuple[int, ...]) -> Floats:
    """Return the exported rows of some inputs, or the bias's."""
    rows, got = layer.export.rows, np.empty(shape)
    if chosen is None:
        rows.read(0, rows.count, got[0] if rows.axis is None else got)
        return got
    for place, number in enumerate(chosen):
        rows.read(number, number + 1, got[place : place + 1])
    return got


def _of_examples(layer: Layer, tried: Sequence[Together], *, sample: bool) -> Iterator[Part]:
    """Yield the gradient at the inputs, tile by tile; as a sample, the first, middle and last block."""
    problem, rounded = layer.problem, layer.summed(layer.problem.classes)
    last = Grid.of(problem.head).blocks - 1
    blocks = sorted({0, last // 2, last}) if sample else None
    turned, size = problem.weight.T, np.abs(problem.weight).T
    square = problem.features == problem.classes
    for tile, _, recipe in layer.tiles(blocks):

        def led(made: Made, turned: Floats = turned, size: Floats = size) -> Made:
            plane, error = made
            return plane @ turned, (error + rounded * np.abs(plane)) @ size

        right = layer.right(tile)
        g, leeway = led(right)
        got = np.empty_like(g)
        layer.export.rows.read(tile.start, tile.stop, got)
        yield Part(
            start=tile.start,
            got=got,
            right=g,
            allowed=_allowed(layer, leeway, g, got),
            made={each: _stored(layer, *led(layer.made(each, tile, recipe))) for each in tried},
            ends=None,
            folded=None,
            weight=None,
            other=_stored(layer, *led(right, turned.T, size.T)) if square else None,
        )


def _allowed(layer: Layer, leeway: Floats, right: Floats, got: Floats) -> Floats:
    """Return what the check allows."""
    if layer.tolerance is not None:
        return layer.tolerance.spread(right, np.empty_like(right))
    return stored(leeway, right, got, layer.export)


def _stored(layer: Layer, plane: Floats, error: Floats) -> Made:
    """Return a plane with storage and printing added to its error."""
    if layer.tolerance is not None:
        return plane, layer.tolerance.spread(plane, np.empty_like(plane))
    export = layer.export
    share = export.grid.unit + 4.0 * export.compute.unit + rounding(export.decimals)[0]
    return plane, error + share * np.abs(plane)

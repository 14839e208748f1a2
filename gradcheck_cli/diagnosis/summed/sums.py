"""The gradients that are sums over all examples: dE/dW = x^T G, dE/db = sum G."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from functools import cached_property

import numpy as np

from gradcheck_cli.diagnosis.fit import HAIR
from gradcheck_cli.diagnosis.guess import Scale, interval
from gradcheck_cli.diagnosis.summed.piece import Part, allowed_of, stored_as
from gradcheck_cli.diagnosis.summed.standing import guess_of, scale_of
from gradcheck_cli.diagnosis.summed.suspects import Layer, Made, Together
from gradcheck_cli.diagnosis.summed.together import may_decay
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.records import dataclass

_SAMPLED, _GLANCED = 16, 4  # inputs whose sums are looked at first, and before that
_AT_ONCE = 2  # bugs of which all inputs are worked out at once: to make a plane takes longer than to sum it
_ROUGH = 2.0**-9  # more than float32 costs a gradient of thousands of classes


@dataclass(frozen=True, eq=False)
class Rough:
    """What bugs make of the sums for the bias and a few inputs, worked out once for all exports."""

    layer: Layer  # of any of them
    kept: dict[Together, Made] = field(default_factory=dict)  # sums of planes, and of sizes: (1 + m, K)

    @cached_property
    def suspects(self) -> tuple[list[Scale], list[Together]]:
        """Return the bugs of the loss that can be there: factors of all entries, and others."""
        scales, others = self.layer.suspects()
        return [scale_of(each) for each in scales], [(each,) for each in others]

    @cached_property
    def inputs(self) -> Indices:
        """Return the inputs: (m,)."""
        return _spread(self.layer.problem.features, _GLANCED)

    def of(self, tried: Sequence[Together]) -> dict[Together, Made]:
        """Return the sums of bugs; those that are not known yet take a walk over the examples."""
        problem, new = self.layer.problem, [each for each in tried if each not in self.kept]
        for each in new:
            plane, size = np.zeros((2, 1 + len(self.inputs), problem.classes))
            self.kept[each] = plane, size
        for _, inputs, recipe in self.layer.tiles() if new else ():
            x = np.ones((1 + len(self.inputs), len(inputs)))
            x[1:] = inputs[:, self.inputs].T
            reach = np.abs(x)
            for each in new:
                _, plane, size = self.layer.plane(each, recipe)
                self.kept[each][0][...] += x @ plane
                self.kept[each][1][...] += reach @ size
        return {each: self.kept[each] for each in tried}


@dataclass(frozen=True, eq=False)
class Sums:
    """The gradient of the weight or of the bias."""

    layer: Layer
    rough: Rough
    kept: dict[Together, Made] = field(default_factory=dict)  # what bugs make of all inputs, or of the bias

    @property
    def _of_bias(self) -> bool:
        return self.layer.export.name == "grad-bias"

    def glance(self, tried: Sequence[Together]) -> list[Together]:
        """Return the bugs that would explain a very few inputs, with round errors.

        16 bits leave too much for that; and a tolerance says itself what is allowed.
        """
        layer = self.layer
        if layer.export.grid.half or layer.tolerance is not None or not tried:
            return list(tried)
        error = _ROUGH + layer.summed(layer.problem.rows)
        rows = slice(0, 1) if self._of_bias else slice(1, None)
        made = {
            bugs: stored_as(layer, plane[rows], error * size[rows])
            for bugs, (plane, size) in self.rough.of(tried).items()
        }
        few = [replace(self._picked(self.rough.inputs), made=made)]
        return [each for each in tried if self._possible(few, each)]

    def _possible(self, few: Sequence[Part], bugs: Together) -> bool:
        """Tell whether some factor would do, or, for a single bug, weight decay beside it."""
        low, high = interval(few, guess_of(bugs), self.layer.export)
        return low <= high + HAIR * abs(high) or (len(bugs) == 1 and may_decay(few, bugs))

    def few(self, tried: Sequence[Together]) -> list[Part]:
        """Return some inputs, or the bias."""
        chosen = _spread(self.layer.problem.features, _SAMPLED)
        if self._of_bias or len(tried) <= _AT_ONCE:
            rows = slice(None) if self._of_bias else chosen
            made = {each: (plane[rows], error[rows]) for each, (plane, error) in self._whole(tried).items()}
        else:
            made = self._made(tried, chosen)
        return [replace(self._picked(chosen), made=made)]

    def every(self, tried: Sequence[Together]) -> Iterator[Part]:
        """Yield all inputs at once, or the bias."""
        yield replace(self.right, made=self._whole(tried))

    def _whole(self, tried: Sequence[Together]) -> dict[Together, Made]:
        """Return what bugs make of all inputs, or of the bias."""
        self.kept.update(self._made([each for each in tried if each not in self.kept], slice(None)))
        return {each: self.kept[each] for each in tried}

    def _picked(self, inputs: Indices) -> Part:
        """Return the rows of some inputs; the bias has one."""
        if self._of_bias:
            return self.right
        names = "got", "right", "allowed", "weight"
        return replace(self.right, **{name: getattr(self.right, name)[inputs] for name in names})

    @cached_property
    def right(self) -> Part:
        """Return all inputs, or the bias, without bugs."""
        layer, problem = self.layer, self.layer.problem
        rounded = layer.summed(problem.rows)
        right, leeway = np.zeros((2, 1 if self._of_bias else problem.features, problem.classes))
        folded = np.zeros_like(right), np.zeros_like(right)
        first: Made | None = None
        last: Made = (right, leeway)
        more = layer.summed(problem.rows + problem.features)
        for tile, inputs, _ in layer.tiles():
            g, off = layer.right(tile)
            size = np.abs(g)
            if self._of_bias:
                first, last = first or (g[:1], off[:1]), (g[-1:], off[-1:])
                folded[0][...] += inputs.sum(axis=1) @ g
                folded[1][...] += np.abs(inputs).sum(axis=1) @ (off + more * size)
            x = self._by(inputs, slice(None))
            size *= rounded
            size += off
            right += x @ g
            leeway += np.abs(x) @ size
        got = self._got(right.shape)
        return Part(
            start=0,
            got=got,
            right=right,
            allowed=allowed_of(layer, leeway, right, got),
            made={},
            ends=None if first is None else (stored_as(layer, *first), stored_as(layer, *last)),
            folded=stored_as(layer, *folded) if self._of_bias else None,
            weight=problem.bias[None] if self._of_bias else problem.weight,
            other=None,
        )

    def _by(self, inputs: Floats, chosen: Indices | slice) -> Floats:
        """Return what the gradients at the logits are multiplied by: (m, n)."""
        return np.ones((1, len(inputs))) if self._of_bias else np.ascontiguousarray(inputs[:, chosen].T)

    def _made(self, tried: Sequence[Together], chosen: Indices | slice) -> dict[Together, Made]:
        """Return what bugs make of the sums for some inputs, or for the bias."""
        layer, rounded = self.layer, self.layer.summed(self.layer.problem.rows)
        sums: dict[Together, list[Floats]] = {each: [] for each in tried}
        for tile, inputs, recipe in layer.tiles() if tried else ():
            x = self._by(inputs, chosen)
            reach = np.abs(x)
            for each, made in sums.items():
                plane, error = layer.made(each, tile, recipe)
                size = np.abs(plane)
                size *= rounded
                size += error
                found = x @ plane, reach @ size
                made[:] = [old + new for old, new in zip(made, found, strict=True)] if made else found
        return {each: stored_as(layer, plane, error) for each, (plane, error) in sums.items()}

    def _got(self, shape: tuple[int, ...]) -> Floats:
        """Return what was exported."""
        rows, got = self.layer.export.rows, np.empty(shape)
        rows.read(0, rows.count, got[0] if rows.axis is None else got)
        return got


def _spread(features: int, count: int) -> Indices:
    """Return so many inputs that lie evenly."""
    return np.unique(np.linspace(0, features - 1, min(features, count)).astype(np.int64))

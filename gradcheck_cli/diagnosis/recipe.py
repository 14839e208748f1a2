"""How a gradient is put together from its ingredients: a bug is a recipe with one of them changed.

The right recipe of n rows, in the notation of ``numeric``:

    s = upstream / divisor on rows that count, 0 elsewhere
    dE/dz = (s (Q a - q) + zeta a) dv/dz,  zeta = 2 lambda lse upstream / z-divisor
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np

from gradcheck_cli.blocks import Tile
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.weights import Line, Places, Weights, weights_of
from gradcheck_cli.numeric import cross_entropy
from gradcheck_cli.numeric.cross_entropy import Loss
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices, Link
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags
from gradcheck_cli.tensors import Rows

Core = Callable[["Recipe"], tuple[Floats, Floats]]
"""Gives (n, K) Q a - q, or what a bug makes of it, and the sum of the sizes of its terms."""

Finish = Callable[["Recipe", Floats, Floats], tuple[Floats, Floats]]
"""Does the same to the gradient itself, once it is put together."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """The ingredients of some rows: (n, K) planes, (n,) arrays; and the way they are put together."""

    situation: Situation
    numbers: Indices  # the rows' own numbers
    got: Floats  # what was exported, for bugs that can be read off it only
    base: Floats  # a, but for a factor of each row
    by: Floats | None  # (n,) that factor, if there is one
    reach: Floats  # largest |v|
    lse: Floats
    chain: Floats  # dv/dz, broadcastable
    labels: Indices  # stored label, or the likeliest class of a distribution
    weights: Weights  # q
    mass: Floats  # Q
    upstream: Floats  # of ignored rows too
    counted: Flags
    divisor: float | Floats
    z_factor: float  # lambda, 0 without z-loss
    z_counted: Flags | Floats  # 1, or what the z-loss of a row is multiplied by
    loss: Loss
    core: Core | None = None
    finish: Finish | None = None
    read: dict[str, Any] = field(default_factory=dict)  # what was read again, for this and changed recipes

    @classmethod
    def of(cls, situation: Situation, tile: Tile, rows: range, counted: Flags, got: Floats) -> Recipe:
        """Return the right recipe of a tile's rows; its probabilities are the tile's own."""
        problem, sums, planes = situation.problem, tile.at.sums, tile.planes
        chain = np.array([[1.0 / problem.loss.link.temperature]]) if planes.slope is None else planes.slope
        return cls(
            situation=situation,
            numbers=np.arange(rows.start, rows.stop),
            got=got,
            base=planes.a,
            by=None,
            reach=sums.reach,
            lse=sums.lse,
            chain=np.ascontiguousarray(np.broadcast_to(chain, (len(rows), chain.shape[1]))).copy(),
            labels=sums.pivot if problem.soft else situation.labels_of(rows),
            weights=weights_of(tile),
            mass=tile.at.q.mass,
            upstream=situation.upstream_of(rows),
            counted=counted,
            divisor=problem.divisor,
            z_factor=problem.loss.z_loss,
            z_counted=counted,
            loss=problem.loss,
        )

    @staticmethod
    def joined(recipes: Sequence[Recipe]) -> Recipe:
        """Return the recipe of the rows of several."""
        first = recipes[0]
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(each, name) for each in recipes]) for name in first._arrays()
        }
        weights = Weights.joined([each.weights for each in recipes])
        return replace(first, read={}, weights=weights, **arrays)

    @property
    def kind(self) -> tuple[object, ...]:
        """Return what recipes have in common whose rows can be joined: all that is no array."""
        return (
            self.weights.dense is None, self.by is None, self.chain.shape[1], self.core, self.finish,
            id(self.loss), self.z_factor, None if isinstance(self.divisor, np.ndarray) else self.divisor,
        )  # fmt: skip

    def picked(self, places: Places) -> Recipe:
        """Return the recipe of some of the rows, by their places here."""
        arrays: dict[str, Any] = {name: getattr(self, name)[places] for name in self._arrays()}
        return self._with(read={}, weights=self.weights.picked(places), **arrays)

    def _arrays(self) -> list[str]:
        return [each.name for each in fields(self) if isinstance(getattr(self, each.name), np.ndarray)]

    @property
    def a(self) -> Floats:
        """Return the probabilities: (n, K)."""
        return self.base if self.by is None else self.base * self.by[:, None]

    @property
    def q(self) -> Floats:
        """Return the target weights: (n, K)."""
        return self.weights.plane(self.base.shape[1])

    @property
    def places(self) -> Indices:
        """Return 0 .. n-1."""
        return np.arange(len(self.counted))

    @property
    def known(self) -> Flags:
        """Return the rows whose stored label is a class."""
        known: Flags = (self.labels >= 0) & (self.labels < self.base.shape[1])
        return known

    def gradient(self) -> tuple[Floats, Floats]:
        """Return dE/dz and the sum of the sizes of its terms: (n, K) each."""
        if self.core is None and self.weights.dense is None and self.chain.shape[1] == 1:
            plane, size = self._of_line(self._line)
        else:
            plane, size = standard(self) if self.core is None else self.core(self)
            by = self._scale[:, None] * self.chain
            plane, size = plane * by, size * np.abs(by)
            if self.z_factor:
                by = self._zeta[:, None] * self.chain
                plane, size = plane + by * self.a, size + np.abs(by) * self.a
        return (plane, size) if self.finish is None else self.finish(self, plane, size)

    @property
    def _scale(self) -> Floats:
        """Return s: (n,)."""
        return self.upstream * self.counted / self.divisor

    @property
    def _zeta(self) -> Floats:
        """Return zeta: (n,)."""
        zeta: Floats = 2.0 * self.z_factor * self.lse * self.upstream * self.z_counted
        return zeta / self.situation.problem.z_divisor

    @property
    def line(self) -> Line | None:
        """Return the gradient as a line over the recipe's probabilities, where it is one."""
        straight = self.core is None and self.weights.dense is None and self.chain.shape[1] == 1
        return self._line if straight and self.finish is None and self.situation.of_gradient else None

    @property
    def _line(self) -> Line:
        s, chain = self._scale, self.chain[:, 0]
        coefficient, size = s * self.mass, np.abs(s) * self.mass
        if self.z_factor:
            coefficient, size = coefficient + self._zeta, size + np.abs(self._zeta)
        if self.by is not None:
            coefficient, size = coefficient * self.by, size * np.abs(self.by)
        return Line(
            coefficient * chain, size * np.abs(chain), self.weights.columns, s * self.weights.own * chain
        )

    def _of_line(self, line: Line) -> tuple[Floats, Floats]:
        at = self.places, line.columns
        plane, size = line.coefficient[:, None] * self.base, line.size[:, None] * self.base
        plane[at] -= line.taken
        size[at] += np.abs(line.taken)
        return plane, size

    def dealt(self, labels: Indices, *, counted: Flags | None = None) -> Recipe:
        """Return the recipe with other class labels; a label that is no class has no target: (n,)."""
        classes = self.base.shape[1]
        known = (labels >= 0) & (labels < classes)
        of = np.where(known, labels, 0)
        targets = cross_entropy.class_targets(of, classes, self.loss)
        weights = Weights(of, np.where(known, targets.at_pivot, 0.0))
        if not targets.sparse:
            q = np.array(np.broadcast_to(targets.plane(), self.base.shape))
            q[self.places, of] = targets.at_pivot
            q[~known] = 0.0
            weights = Weights.of(q)
        counted = self.counted if counted is None else counted
        return self._with(weights=weights, mass=targets.mass, labels=labels, counted=counted)

    def retold(self, **terms: Any) -> Recipe:
        """Return the recipe under another loss: smoothing, class weights or z-loss replaced."""
        loss = replace(self.loss, **terms)
        told = self._with(loss=loss, z_factor=loss.z_loss)
        if not self.situation.problem.soft:
            return told.dealt(told.labels)
        t = self._stored(self.situation.problem.targets)
        targets = cross_entropy.distribution_targets(t, self.labels, loss)
        return told._with(weights=Weights.of(t), mass=targets.mass)

    def relinked(self, link: Link) -> Recipe:
        """Return the recipe with another softcap and temperature."""
        z = self.logits
        chain = np.full((len(z), 1), 1.0 / link.temperature)
        if link.softcap is not None:
            chain = (1.0 - np.tanh(z / link.softcap) ** 2) / link.temperature
        return self._with(loss=replace(self.loss, link=link)).with_argument(link.apply(z), chain)

    def with_argument(self, v: Floats, chain: Floats) -> Recipe:
        """Return the recipe whose softmax is taken of another argument v: (n, K)."""
        top = v.max(axis=1, keepdims=True)
        w = np.exp(v - top)
        total = w.sum(axis=1, keepdims=True)
        lowest = v.min(axis=1)
        if np.isneginf(lowest).any():
            lowest = np.where(np.isneginf(v), 0.0, v).min(axis=1)
        reach, lse = np.maximum(np.abs(top[:, 0]), np.abs(lowest)), (top + np.log(total))[:, 0]
        return self._with(base=w / total, by=None, chain=chain, lse=lse, reach=reach)

    @property
    def logits(self) -> Floats:
        """Return the logits as they are stored: (n, K)."""
        if "logits" not in self.read:
            self.read["logits"] = self._stored(self.situation.problem.logits)
        read: Floats = self.read["logits"]
        return read

    def _stored(self, rows: Rows) -> Floats:
        """Return the rows' numbers of a tensor of the logits' shape: (n, K)."""
        found = np.empty(self.base.shape)
        for start, stop in _runs(self.numbers):
            first = int(self.numbers[start])
            rows.read(first, first + stop - start, found[start:stop])
        return found

    def labels_beside(self, offset: int) -> Indices:
        """Return the stored labels of the rows so far down, -1 beyond the ends: (n,)."""
        key = f"labels {offset:+d}"
        if key not in self.read:
            runs = [(int(self.numbers[start]) + offset, stop - start) for start, stop in _runs(self.numbers)]
            found = [self.situation.labels_of(range(first, first + count)) for first, count in runs]
            self.read[key] = np.concatenate(found)
        beside: Indices = self.read[key]
        return beside

    def then(self, finish: Finish) -> Recipe:
        """Return the recipe with one thing more done to the gradient at the end."""
        before = self.finish

        def both(recipe: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:
            if before is not None:
                plane, size = before(recipe, plane, size)
            return finish(recipe, plane, size)

        return self._with(finish=both)

    def untargeted(self) -> Recipe:
        """Return the recipe without targets: q is 0."""
        return self._with(weights=Weights(self.weights.columns, np.zeros(len(self.counted))))

    def targeted(self, rows: Flags) -> Recipe:
        """Return the recipe with targets in some of the rows alone: (n,)."""
        return self._with(weights=self.weights.where(rows))

    def thinned(self, by: Floats) -> Recipe:
        """Return the recipe with the probabilities of each row multiplied: (n,)."""
        return self._with(by=by if self.by is None else self.by * by)

    def _with(self, **ingredients: Any) -> Recipe:
        """Return a copy with some fields replaced; `dataclasses.replace` takes longer than a few rows do."""
        other = object.__new__(Recipe)
        other.__dict__.update(self.__dict__)
        other.__dict__.update(ingredients)
        return other

    def changed(self, **ingredients: Any) -> Recipe:
        """Return the recipe with some ingredients replaced, `a` and `q` among them."""
        if "a" in ingredients:
            ingredients |= {"base": ingredients.pop("a"), "by": None}
        if "q" in ingredients:
            ingredients["weights"] = Weights.of(ingredients.pop("q"))
        return self._with(**ingredients)


def standard(recipe: Recipe) -> tuple[Floats, Floats]:
    """Return Q a - q, and Q a + q."""
    pulled = recipe.mass[:, None] * recipe.a
    return pulled - recipe.q, pulled + recipe.q


def _runs(numbers: Indices) -> list[tuple[int, int]]:
    """Return where runs of consecutive numbers start and stop."""
    cuts = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]
    return list(pairwise(cuts))

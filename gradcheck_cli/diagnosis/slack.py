"""What a prediction may be off by: linear in the factor that multiplies it.

A predicted entry P is a sum of terms whose sizes add up to M, each a product with a probability or two. With
u the unit of the exporter's arithmetic, a probability computed in it has the relative error

    rho = u (4 (-log a) + 4 log K + (K - 1) + 48 + 26 |v|max + 2 |lse|)

(accuracy.py's bound with every constant rounded up, for any order of summation and any link), the last two
terms only as far as they apply. So |got - c P| <= |c| (rho M + u_grid |P|) + floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cached_property

import numpy as np

from gradcheck_cli.diagnosis.readout import Read, read
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.exports import rounding
from gradcheck_cli.numeric.half import NATIVE_CAP
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.records import dataclass

_SMALLEST = math.exp(-700.0)  # probability
_PLANES = ("a", "got", "plane", "size")
_HAIR_LESS = 1.0 - 2.0**-40
_SMALL = 1e-3  # relative error up to which exponentials are linear enough


@dataclass(frozen=True, eq=False)
class Slack:
    """|got - c P| <= |c| scaled + floor; the loose one admits 16-bit arithmetic throughout."""

    scaled: Floats
    floor: Floats  # broadcastable
    loose: Floats | None  # None where 16-bit arithmetic is no excuse


@dataclass(frozen=True, eq=False)
class Terms:
    """What the slack of rows depends on besides their probabilities: (n,) arrays."""

    of_row: Floats  # relative error of a probability, in u, but for its depth
    lse: Floats  # |lse|
    reach: Floats
    divisor: Floats  # roundings of the divisor, in u

    @classmethod
    def of(cls, recipe: Recipe) -> Terms:
        """Return those of a recipe."""
        classes, link, lse = recipe.situation.classes, recipe.loss.link, np.abs(recipe.lse)
        of_row = np.full(len(lse), 4.0 * math.log(classes) + classes + 48.0)
        if link.softcap is not None or link.temperature != 1.0:
            of_row += 26.0 * recipe.reach
        if recipe.z_factor:
            of_row += 4.0 * lse + 16.0
        return cls(of_row, lse, recipe.reach, np.full(len(lse), _divisor_terms(recipe)))

    def picked(self, rows: Indices) -> Terms:
        """Return those of some of the rows."""
        return Terms(*(getattr(self, each.name)[rows] for each in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Terms]) -> Terms:
        """Return those of the rows of several."""
        names = [each.name for each in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted plane with what its slack depends on: (n, m) each, of all columns or of some."""

    situation: Situation
    terms: Terms
    a: Floats
    got: Floats
    plane: Floats
    size: Floats  # sum of the sizes of the terms of each entry

    @classmethod
    def of(cls, recipe: Recipe, columns: Indices | None = None) -> Prediction:
        """Return what a recipe predicts."""
        line = None if columns is None else recipe.line
        if columns is None or line is None:
            return cls.made(recipe, read(recipe), columns)
        base, taken = recipe.base[:, columns], line.at(columns)
        plane, size = line.coefficient[:, None] * base - taken, line.size[:, None] * base + np.abs(taken)
        a = base if recipe.by is None else base * recipe.by[:, None]
        return cls(recipe.situation, Terms.of(recipe), a, recipe.got[:, columns], plane, size)

    @classmethod
    def made(cls, recipe: Recipe, made: Read, columns: Indices | None = None) -> Prediction:
        """Return a plane that was made of a recipe."""
        terms, (a, plane, size), got = Terms.of(recipe), made, recipe.got
        if columns is not None:
            a, got, plane, size = (each[:, columns] for each in (a, got, plane, size))
        return cls(recipe.situation, terms, a, got, plane, size)

    @classmethod
    def joined(cls, parts: Sequence[Prediction]) -> Prediction:
        """Return the rows of several."""
        planes = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _PLANES}
        return cls(parts[0].situation, Terms.joined([part.terms for part in parts]), **planes)

    def times(self, by: Floats) -> Prediction:
        """Return the prediction with each row multiplied: (n,)."""
        if (by == 1.0).all():
            return self
        column = by[:, None]
        return replace(self, plane=self.plane * column, size=self.size * np.abs(column))

    def picked(self, rows: Indices) -> Prediction:
        """Return some of the rows."""
        planes = {name: getattr(self, name)[rows] for name in _PLANES}
        return replace(self, terms=self.terms.picked(rows), **planes)

    @cached_property
    def slack(self) -> Slack:
        """Return what it may be off by."""
        return slack(self)


def least(recipe: Recipe) -> float:
    """Return what a prediction may be off by at least, relative to it, in every entry of every row."""
    tolerance, export = recipe.situation.tolerance, recipe.situation.export
    if tolerance is not None:
        return _HAIR_LESS * tolerance.rtol
    classes, unit = recipe.situation.classes, export.compute.unit
    of_all = 4.0 * math.log(classes) + classes + 48.0 + _divisor_terms(recipe)
    return _HAIR_LESS * min(unit * of_all + export.grid.unit + rounding(export.decimals)[0], 1.0)


def slack(of: Prediction) -> Slack:
    """Return the slack of a prediction: (n, m)."""
    situation, export, a = of.situation, of.situation.export, of.a
    told = np.isfinite(of.plane)  # a predicted NaN has no part in what its row may be off by
    magnitude, size = np.where(told, np.abs(of.plane), 0.0), np.where(told, of.size, 0.0)
    if situation.tolerance is not None:
        return Slack(situation.tolerance.rtol * magnitude, np.array([[situation.tolerance.atol]]), None)
    relative, absolute = rounding(export.decimals)
    u = export.compute
    scaled = _relative(of.terms, a, u.unit)
    scaled *= size
    far = of.terms.lse * u.unit > _SMALL
    if far.any():
        fused = np.where(far, np.expm1(np.minimum(2.0 * u.unit * of.terms.lse, 1.0)), 0.0)[:, None] * size
        scaled += np.minimum(fused, 1e-3 * magnitude.max(axis=1, keepdims=True))
    scaled += (export.grid.unit + relative + u.unit * of.terms.divisor)[:, None] * magnitude
    if export.logits is not None:  # each logit moved by u |z| moves a probability by 2u |z|max of itself
        scaled += np.expm1(np.minimum(2.0 * export.logits.unit * of.terms.reach, 1.0))[:, None] * size
    floor = np.array([[absolute + 8.0 * u.smallest_normal + 2.0 * export.grid.smallest_subnormal]])
    if export.flushes:
        floor = np.where(of.got == 0.0, np.maximum(floor, export.grid.smallest_normal), floor)
    if export.native is None:
        return Slack(scaled, floor, None)
    h, depth = export.native.unit, -np.log(np.maximum(a, _SMALLEST))
    exponent = h * (4.0 * depth + 4.0 * math.log(situation.classes) + 16.0)
    native = np.expm1(np.minimum(exponent, 1.0)) * size + 4.0 * h * magnitude
    native = np.minimum(native, NATIVE_CAP * magnitude.max(axis=1, keepdims=True))
    return Slack(scaled, floor + 8.0 * export.native.smallest_subnormal, scaled + native)


def _relative(terms: Terms, a: Floats, unit: float) -> Floats:
    """Return the relative error of each probability: (n, m)."""
    of_row = terms.of_row + np.where(terms.lse * unit <= _SMALL, 2.0 * terms.lse, 0.0)
    exponent: Floats = np.maximum(a, _SMALLEST)
    np.log(exponent, out=exponent)
    exponent *= -4.0 * unit
    exponent += (unit * of_row)[:, None]
    if not float(exponent.max(initial=0.0)) <= _SMALL:
        return np.expm1(np.minimum(exponent, 1.0))
    exponent *= 1.0 + _SMALL  # expm1(x) <= x (1 + x)
    return exponent


def _divisor_terms(recipe: Recipe) -> float:
    return 8.0 + recipe.loss.divisor_terms

"""What a prediction may be off by: linear in the factor that multiplies it.

A predicted entry P is a sum of terms whose sizes add up to M, each a product with a probability or two. With
u the unit of the exporter's arithmetic, a probability computed in it has the relative error

    rho = u (4 (-log a) + 4 log K + (K - 1) + 48 + 26 |v|max + 2 |lse|)

(accuracy.py's bound with every constant rounded up, for any order of summation and any link), the last two
terms only as far as they apply. So |got - c P| <= |c| (rho M + u_grid |P|) + floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.exports import rounding
from gradcheck_cli.numeric.half import NATIVE_CAP
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices

_SMALLEST = math.exp(-700.0)  # probability
_HAIR_LESS = 1.0 - 2.0**-40
_SMALL = 1e-3  # relative error up to which exponentials are linear enough


@dataclass(frozen=True, eq=False)
class Slack:
    """|got - c P| <= |c| scaled + floor; the loose one admits 16-bit arithmetic throughout."""

    scaled: Floats
    floor: Floats  # broadcastable
    loose: Floats | None  # None where 16-bit arithmetic is no excuse


@dataclass(frozen=True, eq=False)
class Seen:
    """Entries of a recipe's rows, those of all columns or of some: (n, m) each."""

    a: Floats
    got: Floats

    @classmethod
    def of(cls, recipe: Recipe, columns: Indices | None = None) -> Seen:
        """Return some columns of a recipe's rows, or all."""
        if columns is None:
            return cls(recipe.a, recipe.got)
        return cls(recipe.a[:, columns], recipe.got[:, columns])


def least(recipe: Recipe) -> float:
    """Return what a prediction may be off by at least, relative to it, in every entry of every row."""
    tolerance, export = recipe.situation.tolerance, recipe.situation.export
    if tolerance is not None:
        return _HAIR_LESS * tolerance.rtol
    classes, unit = recipe.situation.classes, export.compute.unit
    of_all = 4.0 * math.log(classes) + classes + 48.0 + _divisor_terms(recipe)
    return _HAIR_LESS * min(unit * of_all + export.grid.unit + rounding(export.decimals)[0], 1.0)


def slack(recipe: Recipe, plane: Floats, size: Floats, seen: Seen | None = None) -> Slack:
    """Return the slack of a predicted plane: (n, m), (n, m); of all columns where none are given."""
    seen = Seen.of(recipe) if seen is None else seen
    a, got = seen.a, seen.got
    situation, export = recipe.situation, recipe.situation.export
    told = np.isfinite(plane)  # a predicted NaN has no part in what its row may be off by
    magnitude, size = np.where(told, np.abs(plane), 0.0), np.where(told, size, 0.0)
    if situation.tolerance is not None:
        return Slack(situation.tolerance.rtol * magnitude, np.array([[situation.tolerance.atol]]), None)
    relative, absolute = rounding(export.decimals)
    u = export.compute
    scaled = _relative(recipe, a, u.unit)
    scaled *= size
    if recipe.lse.size and float(np.abs(recipe.lse).max()) * u.unit > _SMALL:
        scaled += np.minimum(_fused(recipe, u.unit) * size, 1e-3 * magnitude.max(axis=1, keepdims=True))
    scaled += (export.grid.unit + relative + u.unit * _divisor_terms(recipe)) * magnitude
    if export.logits is not None:  # each logit moved by u |z| moves a probability by 2u |z|max of itself
        scaled += np.expm1(np.minimum(2.0 * export.logits.unit * recipe.reach, 1.0))[:, None] * size
    floor = np.array([[absolute + 8.0 * u.smallest_normal + 2.0 * export.grid.smallest_subnormal]])
    if export.flushes:
        floor = np.where(got == 0.0, np.maximum(floor, export.grid.smallest_normal), floor)
    if export.native is None:
        return Slack(scaled, floor, None)
    h, depth = export.native.unit, -np.log(np.maximum(a, _SMALLEST))
    exponent = h * (4.0 * depth + 4.0 * math.log(situation.classes) + 16.0)
    native = np.expm1(np.minimum(exponent, 1.0)) * size + 4.0 * h * magnitude
    native = np.minimum(native, NATIVE_CAP * magnitude.max(axis=1, keepdims=True))
    return Slack(scaled, floor + 8.0 * export.native.smallest_subnormal, scaled + native)


def _relative(recipe: Recipe, a: Floats, unit: float) -> Floats:
    """Return the relative error of each probability: (n, K)."""
    classes, link = recipe.situation.classes, recipe.loss.link
    of_row = np.full(len(a), 4.0 * math.log(classes) + classes + 48.0)
    if link.softcap is not None or link.temperature != 1.0:
        of_row += 26.0 * recipe.reach
    if recipe.z_factor:
        of_row += 4.0 * np.abs(recipe.lse) + 16.0
    lse = np.abs(recipe.lse)
    of_row += np.where(lse * unit <= _SMALL, 2.0 * lse, 0.0)
    exponent: Floats = np.maximum(a, _SMALLEST)
    np.log(exponent, out=exponent)
    exponent *= -4.0 * unit
    exponent += (unit * of_row)[:, None]
    if not float(exponent.max(initial=0.0)) <= _SMALL:
        return np.expm1(np.minimum(exponent, 1.0))
    exponent *= 1.0 + _SMALL  # expm1(x) <= x (1 + x)
    return exponent


def _fused(recipe: Recipe, unit: float) -> Floats:
    fused: Floats = np.expm1(np.minimum(2.0 * unit * np.abs(recipe.lse), 1.0))[:, None]
    return fused


def _divisor_terms(recipe: Recipe) -> float:
    return 8.0 + recipe.loss.divisor_terms

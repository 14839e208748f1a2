"""F. Arithmetic: what a format of too few bits makes of a right formula."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from gradcheck_cli.diagnosis.bug import ROUNDING, Bug, Variant
from gradcheck_cli.diagnosis.recipe import Finish, Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.numeric.precision import BFLOAT16, FLOAT16, FLOAT32, Floats, Precision, power_below
from gradcheck_cli.refusals import Flags

_MOST_FUSED = 8.0  # roundings of lse


def rounded(values: Floats, grid: Precision) -> Floats:
    """Return the values rounded to the nearest number of a grid, ties to even; any shape."""
    spacing = power_below(np.ascontiguousarray(values), np.empty(values.shape))
    spacing = np.maximum(spacing, grid.smallest_normal) * 2.0 ** (1 - grid.digits)
    found: Floats = np.rint(values / spacing) * spacing
    return found


def _read_modify_write(sample: Sample) -> Iterable[Variant]:
    situation = sample.situation
    grid = situation.export.grid
    if not grid.half or situation.problem.loss.smoothing or situation.problem.soft:
        return
    for both in (False, True):
        finish = partial(_rewritten, grid=grid, both=both)
        yield Variant(change=partial(Recipe.then, finish=finish), parameters={"grid": grid.name})


def _rewritten(
    recipe: Recipe, plane: Floats, size: Floats, *, grid: Precision, both: bool
) -> tuple[Floats, Floats]:
    """Return round(round(s a) - s q) at the label, and s a elsewhere: (n, K).

    The first rounding is taken to the neighbour that fits best: a kernel's own s a may lie on the other
    side of the middle. `both`: s q is rounded as well.
    """
    pulled, _ = recipe.untargeted().changed(finish=None).gradient()
    taken = pulled - plane
    target = recipe.q > 0.0
    taken = rounded(taken, grid) if both else taken
    first = rounded(pulled, grid)
    step = np.maximum(power_below(pulled, np.empty_like(pulled)), grid.smallest_normal) * 2.0 * grid.unit
    best = first - taken
    for neighbour in (first - step, first + step):
        near = np.abs(neighbour - pulled) <= 0.51 * step  # as good a rounding, but for a hair
        better = near & (np.abs(neighbour - taken - recipe.got) < np.abs(best - recipe.got))
        best = np.where(better, neighbour - taken, best)
    rewritten = np.where(target, rounded(best, grid), plane)
    return rewritten, np.maximum(size, np.abs(rewritten))


def _fused(sample: Sample) -> Iterable[Variant]:
    export = sample.situation.export
    if export.compute.half or export.grid.half:
        return
    unit = export.compute.unit

    def change(recipe: Recipe) -> Recipe:
        plane, _ = recipe.untargeted().gradient()
        outside = (recipe.q == 0.0) & (plane != 0.0)
        with np.errstate(all="ignore"):
            off = np.where(outside, recipe.got / plane - 1.0, np.nan)
        largest = np.where(outside, recipe.a, -1.0).argmax(axis=1)
        off = np.nan_to_num(off[recipe.places, largest])
        most = np.expm1(np.minimum(_MOST_FUSED * unit * np.abs(recipe.lse), 1.0))
        return recipe.thinned(1.0 + np.clip(off, -most, most))

    yield Variant(change=change, parameters={"type": export.compute.name})


def _low_precision(sample: Sample) -> Iterable[Variant]:
    """Yield a narrower arithmetic where the errors are of its size in most entries, and not in a few."""
    export = sample.situation.export
    if export.native is not None or sample.situation.tolerance is not None:
        return
    if sample.situation.settings.compute_dtype is not None:
        return
    errors = np.concatenate([_relative_errors(view.right, view.got) for view in sample.views])
    if errors.size < 16:
        return
    typical = float(np.median(errors))
    candidates = (FLOAT32, FLOAT16, BFLOAT16) if export.compute.name == "float64" else (FLOAT16, BFLOAT16)
    grid = min(candidates, key=lambda each: abs(np.log(max(typical, 1e-300) / (0.5 * each.unit))))
    if grid.unit / 16.0 <= typical <= 4.0 * grid.unit:
        yield Variant(
            change=partial(Recipe.then, finish=_nearly(grid)),
            parameters={"type": grid.name, "typical": typical},
            flags=("--compute-dtype", grid.name),
        )


def _relative_errors(right: Floats, got: Floats) -> Floats:
    """Return the relative errors of the entries that are not small in their row."""
    large = np.abs(right) > 1e-3 * np.abs(right).max(axis=1, keepdims=True)
    found: Floats = np.abs(got[large] / right[large] - 1.0)
    return found[np.isfinite(found)]


def _nearly(grid: Precision) -> Finish:
    """Return what takes the exported value for right as far as arithmetic of this grid explains it.

    Every entry may be off by what a probability of 1 may: where that does, no logarithm is taken.
    """

    def finish(recipe: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:
        off, classes = np.abs(recipe.got - plane), plane.shape[1]
        most = np.abs(plane).max(axis=1, keepdims=True) / 6.0 if grid.half else np.inf

        def near(depth: Floats | float) -> Flags:
            relative = np.expm1(np.minimum(grid.unit * (4.0 * (depth + np.log(classes)) + 16.0), 1.0))
            found: Flags = off <= np.minimum(relative * size, most) + 8.0 * grid.smallest_subnormal
            return found

        if near(0.0).all():
            return recipe.got, size
        return np.where(near(-np.log(np.maximum(recipe.a, 1e-300))), recipe.got, plane), size

    return finish


NUMERICS = (
    Bug(
        "low-precision-rmw", ROUNDING, "round(round(s a) - s) at the label",
        "the label's entry is rounded to {grid} twice: the scaled probability is stored, read back, and the "
        "target subtracted from it",
        "subtract the target before the gradient is rounded, or keep the label's entry in float32",
        "finish", _read_modify_write,
    ),
    Bug(
        "fused-lse", ROUNDING, "exp(z - lse) with a rounded lse",
        "all entries of a row but the label's are off by one factor, no larger than rounding logsumexp to "
        "{type} "
        "makes it: logits far from 0",
        "subtract the maximum first, then log of the sum: (z - max) - log S",
        "finish", _fused, general=True,
    ),
    Bug(
        "low-precision", ROUNDING, "right, in {type} arithmetic",
        "the errors are those of {type} arithmetic (typically {typical:.1e} of an entry), although the "
        "values "
        "are stored with more digits",
        "compute in float32 and round once at the end, or tell softgrad the precision",
        "finish", _low_precision, general=True,
    ),
)  # fmt: skip

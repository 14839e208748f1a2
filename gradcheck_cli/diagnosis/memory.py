"""F. Memory: another tensor in place of the gradient, or the gradient in another order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from gradcheck_cli.diagnosis.bug import DEFECT, ROUNDING, Bug, Variant, nice
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.view import Rows as Views
from gradcheck_cli.numeric.precision import BFLOAT16, FLOAT16, Floats
from gradcheck_cli.refusals import Flags
from gradcheck_cli.tensors import Rows, Tensor

_CLAMP = 1e-2  # largest probability of a label that a loss is clamped below
_NEARLY = 1.02  # how far rounding may blur a threshold


def _held(plane: Floats) -> tuple[Floats, Floats]:
    return plane, np.abs(plane)


def _finished(what: str) -> Variant:
    """Return the variant that exports one of the ingredients."""

    def finish(recipe: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:  # noqa: ARG001
        return _held(recipe.a if what == "probabilities" else recipe.logits)

    return Variant(change=lambda r: r.changed(finish=finish), parameters={"what": what})


def _probs(_: Sample) -> Iterable[Variant]:
    yield _finished("probabilities")


def _logits(_: Sample) -> Iterable[Variant]:
    yield _finished("logits")


def _stale(sample: Sample) -> Iterable[Variant]:
    """Yield the distances at which a failing row holds what is right for an earlier one."""
    wrong = _first_wrong(sample)
    if wrong is None or not wrong[1].any():
        return
    row, got = wrong
    for distance in _distances(sample.situation, row):
        earlier = sample.source.view(range(row - distance, row - distance + 1))
        if (np.abs(got - earlier.right) <= earlier.allowed).all() and earlier.right.any():
            yield Variant(change=partial(_copied, distance=distance), parameters={"distance": distance})
            return


def _first_wrong(sample: Sample) -> tuple[int, Floats] | None:
    """Return the first row of the sample that is wrong in most entries, with what it holds: (K,)."""
    wrong = [
        (int(view.recipe.numbers[place]), view.got[place])
        for view in sample.views
        for place in np.flatnonzero(np.count_nonzero(view.failing, axis=1) > 0.5 * view.got.shape[1])
    ]
    return min(wrong, key=lambda each: each[0], default=None)


def _distances(situation: Situation, row: int) -> Iterator[int]:
    tail = situation.rows - row
    steps = [1 << power for power in range(24)]
    seen = dict.fromkeys([tail, *range(1, 65), *steps, row])
    yield from (distance for distance in seen if 0 < distance <= row)


def _copied(recipe: Recipe, distance: int) -> Recipe:
    """Return the recipe whose wrong rows hold what is right for the rows so far above them."""
    source = Views(recipe.situation, 1)

    def finish(recipe: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:
        right, sizes = plane.copy(), size.copy()
        off = np.abs(recipe.got - plane).max(axis=1) > 1e-3 * np.abs(plane).max(axis=1)
        for place in np.flatnonzero(off & (recipe.numbers >= distance)):
            row = int(recipe.numbers[place]) - distance
            above, size_above = source.view(range(row, row + 1)).recipe.gradient()
            own = np.abs(recipe.got[place] - plane[place]).max()
            if np.abs(recipe.got[place] - above[0]).max() < own:
                right[place], sizes[place] = above[0], size_above[0]
        return right, sizes

    return recipe.changed(finish=finish)


def _unwritten(sample: Sample) -> Iterable[Variant]:
    """Yield the rows that are exported as zeros, if others are not."""
    some = any(view.got.any() for view in sample.views)
    if some and any(_zero_rows(view.recipe, view.right).any() for view in sample.views):

        def finish(recipe: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:
            lost = _zero_rows(recipe, plane)[:, None]
            return np.where(lost, 0.0, plane), size

        yield Variant(change=lambda r: r.then(finish))


def _zero_rows(recipe: Recipe, plane: Floats) -> Flags:
    """Return the rows that are exported as zeros though they are not: (n,)."""
    got, meant = np.abs(recipe.got).max(axis=1), np.abs(plane).max(axis=1)
    found: Flags = (got == 0.0) & (meant > 0.0)
    return found


def _unsure(sample: Sample) -> Iterable[Variant]:
    """Yield the probability below which all rows are zeros and above which none is, if there is one."""
    if sample.situation.problem.soft:
        return
    lost, kept = [0.0], [1.0]
    for view in sample.views:
        zero = _zero_rows(view.recipe, view.right)
        lost += view.own_a[zero].tolist()
        kept += view.own_a[view.counted & ~zero].tolist()
    limit = nice(float(np.sqrt(max(lost) * min(kept))), 1)
    if len(lost) < 3 or not max(lost) < limit < min(kept) or max(lost) > _CLAMP:
        return

    def change(recipe: Recipe) -> Recipe:
        own = recipe.a[recipe.places, np.clip(recipe.labels, 0, recipe.a.shape[1] - 1)]
        return recipe.changed(counted=recipe.counted & (own > limit))

    yield Variant(change=change, parameters={"limit": limit})


def _tail(sample: Sample) -> Iterable[Variant]:
    """Yield the columns from which on everything is exported as 0, if any."""
    used = np.zeros(sample.situation.classes, dtype=bool)
    meant = np.zeros(sample.situation.classes, dtype=bool)
    for view in sample.views:
        used |= view.got.any(axis=0)
        meant |= view.right.any(axis=0)
    first = int(np.flatnonzero(used)[-1]) + 1 if used.any() else 0
    if not 0 < first < sample.situation.classes or not meant[first:].any():
        return

    def finish(recipe: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:  # noqa: ARG001
        return np.where(np.arange(plane.shape[1]) < first, plane, 0.0), size

    told = {"first": first, "columns": sample.situation.classes - first, "classes": sample.situation.classes}
    yield Variant(change=lambda r: r.then(finish), parameters=told)


def _dropped(sample: Sample) -> list[Variant]:
    """Return the size below which every entry is exported as 0 and above which none is, if there is one."""
    lost, kept = 0.0, np.inf
    for view in sample.views:
        right, nothing = np.abs(view.right), view.got == 0.0
        lost = max(lost, float(np.max(right, where=nothing, initial=0.0)))
        kept = min(kept, float(np.min(right, where=~nothing & (right > 0.0), initial=np.inf)))
    if not 0.0 < lost <= kept * _NEARLY < np.inf:
        return []

    def finish(recipe: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:
        small = (recipe.got == 0.0) & (np.abs(plane) <= kept * _NEARLY)
        return np.where(small, 0.0, plane), size

    limits = {FLOAT16.smallest_normal: "float16", BFLOAT16.smallest_normal: "bfloat16 and float32"}
    limits |= {FLOAT16.smallest_subnormal / 2: "float16", FLOAT16.smallest_subnormal: "float16"}
    name = next(
        (words for limit, words in limits.items() if lost <= limit * _NEARLY and limit <= kept * _NEARLY),
        None,
    )
    told = {"lost": lost, "kept": kept, "format": name}
    return [Variant(change=lambda r: r.then(finish), parameters=told)]


def _underflow(sample: Sample) -> Iterable[Variant]:
    yield from (each for each in sample.once(_dropped) if each.parameters["format"] is not None)


def _filtered(sample: Sample) -> Iterable[Variant]:
    yield from (each for each in sample.once(_dropped) if each.parameters["format"] is None)


def _nan_where_masked(recipe: Recipe, plane: Floats, size: Floats, *, whole: bool) -> tuple[Floats, Floats]:
    masked = np.isneginf(recipe.logits)
    if whole:
        masked = np.repeat(masked.max(axis=1, keepdims=True), plane.shape[1], axis=1)
    return np.where(masked, np.nan, plane), size


def _masked(sample: Sample) -> Iterable[Variant]:
    if not any(np.isnan(view.got).any() for view in sample.views):
        return
    for whole in (False, True):
        where = "in rows that have masked classes" if whole else "at masked classes"
        yield Variant(
            change=partial(Recipe.then, finish=partial(_nan_where_masked, whole=whole)),
            parameters={"where": where},
        )


MEMORY = (
    Bug(
        "probs-exported", DEFECT, "a",
        "this is no gradient: the file holds the probabilities",
        "export the gradient, or hand the file in as --probs",
        "finish", _probs,
    ),
    Bug(
        "logits-exported", DEFECT, "z",
        "this is no gradient: the file holds the logits, or the logits were overwritten by it before they "
        "were "
        "exported",
        "copy the logits before the backward pass writes in place, and export the other buffer",
        "finish", _logits,
    ),
    Bug(
        "stale-rows", DEFECT, "rows of row i - {distance:,}",
        "the failing rows hold what is right for the row {distance:,} before them: they were not written, "
        "and "
        "an older buffer shows",
        "write every row: check the bounds of the last block and the reuse of buffers",
        "finish", _stale,
    ),
)  # fmt: skip

LOST = (
    Bug(
        "clamped-probability", DEFECT, "0 where a_y < {limit:g}",
        "rows whose label has a probability below {limit:g} are zero: the loss is clamped there, and with it "
        "the gradient",
        "work with log-probabilities instead of clamping probabilities: these are the rows to learn from",
        "rows-lost", _unsure,
    ),
    Bug(
        "stale-rows", DEFECT, "0 in rows that were not written",
        "some rows hold nothing but zeros, as if they had never been written",
        "check the launch grid, the bounds of the last block, and what decides that a row is skipped",
        "rows-lost", _unwritten, general=True,
    ),
    Bug(
        "tail-columns", DEFECT, "0 in columns >= {first:,}",
        "the last {columns:,} of {classes:,} columns hold nothing but zeros, as if the last block had "
        "never been "
        "written",
        "check the mask of the last block of columns",
        "columns", _tail,
    ),
    Bug(
        "underflow", ROUNDING, "0 where |G| is below the normal numbers of {format}",
        "entries below {lost:.3g} are flushed to 0, all above {kept:.3g} are there: {format} does not "
        "reach lower",
        "scale the loss, or keep small values in float32",
        "dropped", _underflow,
    ),
    Bug(
        "small-entries-dropped", DEFECT, "0 where |G| is below a threshold",
        "entries up to {lost:.3g} are exactly 0, all from {kept:.3g} on are there: a filter of small "
        "gradients?",
        "leave the filter out for the check, or judge with --atol {lost:.3g} --rtol 0",
        "dropped", _filtered,
    ),
    Bug(
        "masked-row", DEFECT, "0 times infinity where z = -inf",
        "there are NaN {where}",
        "treat -inf logits apart: their probability and gradient are exactly 0",
        "dropped", _masked,
    ),
)  # fmt: skip


def other_orders(situation: Situation) -> Iterator[tuple[str, Situation]]:
    """Yield the orders that a transposed export may have, in words and as a situation."""
    tensor, axis = situation.export.rows.tensor, situation.problem.axis
    if tensor.layout == "F":
        yield "they lie in C order", _seen(situation, replace(tensor, layout="C"), axis)
        return
    for other in (axis - 1, axis + 1):  # with any other axis the rows would come in another order
        if 0 <= other < len(tensor.shape) and 1 not in (tensor.shape[axis], tensor.shape[other]):
            turned = list(tensor.shape)
            turned[axis], turned[other] = turned[other], turned[axis]
            words = f"axes {min(axis, other)} and {max(axis, other)} are swapped"
            yield words, _seen(situation, replace(tensor, shape=tuple(turned)), other)


def _seen(situation: Situation, tensor: Tensor, axis: int) -> Situation:
    """Return the situation with the export's values seen in another order."""
    return replace(situation, export=replace(situation.export, rows=Rows(tensor, axis)))

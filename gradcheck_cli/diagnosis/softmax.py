"""D. The softmax itself."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from gradcheck_cli.diagnosis.bug import DEFECT, Bug, Variant
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.numeric.precision import Floats

_SHARDS = (2, 4, 8, 16, 32)
_NEAR = 0.1  # logarithms of the same number, in 16 bits too
_MOSTLY = 0.5  # of the rows fail where the softmax is taken along another axis
_BLOCKS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_WIDEST = 8  # times the classes, that padding may bring a row to; or 1024 columns
_TYPES: dict[str, type[np.floating]] = {"float16": np.float16, "float32": np.float32, "float64": np.float64}


def _wrong_axis(sample: Sample) -> Iterable[Variant]:
    situation = sample.situation
    wrong = np.concatenate([view.failing[view.counted].any(axis=1) for view in sample.views])
    if len(situation.problem.logits.tensor.shape) != 2 or situation.rows == 1 or wrong.mean() < _MOSTLY:
        return

    def change(recipe: Recipe) -> Recipe:
        v = recipe.loss.link.apply(recipe.logits)
        return recipe.changed(a=np.exp(v - situation.column_lse[None, :]))

    yield Variant(change=change)


def _columns_agree(sample: Sample) -> bool:
    """Tell whether log |got| - v may be a number of its column, seen in two rows, where no target is.

    That is far cheaper than the sums of all columns.
    """
    if sample.situation.export.name not in ("grad", "probs"):
        return True
    recipe = sample.probe.recipe
    two = np.flatnonzero(recipe.counted & (recipe.upstream != 0.0))[:2]
    if not two.size:
        return True
    part = recipe.picked(two)
    with np.errstate(all="ignore"):
        upstream = part.upstream if sample.situation.of_gradient else np.ones(len(two))
        level = np.log(np.abs(part.got / upstream[:, None])) - part.loss.link.apply(part.logits)
    level[(part.q != 0.0) | ~np.isfinite(level)] = np.nan
    apart = np.abs(level[0] - level[-1])
    told = np.isfinite(apart)
    if len(two) < 2 or not told.any():
        return True
    own = level[0][told]
    of_rows = float(np.median(np.abs(own - np.median(own)))) <= 4.0 * sample.situation.export.grid.unit
    return not of_rows and float(np.median(apart[told])) < _NEAR


def _sigmoid(_: Sample) -> Iterable[Variant]:
    def change(recipe: Recipe) -> Recipe:
        return recipe.changed(a=1.0 / (1.0 + np.exp(-recipe.loss.link.apply(recipe.logits))))

    yield Variant(change=change)


def _padded(sample: Sample) -> Iterable[Variant]:
    classes = sample.situation.classes
    lanes = {
        -classes % block for block in _BLOCKS if -(-classes // block) * block <= max(_WIDEST * classes, 1024)
    }
    lanes |= {1 << (classes - 1).bit_length()} if classes > 1 else set()
    link = sample.situation.problem.loss.link
    levels = (0.0,) if link.softcap is None else (0.0, -link.softcap / link.temperature)
    for level in levels:  # a cap makes -c of a lane of -inf
        seen = _seen_lanes(sample, level)
        for count in sorted({*(lanes - {0}), *seen}):
            told = {"lanes": count, "width": classes + count, "level": f"{level:g}"}

            def change(recipe: Recipe, count: int = count, level: float = level) -> Recipe:
                return recipe.thinned(1.0 / (1.0 + count * np.exp(level - recipe.lse)))

            yield Variant(change=change, parameters=told, guessed=count not in seen)


def _seen_lanes(sample: Sample, level: float) -> list[int]:
    """Return how many lanes of exp(level) the rows ask for, where they agree on a whole number."""
    view = sample.probe
    with np.errstate(all="ignore"):
        bare = view.recipe.untargeted()
        plane = bare.gradient()[0] if view.situation.of_gradient else bare.a
        ratio = np.where(view.recipe.q == 0.0, view.got / plane, np.nan)
        missing = (1.0 / np.median(np.where(np.isfinite(ratio), ratio, 0.0), axis=1)) - 1.0
        asked = missing * np.exp(view.recipe.lse - level)
    asked = asked[np.isfinite(asked) & (missing > 1e-3)]
    if not asked.size:
        return []
    count = round(float(np.median(asked)))
    return [count] if 1 <= count <= max(_WIDEST * view.situation.classes, 1024) else []


def _sharded(sample: Sample) -> Iterable[Variant]:
    classes = sample.situation.classes
    for shards in _SHARDS:
        if classes % shards or classes == shards:
            continue

        def change(recipe: Recipe, shards: int = shards) -> Recipe:
            parts = recipe.a.reshape(len(recipe.a), shards, -1)
            total = parts.sum(axis=2, keepdims=True)
            local = np.divide(parts, total, out=np.zeros_like(parts), where=total > 0.0)
            return recipe.changed(a=local.reshape(recipe.a.shape))

        yield Variant(change=change, parameters={"shards": shards})


def _reduced_twice(_: Sample) -> Iterable[Variant]:
    for shards in (2, 3, 4, 6, 8, 12, 16, 32, 64):

        def change(recipe: Recipe, shards: int = shards) -> Recipe:
            return recipe.thinned(np.full(len(recipe.counted), 1.0 / shards))

        yield Variant(change=change, parameters={"shards": shards}, guessed=shards > 8)


def _unshifted(sample: Sample) -> Iterable[Variant]:
    """Yield the types whose exponentials overflow (or all vanish) somewhere in the sample."""
    for name, kind in _kinds(sample):
        limit = math.log(float(np.finfo(kind).max))

        def divided(recipe: Recipe, kind: type[np.floating] = kind) -> Recipe:
            v = recipe.loss.link.apply(recipe.logits)
            with np.errstate(all="ignore"):
                w = np.exp(v.astype(kind))
                a = (w / w.sum(axis=1, keepdims=True, dtype=kind)).astype(np.float64)
            return recipe.changed(a=_where_lost(a, recipe.a))

        def through_log(recipe: Recipe, kind: type[np.floating] = kind) -> Recipe:
            v = recipe.loss.link.apply(recipe.logits).astype(kind)
            with np.errstate(all="ignore"):
                log = np.log(np.exp(v).sum(axis=1, keepdims=True, dtype=kind))
                a = np.exp(v - log).astype(np.float64)
            return recipe.changed(a=_where_lost(a, recipe.a))

        for change in (divided, through_log):
            yield Variant(change=change, parameters={"type": name, "limit": limit})


def _kinds(sample: Sample) -> list[tuple[str, type[np.floating]]]:
    """Return the types that the exporter may have worked in."""
    export = sample.situation.export
    names = {export.compute.name} | ({export.native.name} if export.native else set())
    return [(name, _TYPES[name]) for name in sorted(names & set(_TYPES))]


def _overflows(sample: Sample) -> bool:
    """Tell whether a sum of exponentials of the sample leaves the range of such a type."""
    reach = max(float(view.recipe.reach.max()) for view in sample.views)
    room = math.log(sample.situation.classes) + 1.0
    return any(reach > math.log(float(np.finfo(kind).max)) - room for _, kind in _kinds(sample))


def _where_lost(found: Floats, right: Floats) -> Floats:
    """Return the rows as found where something overflowed or vanished, and the right ones elsewhere.

    Short of that, leaving out the shift costs no more than rounding.
    """
    total = found.sum(axis=1)
    lost = ~(np.abs(total - 1.0) < 0.1)
    return np.where(lost[:, None], found, right)


SOFTMAX = (
    Bug(
        "wrong-axis", DEFECT, "softmax over the rows - y",
        "the softmax is taken along the wrong axis: the probabilities of a column sum to 1, not those of a "
        "row",
        "take the softmax over the class axis",
        "softmax", _wrong_axis, costly=True, possible=_columns_agree,
    ),
    Bug(
        "sigmoid-for-softmax", DEFECT, "1 / (1 + exp(-z)) - y",
        "each entry is a sigmoid less its target, not a softmax",
        "use the softmax with this loss, or check the gradient of a binary cross-entropy elsewhere",
        "softmax", _sigmoid,
    ),
    Bug(
        "padded-lanes", DEFECT, "exp(z) / (sum exp(z) + {lanes} exp({level})) - y",
        "{lanes} padded lanes with the logit {level} are summed into the denominator, as if the row had "
        "{width:,} classes",
        "load masked lanes as -inf, not as 0, and mask them again behind a softcap",
        "softmax", _padded,
    ),
    Bug(
        "local-denominator", DEFECT, "exp(z) / sum over a shard of K/{shards} - y",
        "each of {shards} shards of the classes is divided by its own sum of exponentials",
        "all-reduce the maximum and the sum of exponentials over the tensor-parallel group",
        "softmax", _sharded,
    ),
    Bug(
        "denominator-reduced-twice", DEFECT, "a / {shards} - y",
        "the probabilities are {shards} times too small: the denominator is summed over {shards} shards that "
        "hold it all",
        "do not all-reduce what was gathered already",
        "softmax", _reduced_twice,
    ),
    Bug(
        "no-max-subtraction", DEFECT, "exp(z) / sum exp(z) in {type}, not shifted",
        "exponentials leave the range of {type} (logits above {limit:.4g}): the maximum of the row is not "
        "subtracted",
        "subtract the maximum of the row before exponentials are taken",
        "softmax", _unshifted, possible=_overflows,
    ),
)  # fmt: skip

"""E. Label smoothing and class weights: left out, applied unasked, or applied wrongly."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gradcheck_cli.diagnosis.bug import CONVENTION, DEFECT, Bug, Variant, nice
from gradcheck_cli.diagnosis.recipe import Recipe, standard
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.numeric.precision import Floats

_SHARDS = (2, 4, 8, 16)
_LEAST = 1e-5  # smoothing that somebody may have asked for; a fit finds less in rounding


def _smoothing(sample: Sample) -> float:
    return sample.situation.problem.loss.smoothing


def _unsmoothed(sample: Sample) -> Iterable[Variant]:
    if _smoothing(sample):
        told = {"smoothing": _smoothing(sample)}
        flags: tuple[str, ...] = ("--label-smoothing", "0")
        if sample.situation.problem.loss.smoothing_over == "others":
            flags += ("--smoothing-over", "classes")
        yield Variant(change=lambda r: r.retold(smoothing=0.0), parameters=told, flags=flags)


def _smoothed_otherwise(sample: Sample) -> Iterable[Variant]:
    loss = sample.situation.problem.loss
    if loss.smoothing and not sample.situation.problem.soft and sample.situation.classes > 1:
        other = "others" if loss.smoothing_over == "classes" else "classes"
        spread = "E/(K-1) over the other classes" if other == "others" else "E/K over all classes"
        yield Variant(
            change=lambda r: r.retold(smoothing_over=other),
            parameters={"over": other, "spread": spread},
            flags=("--smoothing-over", other),
        )


def _smoothed_unasked(sample: Sample) -> Iterable[Variant]:
    """Yield the smoothing that the entries outside the label ask for: they are c (a - e/K), got over s."""
    situation = sample.situation
    if _smoothing(sample) or situation.problem.soft or situation.problem.loss.class_weights is not None:
        return
    slope, offset = _line(sample)
    classes = situation.classes
    if classes < 3 or not (slope > 0.0 > offset):
        return
    for over, size in (("classes", classes), ("others", classes - 1)):
        smoothing = nice(-offset / slope * size)
        if not _LEAST <= smoothing < 1.0:
            continue
        flags: tuple[str, ...] = ("--label-smoothing", f"{smoothing:g}")
        flags += ("--smoothing-over", "others") if over == "others" else ()

        def change(recipe: Recipe, smoothing: float = smoothing, over: str = over) -> Recipe:
            return recipe.retold(smoothing=smoothing, smoothing_over=over)

        yield Variant(change=change, parameters={"smoothing": smoothing, "over": over}, flags=flags)


def _line(sample: Sample) -> tuple[float, float]:
    """Return slope and offset of got / s against a outside the targets, by least squares."""
    recipe = sample.probe.recipe
    with np.errstate(all="ignore"):
        scaled = recipe.got / ((recipe.upstream / recipe.divisor)[:, None] * recipe.chain)
    chosen = (recipe.q == 0.0) & recipe.counted[:, None] & np.isfinite(scaled)
    x, y = recipe.a[chosen], scaled[chosen]
    if x.size < 4 or np.ptp(x) == 0.0:
        return 0.0, 0.0
    slope = float(np.sum((x - x.mean()) * (y - y.mean())) / np.sum((x - x.mean()) ** 2))
    return slope, float(y.mean() - slope * x.mean())


def _wrong_mass(sample: Sample) -> Iterable[Variant]:
    """Yield shares of the smoothing that do not sum to E, with (a sum q) and without (a) what they sum to."""
    loss, classes = sample.situation.problem.loss, sample.situation.classes
    if not loss.smoothing or sample.situation.problem.soft:
        return
    told = {"right": "E/(K-1)" if loss.smoothing_over == "others" else "E/K"}
    for words, (each, own) in _shares(loss.smoothing, classes).items():

        def change(recipe: Recipe, each: float = each, own: float = own) -> Recipe:
            label = recipe.retold(smoothing=0.0)
            return recipe.changed(q=own * label.q + each)

        def whole(recipe: Recipe, each: float = each, own: float = own) -> Recipe:
            changed = change(recipe, each, own)
            return changed.changed(mass=changed.q.sum(axis=1))

        yield Variant(change=change, parameters={"each": words, **told})
        yield Variant(change=whole, parameters={"each": words, **told})


def _shares(smoothing: float, classes: int) -> dict[str, tuple[float, float]]:
    """Return wrong shares in words: of each class, and what the label has besides."""
    rest = 1.0 - smoothing
    wrong = {"1/K": (1.0 / classes, rest), "(1-E)/K": (rest / classes, rest)}
    for shards in (each for each in _SHARDS if classes % each == 0 and classes > each):
        width = classes // shards
        wrong[f"E/(K/{shards})"] = smoothing / width, rest
        if width > 1:
            each = smoothing / (width - 1)
            wrong[f"E/(K/{shards} - 1)"] = each, rest - each
    return wrong


def _half_weighted(sample: Sample) -> Iterable[Variant]:
    loss = sample.situation.problem.loss
    if not (loss.smoothing and loss.class_weights is not None) or sample.situation.problem.soft:
        return

    def bare(recipe: Recipe) -> Recipe:
        weighted = recipe.retold(smoothing=0.0)
        even = np.full_like(recipe.q, loss.spread(recipe.a.shape[1]))
        q = (1.0 - loss.smoothing) * weighted.q + even
        return recipe.changed(q=q, mass=q.sum(axis=1))

    def by_label(recipe: Recipe) -> Recipe:
        plain = recipe.retold(class_weights=None)
        weights = _weights(recipe)[np.clip(recipe.labels, 0, recipe.a.shape[1] - 1)]
        return recipe.changed(q=plain.q * weights[:, None], mass=plain.mass * weights)

    yield Variant(change=bare, parameters={"how": "is not weighted"})
    yield Variant(change=by_label, parameters={"how": "has the weight of the label, not of each class"})


def _weights(recipe: Recipe) -> Floats:
    weights = recipe.situation.problem.loss.class_weights
    return np.ones(recipe.a.shape[1]) if weights is None else weights


def _unweighted(sample: Sample) -> Iterable[Variant]:
    situation = sample.situation
    if situation.problem.loss.class_weights is None:
        return
    by_count = situation.settings.reduction == "mean" and situation.settings.normalizer is None
    if by_count and not situation.problem.soft:
        rows = float(situation.counted)
        yield Variant(change=lambda r: r.retold(class_weights=None).changed(divisor=rows))
    yield Variant(change=lambda r: r.retold(class_weights=None))


def _by_column(sample: Sample) -> Iterable[Variant]:
    if sample.situation.problem.loss.class_weights is None:
        return

    def core(recipe: Recipe) -> tuple[Floats, Floats]:
        plane, size = standard(recipe.retold(class_weights=None))
        return plane * _weights(recipe), size * _weights(recipe)

    rows = float(sample.situation.counted)
    yield Variant(change=lambda r: r.changed(core=core))
    yield Variant(change=lambda r: r.changed(core=core, divisor=rows))


SMOOTHING = (
    Bug(
        "smoothing-missing", CONVENTION, "a - y, without smoothing",
        "the label smoothing of {smoothing:g} is missing",
        "smooth the targets in the backward pass as in the loss, or leave --label-smoothing out",
        "smoothing", _unsmoothed,
    ),
    Bug(
        "smoothing-over-others", CONVENTION, "q = 1 - E at the label, the rest elsewhere",
        "the smoothing is spread as {spread}",
        "spread it as the loss does, or tell softgrad which form is meant",
        "smoothing", _smoothed_otherwise,
    ),
    Bug(
        "smoothing-applied", CONVENTION, "a - (1 - E) y - E/K",
        "the targets are smoothed by {smoothing:g} (over {over}), which softgrad was not told",
        "leave smoothing out, or tell softgrad about it",
        "smoothing", _smoothed_unasked,
    ),
    Bug(
        "smoothing-mass-wrong", DEFECT, "a - (1 - E) y - {each}",
        "the smoothing gives {each} to every class, not {right}",
        "the shares of the classes must sum to E, over the whole vocabulary",
        "smoothing", _wrong_mass,
    ),
    Bug(
        "smoothing-weighted-otherwise", DEFECT, "the smoothing term with other class weights",
        "the smoothing term {how}",
        "weight each class' share of the smoothing with its own class weight",
        "smoothing", _half_weighted,
    ),
)  # fmt: skip

WEIGHTS = (
    Bug(
        "weights-missing", DEFECT, "(a - y) g / divisor, without w_y",
        "the class weights are not applied",
        "multiply each row by the weight of its label, or leave --class-weights out",
        "weights", _unweighted,
    ),
    Bug(
        "weights-per-column", DEFECT, "w_j (a_j - y_j)",
        "the class weights multiply the columns, and not the rows by their label",
        "multiply the whole row by w[label]",
        "weights", _by_column,
    ),
)  # fmt: skip

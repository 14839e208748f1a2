"""C. Labels and ignored rows: the one-hot in the wrong place, or where there should be none."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gradcheck_cli.diagnosis.bug import DEFECT, Bug, Variant
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices


def read_off(recipe: Recipe) -> Indices:
    """Return the column from which most was taken away in each row, -1 where nothing was: (n,).

    The one-hot that a kernel subtracted shows in what it exported, whatever label it took.
    """
    s = (recipe.upstream / recipe.divisor)[:, None]
    plane, _ = recipe.untargeted().changed(counted=np.ones_like(recipe.counted)).gradient()
    with np.errstate(all="ignore"):
        taken = np.nan_to_num((plane - recipe.got) / (s * recipe.chain), nan=0.0, posinf=0.0, neginf=0.0)
    column = taken.argmax(axis=1)
    most: Floats = taken[recipe.places, column]
    return np.where(most > 0.1, column, -1)


def _hard(sample: Sample) -> bool:
    return not sample.situation.problem.soft


def _moved(sample: Sample) -> Iterable[Variant]:
    if not _hard(sample) or sample.situation.classes < 2:
        return
    for offset in (-1, 1):

        def change(recipe: Recipe, offset: int = offset) -> Recipe:
            classes = recipe.a.shape[1]
            return recipe.dealt(np.where(recipe.known, (recipe.labels + offset) % classes, recipe.labels))

        yield Variant(change=change, parameters={"offset": offset})


def _neighbours(sample: Sample) -> Iterable[Variant]:
    if not _hard(sample) or sample.situation.rows < 2:
        return
    for offset in (-1, 1):

        def change(recipe: Recipe, offset: int = offset) -> Recipe:
            beside = recipe.labels_beside(offset)
            outside = (beside < 0) | (beside >= recipe.a.shape[1])
            # The neighbour's label is not in the file where it is ignored: it is read off the row itself.
            return recipe.dealt(np.where(outside, read_off(recipe), beside) if outside.any() else beside)

        def with_mask(recipe: Recipe, offset: int = offset) -> Recipe:
            beside = recipe.labels_beside(offset)
            counted = beside != recipe.situation.problem.ignore_index
            inside = (recipe.numbers + offset >= 0) & (recipe.numbers + offset < recipe.situation.rows)
            counted = np.where(inside, counted, (recipe.got != 0.0).any(axis=1))
            labels = beside if inside.all() else np.where(inside, beside, read_off(recipe))
            return recipe.dealt(labels, counted=counted)

        told = {"offset": offset, "which": "next" if offset > 0 else "previous"}
        yield Variant(change=change, parameters=told)
        if sample.situation.problem.ignored_rows:
            yield Variant(change=with_mask, parameters=told)


def _misread(sample: Sample) -> Iterable[Variant]:
    if _hard(sample) and sample.situation.classes > 2:
        yield Variant(change=lambda r: r.dealt(np.where(r.known & r.counted, read_off(r), r.labels)))


def _no_onehot(_: Sample) -> Iterable[Variant]:
    yield Variant(change=Recipe.untargeted)


def _sum_taken_as_one(sample: Sample) -> Iterable[Variant]:
    if sample.situation.problem.soft:
        yield Variant(change=lambda r: r.changed(mass=np.ones_like(r.mass)))


def _class_ignored(sample: Sample) -> Iterable[Variant]:
    """Yield the class whose rows are all exported as zeros; a single one may as well be any row."""
    if not _hard(sample):
        return
    silent: list[int] = []
    spoken: set[int] = set()
    for view in sample.views:
        zero = ~view.got.any(axis=1)
        wrong = view.failing.any(axis=1)
        silent += view.recipe.labels[zero & wrong].tolist()
        spoken |= set(view.recipe.labels[~zero & view.counted].tolist())
    if len(set(silent)) == 1 and spoken and not set(silent) & spoken:
        label = silent[0]
        yield Variant(
            change=lambda r: r.changed(counted=r.counted & (r.labels != label)),
            parameters={"label": label},
            flags=("--ignore-index", str(label)),
            general=len(silent) == 1,
        )


def _not_zeroed(sample: Sample) -> Iterable[Variant]:
    if not sample.situation.problem.ignored_rows:
        return

    def with_label(recipe: Recipe) -> Recipe:
        inside = recipe.known
        known = recipe.counted | inside
        labels = recipe.labels if known.all() else np.where(known, recipe.labels, read_off(recipe))
        return recipe.dealt(labels, counted=np.ones_like(recipe.counted))

    def without(recipe: Recipe) -> Recipe:
        return recipe.targeted(recipe.counted).changed(counted=np.ones_like(recipe.counted))

    yield Variant(change=without, parameters={"holds": "a, without a one-hot"})
    yield Variant(change=with_label, parameters={"holds": "a - y"})


def _leak(sample: Sample) -> Iterable[Variant]:
    smoothing = sample.situation.problem.loss.smoothing
    if not (sample.situation.problem.ignored_rows and smoothing):
        return

    def change(recipe: Recipe) -> Recipe:
        even = np.full_like(recipe.a, smoothing / recipe.a.shape[1])
        counted = recipe.counted
        return recipe.changed(
            q=np.where(counted[:, None], recipe.q, even),
            mass=np.where(counted, recipe.mass, smoothing),
            counted=np.ones_like(counted),
        )

    yield Variant(change=change, parameters={"smoothing": smoothing})


def _z_leak(sample: Sample) -> Iterable[Variant]:
    if sample.situation.problem.ignored_rows and sample.situation.problem.loss.z_loss:
        yield Variant(change=lambda r: r.changed(z_counted=np.ones_like(r.z_counted)))


LABELS = (
    Bug(
        "onehot-not-subtracted", DEFECT, "g Q a / divisor, without - q",
        "the target is not subtracted: the probabilities are there, scaled, and every row sums to more "
        "than 0",
        "subtract the target weight (1 at the label) before or after scaling",
        "labels", _no_onehot,
    ),
    Bug(
        "soft-target-sum-ignored", DEFECT, "g (a - q) / divisor",
        "the targets do not sum to 1, and the gradient takes it that they do",
        "multiply the probabilities by the sum of the targets of the row: the gradient is a sum(q) - q",
        "labels", _sum_taken_as_one,
    ),
    Bug(
        "label-off-by-one", DEFECT, "a - onehot(y + {offset})",
        "the 1 is subtracted at the class label {offset:+d}",
        "classes count from 0: check for 1-based labels or a class that was added in front",
        "labels", _moved,
    ),
    Bug(
        "label-shifted", DEFECT, "a_i - onehot(y of row i {offset:+d})",
        "each row has the label of the {which} row",
        "labels are shifted once too often, or not at all: align logits and labels",
        "labels", _neighbours,
    ),
    Bug(
        "class-ignored", DEFECT, "0 where y = {label}",
        "all rows with the label {label} are zero, as if that class were padding",
        "do not take class {label} for an ignored one, or name it as such",
        "counted", _class_ignored,
    ),
    Bug(
        "label-misread", DEFECT, "a_i - onehot(k_i), k_i != y_i in some rows",
        "in the failing rows the 1 is subtracted at another class than the label",
        "check how labels are loaded: their type (int32 read as int64), stride, and alignment with the rows",
        "labels", _misread, general=True,
    ),
)  # fmt: skip

IGNORED = (
    Bug(
        "ignored-rows-not-zeroed", DEFECT, "g (a - y) / divisor on ignored rows too",
        "ignored rows are not zeroed: they hold {holds}",
        "write zeros where the label is the ignored one",
        "ignored", _not_zeroed,
    ),
    Bug(
        "smoothing-leaks-into-ignored-rows", DEFECT, "e (a - 1/K) / divisor on ignored rows",
        "the smoothing of {smoothing:g} reaches the ignored rows",
        "zero the whole loss of an ignored row, its smoothing term too",
        "ignored", _leak,
    ),
    Bug(
        "zloss-on-ignored-rows", DEFECT, "zeta a on ignored rows",
        "the z-loss reaches the ignored rows",
        "zero the whole loss of an ignored row, its z-loss too",
        "ignored", _z_leak,
    ),
)  # fmt: skip

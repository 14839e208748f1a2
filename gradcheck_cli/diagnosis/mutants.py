"""The right gradient of the user's own data, with one bug of the catalogue planted in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from gradcheck_cli.diagnosis.bug import DEFECT, Bug, Suspect, Variant, nice
from gradcheck_cli.diagnosis.catalogue import EVERY
from gradcheck_cli.diagnosis.hypothesis import Hypothesis
from gradcheck_cli.diagnosis.numerics import rounded
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.diagnosis.view import Rows
from gradcheck_cli.numeric.precision import BFLOAT16, FLOAT16, Floats
from gradcheck_cli.numeric.softmax import Link
from gradcheck_cli.records import dataclass

Change = Callable[[Recipe], Recipe]

_TYPICAL = {"power": 16, "copies": 2, "parts": 4, "shards": 2, "offset": 1, "type": "float32"}
"""The parameters to plant, of bugs that come in many variants."""

_WHOLE = 1 << 24  # entries of a gradient that is held in memory to be transposed


@dataclass(frozen=True, eq=False)
class Mutant:
    """A bug to be planted."""

    code: str
    kind: str
    hypothesis: Hypothesis
    transposed: bool = False

    def rows(self, source: Rows, rows: range) -> tuple[Floats, Floats]:
        """Return some rows of the wrong gradient and of the right one: (n, K) each."""
        view = source.view(rows)
        with np.errstate(all="ignore"):
            return self.hypothesis.predict(view.recipe).plane, view.right


def mutants(sample: Sample) -> Iterator[Mutant]:
    """Yield every bug that can be planted in the data at all, each once."""
    done: set[str] = set()
    for bug in EVERY:
        variant = _planted(bug, sample)
        if variant is not None and bug.code not in done:
            done.add(bug.code)
            yield Mutant(bug.code, bug.kind, _hypothesis(bug, variant))
    yield Mutant("all-zero", DEFECT, _by(lambda r: r.then(_zeros)))
    norm = _norm(sample)
    if norm > 0.0:
        factor = nice(norm / 2.0, 1) / norm
        yield Mutant("clipped", DEFECT, _by(lambda r: r.then(partial(_times, factor=factor))))
    situation = sample.situation
    if situation.rows > 1 and situation.rows * situation.classes <= _WHOLE:
        yield Mutant("transposed", DEFECT, Hypothesis(), transposed=True)


def _hypothesis(bug: Bug, variant: Variant) -> Hypothesis:
    suspect = Suspect(bug, variant)
    if variant.value is not None:
        return Hypothesis(scale=suspect)
    return Hypothesis(row=suspect) if variant.factor is not None else Hypothesis((suspect,))


def _by(change: Change) -> Hypothesis:
    nameless = replace(EVERY[0], slot="")
    return Hypothesis((Suspect(nameless, Variant(change=change)),))


def _planted(bug: Bug, sample: Sample) -> Variant | None:
    """Return the variant to plant: one that is not read off a wrong gradient, for there is none."""
    own = _OWN.get(bug.code)
    if own is not None and bug.slot not in ("scale", "rows"):
        change = own(sample)
        return None if change is None else Variant(change=change)
    variants = [
        each for each in bug.variants(sample) if "size" in each.parameters or "most" not in each.parameters
    ]
    typical = [
        each for each in variants
        if all(each.parameters.get(name, value) == value for name, value in _TYPICAL.items())
    ]  # fmt: skip
    return next(iter([*typical, *variants]), None)


def _zeros(_: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:
    return np.zeros_like(plane), size


def _times(_: Recipe, plane: Floats, size: Floats, *, factor: float) -> tuple[Floats, Floats]:
    return plane * factor, size


def _norm(sample: Sample) -> float:
    """Return the norm of the right gradient of all rows."""
    squares, source = 0.0, sample.source
    step = len(source.grid.numbers)
    for start in range(0, sample.situation.rows, step):
        view = source.view(range(start, min(start + step, sample.situation.rows)))
        squares += float(np.einsum("ij,ij->", view.right, view.right))
    return float(np.sqrt(squares))


def _smoothing_applied(sample: Sample) -> Change | None:
    loss = sample.situation.problem.loss
    return None if loss.smoothing else lambda r: r.retold(smoothing=0.1)


def _temperature_applied(sample: Sample) -> Change | None:
    link = sample.situation.problem.loss.link
    return None if link.temperature != 1.0 else lambda r: r.relinked(Link(2.0, link.softcap))


def _in_part(sample: Sample) -> Change | None:
    change = _temperature_applied(sample)
    if change is None:
        return None

    def unchained(recipe: Recipe) -> Recipe:
        tempered = change(recipe)
        return tempered.changed(chain=tempered.chain * 2.0)

    return unchained


def _softcap_applied(sample: Sample) -> Change | None:
    link = sample.situation.problem.loss.link
    if link.softcap is not None or any(np.isneginf(view.recipe.logits).any() for view in sample.views):
        return None
    return lambda r: r.relinked(Link(link.temperature, 30.0))


def _zloss_applied(sample: Sample) -> Change | None:
    return None if sample.situation.problem.loss.z_loss else lambda r: r.retold(z_loss=1e-4)


def _tail(sample: Sample) -> Change | None:
    classes = sample.situation.classes
    first = classes - (classes % 128 or max(classes // 8, 1))
    if first < 1:
        first = classes - max(classes // 8, 1)

    def finish(_: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:
        return np.where(np.arange(plane.shape[1]) < first, plane, 0.0), size

    return None if first < 1 else lambda r: r.then(finish)


def _unwritten(sample: Sample) -> Change:
    """Return the change that leaves some rows unwritten, the first that counts among them."""
    first = sample.situation.problem.first_counted
    stop = first + max(sample.situation.rows // 16, 1)

    def change(recipe: Recipe) -> Recipe:
        written = (recipe.numbers < first) | (recipe.numbers >= stop)
        return recipe.changed(counted=recipe.counted & written, z_counted=recipe.z_counted * written)

    return change


def _misread(sample: Sample) -> Change | None:
    classes = sample.situation.classes
    if sample.situation.problem.soft or classes < 3:
        return None
    return lambda r: r.dealt(np.where(r.known, (r.labels * 7 + r.numbers * 5) % classes, r.labels))


def _shifted(sample: Sample) -> Change | None:
    if sample.situation.problem.soft or sample.situation.rows < 2:
        return None

    def change(recipe: Recipe) -> Recipe:
        above = recipe.labels_beside(-1)
        known = (above >= 0) & (above < recipe.a.shape[1])
        return recipe.dealt(np.where(known, above, recipe.labels))

    return change


def _class_ignored(sample: Sample) -> Change | None:
    situation = sample.situation
    if situation.problem.soft:
        return None
    first = situation.problem.first_counted
    label = int(situation.labels_of(range(first, first + 1))[0])
    return lambda r: r.changed(counted=r.counted & (r.labels != label))


def _not_zeroed(sample: Sample) -> Change | None:
    if not sample.situation.problem.ignored_rows:
        return None
    return lambda r: r.changed(q=np.where(r.counted[:, None], r.q, 0.0), counted=np.ones_like(r.counted))


def _rewritten(sample: Sample) -> Change | None:
    grid, loss = sample.situation.export.grid, sample.situation.problem.loss
    if not grid.half or loss.smoothing or sample.situation.problem.soft:
        return None

    def finish(recipe: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:
        pulled, _ = recipe.untargeted().changed(finish=None).gradient()
        twice = rounded(rounded(pulled, grid) - (pulled - plane), grid)
        return np.where(recipe.q > 0.0, twice, plane), size

    return lambda r: r.then(finish)


def _narrow(sample: Sample) -> Change | None:
    if sample.situation.export.grid.half:
        return None
    return lambda r: r.changed(a=rounded(r.a, BFLOAT16))


def _fused(sample: Sample) -> Change | None:
    if sample.situation.export.grid.half:
        return None
    return lambda r: r.changed(
        a=r.a * np.exp(r.lse - rounded(r.lse, sample.situation.export.compute))[:, None]
    )


def _flushed(sample: Sample) -> Change | None:
    def finish(_: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:
        return np.where(np.abs(plane) < FLOAT16.smallest_normal, 0.0, plane), size

    del sample
    return lambda r: r.then(finish)


def _filtered(sample: Sample) -> Change | None:
    limit = 1e-3 * max(float(np.abs(view.right).max()) for view in sample.views)

    def finish(_: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:
        return np.where(np.abs(plane) < limit, 0.0, plane), size

    return lambda r: r.then(finish)


def _clamped(sample: Sample) -> Change | None:
    if sample.situation.problem.soft:
        return None

    def change(recipe: Recipe) -> Recipe:
        own = recipe.a[recipe.places, np.where(recipe.known, recipe.labels, 0)]
        return recipe.changed(counted=recipe.counted & (own > 1e-7))

    return change


def _masked(sample: Sample) -> Change | None:
    if not any(np.isneginf(view.recipe.logits).any() for view in sample.views):
        return None

    def finish(recipe: Recipe, plane: Floats, size: Floats) -> tuple[Floats, Floats]:
        return np.where(np.isneginf(recipe.logits), np.nan, plane), size

    return lambda r: r.then(finish)


_OWN: dict[str, Callable[[Sample], Change | None]] = {
    "smoothing-applied": _smoothing_applied,
    "temperature-applied": _temperature_applied,
    "temperature-chain-missing": _in_part,
    "softcap-applied": _softcap_applied,
    "zloss-applied": _zloss_applied,
    "tail-columns": _tail,
    "stale-rows": _unwritten,
    "label-misread": _misread,
    "label-shifted": _shifted,
    "class-ignored": _class_ignored,
    "ignored-rows-not-zeroed": _not_zeroed,
    "low-precision-rmw": _rewritten,
    "low-precision": _narrow,
    "fused-lse": _fused,
    "underflow": _flushed,
    "small-entries-dropped": _filtered,
    "clamped-probability": _clamped,
    "masked-row": _masked,
}
"""How bugs are planted that the catalogue reads off a wrong gradient."""

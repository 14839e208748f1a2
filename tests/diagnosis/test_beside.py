"""Bugs of what is exported beside the gradient, each planted from a formula of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest

from gradcheck_cli.diagnosis.forward import OF_AT_PROBS, OF_LOGS, OF_LOSS_ROWS, OF_LOSSES, OF_PROBS
from gradcheck_cli.outcome import Outcome, Verdict
from tests.conftest import Examine
from tests.diagnosis import plants
from tests.diagnosis.plants import NONE, SMOOTH, TEMPERED, UP, WEIGHTS, Array, Data, softmax


@dataclass(frozen=True, eq=False)
class Beside:
    """A bug of one export, and the wrong export."""

    export: str
    code: str
    make: Callable[[Data], Array]
    settings: dict[str, Any] = field(default_factory=dict)
    exported: tuple[str, ...] = ()
    name: str = ""


def log(d: Data) -> Array:
    """Return the log-probabilities."""
    found: Array = d.z - d.lse
    return found


def of_labels(d: Data, plane: Array) -> Array:
    """Return the plane at the labels, negated, 0 in ignored rows."""
    found: Array = -(d.y * plane).sum(axis=1) * ~d.ignored
    return found


def of_class_0(d: Data) -> Array:
    """Return the losses with that of class 0 in ignored rows."""
    return np.where(d.ignored, -log(d)[:, 0], of_labels(d, log(d)))


def shards(d: Data) -> Array:
    """Return the softmax of each half of the classes."""
    return np.concatenate([softmax(each) for each in np.split(d.z, 2, axis=1)], axis=1)


def flushed(d: Data) -> Array:
    """Return log of a softmax that flushed what float32 has no normal number for."""
    a = softmax(40.0 * d.z)
    with np.errstate(divide="ignore"):
        return np.log(np.where(a < 2.0**-126, 0.0, a))


SOFTMAXES: dict[str, tuple[Callable[[Data], Array], dict[str, Any]]] = {
    "temperature-missing": (lambda d: d.a, TEMPERED),
    "temperature-applied": (lambda d: softmax(d.z / 2.0), {}),
    "softcap-missing": (lambda d: d.a, {"softcap": 8.0}),
    "softcap-applied": (lambda d: softmax(10.0 * np.tanh(d.z / 10.0)), {}),
    "softcap-after-temperature": (lambda d: softmax(8.0 * np.tanh(d.z / 20.0)), {"softcap": 8.0, **TEMPERED}),
    "wrong-axis": (lambda d: softmax(d.z, 0), {}),
    "sigmoid-for-softmax": (lambda d: 1.0 / (1.0 + np.exp(-d.z)), {}),
    "padded-lanes": (lambda d: np.exp(d.z) / (np.exp(d.z).sum(axis=1, keepdims=True) + 4.0), {}),
    "local-denominator": (shards, {}),
    "denominator-reduced-twice": (lambda d: d.a / 4.0, {}),
    "double-softmax": (lambda d: softmax(d.a), {}),
}
"""Other softmaxes, which show in probabilities, their logarithms, and whatever is made of them."""

READ_OFF = {"temperature-applied", "softcap-applied", "padded-lanes", "denominator-reduced-twice"}
"""Of these the entries outside the labels tell, which losses and dE/da do not show."""


def _log_of(make: Callable[[Data], Array], d: Data) -> Array:
    found: Array = np.log(make(d))
    return found


def _derived(make: Callable[[Data], Array], d: Data) -> Array:
    found: Array = -d.v * d.y / make(d) / d.n
    return found


def _loss_of(make: Callable[[Data], Array], d: Data) -> Array:
    return of_labels(d, np.log(make(d)))


PLANTS = (
    *(Beside("probs", code, make, settings) for code, (make, settings) in SOFTMAXES.items()),
    *(Beside("log-probs", code, partial(_log_of, make), told) for code, (make, told) in SOFTMAXES.items()),
    *(
        Beside("grad-probs", code, partial(_derived, make), told)
        for code, (make, told) in SOFTMAXES.items()
        if code not in READ_OFF
    ),
    *(
        Beside("loss", code, partial(_loss_of, make), told)
        for code, (make, told) in SOFTMAXES.items()
        if code not in READ_OFF - {"denominator-reduced-twice"}
    ),
    Beside("probs", "log-probs-exported", log),
    Beside("probs", "logits-exported", lambda d: d.z),
    Beside("probs", "not-normalised", lambda d: np.exp(d.z - d.z.max(axis=1, keepdims=True))),
    Beside("probs", "onehot-subtracted", lambda d: d.a - d.y * d.v),
    Beside("probs", "onehot-subtracted", lambda d: (d.a - d.y) * d.v, name="overwritten"),
    Beside("probs", "loss-scale-not-removed", lambda d: d.a * 2.0**12),
    Beside("probs", "transposed", lambda d: d.a.T.reshape(d.z.shape)),
    Beside("probs", "all-zero", lambda d: np.zeros_like(d.a)),
    Beside("probs", "tail-columns", lambda d: np.where(np.arange(d.z.shape[1]) < d.z.shape[1] - 3, d.a, 0.0)),
    Beside("probs", "stale-rows", lambda d: np.where(np.arange(len(d.z))[:, None] < len(d.z) - 3, d.a, 0.0)),
    Beside("log-probs", "probs-exported", lambda d: d.a),
    Beside("log-probs", "logits-exported", lambda d: d.z),
    Beside("log-probs", "not-normalised", lambda d: d.z - d.z.max(axis=1, keepdims=True)),
    Beside("log-probs", "log-base-two", lambda d: log(d) / np.log(2.0)),
    Beside("log-probs", "log-base-ten", lambda d: log(d) / np.log(10.0)),
    Beside("log-probs", "sign-flipped", lambda d: -log(d)),
    Beside("log-probs", "log-of-flushed-probs", flushed, {"temperature": 0.025}),
    Beside("grad-probs", "sign-flipped", lambda d: d.v * d.y / d.a / d.n),
    Beside("grad-probs", "sum-for-mean", lambda d: -d.v * d.y / d.a),
    Beside("grad-probs", "log-probs-gradient", lambda d: -d.v * d.y / d.n),
    Beside("grad-probs", "logits-gradient", lambda d: d.right),
    Beside("grad-probs", "onehot-missing", lambda d: -d.v / d.a / d.n),
    Beside("grad-probs", "ignored-rows-not-zeroed", lambda d: -d.y / d.a / d.n),
    Beside("grad-probs", "label-off-by-one", lambda d: -d.v * np.roll(d.y, 1, axis=1) / d.a / d.n),
    Beside("grad-probs", "smoothing-missing", lambda d: -d.v * d.y / d.a / d.n, SMOOTH),
    Beside("grad-probs", "weights-missing", lambda d: -d.v * d.y / d.a / d.n, {}, WEIGHTS),
    Beside("grad-probs", "upstream-ignored", lambda d: -d.v * d.y / d.a, NONE, UP),
    Beside("loss", "log-base-two", lambda d: of_labels(d, log(d)) / np.log(2.0)),
    Beside("loss", "sign-flipped", lambda d: -of_labels(d, log(d))),
    Beside("loss", "row-losses-divided", lambda d: of_labels(d, log(d)) / d.n),
    Beside("loss", "upstream-applied", lambda d: of_labels(d, log(d)) * d.upstream, NONE, UP),
    Beside("loss", "log-missing", lambda d: of_labels(d, d.a)),
    Beside("loss", "log-missing", lambda d: of_labels(d, d.a - 1.0), name="1 - p"),
    Beside("loss", "label-logit-missing", lambda d: d.lse[:, 0] * ~d.ignored),
    Beside("loss", "not-normalised", lambda d: of_labels(d, d.z)),
    Beside("loss", "ignored-rows-not-zeroed", of_class_0),
    Beside("loss", "label-off-by-one", lambda d: (-np.roll(d.y, 1, 1) * log(d)).sum(axis=1) * ~d.ignored),
    Beside("loss", "smoothing-missing", lambda d: of_labels(d, log(d)), SMOOTH),
    Beside("loss", "weights-missing", lambda d: of_labels(d, log(d)), {}, WEIGHTS),
    Beside("loss", "zloss-missing", lambda d: of_labels(d, log(d)), {"z_loss": 0.03}),
)  # fmt: skip


def judge(examine: Examine, d: Data, plant: Beside, kind: type[np.floating] = np.float32) -> Outcome:
    """Return the outcome of checking a planted bug."""
    more: dict[str, Array] = {}
    if "upstream" in plant.exported:
        more["upstream"] = d.upstream
    if "class_weights" in plant.exported:
        more["class_weights"] = d.weights
    with np.errstate(all="ignore"):
        wrong = plant.make(d).astype(kind)
    return examine(d.z, d.stored, plant.settings, **{plant.export.replace("-", "_"): wrong}, **more)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda each: f"{each.export}-{each.name or each.code}")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_planted_bug_gets_its_name(examine: Examine, plant: Beside, kind: type[np.floating]) -> None:
    outcome = judge(examine, plants.friendly(), plant, kind)
    assert outcome.verdict is Verdict.FAIL
    assert {each.code for each in outcome.diagnosis if each.tied_with is None} == {plant.code}
    assert {each.of for each in outcome.diagnosis} == {plant.export}
    assert {each.of for each in outcome.facts} <= {plant.export}


RIGHT: dict[str, Callable[[Data], Array]] = {
    "probs": lambda d: d.a,
    "log-probs": log,
    "grad-probs": lambda d: -d.v * d.y / d.a / d.n,
    "loss": lambda d: of_labels(d, log(d)),
}


def _one_more(right: Array, _: np.random.Generator) -> Array:
    wrong = right.copy()
    wrong.reshape(-1)[right.size // 2] += 0.1
    return wrong


def _rows_scaled(right: Array, rng: np.random.Generator) -> Array:
    by = rng.uniform(0.3, 3.0, len(right))
    found: Array = (right.T * by).T
    return found


DAMAGE: dict[str, Callable[[Array, np.random.Generator], Any]] = {
    "noise": lambda right, rng: right * (1.0 + 0.05 * rng.normal(size=right.shape)),
    "one entry": _one_more,
    "an odd factor": lambda right, _: right * 0.3071,
    "rows times noise": _rows_scaled,
    "an offset": lambda right, _: right + 0.0137,
    "another tensor": lambda right, rng: rng.normal(size=right.shape),
}


@pytest.mark.parametrize("data", [plants.friendly, plants.adversarial], ids=lambda each: each.__name__)
@pytest.mark.parametrize("export", RIGHT)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_without_a_formula_gets_no_name(
    examine: Examine, export: str, damage: str, data: Callable[[int], Data]
) -> None:
    d = data(7)
    wrong = DAMAGE[damage](RIGHT[export](d), np.random.default_rng(3)).astype(np.float32)
    outcome = examine(d.z, d.stored, {}, **{export.replace("-", "_"): wrong})
    assert outcome.verdict is Verdict.FAIL
    assert [each.code for each in outcome.diagnosis] == []


@pytest.mark.parametrize("export", RIGHT)
def test_what_is_right_gets_nothing(examine: Examine, export: str) -> None:
    d = plants.friendly()
    right = RIGHT[export](d).astype(np.float32)
    outcome = examine(d.z, d.stored, {}, **{export.replace("-", "_"): right})
    assert (outcome.verdict, outcome.diagnosis, outcome.facts) == (Verdict.PASS, (), ())


def test_every_entry_of_an_export_s_own_is_planted() -> None:
    planted = {(each.export, each.code) for each in PLANTS}
    own = {
        "probs": OF_PROBS,
        "log-probs": OF_LOGS,
        "grad-probs": OF_AT_PROBS,
        "loss": (*OF_LOSSES, *OF_LOSS_ROWS),
    }
    assert {(export, bug.code) for export, bugs in own.items() for bug in bugs} <= planted


def test_each_failed_export_has_a_diagnosis_of_its_own(examine: Examine) -> None:
    d = plants.friendly()
    outcome = examine(
        d.z, d.stored, {}, grad=(d.right * d.n).astype(np.float32), probs=log(d).astype(np.float32)
    )
    told = [(each.of, each.code) for each in outcome.diagnosis]
    assert told == [("grad", "sum-for-mean"), ("probs", "log-probs-exported")]


# ---- a stated loss ----------------------------------------------------------------------------------------


def mean(d: Data) -> float:
    """Return the mean loss."""
    return float(of_labels(d, log(d)).sum() / d.n)


def smoothed(d: Data) -> Array:
    """Return the rows' losses under smoothing by 0.1."""
    q = 0.9 * d.y + 0.1 / d.z.shape[1]
    losses: Array = -(q * log(d)).sum(axis=1) * ~d.ignored
    return losses


STATED: dict[str, tuple[Callable[[Data], float], dict[str, Any], tuple[str, ...]]] = {
    "sum-for-mean": (lambda d: mean(d) * d.n, {}, ("--reduction", "sum")),
    "mean-for-sum": (mean, {"reduction": "sum"}, ("--reduction", "mean")),
    "mean-over-all-rows": (lambda d: mean(d) * d.n / len(d.z), {}, ("--reduction", "full")),
    "averaged-twice": (lambda d: mean(d) / d.n, {}, ()),
    "sign-flipped": (lambda d: -mean(d), {}, ()),
    "log-base-two": (lambda d: mean(d) / float(np.log(2.0)), {}, ()),
    "label-off-by-one": (
        lambda d: float(-(np.roll(d.y, 1, axis=1) * log(d) * d.v).sum() / d.n), {}, (),
    ),
    "ignored-rows-not-zeroed": (
        lambda d: float(of_class_0(d).sum() / d.n), {}, (),
    ),
    "smoothing-missing": (mean, {"label_smoothing": 0.1}, ("--label-smoothing", "0")),
    "temperature-missing": (mean, TEMPERED, ("--temperature", "1")),
    "zloss-missing": (mean, {"z_loss": 0.03}, ("--z-loss", "0")),
    "double-softmax": (
        lambda d: float(of_labels(d, np.log(softmax(d.a))).sum() / d.n), {}, (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", STATED)
@pytest.mark.parametrize("digits", [6, 17])
def test_a_stated_loss_gets_the_name_of_its_bug(examine: Examine, code: str, digits: int) -> None:
    make, settings, flags = STATED[code]
    d = plants.friendly()
    outcome = examine(d.z, d.stored, settings, loss=float(f"{make(d):.{digits}g}"))
    assert outcome.verdict is Verdict.FAIL
    (told,) = outcome.diagnosis
    assert (told.code, told.flags, told.of) == (code, flags, "loss")
    assert outcome.facts[0].code == "one-factor"


@pytest.mark.parametrize("factor", [1.0137, 0.3071, 2.71, -3.3, 0.0])
def test_a_stated_loss_without_a_formula_gets_no_name(examine: Examine, factor: float) -> None:
    d = plants.friendly()
    outcome = examine(d.z, d.stored, {}, loss=mean(d) * factor)
    assert (outcome.verdict, outcome.diagnosis) == (Verdict.FAIL, ())


def test_a_loss_of_few_digits_is_too_vague_to_be_named(examine: Examine) -> None:
    d = plants.friendly()
    outcome = examine(d.z, d.stored, {}, loss=float(f"{mean(d) * d.n:.2g}"))
    assert (outcome.verdict, outcome.diagnosis) == (Verdict.FAIL, ())


def test_a_right_loss_under_weights_tells_what_was_left_out(examine: Examine) -> None:
    d = plants.friendly()
    outcome = examine(d.z, d.stored, {}, loss=mean(d), class_weights=d.weights)
    assert [each.code for each in outcome.diagnosis] == ["weights-missing"]

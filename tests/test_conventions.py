"""Every loss convention against the 50-digit oracle, which differentiates the loss formula itself.

For each convention the oracle's values, rounded to float64, must pass, and the same values with one
entry off by a few parts in 10^12 must fail: the bounds are tight as well as safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gradcheck_cli.outcome import Verdict
from tests import oracle
from tests.conftest import Examine, named

ROWS, CLASSES = 5, 6
WEIGHTS = np.array([0.5, 1.0, 2.0, 0.25, 1.5, 3.0])

HARD: dict[str, dict[str, Any]] = {
    "mean": {},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none"},
    "batch": {"reduction": "batch"},
    "full": {"reduction": "full"},
    "normalizer": {"normalizer": 37.5},
    "ignored-inside": {"ignore_index": 2},
    "smoothing": {"label_smoothing": 0.1},
    "smoothing-others": {"label_smoothing": 0.1, "smoothing_over": "others"},
    "weights": {"class_weights": WEIGHTS},
    "weights-sum": {"class_weights": WEIGHTS, "reduction": "sum"},
    "weights-smoothing": {"class_weights": WEIGHTS, "label_smoothing": 0.2},
    "weights-smoothing-others": {
        "class_weights": WEIGHTS,
        "label_smoothing": 0.2,
        "smoothing_over": "others",
    },
    "temperature": {"temperature": 2.5},
    "cold": {"temperature": 0.125},
    "softcap": {"softcap": 5.0},
    "softcap-small": {"softcap": 0.5},
    "softcap-temperature": {"softcap": 30.0, "temperature": 0.5},
    "z-loss": {"z_loss": 1e-2},
    "z-loss-weights": {"z_loss": 1e-2, "class_weights": WEIGHTS},
    "z-loss-softcap": {"z_loss": 0.3, "softcap": 4.0, "temperature": 0.7},
    "everything": {
        "z_loss": 1e-3,
        "softcap": 10.0,
        "temperature": 1.5,
        "label_smoothing": 0.1,
        "class_weights": WEIGHTS,
        "reduction": "full",
    },
}
SOFT = {
    name: HARD[name]
    for name in (
        "mean",
        "sum",
        "none",
        "smoothing",
        "weights",
        "weights-smoothing",
        "temperature",
        "softcap",
        "z-loss",
    )
}


def _logits(seed: int, scale: float) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(ROWS, CLASSES)) * scale
    logits[1, 3] += 40.0  # a confident row
    return logits


def _labels(seed: int) -> np.ndarray[Any, Any]:
    labels = np.random.default_rng(seed).integers(0, CLASSES, ROWS)
    labels[1] = 3
    labels[2] = -100
    return labels


def _split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options for softgrad: settings, and tensors."""
    settings = {key: value for key, value in options.items() if key != "class_weights"}
    return settings, {"class_weights": options["class_weights"]} if "class_weights" in options else {}


def _targets(options: Mapping[str, Any], labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.where(labels == -100, options["ignore_index"], labels) if "ignore_index" in options else labels


def _judge(
    examine: Examine,
    logits: np.ndarray[Any, Any],
    targets: np.ndarray[Any, Any],
    options: Mapping[str, Any],
    upstream: Any,
) -> None:
    convention = oracle.Convention(**options)
    truth = oracle.as_float64(oracle.gradient(logits, targets, convention, upstream))
    settings, tensors = _split(options)
    right = examine(logits, targets, settings, grad=truth, upstream=upstream, **tensors)
    assert right.verdict is Verdict.PASS, right.checks
    assert named(right, "grad").max_margin <= 1.0
    wrong = truth.copy()
    place = np.unravel_index(np.abs(truth).argmax(), truth.shape)
    wrong[place] *= 1 + 3e-12
    assert examine(logits, targets, settings, grad=wrong, upstream=upstream, **tensors).exit_code == 1


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_gradient_of_class_labels(examine: Examine, name: str, scale: float) -> None:
    options = HARD[name]
    _judge(examine, _logits(1, scale), _targets(options, _labels(2)), options, 1.0)


@pytest.mark.parametrize("name", ["mean", "none", "weights", "smoothing", "z-loss-softcap"])
def test_gradient_with_an_upstream_for_each_row(examine: Examine, name: str) -> None:
    options = HARD[name]
    upstream = np.array([0.5, -2.0, 3.0, 0.0, 1e3])
    _judge(examine, _logits(3, 2.0), _targets(options, _labels(4)), options, upstream)


@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("total", [1.0, 0.7])
def test_gradient_of_distributions(examine: Examine, name: str, total: float) -> None:
    rng = np.random.default_rng(5)
    targets = rng.dirichlet(np.ones(CLASSES), size=ROWS) * total
    _judge(examine, _logits(6, 3.0), targets, SOFT[name], 1.0)


def test_one_hot_distributions_are_the_labels(examine: Examine) -> None:
    logits, labels = _logits(1, 5.0), np.array([0, 3, 1, 5, 2])
    truth = oracle.as_float64(oracle.gradient(logits, labels, oracle.Convention()))
    outcome = examine(logits, np.eye(CLASSES)[labels], grad=truth)
    assert outcome.verdict is Verdict.PASS
    assert outcome.data.targets == "distributions"


@pytest.mark.parametrize("name", ["mean", "smoothing", "z-loss"])
def test_masked_classes_have_gradient_zero(examine: Examine, name: str) -> None:
    logits = _logits(7, 2.0)
    labels = np.array([0, 3, 1, 5, 2])
    options = HARD[name]
    if name == "smoothing":  # smoothing puts weight on every class, so none may be masked
        logits[0, 4] = -1e5
    else:
        logits[0, 4] = logits[2, 5] = -np.inf
    truth = oracle.as_float64(oracle.gradient(logits, labels, oracle.Convention(**options)))
    assert examine(logits, labels, _split(options)[0], grad=truth).verdict is Verdict.PASS
    truth[0, 4] = 1e-6
    assert examine(logits, labels, _split(options)[0], grad=truth).exit_code == 1


@pytest.mark.parametrize("name", HARD)
def test_loss_probabilities_and_their_gradient(examine: Examine, name: str) -> None:
    logits, options = _logits(8, 2.0), HARD[name]
    targets = _targets(options, _labels(9))
    convention = oracle.Convention(**options)
    exported = {
        "probs": oracle.as_float64(oracle.probabilities(logits, convention)),
        "log_probs": oracle.as_float64(oracle.log_probabilities(logits, convention)),
    }
    if name == "none":
        exported["loss"] = oracle.as_float64(oracle.row_losses(logits, targets, convention))
    else:
        exported["loss"] = np.array(float(oracle.loss(logits, targets, convention)))
    if not options.get("z_loss"):
        at_probabilities = oracle.gradient_at_probabilities(logits, targets, convention)
        exported["grad_probs"] = oracle.as_float64(at_probabilities)
    settings, tensors = _split(options)
    right = examine(logits, targets, settings, **exported, **tensors)
    assert right.verdict is Verdict.PASS, [(c.name, c.max_margin) for c in right.checks]
    for role, value in exported.items():
        wrong = value.copy()
        wrong.flat[np.abs(value).argmax()] *= 1 + 3e-12
        outcome = examine(logits, targets, settings, **(exported | {role: wrong}), **tensors)
        assert named(outcome, role.replace("_", "-")).verdict is Verdict.FAIL, role
        assert outcome.exit_code == 1


def test_confident_label_keeps_its_relative_accuracy(examine: Examine) -> None:
    """A label with 1 - p = 4e-18: its gradient is the sum of the others, where p - 1 would be 0."""
    logits = np.array([[40.0, 0.0, -1.0], [0.0, 1.0, 2.0]])
    labels = np.array([0, 2])
    truth = oracle.as_float64(oracle.gradient(logits, labels, oracle.Convention()))
    assert truth[0, 0] != 0.0
    told = truth.copy()
    told[0, 0] *= 1 + 1e-9
    outcome = examine(logits, labels, {"top": 6}, grad=told)
    expected = {entry.index: entry.expected for entry in named(outcome, "grad").worst}
    assert expected[0, 0] == pytest.approx(truth[0, 0], rel=1e-13)


def test_a_light_label_far_below_the_others_keeps_its_gradient(examine: Examine) -> None:
    """1 - a over the others cancels where a is small: an early form was 1 % off here."""
    logits, labels = np.array([[-30.0, 0.0, 1.0, 2.0]]), np.array([0])
    options: dict[str, Any] = {
        "class_weights": np.array([0.0, 1.0, 1.0, 1.0]),
        "label_smoothing": 0.1,
        "reduction": "sum",
    }
    _judge(examine, logits, labels, options, 1.0)
    truth = oracle.as_float64(oracle.gradient(logits, labels, oracle.Convention(**options)))
    told = truth.copy()
    told[0, 0] *= 1 + 1e-6
    settings, tensors = _split(options)
    worst = named(examine(logits, labels, settings, grad=told, **tensors), "grad").worst
    expected = {entry.index: entry.expected for entry in worst}
    assert expected[0, 0] == pytest.approx(truth[0, 0], rel=1e-12)


def test_flat_distributions_pass_their_own_checks(examine: Examine) -> None:
    """The pivot of distributions is the likeliest class, which may hold next to nothing."""
    rng = np.random.default_rng(12)
    logits = rng.normal(size=(20, 829)) * 0.2
    targets = rng.dirichlet(np.ones(829), size=20)
    settings = {"temperature": 3.45}
    convention = oracle.Convention(temperature=3.45)
    truth = oracle.as_float64(oracle.gradient(logits[:2], targets[:2], convention))
    assert examine(logits[:2], targets[:2], settings, grad=truth).verdict is Verdict.PASS
    for more in ({}, {"softcap": 0.3}, {"softcap": 0.3, "z_loss": 0.01}):
        assert examine(logits, targets, settings | more).verdict is Verdict.PASS


def test_a_fused_lse_under_z_loss_passes(examine: Examine) -> None:
    """exp(v - lse) with lse rounded to float32 at an offset of 1000, as logsumexp's backward has it."""
    rng = np.random.default_rng(13)
    logits = (1000 + rng.normal(size=(4, 5))).astype(np.float32)
    labels = np.array([0, 1, 2, 3])
    top = logits.max(axis=1, keepdims=True)
    total = np.exp(logits - top).sum(axis=1, keepdims=True)
    lse = top + np.log(total)
    z_part = np.float32(2e-3) * lse * np.exp(logits - lse)
    grad = np.exp(logits - top) / total - np.eye(5, dtype=np.float32)[labels] + z_part
    settings = {"reduction": "sum", "z_loss": 1e-3}
    assert examine(logits, labels, settings, grad=grad.astype(np.float32)).verdict is Verdict.PASS

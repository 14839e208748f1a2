"""The audit of dE/dW: a few weights moved, and the loss worked out again from inputs and weights."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

from gradcheck_cli import grid
from gradcheck_cli.dense import audit, weights
from gradcheck_cli.dense import rows as dense_rows
from gradcheck_cli.dense.rows import Stretch
from gradcheck_cli.outcome import Verdict
from tests.conftest import Examine, named

Array = np.ndarray[Any, Any]


def _layer(rows: int = 30, features: int = 4, classes: int = 6, scale: float = 1.0) -> dict[str, Array]:
    rng = np.random.default_rng(17)
    labels = rng.integers(0, classes, rows)
    labels[3::7] = -100
    return {
        "x": scale * rng.normal(size=(rows, features)),
        "labels": labels,
        "weight": rng.normal(size=(features, classes)),
        "bias": rng.normal(size=classes),
    }


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reduction": "sum", "label_smoothing": 0.2},
        {"temperature": 0.05},
        {"temperature": 40.0},
        {"softcap": 2.0, "temperature": 0.5},
        {"softcap": 30.0, "z_loss": 0.3},
        {"z_loss": 0.5, "temperature": 3.0, "reduction": "full"},
    ],
)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(4))
def test_it_stays_within_its_bound(
    examine_linear: Examine, settings: dict[str, Any], scale: float, seed: int
) -> None:
    layer = _layer(scale=scale)
    outcome = examine_linear(layer.pop("x"), layer.pop("labels"), settings | {"seed": seed}, **layer)
    check = named(outcome, "weight-audit")
    assert (check.verdict, check.entries, check.exported) == (Verdict.PASS, 8, False)
    assert check.coverage == f"seeded sample, by brute force (seed {seed})"


def _off(module: Any, name: str, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: change(right(*given)))


def _shifted(rows: Stretch) -> Stretch:
    rows.x[...] = np.roll(rows.x, 1, axis=0)
    return rows


def _scaled(rows: Stretch) -> Stretch:
    rows.g[...] += 1e-7 * rows.at.coefficient[:, None] * rows.planes.a
    rows.planes.a[...] *= 1 + 1e-7
    return rows


@pytest.mark.parametrize("fault", [_shifted, _scaled])
def test_it_finds_what_every_difference_shares(
    examine_linear: Examine, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    """Inputs of other rows, or a softmax that is off, make gradient and differences wrong alike."""
    layer = _layer()
    _off(dense_rows, "stretch", monkeypatch, fault)
    outcome = examine_linear(layer.pop("x"), layer.pop("labels"), None, **layer)
    assert named(outcome, "weight-difference").verdict is Verdict.PASS
    assert named(outcome, "weight-audit").verdict is Verdict.FAIL
    assert outcome.exit_code == 2


@pytest.mark.parametrize("part", [0, 1, 2, 3])
def test_a_wrong_term_of_the_difference_is_found(
    examine_linear: Examine, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    layer, calls = _layer(), itertools.count()

    def wrong(losses: Array) -> Array:
        return losses * (1 + 1e-6) if next(calls) % 4 == part else losses

    _off(audit, "_losses", monkeypatch, wrong)
    outcome = examine_linear(layer.pop("x"), layer.pop("labels"), None, **layer)
    assert named(outcome, "weight-audit").verdict is Verdict.FAIL


@pytest.mark.parametrize("kept", [1 << 25, 0])
def test_many_rows_are_audited_by_some_of_them(
    examine_linear: Examine, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    layer = _layer(rows=208)
    monkeypatch.setattr(dense_rows, "_KEPT", kept)
    monkeypatch.setattr(grid, "TILE_ENTRIES", 30)  # tiles of 5 rows
    monkeypatch.setattr(grid, "TILES", 4)
    monkeypatch.setattr(audit, "_MOVED_LOGITS", 4 * 6 * 20 * 3)
    x, labels = layer.pop("x"), layer.pop("labels")
    covered = set()
    for seed in range(12):
        check = named(examine_linear(x, labels, {"seed": seed}, **layer), "weight-audit")
        assert (check.verdict, check.entries) == (Verdict.PASS, 1)
        told = re.fullmatch(
            rf"seeded sample, by brute force \(the loss of (\d+) of 208 rows, seed {seed}\)", check.coverage
        )
        assert told is not None
        covered.add(int(told[1]))
    assert covered == {48, 60}  # the last block is cut short
    _off(dense_rows, "stretch", monkeypatch, _shifted)
    assert named(examine_linear(x, labels, None, **layer), "weight-audit").verdict is Verdict.FAIL


def test_masked_classes_and_idle_inputs(examine_linear: Examine) -> None:
    layer = _layer()
    layer["bias"][2] = -np.inf
    layer["x"][:, 1] = 0.0
    labels = np.where(layer.pop("labels") == 2, 0, 1)
    x = layer.pop("x")
    for seed in range(6):
        outcome = examine_linear(x, labels, {"seed": seed}, **layer)
        check = named(outcome, "weight-audit")
        assert check.verdict is Verdict.PASS
        assert not any(each.index[1] == 2 for each in check.worst)


def test_distributions_as_targets(examine_linear: Examine) -> None:
    layer = _layer()
    y = np.random.default_rng(2).dirichlet(np.ones(6), size=30)
    del layer["labels"]
    assert named(examine_linear(layer.pop("x"), y, None, **layer), "weight-audit").verdict is Verdict.PASS


def test_a_sample_of_inputs_is_audited_as_well(
    examine_linear: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = _layer(features=20)
    monkeypatch.setattr(weights, "WORK", 30 * 6 * 3)
    outcome = examine_linear(layer.pop("x"), layer.pop("labels"), None, **layer)
    assert named(outcome, "weight-audit").verdict is Verdict.PASS
    assert "directions" in [each.name for each in outcome.checks]

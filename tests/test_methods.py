"""--method and --step on whole checks: right data passes by each, a wrong formula is found by each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcheck_cli import engine, grid
from gradcheck_cli.errors import UsageError
from gradcheck_cli.numeric import cross_entropy, hessian
from gradcheck_cli.outcome import Verdict
from gradcheck_cli.settings import METHODS, Settings
from tests.conftest import Examine, named

LOSSES: list[dict[str, Any]] = [
    {},
    {"softcap": 4.0, "temperature": 0.5},
    {"z_loss": 0.1, "label_smoothing": 0.1},
]


def _data() -> tuple[Any, Any]:
    rng = np.random.default_rng(14)
    logits, labels = 3 * rng.normal(size=(40, 9)), rng.integers(0, 9, 40)
    labels[::6] = -100
    logits[3, labels[3]] += 30
    return logits, labels


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("step", ["auto", "0.125", "1e-3", "1e-12"])
@pytest.mark.parametrize("method", METHODS)
def test_right_data_passes(examine: Examine, method: str, step: str, loss: dict[str, Any]) -> None:
    outcome = examine(*_data(), loss | {"method": method, "step": step})
    assert outcome.verdict is Verdict.PASS, [(c.name, c.max_margin) for c in outcome.checks]
    entries = named(outcome, "difference").entries
    assert entries == (40 * 8 if method == "directional" else 40 * 9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_formula_is_found(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, method: str, loss: dict[str, Any]
) -> None:
    if method == "central" and not loss:
        pytest.skip("a plain problem is looked at over a; tests of the glance have faults of its own")
    right = cross_entropy.gradient

    def broken(*args: Any) -> Any:
        out = right(*args)
        out *= 1 + 1e-9
        return out

    monkeypatch.setattr(cross_entropy, "gradient", broken)
    outcome = examine(*_data(), loss | {"method": method})
    assert outcome.exit_code == 2
    assert named(outcome, "difference").verdict is Verdict.FAIL


def test_directional_says_what_it_covers_and_what_it_cannot_see(examine: Examine) -> None:
    check = named(examine(*_data(), {"method": "directional", "seed": 5}), "difference")
    assert check.coverage == (
        "8 random directions of every row (seed 5), no single entries: "
        "an error that cancels along all of them is not seen"
    )
    assert "along a direction" in check.tolerance


@pytest.mark.parametrize("method", METHODS)
def test_block_size_and_threads_change_nothing(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    usual = examine(*_data(), {"method": method, "step": "0.01", "threads": 1})
    monkeypatch.setattr(grid, "TILE_ENTRIES", 50)
    monkeypatch.setattr(engine, "_WORTH_A_PROCESS", 1)
    again = examine(*_data(), {"method": method, "step": "0.01", "threads": 3})
    assert (again.checks, again.verdict) == (usual.checks, usual.verdict)


@pytest.mark.parametrize(
    "loss",
    [
        {},
        {"temperature": 0.5},
        {"z_loss": 0.1, "label_smoothing": 0.1},
        {"softcap": 2.0},
        {"softcap": 30.0, "temperature": 0.1, "z_loss": 0.1, "label_smoothing": 0.1},
        {"softcap": 0.01},
    ],
)
def test_the_second_order_passes(examine: Examine, loss: dict[str, Any]) -> None:
    outcome = examine(*_data(), loss | {"order": 2})
    assert outcome.verdict is Verdict.PASS, [(c.name, c.max_margin) for c in outcome.checks]
    assert named(outcome, "hessian").entries == 2 * 40 * 9
    assert [each.name for each in examine(*_data(), loss).checks].count("hessian") == 0


def test_the_second_order_judges_exports_as_the_first_does(examine: Examine) -> None:
    logits, labels = _data()
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    counted = (labels >= 0)[:, None]
    grad = (e / e.sum(axis=1, keepdims=True) - np.eye(9)[labels % 9]) * counted / counted.sum()
    for exported in (grad.astype(np.float32), 1.01 * grad):
        first, second = (examine(logits, labels, {"order": order}, grad=exported) for order in (1, 2))
        assert first.exit_code == second.exit_code
        assert named(first, "grad").max_margin == pytest.approx(named(second, "grad").max_margin, rel=1e-6)


@pytest.mark.parametrize("loss", [{}, {"softcap": 3.0}])
def test_a_wrong_hessian_is_found(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, loss: dict[str, Any]
) -> None:
    right = hessian.times
    monkeypatch.setattr(hessian, "times", lambda *args: right(*args) * (1 + 1e-9))
    outcome = examine(*_data(), loss | {"order": 2})
    assert outcome.exit_code == 2
    assert named(outcome, "hessian").verdict is Verdict.FAIL


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_masked_or_saturated_classes_have_second_derivatives(examine: Examine, softcap: float | None) -> None:
    logits, labels = _data()
    logits[:, 3], logits[4] = -np.inf if softcap is None else -1e9, 1e6 * logits[4]
    outcome = examine(logits, np.where(labels == 3, 2, labels), {"order": 2, "softcap": softcap})
    assert outcome.verdict is Verdict.PASS, [(c.name, c.max_margin) for c in outcome.checks]
    assert np.isfinite(named(outcome, "hessian").max_abs_error)


def test_there_is_no_third_order() -> None:
    with pytest.raises(UsageError, match="--order 3: must be less than 3"):
        Settings(order=3)

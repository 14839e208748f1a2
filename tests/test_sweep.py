"""The error of finite differences against their step: the V, the flat lines, and every error in its bound."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcheck_cli import curves
from gradcheck_cli.choices import SweepSettings
from gradcheck_cli.curves import NAMES, STEPS
from gradcheck_cli.numeric import stencil
from gradcheck_cli.outcome import Curve, Outcome, Verdict
from gradcheck_cli.report.curves import picture
from gradcheck_cli.report.table import render
from gradcheck_cli.sweep import sweep
from gradcheck_cli.tensors import open_tensor
from tests.conftest import named

Examine = Callable[..., Outcome]
LOSSES: list[dict[str, Any]] = [
    {}, {"temperature": 0.3}, {"softcap": 4.0, "temperature": 0.5}, {"z_loss": 0.1, "label_smoothing": 0.1}
]  # fmt: skip


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """Return what sweeps arrays as if they came from files."""

    def run(logits: Any, labels: Any, settings: dict[str, Any] | None = None) -> Outcome:
        with contextlib.ExitStack() as opened:
            tensors = {}
            for role, array in {"logits": logits, "labels": labels}.items():
                path = str(tmp_path / f"{role}.npy")
                np.save(path, array)
                tensors[role] = opened.enter_context(open_tensor(path, role=role))
            return sweep(tensors, SweepSettings(**(settings or {})))

    return run


@pytest.fixture(autouse=True)
def _few_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample fewer entries than a user gets."""
    monkeypatch.setattr(curves, "_ENTRIES", 40)


def _data(scale: float = 2.0) -> tuple[Any, Any]:
    rng = np.random.default_rng(15)
    logits, labels = scale * rng.normal(size=(30, 11)), rng.integers(0, 11, 30)
    labels[::6] = -100
    logits[4, labels[4]] += 30
    return logits, labels


def _curve(outcome: Outcome, name: str) -> Curve:
    (found,) = [each for each in outcome.curves if each.name == name]
    return found


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", [0.1, 2.0, 30.0])
def test_every_error_is_inside_its_bound(examine: Examine, scale: float, loss: dict[str, Any]) -> None:
    outcome = examine(*_data(scale), loss)
    assert outcome.verdict is Verdict.PASS, [(c.name, c.max_margin) for c in outcome.checks]
    assert [each.name for each in outcome.checks] == list(NAMES)
    for curve in outcome.curves:
        assert curve.steps == STEPS
        assert all(error <= bound for error, bound in zip(curve.max_error, curve.bound, strict=True))


def test_logits_far_from_zero_move_the_v_up_and_nothing_else(examine: Examine) -> None:
    logits, labels = _data()
    logits = np.round(logits * 64) / 64
    near, far = examine(logits, labels), examine(logits + 1e6, labels)
    assert far.verdict is Verdict.PASS
    for name in NAMES:
        here, there = (min(_curve(each, name).max_error) for each in (near, far))
        assert there > 30 * here if name.startswith("whole-row") else there < 1e-14


def test_whole_rows_make_a_v_and_closed_forms_do_not(examine: Examine) -> None:
    outcome = examine(*_data())
    for name, order in (("whole-row-central", 2), ("whole-row-forward", 1)):
        curve = _curve(outcome, name)
        right, left = curve.max_error[0] / curve.max_error[2], curve.max_error[-1] / curve.max_error[-9]
        assert right == pytest.approx(10.0**order, rel=0.2)  # a decade of truncation
        assert left > 1e3  # four decades of cancellation
        assert 0 < curve.best < len(STEPS) - 1
        assert curve.plateau[0] <= curve.best <= curve.plateau[1]
    for name in ("central", "complex", "richardson", "directional"):
        curve = _curve(outcome, name)
        assert max(curve.max_error[-10:]) < 1e-14
        assert curve.plateau[1] == len(STEPS) - 1
    assert _curve(outcome, "whole-row-central").max_error[_curve(outcome, "whole-row-central").best] > 1e-13


@pytest.mark.parametrize("broken", ["whole_row", "change", "along"])
def test_a_method_outside_its_bound_is_inconclusive(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    right = getattr(stencil, broken)

    def wrong(*args: Any) -> Any:
        found = right(*args)
        return found * 1.01 if isinstance(found, float) else lambda tau: found(tau) * 1.01

    monkeypatch.setattr(stencil, broken, wrong)
    outcome = examine(*_data())
    assert outcome.exit_code == 2
    off = {each.name for each in outcome.checks if each.verdict is Verdict.FAIL}
    assert (
        off
        == {
            "whole_row": {"whole-row-forward", "whole-row-central"},
            "change": {"forward-difference", "central", "complex", "richardson"},
            "along": {"directional"},
        }[broken]
    )


def test_the_sample_is_seeded(examine: Examine) -> None:
    logits, labels = _data()
    logits = np.repeat(logits, 20, axis=0)
    once, again, other = (examine(logits, np.repeat(labels, 20), {"seed": n}) for n in (1, 1, 2))
    assert [each.max_error for each in once.curves] == [each.max_error for each in again.curves]
    assert [each.max_error for each in once.curves] != [each.max_error for each in other.curves]
    assert "(seed 1)" in named(once, "central").coverage


def test_the_plot_shows_the_v(examine: Examine) -> None:
    """The bottom of the V is marked, and its two arms climb away from it on both sides."""
    lines = render(examine(*_data())).plain.splitlines()
    start = lines.index("largest error against step")
    plot = [
        line.partition("|")[2]
        for line in lines[start + 1 :][: [each.strip()[:1] for each in lines[start + 1 :]].index("+")]
    ]
    places = [(y, x) for y, line in enumerate(plot) for x, mark in enumerate(line) if mark == "o"]
    best = max((y, line.index("*")) for y, line in enumerate(plot) if "*" in line)
    left = [y for y, x in places if x < best[1]]
    right = [y for y, x in places if x > best[1]]
    assert min(left) < best[0] - 6
    assert min(right) < best[0] - 3


@pytest.mark.parametrize(("form", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_picture_is_drawn(examine: Examine, form: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    with np.errstate(all="ignore"):
        drawn = picture(examine(*_data()), form)
    assert drawn.startswith(magic)
    assert len(drawn) > 5000


@pytest.mark.parametrize("width", [50, 60, 80])
def test_a_narrow_terminal_has_the_whole_plot_and_no_bound_alone(examine: Examine, width: int) -> None:
    lines = render(examine(*_data()), width=width).plain.splitlines()
    assert max(map(len, lines)) <= width
    (heading,) = [line.split() for line in lines if line.split()[:1] == ["step"]]
    assert all(before in NAMES for before, each in pairwise(heading) if each == "predicted")
    assert sum(line.count("*") for line in lines if "|" in line) == 2  # the best of either difference

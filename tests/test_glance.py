"""A glance must find whatever comparing every entry in full would find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradcheck_cli import blocks, engine, walks
from gradcheck_cli.outcome import Check
from tests.conftest import Examine, named

Array = np.ndarray[Any, Any]


class Case:
    """A random plain problem with a right gradient, in which a few entries are then changed."""

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng([41, number])
        rows, classes = int(rng.integers(1, 90)), int(rng.choice([1, 2, 3, 10, 31, 33, 70]))
        self.z: Array = rng.normal(size=(rows, classes)) * rng.choice([0.01, 1.0, 10.0, 300.0])
        self.labels = rng.integers(0, classes, rows)
        if classes > 2 and rng.random() < 0.4:
            masked = rng.random(self.z.shape) < 0.2
            masked[np.arange(rows), self.labels] = False
            self.z[masked] = -np.inf
        if rows > 1 and rng.random() < 0.5:
            self.labels[1:][rng.random(rows - 1) < 0.3] = -100
        e = np.exp(self.z - self.z.max(axis=1, keepdims=True))
        self.probs: Array = e / e.sum(axis=1, keepdims=True)
        self.upstream = rng.normal(size=rows) * (rng.random(rows) < 0.8)
        counted = self.labels != -100
        y = np.eye(classes)[np.where(counted, self.labels, 0)]
        self.grad: Array = (self.probs - y) * (self.upstream * counted)[:, None]
        dtype = str(rng.choice(["float32", "float64"]))
        self.grad, self.probs = self.grad.astype(dtype), self.probs.astype(dtype)
        for _ in range(int(rng.integers(0, 4))):
            for plane in (self.grad, self.probs):
                at = int(rng.integers(0, rows)), int(rng.integers(0, classes))
                plane[at] = self._changed(plane[at], rng)

    @staticmethod
    def _changed(value: Any, rng: np.random.Generator) -> Any:
        ways = [value * (1 + 10.0 ** rng.uniform(-16, 0)), -value, np.nan, np.inf, value + 1e-12, 0.0]
        return ways[int(rng.integers(0, len(ways)))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(60))
def test_the_same_is_found_as_by_a_close_look(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with np.errstate(all="ignore"):
        case = Case(number)
    tensors = {"upstream": case.upstream, "grad": case.grad, "probs": case.probs}
    settings = {"reduction": "none", "threads": 1 + number % 3}
    monkeypatch.setattr(blocks, "TILE_ENTRIES", int(10 ** (number % 4)))
    monkeypatch.setattr(engine, "_WORTH_A_PROCESS", 1)
    glanced = examine(case.z, case.labels, settings, **tensors)
    monkeypatch.setattr(walks.Task, "plain", False)
    closely = examine(case.z, case.labels, settings, **tensors)
    for name in ("grad", "probs"):
        assert _plain(named(glanced, name)) == _plain(named(closely, name))
    assert {each.code for each in glanced.warnings} == {each.code for each in closely.warnings}
    assert named(glanced, "difference").verdict is named(closely, "difference").verdict


def _plain(check: Check) -> Check:
    """Return a check without NaN, which is equal to nothing."""
    worst = tuple(replace(each, got=float(np.nan_to_num(each.got, nan=7e77))) for each in check.worst)
    return replace(check, worst=worst)


def test_a_difference_that_is_off_in_one_entry_is_found(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradcheck_cli.numeric import difference  # noqa: PLC0415 - patched here

    right, seen = difference._log_ratio, []

    def broken(w: Array, move: Any, out: Array, inverse: Any = 1.0) -> None:
        right(w, move, out, inverse)
        seen.extend([w[17, 3], w[17, 3] * inverse[17, 0]] if w.shape == (60, 40) else [])
        out[np.isin(w, seen)] *= 1 + 1e-13

    monkeypatch.setattr(difference, "_log_ratio", broken)
    rng = np.random.default_rng(5)
    outcome = examine(rng.normal(size=(60, 40)), np.full(60, 39), {"seed": 1})
    found = named(outcome, "difference")
    assert (found.failing, found.worst[0].index) == (1, (17, 3))

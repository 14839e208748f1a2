"""Bugs of the loss that need a loss of their own to show, named from sums over the examples alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcheck_cli.outcome import Verdict
from tests.diagnosis.test_linear_bugs import Array, Case, case, codes, examined


def back(a: Array, t: Array) -> Array:
    found: Array = (t - (t * a).sum(axis=1, keepdims=True)) * a
    return found


def softmax(v: Array) -> Array:
    e = np.exp(v - v.max(axis=-1, keepdims=True))
    found: Array = e / e.sum(axis=-1, keepdims=True)
    return found


def planted(c: Case) -> dict[str, tuple[str, Array, dict[str, Any]]]:
    """Return bugs by name: their code, the gradient at the logits that they make, and the settings."""
    u, v = c.u[:, None], (c.y >= 0)[:, None]
    z, a, hot, classes = c.x @ c.w + c.b, c.a, c.hot, len(c.b)
    lse = z.max(axis=1, keepdims=True) - np.log(a.max(axis=1, keepdims=True))
    t = np.tanh(z / 2.0)
    shards = np.concatenate([softmax(z[:, : classes // 2]), softmax(z[:, classes // 2 :])], axis=1)
    right, smooth = v * (a - hot), v * (a - 0.9 * hot)
    found = {
        "no dot": ("missing-dot-term", -hot, {}),
        "diagonal": ("diagonal-jacobian", -hot * (1 - a), {}),
        "again": ("jacobian-applied-twice", back(a, right), {}),
        "double": ("double-softmax", v * back(a, softmax(a) - hot), {}),
        "confused": ("log-softmax-confused", back(a, -hot), {}),
        "at the probabilities": ("probs-gradient", -hot / a, {}),
        "shards": ("local-denominator", v * (shards - hot), {}),
        "z-loss": ("zloss-factor", right + v * 0.1 * lse * a, {"z_loss": 0.1}),
        "z-loss of ignored": ("zloss-on-ignored-rows", right + 0.2 * lse * a, {"z_loss": 0.1}),
        "softcap": ("softcap-misapplied", v * (softmax(z * t) - hot), {"softcap": 2.0}),
        "slope": ("softcap-derivative-missing", v * (softmax(2.0 * t) - hot), {"softcap": 2.0}),
        "mass": ("smoothing-mass-wrong", smooth - v / classes, {"label_smoothing": 0.1}),
        "of a shard": ("smoothing-mass-wrong", smooth - v * 0.2 / classes, {"label_smoothing": 0.1}),
    }
    return {name: (code, u * g, settings) for name, (code, g, settings) in found.items()}


@pytest.mark.parametrize("of", ["weight", "bias", "inputs"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("plant", planted(case()))
def test_a_bug_of_the_loss_is_named_from_each_gradient(
    tmp_path: Path, plant: str, dtype: Any, of: str
) -> None:
    c = case(60, 9, 8)
    code, g, settings = planted(c)[plant]
    outcome = examined(tmp_path, c, dtype, {f"grad-{of}": c.led(of, g)}, **settings)
    assert outcome.verdict is Verdict.FAIL
    assert code in codes(outcome, f"grad-{of}"), outcome.diagnosis


@pytest.mark.parametrize("plant", planted(case()))
def test_all_but_one_entry_get_no_name(tmp_path: Path, plant: str) -> None:
    c = case(60, 9, 8)
    _, g, settings = planted(c)[plant]
    for of in ("weight", "inputs"):
        wrong = c.led(of, g)
        wrong[4, 2] += 0.03 * np.abs(wrong).max()
        assert not examined(tmp_path, c, given={f"grad-{of}": wrong}, **settings).diagnosis

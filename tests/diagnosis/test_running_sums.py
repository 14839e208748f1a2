"""Sums over the examples that were kept in 16 bits, chunk by chunk: named where they are reproduced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.diagnosis.bug import ROUNDING
from gradcheck_cli.outcome import Outcome, Verdict
from tests.diagnosis.test_linear_bugs import IGNORED, Array, Case, codes, examined

BFLOAT16, FLOAT16 = ml_dtypes.bfloat16, np.float16
NAME = "low-precision-accumulation"


def case(rows: int = 512, *, kind: str = "friendly", dtype: Any = BFLOAT16, seed: int = 3) -> Case:
    """Return a layer in 16 bits: inputs behind a ReLU, saturated rows with shifted inputs, or plain ones."""
    rng = np.random.default_rng(seed)
    features, classes = 24, 32
    x, y = rng.standard_normal((rows, features)), rng.integers(0, classes, rows)
    w, b = 0.5 * rng.standard_normal((features, classes)), 0.6 * rng.standard_normal(classes)
    if kind == "friendly":
        x = np.abs(x)
    if kind == "adversarial":
        x, w = 2.0 + x, 2.0 * w
        y[rng.random(rows) < 0.3] = IGNORED
    x, w, b = (each.astype(dtype).astype(np.float64) for each in (x, w, b))
    return Case(x, w, b, y, np.ones(rows))


def narrow(values: Array, dtype: Any, *, really: bool = True) -> Array:
    return values.astype(dtype).astype(np.float32) if really else values


def kept_short(c: Case, chunks: list[Array], dtype: Any, way: str = "") -> tuple[Array, Array]:
    """Return dW and db in float32, rounded after each chunk; `way`: what is rounded besides (zgp)."""
    x = c.x.astype(np.float32)
    z = narrow(x @ c.w.astype(np.float32) + c.b.astype(np.float32), dtype, really="z" in way)
    a = np.exp(z - z.max(axis=1, keepdims=True))
    g = (a / a.sum(axis=1, keepdims=True) - c.hot.astype(np.float32)) * (c.y >= 0)[:, None]
    g = narrow(g.astype(np.float32), dtype, really="g" in way)
    weight, bias = np.zeros(c.w.shape, np.float32), np.zeros(len(c.b), np.float32)
    for rows in chunks:
        dw, db = x[rows].T @ g[rows], g[rows].sum(axis=0)
        weight = narrow(weight + narrow(dw, dtype, really="p" in way), dtype)
        bias = narrow(bias + narrow(db, dtype, really="p" in way), dtype)
    return weight, bias


def cut(rows: int, size: int) -> list[Array]:
    return np.split(np.arange(rows), range(size, rows, size))


def of_weight(folder: Path, c: Case, wrong: Array, dtype: Any = BFLOAT16) -> Outcome:
    return examined(folder, c, dtype, {"grad-weight": wrong})


@pytest.mark.parametrize("way", ["", "p", "gp", "zgp", "zg"])
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("kind", ["friendly", "adversarial"])
def test_a_sum_in_16_bits_is_named_with_its_chunks(tmp_path: Path, kind: str, size: int, way: str) -> None:
    c = case(kind=kind)
    weight, _ = kept_short(c, cut(len(c.x), size), BFLOAT16, way)
    outcome = of_weight(tmp_path, c, weight)
    assert outcome.verdict is Verdict.FAIL
    assert codes(outcome, "grad-weight") == [NAME]
    (found,) = outcome.diagnosis
    assert found.kind == ROUNDING
    assert (found.parameters["size"], found.parameters["chunks"]) == (size, len(c.x) // size)
    assert ("logits" in found.message) == ("z" in way)


def test_micro_batches_that_do_not_divide_the_rows(tmp_path: Path) -> None:
    c = case(500)
    weight, _ = kept_short(c, cut(500, 9), BFLOAT16)
    (found,) = of_weight(tmp_path, c, weight).diagnosis
    assert (found.code, found.parameters["chunks"]) == (NAME, 56)


@pytest.mark.parametrize(("size", "chunks", "way"), [(3072, 3, ""), (2000, 5, "gp")])
def test_chunks_longer_than_what_is_worked_on_together(
    tmp_path: Path, size: int, chunks: int, way: str
) -> None:
    c = case(9000)
    weight, _ = kept_short(c, cut(9000, size), BFLOAT16, way)
    outcome = examined(tmp_path, c, BFLOAT16, {"grad-weight": weight}, rtol=1e-5, atol=0.0)
    assert codes(outcome, "grad-weight") == [NAME]
    assert outcome.diagnosis[0].parameters["chunks"] == chunks


def test_float16_and_a_container_that_is_wider(tmp_path: Path) -> None:
    c = case(2048, dtype=FLOAT16, kind="adversarial")
    weight, _ = kept_short(c, cut(2048, 1), FLOAT16)
    outcome = of_weight(tmp_path, c, weight, np.float32)
    assert codes(outcome, "grad-weight") == [NAME]
    assert "float16" in outcome.diagnosis[0].message


def test_a_bias_is_a_sum_as_well(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    c = case(2048)
    c = c._replace(w=rng.normal(size=(24, 96)), b=np.zeros(96), y=rng.integers(0, 3, 2048))
    c = c._replace(w=c.w.astype(BFLOAT16).astype(float))
    _, bias = kept_short(c, cut(2048, 1), BFLOAT16)
    outcome = examined(tmp_path, c, BFLOAT16, {"grad-bias": bias})
    assert codes(outcome, "grad-bias") == [NAME]


@pytest.mark.parametrize("kind", ["friendly", "weak"])
def test_one_rounding_gets_no_name(tmp_path: Path, kind: str) -> None:
    c = case(kind=kind)
    weight, bias = kept_short(c, cut(len(c.x), len(c.x)), BFLOAT16, "g")
    outcome = examined(tmp_path, c, BFLOAT16, {"grad-weight": weight, "grad-bias": bias})
    assert (outcome.verdict, outcome.diagnosis, outcome.facts) == (Verdict.PASS, (), ())


def test_inputs_of_either_sign_hide_it(tmp_path: Path) -> None:
    """What rounding one by one costs a sum that cancels is what storing every dE/dz may cost it."""
    c = case(kind="weak")
    weight, _ = kept_short(c, cut(len(c.x), 32), BFLOAT16)
    assert of_weight(tmp_path, c, weight).verdict is Verdict.PASS


@pytest.mark.parametrize("seed", range(3))
def test_another_order_gets_no_name(tmp_path: Path, seed: int) -> None:
    c = case(seed=seed)
    mixed = np.random.default_rng(seed).permutation(len(c.x))
    weight, _ = kept_short(c, [mixed[rows] for rows in cut(len(c.x), 1)], BFLOAT16)
    outcome = of_weight(tmp_path, c, weight)
    assert (outcome.verdict, outcome.diagnosis) == (Verdict.FAIL, ())


@pytest.mark.parametrize("seed", range(4))
def test_errors_like_roundings_are_a_fact(tmp_path: Path, seed: int) -> None:
    c = case(seed=seed)
    right, _ = kept_short(c, cut(len(c.x), len(c.x)), np.float32)
    rng = np.random.default_rng(seed)
    noisy = right + 0.03 * np.median(np.abs(right)) * rng.normal(size=right.shape)
    outcome = examined(tmp_path, c, BFLOAT16, {"grad-weight": noisy}, rtol=1e-2, atol=1e-3)
    assert outcome.verdict is Verdict.FAIL
    assert not outcome.diagnosis
    (told,) = [each for each in outcome.facts if each.code == "rounding-like"]
    assert told.of == "grad-weight"
    assert "up and down alike" in told.message


@pytest.mark.parametrize("seed", range(3))
def test_damage_is_neither_named_nor_like_rounding(tmp_path: Path, seed: int) -> None:
    c, rng = case(seed=seed), np.random.default_rng(seed)
    weight, _ = kept_short(c, cut(len(c.x), 4), BFLOAT16)
    right, _ = kept_short(c, cut(len(c.x), len(c.x)), np.float32)
    one, low = weight.copy(), right * rng.uniform(0.5, 1.0, right.shape)
    one[3, 4] *= 1.5
    for wrong in (one, low, right + np.abs(right).max() * (rng.random(right.shape) < 0.02)):
        outcome = of_weight(tmp_path, c, wrong)
        assert outcome.verdict is Verdict.FAIL
        assert not outcome.diagnosis
        assert "rounding-like" not in [each.code for each in outcome.facts]

"""The accuracy grade of a linear layer's exports: sums over examples, inputs and classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.outcome import Verdict
from tests.conftest import Examine, named

Array = np.ndarray[Any, Any]
STORED = {"float64": np.float64, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
ROLES = ("grad-weight", "grad-bias", "grad-inputs", "grad", "logits")
EXAMPLES = 4097


def _layer(rows: int = 60, features: int = 8, classes: int = 11) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(4)
    shapes = ((rows, features), (features, classes), (classes,))
    x, w, b = (rng.normal(size=each).astype(ml_dtypes.bfloat16).astype(np.float32) for each in shapes)
    return x, w, b, rng.integers(0, classes, rows)


def _exports(x: Array, w: Array, b: Array, labels: Array, kind: Any) -> dict[str, Array]:
    """Return everything that a layer writes, worked out in one format throughout; the loss is a sum."""
    x, w, b = (each.astype(kind) for each in (x, w, b))
    z = x @ w + b
    e = np.exp(z - z.max(axis=1, keepdims=True))
    g = e / e.sum(axis=1, keepdims=True)
    g[np.arange(len(z)), labels] -= kind(1)
    values = (x.T @ g, g.sum(axis=0, dtype=kind), g @ w.T, g, z)
    return dict(zip([role.replace("-", "_") for role in ROLES], values, strict=True))


@pytest.mark.parametrize("dtype", STORED)
def test_what_was_rounded_once_is_correctly_rounded(examine_linear: Examine, dtype: str) -> None:
    x, w, b, labels = _layer()
    exported = {k: v.astype(STORED[dtype]) for k, v in _exports(x, w, b, labels, np.float64).items()}
    outcome = examine_linear(x, labels, {"reduction": "sum"}, weight=w, bias=b, **exported)
    known = "tree" if dtype == "float64" else "correctly rounded"  # softgrad itself is no better than float64
    assert outcome.verdict is Verdict.PASS
    assert {role: named(outcome, role).explained_by for role in ROLES} == dict.fromkeys(ROLES, known)


def test_short_sums_in_float32_are_as_good_as_a_tree(examine_linear: Examine) -> None:
    x, w, b, labels = _layer()
    exported = _exports(x, w, b, labels, np.float32)
    outcome = examine_linear(x, labels, {"reduction": "sum"}, weight=w, bias=b, **exported)
    assert outcome.verdict is Verdict.PASS
    assert {role: named(outcome, role).explained_by for role in ROLES} == dict.fromkeys(ROLES, "tree")
    assert named(outcome, "grad-weight").ulp_entries == 8 * 11


def _stagnating() -> tuple[Array, Array, Array]:
    """Return inputs and weight whose gradient at one weight is 1 and thousands a little under half an ulp.

    Its sum in order never grows. Every example has label 0; class 1 has almost all or almost nothing.
    """
    x = np.ones((EXAMPLES, 2), dtype=np.float32)
    x[1:, 1] = 0.0
    low = np.float32(np.log(2.0**-24 * 0.98))
    return x, np.array([[0, low], [0, 100 - low]], dtype=np.float32), np.zeros(EXAMPLES, dtype=np.int64)


def _in_order(terms: Array) -> Any:
    return np.add.accumulate(terms)[-1]


def _in_lanes(terms: Array) -> Any:
    lanes = np.resize(terms[: len(terms) // 8 * 8], (len(terms) // 8, 8))
    return np.add.accumulate(lanes)[-1].sum(dtype=np.float32) + terms[len(terms) // 8 * 8 :].sum()


def _in_pairs(terms: Array) -> Any:
    while len(terms) > 1:
        terms = np.append(terms, np.float32(0)) if len(terms) % 2 else terms
        terms = terms[::2] + terms[1::2]
    return terms[0]


@pytest.mark.parametrize(
    ("total", "words"),
    [
        (_in_order, "any order"),
        (_in_lanes, "lanes"),
        (lambda terms: _in_pairs(terms) * np.float32(1 + 2.0**-21), "tree"),
        (_in_pairs, "correctly rounded"),
    ],
)
@pytest.mark.parametrize("at", ["weight", "bias"])
def test_the_order_of_a_sum_over_examples_is_named(
    examine_linear: Examine, total: Callable[[Array], Any], words: str, at: str
) -> None:
    x, w, labels = _stagnating()
    z = x.astype(np.float64) @ w
    p = 1.0 / (1.0 + np.exp(z[:, 0] - z[:, 1]))
    g = np.stack([-p, p], axis=1).astype(np.float32)
    grad = np.array([[total(x[:, i] * g[:, j]) for j in range(2)] for i in range(2)], dtype=np.float32)
    exported = {"grad_weight": grad} if at == "weight" else {"bias": np.zeros(2), "grad_bias": grad[0]}
    settings = {"reduction": "sum", "weight_layout": "io"}
    outcome = examine_linear(x, labels, settings, weight=w, **exported)
    assert (outcome.verdict, named(outcome, f"grad-{at}").explained_by) == (Verdict.PASS, words)
    told = [each.message for each in outcome.warnings if each.code == "summation-order"]
    assert bool(told) == (words == "any order")
    assert all("4,097 examples, 2 inputs or 2 classes added one by one" in each for each in told)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_arithmetic_in_16_bits_is_named(examine_linear: Examine, dtype: str) -> None:
    """Where somebody says that it is; what is only stored in 16 bits on the way is no arithmetic."""
    x, w, b, labels = _layer()
    z, kind = (x @ w + b).astype(STORED[dtype]), STORED[dtype]
    e = np.exp(z - z.max(axis=1, keepdims=True))
    g = e / e.astype(np.float32).sum(axis=1, keepdims=True).astype(kind)
    g[np.arange(len(z)), labels] -= kind(1)
    grad = (x.T @ g.astype(np.float32)).astype(kind)
    settings = {"reduction": "sum", "compute_dtype": dtype}
    outcome = examine_linear(x, labels, settings, weight=w, bias=b, grad_weight=grad, grad=g)
    assert outcome.verdict is Verdict.PASS
    assert named(outcome, "grad").explained_by == "native half"
    once = {"grad_weight": _exports(x, w, b, labels, np.float32)["grad_weight"].astype(kind)}
    outcome = examine_linear(x, labels, {"reduction": "sum"}, weight=w, bias=b, **once)
    assert named(outcome, "grad-weight").explained_by in ("correctly rounded", "tree")


@pytest.mark.parametrize("role", ROLES)
def test_no_model_explains_what_fails_and_a_tolerance_grades_nothing(
    examine_linear: Examine, role: str
) -> None:
    x, w, b, labels = _layer()
    name = role.replace("-", "_")
    exported = {name: _exports(x, w, b, labels, np.float64)[name].astype(np.float32) * np.float32(1.01)}
    failed = examine_linear(x, labels, {"reduction": "sum"}, weight=w, bias=b, **exported)
    assert (failed.verdict, named(failed, role).explained_by) == (Verdict.FAIL, None)
    settings = {"reduction": "sum", "rtol": 0.1, "atol": 0.1}
    outcome = examine_linear(x, labels, settings, weight=w, bias=b, **exported)
    assert (outcome.verdict, named(outcome, role).explained_by) == (Verdict.PASS, None)

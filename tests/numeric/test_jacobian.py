"""The Jacobian and its differences against a 50-digit oracle that differentiates the softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcheck_cli.numeric import jacobian, methods
from gradcheck_cli.numeric.jacobian import SoftmaxRow
from gradcheck_cli.numeric.precision import FLOAT32, Floats
from gradcheck_cli.numeric.softmax import Link
from tests import layer_oracle
from tests.numeric.test_bounds import FAMILIES

STEP = methods.AUTO["central"]


def _case(family: str, classes: int, temperature: float = 1.0) -> tuple[Floats, SoftmaxRow, range, Floats]:
    rng = np.random.default_rng([classes, *family.encode(), 3])
    z = FAMILIES[family](rng, classes)
    with np.errstate(all="ignore"):
        at = SoftmaxRow.of(z, Link(temperature))
        k = range(classes)
        return z, at, k, jacobian.rows_of(at, k, np.empty((classes, classes)))


def _margin(got: Floats, truth: Any, allowed: Floats) -> float:
    pairs = zip(got.ravel(), truth.ravel(), allowed.ravel(), strict=True)
    return max(float(abs(layer_oracle.WIDE.mpf(float(g)) - right) / bound) for g, right, bound in pairs)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("classes", [1, 2, 7])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_jacobian_is_inside_its_bound(family: str, classes: int, temperature: float) -> None:
    if family in ("huge", "far offset") and temperature != 1.0:
        pytest.skip("probability and gradient underflow alike")
    z, at, k, right = _case(family, classes, temperature)
    with np.errstate(all="ignore"):
        allowed = jacobian.reference(at).rows_of(at, k, np.empty_like(right))
    assert _margin(right, layer_oracle.jacobian(z, temperature), allowed) <= 1.0


def test_a_saturated_diagonal_keeps_its_relative_accuracy() -> None:
    """1 - a would be 0 for the likeliest class; the sum of the others is not."""
    z = np.array([40.0, 0.0, -1.0])
    at = SoftmaxRow.of(z, Link())
    right = jacobian.rows_of(at, range(3), np.empty((3, 3)))
    truth = layer_oracle.jacobian(z)
    assert np.max(np.abs((right - truth) / truth).astype(float)) < 1e-14


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("classes", [1, 2, 9])
def test_each_second_way_is_inside_its_bound(family: str, classes: int) -> None:
    _, at, k, right = _case(family, classes)
    with np.errstate(all="ignore"):
        for h in (STEP, 2.0**-5, 0.5):
            share = jacobian.own_error(methods.truncation("central", h))
            for got in (jacobian.differences_of(at, k, h), jacobian.transposed_differences_of(at, k, h)):
                assert (np.abs(got - right) <= share * np.abs(right) + 2.0**-1000).all()
        share = jacobian.own_error(jacobian.SECOND_TRUNCATION)
        second = jacobian.second_differences_of(at, k)
        assert (np.abs(second - right) <= share * np.abs(right) + 2.0**-1000).all()
        columns = jacobian.columns_of(at, k)
        allowed = jacobian.plain_columns(at).rows_of(at, k, np.empty_like(right))
        assert (np.abs(columns - right) <= allowed).all()


def test_the_order_of_the_second_difference_is_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halving the step divides the truncation by four, and it is inside h^2/3 throughout."""
    _, at, k, right = _case("usual", 4)
    errors = []
    for h in (2.0**-5, 2.0**-6):
        monkeypatch.setattr(jacobian, "SECOND_STEP", h)
        errors.append(np.abs(jacobian.second_differences_of(at, k) - right))
        assert (errors[-1] <= h * h / 3 * np.exp(4 * h) * np.abs(right)).all()
    assert np.abs(errors[0] / errors[1] - 4.0).max() < 0.1


@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("classes", [2, 30, 300])
@pytest.mark.parametrize("form", ["a - a a", "a (1 - a)"])
def test_a_float32_kernel_is_inside_the_model(classes: int, scale: float, form: str) -> None:
    rng = np.random.default_rng(classes)
    z = (scale * rng.normal(size=classes)).astype(np.float32)
    with np.errstate(all="ignore"):
        e = np.exp(z - z.max())
        a = e / np.add.accumulate(e)[-1]
        got = -np.outer(a, a)
        np.fill_diagonal(got, a - a * a if form == "a - a a" else a * (np.float32(1) - a))
        at = SoftmaxRow.of(z.astype(np.float64), Link())
        k = range(classes)
        right = jacobian.rows_of(at, k, np.empty((classes, classes)))
        allowed = jacobian.exported(at, FLOAT32, FLOAT32).rows_of(at, k, np.empty_like(right))
    assert (np.abs(got.astype(np.float64) - right) <= allowed).all()

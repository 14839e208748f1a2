"""The softmax layer's proven bounds against a 50-digit oracle, and the order of each method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.numeric import layer, methods, slack, softmax
from gradcheck_cli.numeric.accuracy import any_order
from gradcheck_cli.numeric.difference import AUDIT_STEP
from gradcheck_cli.numeric.layer import LayerPoint
from gradcheck_cli.numeric.precision import BFLOAT16, FLOAT16, FLOAT32, Floats
from gradcheck_cli.numeric.softmax import Link, Planes
from tests import layer_oracle
from tests.numeric.test_bounds import FAMILIES

UPSTREAMS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "usual": lambda rng, shape: rng.normal(size=shape),
    "offset": lambda rng, shape: 1e6 + rng.normal(size=shape),
    "constant": lambda rng, shape: np.full(shape, 0.1) + 0.0 * rng.normal(size=shape),
    "one-hot": lambda rng, shape: -1.0 * (np.arange(shape[1]) == rng.integers(0, shape[1])) * np.ones(shape),
    "wide": lambda rng, shape: rng.normal(size=shape) * 10.0 ** rng.integers(-20, 20, shape),
}
Case = tuple[LayerPoint, Planes, Floats, Floats]


def worked_out(z: Floats, t: Floats, *, log: bool, temperature: float = 1.0) -> Case:
    """Return the point, its planes, the upstream as the layer keeps it, and the gradient at z."""
    link, rows = Link(temperature), np.arange(len(z))
    with np.errstate(all="ignore"):
        d, w = z.copy(), np.empty_like(z)
        extent, _ = softmax.shift(d, link, None)
        pivot = d.argmax(axis=1)
        rest, own = softmax.exponentials(d, pivot, w)
        found = softmax.sums(extent, pivot, (d[rows, pivot], own), rest, z.shape[1])
        planes = Planes(d, w / found.total[:, None], None, rows, pivot)
        shifted = t.copy()
        by = layer.pull(shifted, planes, (np.empty_like(z), np.empty_like(z)), log=log)
        at = LayerPoint(found, by, link, log)
        g = layer.backward(at, shifted, planes, np.empty_like(z))
    return at, planes, shifted, g / temperature


def _spread(whole: slack.Slack, case: Case) -> Floats:
    at, planes, _, g = case
    with np.errstate(all="ignore"):
        out = whole.over(at.link.temperature)
        return out.spread(planes, g, np.empty_like(g), np.empty_like(g))


def _margin(got: Floats, truth: Any, allowed: Floats) -> float:
    pairs = zip(got.ravel(), truth.ravel(), allowed.ravel(), strict=True)
    return max(float(abs(layer_oracle.WIDE.mpf(float(g)) - right) / bound) for g, right, bound in pairs)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("pulled", UPSTREAMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_is_inside_its_bound(family: str, pulled: str, log: bool) -> None:
    rng = np.random.default_rng([*family.encode(), *pulled.encode()])
    z = np.stack([FAMILIES[family](rng, 7) for _ in range(2)])
    t = UPSTREAMS[pulled](rng, z.shape)
    tempered = pulled in ("usual", "wide") and family not in ("huge", "far offset")
    for temperature in (1.0, 0.3) if tempered else (1.0,):
        case = worked_out(z, t, log=log, temperature=temperature)
        truth = layer_oracle.gradient(z, t, temperature, log=log)
        allowed = _spread(slack.reference_error(case[0]), case)
        assert _margin(case[3], truth, allowed) <= 1.0


def test_a_saturated_row_keeps_its_relative_accuracy() -> None:
    """The gradient at the likeliest class is a sum over the others: t - <t, a> would be 0 there."""
    z, t = np.array([[40.0, 0.0, -1.0]]), np.array([[3.0, 1.0, 2.0]])
    _, _, _, g = worked_out(z, t, log=False)
    truth = layer_oracle.gradient(z, t)
    assert np.max(np.abs((g - truth) / truth).astype(float)) < 1e-14


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("pulled", UPSTREAMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_difference_is_inside_its_bound(family: str, pulled: str, log: bool) -> None:
    rng = np.random.default_rng([*family.encode(), *pulled.encode(), 1])
    z = np.stack([FAMILIES[family](rng, 9) for _ in range(4)])
    case = worked_out(z, UPSTREAMS[pulled](rng, z.shape), log=log)
    at, planes, t, g = case
    for method in methods.POINTWISE:
        for h in (methods.AUTO[method], 0.5, 2.0**-6, 1e-9, 1e-60):
            with np.errstate(all="ignore"):
                got = methods.slope(layer.change(at, t, planes), method, h)
            errors = methods.truncation(method, h), methods.amplification(method, h)
            allowed = _spread(slack.difference_error(at, *errors), case)
            assert (np.abs(got - g) <= allowed).all(), (method, h)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("method", methods.POINTWISE)
def test_the_order_of_each_method(method: str, log: bool) -> None:
    """Halving the step divides the truncation error by 2, 4 or 16."""
    z, t = np.array([[0.3, -1.0, 2.0]]), np.array([[1.0, -2.0, 0.5]])
    at, planes, shifted, g = worked_out(z, t, log=log)
    errors = [
        np.abs(methods.slope(layer.change(at, shifted, planes), method, h) - g) for h in (2.0**-5, 2.0**-6)
    ]
    expected = 2.0 ** methods.ORDER[method]
    assert np.abs(errors[0] / errors[1] - expected).max() < 0.05 * expected


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("family", ["flat", "usual", "wide", "saturated", "ties"])
def test_the_brute_force_difference_is_inside_its_bound(family: str, log: bool) -> None:
    rng = np.random.default_rng([*family.encode(), 2])
    z = FAMILIES[family](rng, 11)[None, :]
    t = rng.normal(size=z.shape)
    _, planes, shifted, g = worked_out(z, t, log=log)
    d = planes.d[0]
    for column in range(11):
        got = methods.five_point(lambda v: layer.plain(v, shifted, log=log), d, column, AUDIT_STEP)
        allowed = slack.audit_error(d, shifted[0], float(g[0, column]), column, log=log)
        assert abs(got - g[0, column]) <= allowed
        assert allowed < 1e-6


def _sequential(terms: Any) -> Any:
    return np.add.accumulate(terms, axis=1)[:, -1:]


def _kernel(z: Any, t: Any, *, log: bool, saved: Any = None) -> Any:
    """Return what a float32 kernel writes, sums one after the other; its output saved in another type."""
    z, t = z.astype(np.float32), t.astype(np.float32)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    total = _sequential(e)
    if log:
        out = (z - z.max(axis=1, keepdims=True)) - np.log(total)
        out = out if saved is None else out.astype(saved).astype(np.float32)
        return t - np.exp(out) * _sequential(t)
    a = e / total
    a = a if saved is None else a.astype(saved).astype(np.float32)
    return (t - _sequential(t * a)) * a


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("pulled", ["usual", "offset", "constant", "one-hot"])
@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("classes", [2, 30, 1000])
def test_a_float32_kernel_is_inside_the_model(classes: int, scale: float, pulled: str, log: bool) -> None:
    rng = np.random.default_rng(classes)
    z = (scale * rng.normal(size=(3, classes))).astype(np.float32).astype(np.float64)
    t = UPSTREAMS[pulled](rng, z.shape).astype(np.float32).astype(np.float64)
    case = worked_out(z, t, log=log)
    with np.errstate(all="ignore"):
        got = _kernel(z, t, log=log).astype(np.float64)
    allowed = _spread(
        slack.reference_error(case[0]) + slack.gradient_error(case[0], FLOAT32, any_order(z.shape[1])), case
    )
    assert (np.abs(got - case[3]) <= allowed).all()


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("grid", [BFLOAT16, FLOAT16], ids=lambda grid: str(grid.name))
def test_an_output_saved_in_16_bits_is_inside_the_model(grid: Any, log: bool) -> None:
    kind = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}[grid.name]
    rng = np.random.default_rng(5)
    z = rng.normal(size=(50, 40)).astype(kind).astype(np.float64) * 4
    t = (1.0 + rng.normal(size=z.shape)).astype(kind).astype(np.float64)
    case = worked_out(z, t, log=log)
    got = _kernel(z, t, log=log, saved=kind).astype(kind).astype(np.float64)
    model = slack.gradient_error(case[0], FLOAT32, any_order(z.shape[1])) + slack.saved_error(case[0], grid)
    allowed = _spread(model.stored(grid), case)
    assert (np.abs(got - case[3]) <= allowed).all()
    plain = _spread(slack.gradient_error(case[0], FLOAT32, any_order(z.shape[1])).stored(grid), case)
    assert not (np.abs(got - case[3]) <= plain).all(), "the saved output must need its term"

"""Every method of finite differences on every loss: inside its bound at any step, and of its order."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.numeric import methods, stencil
from gradcheck_cli.numeric.methods import Method
from gradcheck_cli.stencils import signs
from tests.numeric.test_bounds import FAMILIES, LOSSES, _block

STEPS = (None, methods.LARGEST_STEP, 2.0**-6, 1e-6, 1e-60)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("huge", "far offset")])
@pytest.mark.parametrize("name", LOSSES)
def test_each_method_is_inside_its_bound(name: str, family: str) -> None:
    rng = np.random.default_rng([*family.encode(), 4])
    z = np.stack([FAMILIES[family](rng, 13) for _ in range(5)])
    at, planes, g = _block(z, np.arange(5) % 3, LOSSES[name])
    for method in methods.POINTWISE:
        for step in STEPS:
            by = Method.asked(method, step)
            with np.errstate(all="ignore"):
                got = methods.slope(stencil.change(at, planes), method, by.step) / stencil.scale(at)
                whole = stencil.difference_error(at, by)
                allowed = whole.spread(at, planes, g, np.empty_like(g), np.empty_like(g))
                slope = 1.0 if planes.slope is None else planes.at_pivot(planes.slope)
                planes.put_pivot(allowed, stencil.difference_at_pivot(at, by, whole, slope))
            assert (np.abs(got - g) <= allowed).all(), by


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("huge", "far offset")])
@pytest.mark.parametrize("name", LOSSES)
def test_directions_are_inside_their_bound(name: str, family: str) -> None:
    rng = np.random.default_rng([*family.encode(), 5])
    z = np.stack([FAMILIES[family](rng, 13) for _ in range(5)])
    at, planes, g = _block(z, np.arange(5) % 3, LOSSES[name])
    for direction in signs(13, 7):
        for step in STEPS:
            by = Method.asked("directional", step)
            with np.errstate(all="ignore"):
                change = stencil.along(at, planes, direction)
                got = methods.slope(change, "central", by.step) / stencil.scale(at)
                allowed = stencil.direction_error(at, by.step)
            assert (np.abs(got - (g * direction).sum(axis=1)) <= allowed).all(), by


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("method", methods.POINTWISE)
def test_the_order_of_each_method(method: str, name: str) -> None:
    """Halving the step divides the truncation error by 2, 4 or 16."""
    z, labels = np.array([[0.3, -1.0, 2.0]]), np.array([1])
    at, planes, g = _block(z, labels, LOSSES[name])
    change = stencil.change(at, planes)
    errors = [
        np.abs(methods.slope(change, method, h) / stencil.scale(at) - g).max() for h in (2.0**-5, 2.0**-6)
    ]
    expected = 2.0 ** methods.ORDER[method]
    assert errors[0] / errors[1] == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_a_directional_difference_is_two(name: str) -> None:
    z, labels = np.array([[0.3, -1.0, 2.0]]), np.array([1])
    at, planes, g = _block(z, labels, LOSSES[name])
    direction = np.array([1.0, -1.0, 1.0])
    change, right = stencil.along(at, planes, direction), (g * direction).sum(axis=1)
    errors = [
        np.abs(methods.slope(change, "central", h) / stencil.scale(at) - right) for h in (2.0**-5, 2.0**-6)
    ]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.06)


def test_the_bound_of_a_plain_loss_is_attained() -> None:
    """At a small probability the truncation is what the bound says: the bound is no guess."""
    z, labels = np.array([[-9.0, 0.0, 1.0, 0.5]]), np.array([2])
    at, planes, g = _block(z, labels, LOSSES["plain"])
    for method in ("central", "forward", "richardson"):
        by = Method(method, 2.0**-6)
        got = methods.slope(stencil.change(at, planes), method, by.step)
        whole = stencil.difference_error(at, by)
        allowed = whole.spread(at, planes, g, np.empty_like(g), np.empty_like(g))
        assert 0.9 < abs(got - g)[0, 0] / allowed[0, 0] <= 1.0, method


def test_directions_do_not_depend_on_anything_but_seed_and_classes() -> None:
    assert (signs(50, 3) == signs(50, 3)).all()
    assert (signs(50, 3) != signs(50, 4)).any()
    assert set(np.unique(signs(50, 3))) == {-1.0, 1.0}

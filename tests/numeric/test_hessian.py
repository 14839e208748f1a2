"""The Hessian of the loss times a direction: against a 50-digit oracle, and inside its difference's bound."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.numeric import hessian
from gradcheck_cli.stencils import signs
from tests import oracle
from tests.numeric.test_bounds import FAMILIES, LOSSES, _block, _convention

UNCAPPED = [name for name in LOSSES if name != "softcap"]


@pytest.mark.parametrize("family", ["flat", "usual", "wide", "ties", "saturated"])
@pytest.mark.parametrize("name", UNCAPPED)
def test_it_is_the_derivative_of_the_gradient(name: str, family: str) -> None:
    """The oracle's gradient, which differences the loss, differenced once more along the direction."""
    loss = LOSSES[name]
    rng = np.random.default_rng([*family.encode(), 6])
    z = np.round(256 * np.stack([FAMILIES[family](rng, 5) for _ in range(2)])) / 256
    labels, direction = np.array([0, 3]), np.array([1.0, -1.0, -1.0, 1.0, 1.0])
    at, planes, _ = _block(z, labels, loss)
    with np.errstate(all="ignore"):
        got = hessian.times(at, planes, direction) / loss.link.temperature
        allowed = hessian.difference_error(at, planes, hessian.STEP) / loss.link.temperature
    h = 2.0**-30  # exact beside logits on a grid of 1/256
    above, below = (oracle.gradient(z + side * h * direction, labels, _convention(loss)) for side in (1, -1))
    truth = ((above - below) / (2 * h)).astype(np.float64)
    truncation = h * h * 10.0 * planes.a / loss.link.temperature**4
    own = 1e-12 * planes.a * (at.magnitude + np.abs(at.by.z))[:, None]  # what a itself is off by
    assert (np.abs(got - truth) <= allowed + truncation + own).all()


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("huge", "far offset")])
@pytest.mark.parametrize("name", UNCAPPED)
def test_the_difference_is_inside_its_bound(name: str, family: str) -> None:
    rng = np.random.default_rng([*family.encode(), 7])
    z = np.stack([FAMILIES[family](rng, 13) for _ in range(5)])
    at, planes, _ = _block(z, np.arange(5) % 3, LOSSES[name])
    with np.errstate(all="ignore"):
        for direction in signs(13, 1):
            right = hessian.times(at, planes, direction)
            for h in (hessian.STEP, 0.1, 1e-3, 1e-12):
                got = hessian.difference(at, planes, direction, h)
                assert (np.abs(got - right) <= hessian.difference_error(at, planes, h)).all(), h


def test_the_order_of_the_difference_is_two() -> None:
    at, planes, _ = _block(np.array([[0.3, -1.0, 2.0]]), np.array([1]), LOSSES["z-loss"])
    direction = np.array([1.0, -1.0, 1.0])
    right = hessian.times(at, planes, direction)
    errors = [np.abs(hessian.difference(at, planes, direction, h) - right) for h in (2.0**-5, 2.0**-6)]
    assert np.abs(errors[0] / errors[1] - 4.0).max() < 0.1

"""The Hessian of the loss times a direction: against a 50-digit oracle, and inside its difference's bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradcheck_cli.numeric import hessian
from gradcheck_cli.numeric.cross_entropy import Loss
from gradcheck_cli.numeric.difference import unit_of
from gradcheck_cli.numeric.softmax import Link
from gradcheck_cli.stencils import signs
from tests import oracle
from tests.numeric.test_bounds import FAMILIES, LOSSES, _block, _convention

NAMES = [*LOSSES, "softcap, z-loss", "softcap, cold", "softcap, weights"]


def _loss(name: str) -> Loss:
    """Return a loss by name: those of the bounds, and more with a softcap."""
    more = {
        "softcap, z-loss": Loss(Link(softcap=2.0), z_loss=0.3),
        "softcap, cold": Loss(Link(temperature=0.25, softcap=5.0)),
        "softcap, weights": Loss(
            Link(temperature=3.0, softcap=1.5), smoothing=0.1,
            class_weights=np.array([0.5, 1.0, 2.0, 0.25, 1.0, 1.0, 0.0, 1.0, 3.0, 1.0, 1.0, 1.0, 0.7]),
        ),
    }  # fmt: skip
    return (LOSSES | more)[name]


def _cut(loss: Loss, classes: int) -> Loss:
    """Return a loss for so many classes."""
    weights = loss.class_weights
    return loss if weights is None else replace(loss, class_weights=weights[:classes])


@pytest.mark.parametrize("family", ["flat", "usual", "wide", "ties", "saturated"])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_derivative_of_the_gradient(name: str, family: str) -> None:
    """The oracle's gradient, which differences the loss, differenced once more along the direction."""
    loss = _cut(_loss(name), 5)
    rng = np.random.default_rng([*family.encode(), 6])
    z = np.round(256 * np.stack([FAMILIES[family](rng, 5) for _ in range(2)])) / 256
    labels, direction = np.array([0, 3]), np.array([1.0, -1.0, -1.0, 1.0, 1.0])
    at, planes, _ = _block(z, labels, loss)
    unit = unit_of(loss.link)
    with np.errstate(all="ignore"):
        got = hessian.times(at, planes, direction) / unit
        allowed = hessian.difference_error(at, planes, hessian.STEP) / unit
    h = 2.0**-30  # exact beside logits on a grid of 1/256
    convention = replace(_convention(loss), class_weights=loss.class_weights)
    above, below = (oracle.gradient(z + side * h * direction, labels, convention) for side in (1, -1))
    truth = ((above - below) / (2 * h)).astype(np.float64)
    truncation, own = h * h * 10.0 * planes.a / unit**4, 1e-12  # own: what a is off by, and the slope
    size = planes.a * (at.magnitude + np.abs(at.by.z))[:, None]
    if planes.slope is not None:  # what is pulled down bends as well
        size = (size + np.abs(hessian._excess(at, planes))) * planes.slope / unit
        truncation = h * h * 100.0 * size / unit**3
    assert (np.abs(got - truth) <= allowed + truncation + own * size).all()


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("huge", "far offset")])
@pytest.mark.parametrize("name", NAMES)
def test_the_difference_is_inside_its_bound(name: str, family: str) -> None:
    rng = np.random.default_rng([*family.encode(), 7])
    z = np.stack([FAMILIES[family](rng, 13) for _ in range(5)])
    at, planes, _ = _block(z, np.arange(5) % 3, _cut(_loss(name), 13))
    with np.errstate(all="ignore"):
        for direction in signs(13, 1):
            right = hessian.times(at, planes, direction)
            for h in (hessian.STEP, 0.1, 1e-3, 1e-12):
                got = hessian.difference(at, planes, direction, h)
                assert (np.abs(got - right) <= hessian.difference_error(at, planes, h)).all(), h


@pytest.mark.parametrize("name", ["z-loss", "softcap", "softcap, z-loss"])
def test_the_order_of_the_difference_is_two(name: str) -> None:
    at, planes, _ = _block(np.array([[0.3, -1.0, 2.0]]), np.array([1]), _loss(name))
    direction = np.array([1.0, -1.0, 1.0])
    right = hessian.times(at, planes, direction)
    errors = [np.abs(hessian.difference(at, planes, direction, h) - right) for h in (2.0**-5, 2.0**-6)]
    assert np.abs(errors[0] / errors[1] - 4.0).max() < 0.1


@pytest.mark.parametrize("broken", ["_tanh", "_excess", "_product"])
def test_a_wrong_term_under_a_softcap_is_outside_the_bound(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Each term of the product matters: one part in 10^9 of it is seen, where the difference is right."""
    at, planes, _ = _block(np.array([[0.3, -1.0, 2.0]]), np.array([1]), _loss("softcap, z-loss"))
    direction = np.array([1.0, -1.0, 1.0])
    got = hessian.difference(at, planes, direction, hessian.STEP)
    term = getattr(hessian, broken)
    monkeypatch.setattr(hessian, broken, lambda *given: term(*given) * (1 + 1e-9))
    error = np.abs(got - hessian.times(at, planes, direction))
    assert (error > hessian.difference_error(at, planes, hessian.STEP)).any()

"""The proven bounds against a 50-digit oracle: observed / bound never above 1, on rows made to hurt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.numeric import accuracy, cross_entropy, difference, logarithms, ruler, softmax
from gradcheck_cli.numeric.cross_entropy import Loss, Point
from gradcheck_cli.numeric.precision import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import Link, Planes
from tests import oracle

FAMILIES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "flat": lambda rng, k: 1e-3 * rng.normal(size=k),
    "usual": lambda rng, k: rng.normal(size=k),
    "wide": lambda rng, k: 30 * rng.normal(size=k),
    "huge": lambda rng, k: 1e4 * rng.normal(size=k),
    "offset": lambda rng, k: 1e4 + rng.normal(size=k),
    "far offset": lambda rng, k: 1e15 + np.round(4 * rng.normal(size=k)),
    "ties": lambda rng, k: np.round(rng.normal(size=k)),
    "saturated": lambda rng, k: rng.normal(size=k) + 40.0 * (np.arange(k) == 0),
    "underflowing": lambda rng, k: rng.normal(size=k) + 720.0 * (np.arange(k) == 0),
    "tiny": lambda rng, k: 1e-310 * rng.normal(size=k),
}
LOSSES = {
    "plain": Loss(Link()),
    "smoothing": Loss(Link(), 0.1),
    "temperature": Loss(Link(0.3)),
    "softcap": Loss(Link(1.0, 20.0)),
    "z-loss": Loss(Link(), z_loss=1e-2),
}


def _convention(loss: Loss) -> oracle.Convention:
    return oracle.Convention(
        reduction="sum",
        label_smoothing=loss.smoothing,
        temperature=loss.link.temperature,
        softcap=loss.link.softcap,
        z_loss=loss.z_loss,
    )


def _block(z: Floats, labels: Any, loss: Loss) -> tuple[Point, Planes, Floats]:
    room = [np.empty_like(z) for _ in range(4)]
    with np.errstate(all="ignore"):
        d, rows = z.copy(), np.arange(len(z))
        extent, slope = softmax.shift(d, loss.link, room[1])
        own_d = d[rows, labels]
        rest, own = softmax.exponentials(d, labels, room[0])
        found = softmax.sums(extent, labels, (own_d, own), rest, z.shape[1])
        planes = Planes(d, room[0] / found.total[:, None], slope, rows, labels)
        q = cross_entropy.class_targets(labels, z.shape[1], loss)
        one = np.ones(len(z))
        at = Point.of(loss, found, q, cross_entropy.scale(found, loss, one, one))
        g = cross_entropy.gradient(at, planes, room[2], room[3])
    return at, planes, g


def _central(at: Point, planes: Planes) -> Floats:
    out = difference.central(at, planes, np.empty_like(planes.a), np.empty_like(planes.a))
    slope = None if planes.slope is None else planes.at_pivot(planes.slope)
    planes.put_pivot(out, difference.central_at_pivot(at, slope))
    return out


def _ratio(observed: Any, truth: Any, allowed: Floats) -> float:
    """Return the largest |observed - truth| / allowed, in the oracle's precision."""
    pairs = zip(truth.flat, np.asarray(observed).flat, allowed.flat, strict=True)
    return max(float(abs(t - float(x)) / float(a)) for t, x, a in pairs)


@pytest.mark.parametrize("classes", [1, 2, 10, 129])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", LOSSES)
def test_the_reference_gradient_is_inside_its_bound(name: str, family: str, classes: int) -> None:
    loss = LOSSES[name]
    if name == "softcap" and family in ("huge", "far offset"):
        pytest.skip("tanh saturates: slope and gradient underflow alike")
    rng = np.random.default_rng([classes, *family.encode()])
    z = np.stack([FAMILIES[family](rng, classes) for _ in range(2)])
    labels = np.array([0, classes - 1])
    at, planes, g = _block(z, labels, loss)
    truth = oracle.gradient(z, labels, _convention(loss))
    with np.errstate(all="ignore"):
        bound = accuracy.reference_error(at)
        allowed = bound.spread(at, planes, g, np.empty_like(g), np.empty_like(g))
    assert _ratio(g, truth, allowed) <= 1.0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("classes", [1, 2, 10, 129])
def test_probabilities_and_their_logarithms_are_inside_their_bounds(family: str, classes: int) -> None:
    rng = np.random.default_rng([classes, *family.encode(), 1])
    z = np.stack([FAMILIES[family](rng, classes) for _ in range(2)])
    labels = np.zeros(2, dtype=np.int64)
    at, planes, _ = _block(z, labels, LOSSES["plain"])
    found = at.sums
    convention = oracle.Convention()
    with np.errstate(all="ignore"):
        bound = accuracy.probability_error(found, Link(), FLOAT64, accuracy.pairwise(classes))
        bare, a = accuracy.bare(found, Link()), planes.a
        allowed = bound.spread(bare, planes, a, np.empty_like(a), np.empty_like(a))
        float64, out = logarithms.REFERENCE, np.empty_like(a)
        logs = logarithms.log_probability_error(found, planes.d, Link(), float64, out)
    assert _ratio(a, oracle.probabilities(z, convention), allowed) <= 1.0
    truth = oracle.log_probabilities(z, convention)
    assert _ratio(planes.d - found.log_total[:, None], truth, logs) <= 1.0


@pytest.mark.parametrize("scale", [1.0, 10.0, 60.0])
@pytest.mark.parametrize("classes", [2, 30, 1000])
def test_a_float32_kernel_is_inside_the_model_of_any_order(classes: int, scale: float) -> None:
    """Sequential float32 summation, the worst order there is, and p - 1 at the label."""
    rng = np.random.default_rng(classes)
    z32 = (scale * rng.normal(size=(3, classes))).astype(np.float32)
    labels = z32.argmax(axis=1)
    with np.errstate(all="ignore"):
        e = np.exp(z32 - z32.max(axis=1, keepdims=True))
        total = np.add.accumulate(e, axis=1)[:, -1:]
        got = e / total
        got[np.arange(3), labels] -= np.float32(1)
    at, planes, g = _block(z32.astype(np.float64), labels, LOSSES["plain"])
    with np.errstate(all="ignore"):
        bound = accuracy.gradient_error(at, FLOAT32, accuracy.any_order(classes))
        allowed = bound.spread(at, planes, g, np.empty_like(g), np.empty_like(g))
    assert (np.abs(got.astype(np.float64) - g) / allowed).max() <= 1.0


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("huge", "far offset")])
@pytest.mark.parametrize("name", LOSSES)
def test_the_difference_is_inside_its_bound(name: str, family: str) -> None:
    """Also where the label holds nearly everything: a bound from a cancelled 1 - p failed by 2e5 there."""
    loss = LOSSES[name]
    rng = np.random.default_rng([*family.encode(), 2])
    z = np.stack([FAMILIES[family](rng, 17) for _ in range(6)])
    labels = np.arange(6) % 3
    at, planes, g = _block(z, labels, loss)
    with np.errstate(all="ignore"):
        got = _central(at, planes)
        bound = ruler.difference_error(at)
        allowed = bound.spread(at, planes, g, np.empty_like(g), np.empty_like(g))
        slope = 1.0 if planes.slope is None else planes.at_pivot(planes.slope)
        planes.put_pivot(allowed, ruler.difference_at_pivot(at, bound, slope))
    assert (np.abs(got - g) <= allowed).all()


@pytest.mark.parametrize("column", [0, 1, 5])
@pytest.mark.parametrize("name", LOSSES)
def test_the_brute_force_difference_is_inside_its_bound(name: str, column: int) -> None:
    loss = LOSSES[name]
    z = np.array([2.0, -1.0, 0.5, 7.0, 3.0, -20.0])
    q = np.zeros(6)
    q[1] = 1 - loss.smoothing
    q += loss.smoothing / 6
    truth = oracle.gradient(z[None], np.array([1]), _convention(loss))[0, column]
    slope, _ = difference.five_point(z, q, loss, column)
    allowed = ruler.audit_error(z, q, loss, float(truth), column)
    assert abs(float(truth - slope)) <= allowed
    assert allowed < 1e-8


def test_the_order_of_the_difference_is_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halving the step divides the truncation error by four."""
    z, labels, loss = np.array([[0.3, -1.0, 2.0]]), np.array([1]), LOSSES["plain"]
    at, planes, g = _block(z, labels, loss)
    errors = []
    for h in (2.0**-6, 2.0**-7):
        monkeypatch.setattr(difference, "STEP", h)
        got = _central(at, planes)
        errors.append(np.abs(got - g))
    assert np.abs(errors[0] / errors[1] - 4.0).max() < 1e-2


@pytest.mark.parametrize("grid", [FLOAT32, BFLOAT16, FLOAT16], ids=lambda grid: grid.name)
@pytest.mark.parametrize("family", ["flat", "usual", "wide", "saturated", "ties", "offset"])
@pytest.mark.parametrize("name", LOSSES)
def test_rounding_the_logits_moves_the_gradient_within_its_bound(
    name: str, family: str, grid: Precision
) -> None:
    """The true gradient of unrounded logits against the bound around the rounded ones, mask and all."""
    rng = np.random.default_rng([*family.encode(), 4])
    z = np.stack([FAMILIES[family](rng, 23) for _ in range(40)])
    kind = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}[grid.name]
    rounded = z.astype(kind).astype(np.float64)
    labels = np.arange(40) % 23
    for each in (z, rounded):
        if name != "softcap":
            each[:, 22] = np.where(labels == 22, each[:, 22], -1e4)
    at, planes, g = _block(rounded, labels, LOSSES[name])
    _, _, truth = _block(z, labels, LOSSES[name])
    with np.errstate(all="ignore"):
        slope = 1.0 if planes.slope is None else planes.at_pivot(planes.slope)
        outside, own = accuracy.rounded_logits_error(at, grid, slope)
        bound = outside + accuracy.reference_error(at) + accuracy.reference_error(at)
        allowed = bound.outside_pivot(at, planes, g, np.empty_like(g), np.empty_like(g))
        ours = accuracy.reference_error(at).at_pivot(at, slope, planes.at_pivot(g))
        planes.put_pivot(allowed, own + 2.0 * ours)
    assert (np.abs(truth - g) <= allowed).all()


@pytest.mark.parametrize("grid", [BFLOAT16, FLOAT16], ids=lambda grid: grid.name)
@pytest.mark.parametrize("family", ["usual", "wide", "saturated"])
def test_rounding_the_logits_moves_logarithms_and_losses_within_their_bounds(
    family: str, grid: Precision
) -> None:
    rng = np.random.default_rng([*family.encode(), 5])
    z = np.stack([FAMILIES[family](rng, 23) for _ in range(40)])
    kind = ml_dtypes.bfloat16 if grid is BFLOAT16 else np.float16
    labels = np.arange(40) % 23
    for name in ("plain", "smoothing", "temperature", "z-loss"):
        loss = LOSSES[name]
        at, planes, _ = _block(z.astype(kind).astype(np.float64), labels, loss)
        exact, exact_planes, _ = _block(z, labels, loss)
        by, link = logarithms.Arithmetic(FLOAT64, logits=grid), loss.link
        allowed = logarithms.log_probability_error(at.sums, planes.d, link, by, np.empty_like(z))
        logs = planes.d - at.sums.log_total[:, None]
        assert (np.abs(exact_planes.d - exact.sums.log_total[:, None] - logs) <= allowed).all()
        room = np.empty_like(z)
        plain, right = (cross_entropy.losses(p, q.d, room) for p, q in ((at, planes), (exact, exact_planes)))
        square = loss.z_loss * (exact.sums.lse**2 - at.sums.lse**2)
        assert (np.abs(right + square - plain) <= logarithms.loss_error(at, plain, by)).all()


@pytest.mark.parametrize("family", ["wide", "saturated"])
def test_bounds_hold_for_fifty_thousand_classes(family: str) -> None:
    rng = np.random.default_rng([*family.encode(), 6])
    z = FAMILIES[family](rng, 50_000)[None, :]
    labels = np.array([7])
    at, planes, g = _block(z, labels, LOSSES["plain"])
    truth = oracle.probabilities(z, oracle.Convention())
    truth[0, 7] -= 1
    with np.errstate(all="ignore"):
        bound = accuracy.reference_error(at)
        allowed = bound.spread(at, planes, g, np.empty_like(g), np.empty_like(g))
    assert _ratio(g, truth, allowed) <= 1.0

"""The cheap look that turns guesses down before their factors are worked out."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.diagnosis.fit import allowed_factors
from gradcheck_cli.diagnosis.guess import apart

DRAWS = 400


@pytest.mark.parametrize("scale", [1.0, 1e-40, 1e-136, 1e-150, 1e-162, 1e-170, 1e140, 1e160])
def test_no_guess_is_turned_down_that_a_factor_brings_in_line(scale: float) -> None:
    """Entries at the very ends of what they may be off by, at every size of numbers and of errors."""
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        shape = tuple(rng.integers(1, 9, size=2))
        plane = rng.normal(size=shape) * 10.0 ** rng.uniform(-6.0, 0.0, size=shape)
        error = np.abs(plane) * 10.0 ** rng.uniform(-9.0, 0.3)
        floor = np.array([[10.0 ** rng.uniform(-12.0, 0.0)]])
        factor = rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-4.0, 4.0)
        ends = rng.choice([-1.0, 1.0], size=shape)
        got = factor * plane + ends * (1.0 - 1e-12) * (abs(factor) * error + floor)
        with np.errstate(all="ignore"):
            assert not apart(scale * got, scale * plane, scale * error, scale * floor)


def test_what_points_elsewhere_is_turned_down() -> None:
    """As the factors themselves would have it."""
    rng = np.random.default_rng(1)
    for _ in range(DRAWS):
        got, plane = rng.normal(size=(2, 4, 8))
        error, floor = 1e-6 * np.abs(plane), np.array([[1e-9]])
        found = allowed_factors(got, plane, error, floor)
        assert found.low.max() > found.high.min()
        assert apart(got, plane, error, floor)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_tells_nothing(odd: float) -> None:
    """It may be what the bug makes, too."""
    rng = np.random.default_rng(2)
    got, plane = rng.normal(size=(2, 4, 8))
    got[1, 2] = odd
    with np.errstate(all="ignore"):
        assert not apart(got, plane, 1e-6 * np.abs(plane), np.array([[1e-9]]))
        plane[1, 2] = odd
        assert not apart(got, plane, 1e-6 * np.abs(plane), np.array([[1e-9]]))
        got[1, 2] = 1.0
        assert not apart(got, plane, 1e-6 * np.abs(plane), np.array([[1e-9]]))

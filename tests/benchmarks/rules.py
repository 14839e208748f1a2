"""What people compare gradients with today: each rule says whether it accepts a gradient.

A module of the benchmarks, not a program. A rule is given two tensors of one dtype, what was exported and
what is right.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

torch: Any = importlib.import_module("torch")


def by_gradcheck(got: Any, right: Any) -> bool:
    """Return what torch.autograd.gradcheck's comparison says, with its default eps, atol and rtol."""
    return bool((_error(got, right) <= 1e-5 + 1e-3 * right.double().abs()).all())


def by_assert_close(got: Any, right: Any) -> bool:
    """Return what torch.testing.assert_close says."""
    try:
        torch.testing.assert_close(got, right)
    except AssertionError:
        return False
    return True


def by_allclose(got: Any, right: Any) -> bool:
    """Return what numpy.allclose says."""
    return bool(np.allclose(got.double().numpy(), right.double().numpy()))  # noqa: TID251 - it is measured


def by_relative_error(got: Any, right: Any) -> bool:
    """Return whether no entry is off by more than 1e-4 of the larger of the two."""
    return bool((_error(got, right) <= 1e-4 * torch.maximum(got.double().abs(), right.double().abs())).all())


def by_cosine(got: Any, right: Any) -> bool:
    """Return whether the two point the same way."""
    a, n = got.double().flatten(), right.double().flatten()
    sizes = float(a.norm() * n.norm())
    return bool(float(a @ n) >= 0.997 * sizes)


def _error(got: Any, right: Any) -> Any:
    return (got.double() - right.double()).abs()


RULES: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        "gradcheck": by_gradcheck,
        "assert_close": by_assert_close,
        "allclose": by_allclose,
        "rel 1e-4": by_relative_error,
        "cosine": by_cosine,
    }
)
"""The rules by name."""

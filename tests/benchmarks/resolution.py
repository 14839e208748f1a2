"""What right arithmetic in a file's precision may cost each entry: worked out without softgrad.

A module of the benchmarks, not a program. Each source of error is the size of the terms that cancel in an
entry times so many units: a confident row's label entry is p - 1, and every error of p counts in full.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from gradcheck_cli.numeric.precision import Precision, power_below
from tests.benchmarks.cases import Case
from tests.benchmarks.frameworks import RESOLUTION

Array = npt.NDArray[Any]


def within_precision(case: Case, got: Array) -> str | None:
    """Return the source of error that can take the truth to what is in a file, if there is one: (n, K).

    Sources are tried from the surest to the rarest, each together with those before it.
    """
    error = np.abs(got - case.truth)
    if not np.isfinite(error).all():
        return None
    allowed = _storage(got, case.truth, case.grid)
    for name, size in _sources(case):
        allowed += size
        if bool((error <= allowed).all()):
            return f"within precision: {name}"
    return None


def _storage(got: Array, truth: Array, grid: Precision) -> Array:
    """Return what rounding to the stored format costs: (n, K).

    It is half a unit in the last place, and all of it where the format flushes subnormal numbers to zero.
    """
    sizes = np.maximum(np.abs(got), np.abs(truth))
    half_unit = power_below(sizes, np.empty_like(sizes)) * grid.unit
    exactly = np.maximum(half_unit, 0.5 * grid.smallest_subnormal)
    if not np.any((got != 0.0) & (np.abs(got) < grid.smallest_normal)):
        exactly[got == 0.0] = grid.smallest_normal
    return exactly


def _sources(case: Case) -> Iterator[tuple[str, Array]]:
    """Yield each source of error and its size in every entry: (n, K)."""
    terms, u, c = case.terms, case.arithmetic.unit, case.exact
    unbent, classes = terms.unbent, terms.a.shape[1]
    sizes = unbent * terms.slope
    reach, scale = terms.reach[:, None], (terms.scale * terms.valid)[:, None]
    flushed = 4.0 * case.arithmetic.smallest_normal
    yield f"storage as {case.grid.name}", np.zeros_like(sizes)
    yield f"{case.arithmetic.name} resolution of Q a - q", RESOLUTION * u * sizes
    yield "exponentials flushed to zero", flushed * (1.0 + scale * (1.0 + classes * terms.a))
    if c.softcap is not None:
        yield "slope of the softcap as 1 - tanh²", 18.0 * u * unbent
    if c.softcap is not None or c.temperature != 1.0:
        yield "rounding of the capped or tempered logits", 16.0 * u * reach * sizes
    yield "exp and log of a saturated p", 32.0 * u * sizes
    yield "sum of K terms in any order", (classes + 32.0) * u * sizes
    yield "rounding of logsumexp", 4.0 * u * (1.0 + reach) * sizes

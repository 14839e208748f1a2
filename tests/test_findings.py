"""Findings: what counts as failing, how they merge, and sums that do not depend on the order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gradcheck_cli.findings import Finding, Look, Sides, compare
from gradcheck_cli.numeric.exact import ExactSum
from gradcheck_cli.numeric.precision import FLOAT32


def _compare(got: Any, expected: Any, allowed: Any, **look: Any) -> Finding:
    arrays = [np.atleast_2d(np.asarray(each, dtype=np.float64)) for each in (got, expected, allowed)]
    room = [np.empty_like(arrays[0]) for _ in range(2)]
    first, columns = look.pop("first_row", 0), arrays[0].shape[1]

    def place(position: int) -> tuple[int, int]:
        return first + position // columns, position % columns

    with np.errstate(all="ignore"):
        return compare(Sides(*arrays), Look(**({"place": place, "grid": None, "top": 3} | look)), *room)


def test_a_margin_of_one_passes_and_a_little_more_fails() -> None:
    assert _compare([1.5], [1.0], [0.5]).failing == 0
    assert _compare([1.5], [1.0], [np.nextafter(0.5, 0)]).failing == 1


@pytest.mark.parametrize("got", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_fails(got: float) -> None:
    found = _compare([got, 1.0], [1.0, 1.0], [1e9, 1.0])
    assert (found.failing, found.max_margin, found.max_abs) == (1, math.inf, math.inf)
    assert found.worst[0].column == 0


def test_the_same_infinity_is_no_error_and_the_other_one_is() -> None:
    assert _compare([-np.inf], [-np.inf], [1.0]).failing == 0
    assert _compare([np.inf], [-np.inf], [1.0]).failing == 1


def test_no_allowance_admits_no_error() -> None:
    found = _compare([1.0, 2.0], [1.0, 2.5], [0.0, 0.0])
    assert (found.failing, found.max_margin) == (1, math.inf)


def test_nan_is_not_forgiven_by_an_infinite_allowance() -> None:
    assert _compare([np.nan], [1.0], [np.inf]).failing == 1
    assert _compare([5.0], [1.0], [np.inf]).failing == 0


@pytest.mark.parametrize("beside", [1.0, 1e-310])
def test_how_wrong_an_entry_is_does_not_depend_on_those_beside_it(beside: float) -> None:
    """Next to nothing where 0 is expected was infinitely wrong only beside subnormal numbers."""
    found = _compare([1e-170, beside], [0.0, beside], [1.0, 1.0])
    assert found.max_rel == math.inf


def test_an_error_at_an_expected_zero_is_infinitely_relative() -> None:
    assert _compare([1e-3], [0.0], [1.0]).max_rel == math.inf
    assert _compare([0.0], [0.0], [1.0]).max_rel == 0.0


def test_ulps_are_counted_on_the_grid() -> None:
    expected = np.float64(np.float32(0.1))
    got = np.float64(np.nextafter(np.float32(0.1), np.float32(1)))
    assert _compare([got], [expected], [1.0], grid=FLOAT32).max_ulp == 1.0
    assert _compare([got], [expected], [1.0]).max_ulp is None


def test_the_worst_come_first_and_ties_break_by_place() -> None:
    found = _compare([[1, 3, 3], [9, 3, 0]], np.zeros((2, 3)), np.ones((2, 3)), top=4, first_row=10)
    assert [(each.row, each.column) for each in found.worst] == [(11, 0), (10, 1), (10, 2), (11, 1)]


numbers = st.floats(min_value=0, max_value=1e3, allow_nan=False)


@given(st.lists(numbers, min_size=2, max_size=40), st.data(), st.integers(0, 6))
def test_any_split_merges_to_the_whole(errors: list[float], data: Any, top: int) -> None:
    got = np.array(errors)[:, None]
    zeros, ones = np.zeros_like(got), np.ones_like(got)
    whole = _compare(got, zeros, ones, top=top, grid=FLOAT32)
    cut = data.draw(st.integers(1, len(errors) - 1))
    parts = [
        _compare(got[part], zeros[part], ones[part], top=top, grid=FLOAT32, first_row=part.start)
        for part in (slice(0, cut), slice(cut, len(errors)))
    ]
    assert parts[0].merge(parts[1], top) == parts[1].merge(parts[0], top) == whole


finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@given(st.lists(finite.filter(lambda x: abs(x) < 1e300), max_size=30))
@example([1e300 / 4, 1.0, -1e300 / 4])
@example([5e-324, 5e-324])
def test_the_exact_sum_is_exact_in_any_order(values: list[float]) -> None:
    half = len(values) // 2
    one = ExactSum.of(np.array(values))
    two = ExactSum.of(np.array(values[half:])).merge(ExactSum.of(np.array(values[:half])))
    assert one.value() == two.value() == math.fsum(values)

"""A number becomes text in one place, and the text never says what is not so."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck_cli.report import numbers

finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3e-08, "3e-08"), (0.0, "0"), (-0.0, "0"), (1.2345678e-07, "1.23e-07"), (0.25, "0.25"),
        (-12.5, "-12.5"), (5e-324, "4.94e-324"), (1e300, "1e+300"),
        (math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"),
    ],
)  # fmt: skip
def test_R12_a_number_is_short_and_spelled_out(value: float, text: str) -> None:
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.41234, "0.41"), (37.24, "37.2"), (123456.0, "1.2e+05"), (999.4, "999"), (999.6, "1e+03"),
        (0.0, "0"),
        (1.0, "1"), (1.0000001, "1.0000001"), (0.99996, "0.99996"), (math.inf, "inf"), (math.nan, "nan"),
        (math.nextafter(1, 2), "1.0000000000000002"), (math.nextafter(1, 0), "0.9999999999999999"),
    ],
)  # fmt: skip
def test_a_margin(value: float, text: str) -> None:
    assert numbers.margin(value) == text


@given(st.floats(min_value=0, allow_infinity=False))
def test_a_margin_is_shown_on_its_own_side_of_one(value: float) -> None:
    shown = float(numbers.margin(value))
    assert ((shown > 1), (shown < 1)) == ((value > 1), (value < 1))


@given(finite)
def test_only_zero_is_shown_as_zero(value: float) -> None:
    assert (float(numbers.number(value)) == 0) == (value == 0)


@given(positive)
def test_a_tolerance_that_would_have_passed_is_rounded_up(value: float) -> None:
    shown = float(numbers.at_least(value))
    assert value <= shown < math.inf
    assert shown <= 1.1 * value or value < 1e-300


def test_a_tolerance_is_two_digits() -> None:
    assert numbers.at_least(3.204e-05) == "3.3e-05"
    assert numbers.at_least(0.26) == "0.26"


@pytest.mark.parametrize(
    ("first", "second", "texts"),
    [
        (0.25, -0.0001655, ("0.25", "-0.000166")),
        (0.123456, 0.123457, ("0.123456", "0.123457")),
        (1.0, 1.0, ("1", "1")),
        (math.nan, 1.0, ("nan", "1")),
        (1e308, -1e308, ("1e+308", "-1e+308")),
    ],
)
def test_two_numbers_keep_the_digits_that_tell_them_apart(
    first: float, second: float, texts: tuple[str, str]
) -> None:
    assert numbers.apart(first, second) == texts


@given(finite, finite)
def test_numbers_that_differ_are_shown_to_differ(first: float, second: float) -> None:
    left, right = numbers.apart(first, second)
    assert (left == right) == (first == second)


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(128, 5120, "2.5%"), (1, 16_384_000, "<0.1%"), (9_999, 10_000, ">99.9%"), (5, 5, "100%"), (0, 5, "0%")],
)
def test_a_share_is_none_or_all_only_when_it_is(part: int, whole: int, text: str) -> None:
    assert numbers.share(part, whole) == text


def test_counts_amounts_times_places() -> None:
    assert numbers.count(16_384_000) == "16,384,000"
    assert [numbers.amount(x) for x in (5120.0, 0.5, math.inf, 1e22)] == ["5,120", "0.5", "inf", "1e+22"]
    assert [numbers.seconds(x) for x in (0.1234, 83.44, 1204.2)] == ["0.12 s", "83.4 s", "1,204 s"]
    assert [numbers.index(i) for i in ((3, 7), (2,), ())] == ["[3, 7]", "[2]", "scalar"]
    assert [numbers.shape(s) for s in ((512, 10), (7,), ())] == ["512 x 10", "7", "scalar"]

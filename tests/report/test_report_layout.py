"""Lines that fit: whole columns dropped in their order, words wrapped, ends of paths kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gradcheck_cli.report.layout import Column, fit, rows, shorten, wrap

COLUMNS = [
    Column("name", ["grad"], right=False),
    Column("one", ["1111"], rank=1),
    Column("three", ["33333"], rank=3),
    Column("two", ["22222"], rank=2),
    Column("last", ["9"]),
]


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (None, []),
        (30, []),
        (29, ["three"]),
        (22, ["three", "two"]),
        (15, ["three", "two", "one"]),
        (1, ["three", "two", "one"]),
    ],
)
def test_columns_are_dropped_whole_the_least_important_first(width: int | None, left_out: list[str]) -> None:
    kept, dropped = fit(COLUMNS, width)
    assert [column.heading for column in dropped] == left_out
    assert [c.heading for c in kept] == [c.heading for c in COLUMNS if c.heading not in left_out]


def test_numbers_stand_to_the_right_and_names_to_the_left() -> None:
    columns = [Column("name", ["a", "数据"], right=False), Column("n", ["1", "1,000"])]
    assert rows(columns) == ["name      n", "a         1", "数据  1,000"]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("at [3, 7] it", 7, ["at", "[3, 7]", "it"]),
        ("use --reduction sum, --top 3", 17, ["use", "--reduction sum,", "--top 3"]),
        ("a  b c", 4, ["a  b", "c"]),
        ("abcdef gh", 4, ["abcd", "ef", "gh"]),
        ("数据集", 4, ["数据", "集"]),
        ("", 4, [""]),
        ("as long as it likes", None, ["as long as it likes"]),
    ],
)
def test_wrapping(text: str, width: int | None, lines: list[str]) -> None:
    assert wrap(text, width) == lines


def test_flags_with_their_numbers_stay_together() -> None:
    assert wrap("it passes with --atol 1 --rtol 0 or so", 24) == ["it passes with", "--atol 1 --rtol 0 or so"]


@given(st.text(alphabet="ab1 [,]-据", max_size=60), st.integers(2, 30))
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(st.text(alphabet="ab/据", max_size=60), st.integers(8, 30))
def test_a_shortened_path_fits_and_ends_as_it_did(path: str, width: int) -> None:
    short = shorten(path, width)
    assert cell_len(short) <= width
    assert short == path or (
        short.count("...") == 1 and path.endswith(short.split("...")[1]) and short[-1] != "."
    )


def test_a_shortened_path_keeps_more_of_its_end_than_of_its_beginning() -> None:
    assert shorten("/scratch/run/step/dlogits.npy", 20) == "/scra.../dlogits.npy"

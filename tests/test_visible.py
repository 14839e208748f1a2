"""What somebody else wrote cannot move a cursor or forge a line."""

from __future__ import annotations

import pytest

from gradcheck_cli.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a[red]é.npy", "a[red]é.npy"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\r\t\x7f\x9b", r"a\x0ab\x0d\x09\x7f\x9b"),
        ("\u202e\u2066\u2028", r"\u202e\u2066\u2028"),
        ("\udcff\ud800", r"\xff\ud800"),
        ("a\u200bb\xa0c\u2003d", r"a\u200bb\xa0c\u2003d"),
        ("\ufefd\U000e0041", r"\ufefd\U000e0041"),
        ("\u65e5\u672c \U0001f600 \u0394", "\u65e5\u672c \U0001f600 \u0394"),
    ],
)
def test_R03_and_R04_unsafe_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(text).isprintable()
    visible(text).encode()


def test_a_long_text_is_shortened() -> None:
    assert visible("x" * 50, 10) == "x" * 7 + "..."
    assert visible("x" * 10, 10) == "x" * 10

"""Lines of text that fit a width: wrapped words, and tables that drop whole columns.

Rich's own Table cuts a cell that does not fit (``1.2345678e-07`` becomes ``1.234...``), so tables
are laid out here: a number is either shown whole or its column is not shown at all. Widths are
those of terminal cells, in which a Chinese character takes two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from gradcheck_cli.records import dataclass

GAP = "  "
DOTS = "..."

# Words stay whole, and so does what is read or copied as one: an index, flags with their numbers.
_FLAG = r"--[a-z-]+ [^\s,-][^\s,]*"
_WORD = re.compile(rf"\s*(?:{_FLAG}(?: {_FLAG})*\S*|(?:\[[-\d, ]*\]|\S)+)")


@dataclass(frozen=True)
class Column:
    """One column: a heading over cells, all of them text already."""

    heading: str
    cells: Sequence[str]
    rank: int = 0  # columns of the highest rank are dropped first, those of rank 0 never
    right: bool = True

    @property
    def width(self) -> int:
        """The widest cell, heading included."""
        return max(map(cell_len, (self.heading, *self.cells)))


def fit(columns: Iterable[Column], width: int | None) -> tuple[list[Column], list[Column]]:
    """Return the columns that fit the width, and those dropped for it, the least important first."""
    kept, dropped = list(columns), []
    while width is not None and _width(kept) > width and any(c.rank for c in kept):
        dropped.append(max(kept, key=lambda c: c.rank))
        kept.remove(dropped[-1])
    return kept, dropped


def rows(columns: Sequence[Column]) -> list[str]:
    """Return the heading and the rows of a table, each on one line."""
    padded = [
        [pad(cell, width, right=column.right) for cell in (column.heading, *column.cells)]
        for column, width in ((column, column.width) for column in columns)
    ]
    return [GAP.join(line).rstrip() for line in zip(*padded, strict=True)]


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return the text in so many cells, on the left or the right of them."""
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def wrap(text: str, width: int | None) -> list[str]:
    """Return the text in lines no wider than the width; an index or a flag's number stays whole."""
    if width is None or cell_len(text) <= width:
        return [text]
    lines = [""]
    for word in _WORD.findall(text):
        if cell_len(lines[-1] + word) <= width:
            lines[-1] += word
        else:
            lines.extend(_pieces(word.lstrip(), width))
    return lines if lines[0] else lines[1:]


def shorten(text: str, width: int | None) -> str:
    """Return the text in at most so many cells; its end, which tells files apart, is kept."""
    if width is None or cell_len(text) <= width:
        return text
    room = max(width - len(DOTS), 1)
    head = _prefix(text, room // 3)
    tail = _prefix(text[::-1], room - cell_len(head))[::-1]
    return head + DOTS + tail


def _width(columns: Sequence[Column]) -> int:
    return sum(c.width for c in columns) + len(GAP) * (len(columns) - 1)


def _pieces(word: str, width: int) -> list[str]:
    """Return a word in pieces no wider than the width: only a path is ever that long."""
    pieces, used = [""], 0
    for character in word:
        used += cell_len(character)
        if used > width:
            pieces.append("")
            used = cell_len(character)
        pieces[-1] += character
    return pieces


def _prefix(text: str, width: int) -> str:
    """Return as much of the text's beginning as fits so many cells."""
    used = 0
    for position, character in enumerate(text):
        used += cell_len(character)
        if used > width:
            return text[:position]
    return text

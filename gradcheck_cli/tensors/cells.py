"""The grammar of one printed number, and what to say about a cell that does not fit it."""

from __future__ import annotations

import re
from typing import NoReturn

from gradcheck_cli.errors import InputError
from gradcheck_cli.records import dataclass
from gradcheck_cli.visible import visible

CELL_LIMIT = 4096

# Every pattern here is linear: no two repetitions can take the same character.
NUMBER = re.compile(
    r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|nan|inf(?:inity)?)", re.ASCII | re.IGNORECASE
)
INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
MISSING = re.compile(r"<?(?:n\.?/?a\.?|#n/a|null|none|nil|missing|-+|\?)>?", re.IGNORECASE)

_ADVICE = (
    (MISSING, "is a missing value; give every cell a number"),
    (re.compile(r"[+-]?0x.*", re.IGNORECASE), "is hexadecimal; write it in decimal, with 17 digits"),
    (re.compile(r"[+-]?\d*\.?\d+[dD][+-]?\d+", re.ASCII), "has a Fortran exponent; write e instead of d"),
    (re.compile(r"[+-]?\d+,\d+", re.ASCII), "has a decimal comma; write the file with decimal points"),
    (re.compile(r"[\d_]*_[\d_]*", re.ASCII), "groups its digits with _; write them without"),
    (re.compile(r"true|false", re.IGNORECASE), "is a truth value; write 0 or 1"),
    (re.compile(r".*[][(){}].*"), "has brackets; write plain numbers, as numpy.savetxt does"),
    (re.compile(r".*#.*"), "has a #; comments are not read, remove them"),
    (re.compile(r'".*|.*"'), "has an open quote or a separator in quotes; write plain numbers"),
    (re.compile(r".*\d[ \t]+[\d.].*", re.ASCII), "is more than one number; use one separator throughout"),
    (re.compile(r".*[ij]", re.IGNORECASE), "is not a number (complex values cannot be checked)"),
)


@dataclass(frozen=True)
class Grid:
    """How the lines of a text are divided."""

    separator: str | None  # None: any run of blanks
    columns: int
    trailing: bool = False  # every line ends with one separator more

    def cells(self, line: str) -> list[str]:
        """Return the cells of a line, without padding and plain quotes."""
        cells = split(line, self.separator)
        if self.trailing and len(cells) > 1 and not cells[-1]:
            cells.pop()
        return cells


def split(line: str, separator: str | None) -> list[str]:
    """Return the cells of a line; blanks around a cell and quotes around a whole cell are dropped."""
    cells = re.split(r"[ \t]+", line.strip(" \t")) if separator is None else line.split(separator)
    return [_bare(cell.strip(" \t")) for cell in cells]


def _bare(cell: str) -> str:
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1]:
        return cell[1:-1].strip(" \t")
    return cell


def refuse_fault(path: str, lines: list[str], first: int, grid: Grid) -> NoReturn:
    """Name the first fault of lines that the fast reader did not take."""
    for number, line in enumerate(lines, first):
        where = f"{visible(path)}, line {number}"
        if not line:
            raise InputError(f"{where}: blank line inside the data; remove it, or give the row its numbers")
        if not line.strip(" \t"):
            raise InputError(f"{where}: a line of nothing but blanks; remove it")
        cells = grid.cells(line)
        if grid.trailing and split(line, grid.separator)[-1]:
            raise InputError(f"{where}: no separator at its end, which every line before has")
        for column, cell in enumerate(cells, 1):
            reason = fault_of(cell)
            if reason is None:
                continue
            if not cell and column == len(cells) == grid.columns + 1:
                raise InputError(f"{where}: a separator at its end, which the lines before do not have")
            raise InputError(f"{where}, column {column}: {reason}")
        if len(cells) != grid.columns:
            raise InputError(f"{where}: {len(cells)} columns, where the lines before have {grid.columns}")
    raise InputError(f"{visible(path)}, line {first}: cannot be read as numbers")


def fault_of(cell: str) -> str | None:
    """Return what is wrong with a cell, or None for a number."""
    shown = f"'{visible(cell, 40)}'"
    if not cell:
        return "empty cell; give every cell a number"
    if len(cell) > CELL_LIMIT:
        return f"{shown} has {len(cell)} characters; more than {CELL_LIMIT} are not read"
    if NUMBER.fullmatch(cell):
        if abs(float(cell)) == float("inf") and not re.search("n", cell, re.IGNORECASE):
            return f"{shown} is too large for a double; write inf if that is meant"
        return None
    for pattern, words in _ADVICE:
        if pattern.fullmatch(cell):
            return f"{shown} {words}"
    return f"{shown} is not a number"


def underflows(cell: str) -> bool:
    """Whether a number that is not zero is read as zero."""
    mantissa = re.split("[eE]", cell)[0]
    return bool(re.search("[1-9]", mantissa)) and float(cell) == 0.0

"""What the first lines of a text tell: separator, header, number of columns."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from gradcheck_cli.errors import InputError
from gradcheck_cli.records import dataclass
from gradcheck_cli.tensors.cells import CELL_LIMIT, INTEGER, MISSING, NUMBER, Grid, fault_of, split
from gradcheck_cli.visible import visible

COLUMN_LIMIT = 1 << 20

_NAMES = {",": "a comma", ";": "';'", "\t": "a tab", None: "blanks"}


@dataclass(frozen=True)
class Heading:
    """How to read the lines from ``first`` on."""

    grid: Grid
    header: bool
    notes: tuple[str, ...]


def heading_of(path: str, lines: list[str], role: str, told: bool | None) -> Heading:  # noqa: FBT001 - an option
    """Return the heading that the first one or two lines of a text make; ``told`` is --header."""
    first = lines[0]
    separator = _separator(first)
    _check_width(path, first, separator, 1)
    header = bool(first.strip(" \t")) and _is_header(path, first, separator) if told is None else told
    notes = []
    if header:
        if len(lines) == 1 or not lines[1]:
            raise InputError(f"{visible(path)}: has a header and no data: nothing to verify")
        notes.append("first line taken as a header" + (" (--header)" if told else ""))
        separator = _separator(lines[1])
        _check_width(path, lines[1], separator, 2)
    grid = _grid(lines[1] if header else first, separator)
    if header:
        _check_header(path, split(first, separator), grid)
    elif told is None and role != "labels" and len(lines) > 1 and lines[1]:
        _check_numbered(path, first, grid)
    if separator != ",":
        notes.append(f"separator {_NAMES[separator]}")
    if grid.trailing:
        notes.append("separator at the end of every line dropped")
    return Heading(grid, header, tuple(notes))


def _separator(line: str) -> str | None:
    """Return ``; tab ,`` or None for blanks; a line of one cell counts as separated by commas."""
    for separator in (";", "\t", ","):
        if separator in line.strip(" \t" if separator != "\t" else " "):
            return separator
    return None if " " in line.strip(" ") else ","


def _grid(line: str, separator: str | None) -> Grid:
    if separator is None:
        return Grid(separator, len(line.split()))
    columns = line.count(separator) + 1
    trailing = columns > 1 and not line.rpartition(separator)[2].strip(" \t")
    return Grid(separator, columns - trailing, trailing)


def _check_width(path: str, line: str, separator: str | None, number: int) -> None:
    columns = line.count(" " if separator is None else separator) + 1
    if separator is not None and columns > COLUMN_LIMIT:
        raise InputError(f"{visible(path)}, line {number}: {columns} columns; the limit is {COLUMN_LIMIT}")


def _is_header(path: str, line: str, separator: str | None) -> bool:
    """Whether the first line is names; a line that could as well be a damaged row is refused."""
    if _is_row(line, separator):
        return False
    cells = split(line, separator)
    numbers = [NUMBER.fullmatch(cell) is not None for cell in cells]
    if all(numbers) or (all(numbers[:-1]) and numbers[:-1] and not cells[-1]):
        return False
    if not cells[0]:
        raise InputError(
            f"{visible(path)}, line 1: the first cell is empty, so the first column looks like an index; "
            "save the file without it (pandas: index=False)"
        )
    for column, cell in enumerate(cells, 1):
        if numbers[column - 1] or not _is_name(cell):
            _refuse_first(path, column, cells, numbers)
    return True


def _is_row(line: str, separator: str | None) -> bool:
    """Whether numpy takes a line as numbers: quick, and what it takes too much of is refused as data."""
    try:
        return bool(line.strip()) and np.loadtxt([line], delimiter=separator, comments=None).size > 0
    except ValueError:
        return False


def _is_name(cell: str) -> bool:
    """Whether a cell can be the name of a column, and not a number that somebody mistyped."""
    if not cell:
        return True
    odd = cell[0].isdigit() or cell[0] in "+-.\u2212([{" or len(cell) > CELL_LIMIT
    return not odd and MISSING.fullmatch(cell) is None


def _refuse_first(path: str, column: int, cells: list[str], numbers: list[bool]) -> NoReturn:
    """Name the cell that keeps a first line from being numbers."""
    if numbers[column - 1]:
        column = numbers.index(False) + 1
    reason = fault_of(cells[column - 1])
    hint = " (nor is the line a header: other cells are numbers)" if any(numbers) else ""
    raise InputError(f"{visible(path)}, line 1, column {column}: {reason}{hint}")


def _check_header(path: str, names: list[str], grid: Grid) -> None:
    if grid.separator is None:  # names may hold blanks
        return
    count = len(names) - (1 if len(names) == grid.columns + 1 and not names[-1] else 0)
    if count != grid.columns:
        raise InputError(
            f"{visible(path)}: the header has {count} columns, line 2 has {grid.columns}"
            " (a comment, or an index column? save the file without it)"
        )


def _check_numbered(path: str, line: str, grid: Grid) -> None:
    """Refuse a first row 0, 1, .. K-1, which pandas writes as a header and which may be data."""
    if "." in line or grid.columns < 2:
        return
    cells = grid.cells(line)
    if not all(INTEGER.fullmatch(cell) for cell in cells):
        return
    if cells == [str(i) for i in range(len(cells))]:
        raise InputError(
            f"{visible(path)}, line 1: 0 .. {len(cells) - 1} is ambiguous, a header or a row of numbers; "
            "pass --header or --no-header"
        )

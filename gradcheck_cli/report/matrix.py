"""A Jacobian for people: the matrix, its finite difference, and how far they are apart, side by side.

And for programs: every entry, as CSV lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from gradcheck_cli.outcome import Matrix, Outcome
from gradcheck_cli.report import numbers
from gradcheck_cli.report.layout import GAP, Column, rows, wrap

HEADING = "bold"
_VALUE_DIGITS = 4
_ERROR_DIGITS = 2


def matrix(outcome: Outcome, width: int | None) -> list[list[Text]]:
    """Return the sections that show the Jacobian of an outcome, none where there is none."""
    shown = outcome.matrix
    if shown is None:
        return []
    where = numbers.index(shown.row) if shown.row else "the only row"
    less = outcome.data.classes - len(shown.classes)
    of = (
        ""
        if not less
        else f", the {len(shown.classes)} likeliest of {numbers.count(outcome.data.classes)} classes"
    )
    label = f"row {where}" if shown.row else where
    sections = [_probabilities(shown, f"softmax a of {label}{of}", width)]
    parts = [
        ("Jacobian da_k/dz_j: a_j (1 - a_j) on the diagonal, -a_k a_j off it", shown.analytic, _VALUE_DIGITS),
        ("by central differences of the softmax", shown.difference, _VALUE_DIGITS),
        ("|difference - Jacobian|", shown.error, _ERROR_DIGITS),
        ("allowed", shown.allowed, _ERROR_DIGITS),
    ]
    if shown.exported is not None:
        parts.insert(1, ("exported", shown.exported, _VALUE_DIGITS))
        parts.insert(2, ("allowed for the exported", shown.exported_allowed, _ERROR_DIGITS))
    sections += [_plane(shown, title, plane, digits, width) for title, plane, digits in parts]
    return sections


def _probabilities(shown: Matrix, title: str, width: int | None) -> list[Text]:
    columns = [
        Column(str(int(k)), [numbers.number(float(a), _VALUE_DIGITS)])
        for k, a in zip(shown.classes, shown.probabilities, strict=True)
    ]
    return [*_titled(title, width), *_chunks(columns, None, width)]


def _plane(shown: Matrix, title: str, plane: Any, digits: int, width: int | None) -> list[Text]:
    names = [str(int(k)) for k in shown.classes]
    columns = [
        Column(name, [numbers.number(float(value), digits) for value in plane[:, j]])
        for j, name in enumerate(names)
    ]
    return [*_titled(title, width), *_chunks(columns, Column("k \\ j", names), width)]


def _titled(title: str, width: int | None) -> list[Text]:
    return [Text(line, style=HEADING) for line in wrap(title, width)]


def _chunks(columns: Sequence[Column], first: Column | None, width: int | None) -> Iterator[Text]:
    """Yield the lines of a table, cut into as many tables one below the other as the width asks for."""
    rest = list(columns)
    while rest:
        taken = [] if first is None else [first]
        used = sum(each.width + len(GAP) for each in taken)
        while rest and (
            width is None or used + rest[0].width <= width or len(taken) < 1 + (first is not None)
        ):
            used += rest[0].width + len(GAP)
            taken.append(rest.pop(0))
        for number, line in enumerate(rows(taken)):
            yield Text(line, style=HEADING if number == 0 else "")


def csv(outcome: Outcome) -> Iterator[str]:
    """Yield the lines of a CSV file with every entry of the matrix, without line ends."""
    shown = outcome.matrix
    if shown is None:
        return
    planes = [shown.analytic, shown.difference, shown.error, shown.allowed]
    names = ["k", "j", "analytic", "difference", "error", "allowed"]
    if shown.exported is not None:
        planes += [shown.exported, shown.exported_allowed]
        names += ["exported", "exported_allowed"]
    yield ",".join(names)
    classes = [int(k) for k in shown.classes]
    for k, *found in zip(classes, *planes, strict=True):
        columns = (row.tolist() for row in found)
        for j, *values in zip(classes, *columns, strict=True):
            yield f"{k},{j}," + ",".join(map(repr, values))

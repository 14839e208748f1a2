"""A batch → CSV: a row for each comparison of each case, a row for each case without one.

A spreadsheet takes a cell that begins with =, +, -, @, tab or return for a formula; text that does gets an
apostrophe before it. Numbers are written in full, and stay numbers.
"""

from __future__ import annotations

import csv as writing
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gradcheck_cli.report.evidence import exported
from gradcheck_cli.summary import Summary
from gradcheck_cli.visible import visible

ABOUT_CASE = ("case", "command", "verdict", "seconds", "rows", "classes", "diagnosis", "message")
ABOUT_CHECK = (
    "entries", "failing", "max_abs_error", "max_rel_error", "max_ulp_error", "max_margin", "required_atol",
    "required_rtol", "explained_by",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv(documents: Iterable[Mapping[str, Any]], summary: Summary) -> Iterator[str]:
    """Yield the heading and the rows."""
    del summary  # the rows have everything
    yield _line([*ABOUT_CASE, "check", "check_verdict", *ABOUT_CHECK])
    for document in documents:
        own = [_told(document, name) for name in ABOUT_CASE]
        for check in exported(document) or [{}]:
            found = [check.get("name"), check.get("verdict"), *(check.get(name) for name in ABOUT_CHECK)]
            yield _line([*own, *found])


def _told(document: Mapping[str, Any], name: str) -> Any:
    if name == "diagnosis":
        return " ".join(each["code"] for each in document.get("diagnosis", ()))
    if name == "message":
        return document.get("message", document.get("error"))
    return document.get("data", {}).get(name) if name in ("rows", "classes") else document.get(name)


def _line(cells: list[Any]) -> str:
    text = io.StringIO()
    writing.writer(text).writerow([_cell(each) for each in cells])
    return text.getvalue()


_NUMBERS = ("NaN", "Infinity", "-Infinity")


def _cell(value: Any) -> Any:
    """Return a cell: numbers as they are, text that no spreadsheet runs."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(value)
    if value in _NUMBERS:
        return value
    shown = visible(value)
    return f"'{shown}" if shown.startswith(FORMULA) else shown

"""What files hold → a table for people, or JSON: no colour, no rich."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gradcheck_cli.inspection import Holding, Inspection
from gradcheck_cli.report import numbers
from gradcheck_cli.report.document import SCHEMA, path_bytes
from gradcheck_cli.report.layout import Column, fit, rows, wrap
from gradcheck_cli.visible import unicode, visible

NONE = "-"


def table(inspections: Sequence[Inspection], width: int | None) -> str:
    """Return a line for each tensor that could be read, and what there is to say about them below."""
    found = [(i, each) for i in inspections for each in i.tensors if each.error is None]
    lines = []
    if found:
        kept, dropped = fit(_columns(found), width)
        lines += rows(kept)
        if dropped:
            lines += wrap(f"(too narrow for {', '.join(column.heading for column in dropped)})", width)
    for inspection, each in found:
        lines += [f"{_name(inspection, each)}: {visible(note)}" for note in each.notes]
    for inspection in inspections:
        if inspection.others:
            others = ", ".join(visible(name, 40) for name in inspection.others)
            lines.append(f"{visible(inspection.path)}: holds besides, not as tensors: {others}")
    return "".join(line + "\n" for line in lines)


def to_json(inspections: Sequence[Inspection]) -> str:
    """Return the same for programs, indented, with a line end."""
    from importlib.metadata import version  # noqa: PLC0415 - slow to import, and only JSON names it

    document: dict[str, Any] = {
        "schema": SCHEMA,
        "softgrad": version("softgrad"),
        "command": "inspect",
        "files": [_plain(asdict(each)) | path_bytes(each.path) for each in inspections],
    }
    return json.dumps(document, allow_nan=False, ensure_ascii=True, indent=2) + "\n"


def _plain(value: Any) -> Any:
    """Return the same with texts that every JSON reader takes; numbers are finite here."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return unicode(value) if isinstance(value, str) else value


def _columns(found: list[tuple[Inspection, Holding]]) -> list[Column]:
    tensors = [each for _, each in found]
    return [
        Column("tensor", [_name(i, each) for i, each in found], right=False),
        Column("format", [i.format or NONE for i, _ in found], rank=4, right=False),
        Column("dtype", [each.dtype or NONE for each in tensors], right=False),
        Column("shape", [numbers.shape(each.shape or ()) for each in tensors], right=False),
        Column("order", [each.order or NONE for each in tensors], rank=5, right=False),
        Column("finite", [_count(each.finite) for each in tensors], rank=3),
        Column("nan", [_count(each.nan) for each in tensors], rank=1),
        Column("-inf", [_count(each.negative_infinite) for each in tensors], rank=1),
        Column("+inf", [_count(each.positive_infinite) for each in tensors], rank=1),
        Column("min", [_value(each.least) for each in tensors], rank=2),
        Column("max", [_value(each.greatest) for each in tensors], rank=2),
        Column("looks like", [_role(each) for each in tensors], rank=2, right=False),
    ]


def _name(inspection: Inspection, each: Holding) -> str:
    return visible(inspection.path if each.member is None else f"{inspection.path}:{each.member}")


def _count(value: int | None) -> str:
    return NONE if value is None else numbers.count(value)


def _value(value: float | None) -> str:
    if value is None:
        return NONE
    return str(value) if isinstance(value, int) else numbers.number(value, numbers.VALUE_DIGITS)


def _role(each: Holding) -> str:
    return NONE if each.role is None else f"{each.role} ({each.because})"

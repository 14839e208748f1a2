"""Outcome → the JSON contract, schema 1: keys are added, never changed.

JSON has no word for NaN and the infinities, and what ``json`` writes for them breaks jq and node:
they are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from itertools import islice
from numbers import Integral
from typing import Any

from gradcheck_cli.outcome import Check, Input, Outcome, Streamed
from gradcheck_cli.visible import unicode

SCHEMA = 1
_TOGETHER = 1 << 13  # numbers written together


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as dicts, lists, strings, numbers, booleans and None."""
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "softgrad": softgrad_version(),
        "command": outcome.command,
        "verdict": outcome.verdict.value,
        "inputs": {each.role: _input(each) for each in outcome.inputs},
        "settings": _plain(outcome.settings),
        "data": _plain(outcome.data),
        "checks": [_check(each) for each in outcome.checks],
        "diagnosis": _plain(outcome.diagnosis),
        "facts": _plain(outcome.facts),
        "warnings": _plain(outcome.warnings),
        "saved": _plain(outcome.saved),
        "seconds": _plain(outcome.seconds),
    }
    if outcome.matrix is not None:
        found["matrix"] = _plain(outcome.matrix)
    if outcome.curves:
        found["curves"] = _plain(outcome.curves)
    return found


def pictured(outcome: Outcome) -> dict[str, Any]:
    """Return one key more where the outcome has pictures: only a page for people shows them."""
    return {"pictures": _plain(outcome.pictures)} if outcome.pictures else {}


@cache
def softgrad_version() -> str:
    """Return the version of the installed package."""
    from importlib.metadata import version  # noqa: PLC0415 - slow to import, and only JSON names it

    return version("softgrad")


def to_json(outcome: Outcome) -> str:
    """Return the document, indented, without a line end."""
    return "".join(poured(outcome, indent=2))


def to_jsonl(outcome: Outcome) -> str:
    """Return the document on one line, without a line end."""
    return "".join(poured(outcome, indent=None))


def poured(outcome: Outcome, *, indent: int | None) -> Iterator[str]:
    """Yield the document in pieces, indented or on one line, without a line end."""
    found = document(outcome)
    separators = None if indent else (",", ":")
    encoder = json.JSONEncoder(allow_nan=False, indent=indent, separators=separators)
    if not isinstance(found.get("matrix", {}).get("analytic"), _Rows):
        yield encoder.encode(found)
        return
    many = encoder.iterencode(found)  # a piece for each number
    while part := "".join(islice(many, _TOGETHER)):
        yield part


def mutation_to_json(found: Any, indent: int | None) -> str:
    """Return what became of planted bugs, without a line end."""
    head = {"schema": SCHEMA, "softgrad": softgrad_version(), "command": "mutate"}
    told = head | {
        "dtype": found.dtype,
        "settings": _plain(found.settings),
        "mutants": [_plain(each) for each in found.fates],
        "seconds": _plain(found.seconds),
    }
    return json.dumps(told, allow_nan=False, ensure_ascii=True, indent=indent)


def _input(each: Input) -> dict[str, Any]:
    plain: dict[str, Any] = _plain(each)
    del plain["role"]  # it is the key
    return plain | path_bytes(each.path)


def path_bytes(path: str) -> dict[str, str]:
    """Return one key more for a file name that is no Unicode, so that a program can still open the file."""
    if unicode(path) == path:
        return {}
    return {"path_bytes_b64": base64.b64encode(path.encode("utf-8", "surrogateescape")).decode("ascii")}


def _check(each: Check) -> dict[str, Any]:
    """Return one comparison with its keys in the order of the contract."""
    plain: dict[str, Any] = _plain(each)
    plain["worst"] = plain.pop("worst")
    return plain


_PLAIN = frozenset({int, bool, type(None)})


@cache
def _is_record(kind: type[Any]) -> bool:
    """Tell whether values of this type are records; asking each record again took a third of the time."""
    return is_dataclass(kind)


def _plain(value: Any) -> Any:
    """Return what ``json`` can write: records and NumPy scalars become plain values."""
    kind: Any = type(value)
    if kind in _PLAIN or (kind is float and math.isfinite(value)):  # nearly all
        return value
    if isinstance(value, str):
        return unicode(value if kind is str else str(value.value) if hasattr(value, "value") else str(value))
    if _is_record(kind):
        return {
            name: each
            if (of := type(each)) in _PLAIN or (of is float and math.isfinite(each))
            else _plain(each)
            for name, each in vars(value).items()
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, Streamed)):
        return _Rows(value) if isinstance(value, Streamed) else [_plain(item) for item in value]
    return _scalar(value)


class _Rows(list[Any]):
    """The rows of a streamed plane, as a list that ``json`` goes through and never has as a whole."""

    def __init__(self, streamed: Streamed) -> None:
        super().__init__([None])  # json writes an empty list without asking for its rows
        self._streamed = streamed

    def __iter__(self) -> Iterator[Any]:
        return map(_plain, self._streamed)


def _scalar(value: Any) -> Any:
    """Return a number, or what else stands alone, in JSON's words."""
    if isinstance(value, Integral):
        return int(value)
    if type(value).__name__ == "bool" and hasattr(value, "item"):  # numpy.bool is no bool
        return bool(value)
    if hasattr(value, "tolist") and hasattr(value, "ndim") and value.ndim:
        return _plain(value.tolist())
    if not hasattr(value, "__float__"):
        return str(value)
    real = float(value)
    if math.isnan(real):
        return "NaN"
    return real if math.isfinite(real) else ("Infinity" if real > 0 else "-Infinity")

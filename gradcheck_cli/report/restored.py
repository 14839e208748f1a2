"""The JSON contract → outcome: what a batch keeps of its cases, and a shard's report brings back.

Whoever wrote the document, it becomes an outcome of plain and well-typed values, or is refused.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from gradcheck_cli.outcome import (
    Check,
    Data,
    Diagnosis,
    Fact,
    Input,
    Outcome,
    Picture,
    Saved,
    Warning,  # noqa: A004 - the word of the JSON contract
)

_MOST = 1 << 62  # of a count, an index or a class


def outcome_of(document: Mapping[str, Any]) -> Outcome:
    """Return the outcome that a document is of; a Jacobian's matrix and a sweep's curves stay behind.

    Raises
    ------
    LookupError, TypeError, ValueError
        If the document is of another kind.
    """
    inputs = tuple(_record(Input, {**each, "role": role}) for role, each in document["inputs"].items())
    return Outcome(
        command=_value(str, document["command"]),
        inputs=inputs,
        settings={name: _setting(each) for name, each in document["settings"].items()},
        data=_record(Data, document["data"]),
        checks=_value(tuple[Check, ...], document["checks"]),
        seconds=_value(float, document["seconds"]),
        warnings=_value(tuple[Warning, ...], document["warnings"]),
        diagnosis=_value(tuple[Diagnosis, ...], document["diagnosis"]),
        facts=_value(tuple[Fact, ...], document["facts"]),
        saved=_value(Saved | None, document["saved"]),
        pictures=_value(tuple[Picture, ...], document.get("pictures", [])),
    )


@cache
def _fields(kind: Any) -> tuple[tuple[Field[Any], Any], ...]:
    """Return the fields of a record, each with its type."""
    hints = get_type_hints(kind)
    return tuple((each, hints[each.name]) for each in fields(kind))


def _record(kind: Any, plain: Mapping[str, Any]) -> Any:
    """Return a record of a kind; what it has no field for is left out, as a later version may have more."""
    known = {}
    for each, hint in _fields(kind):
        if each.name in plain or (each.default is MISSING and each.default_factory is MISSING):
            known[each.name] = _value(hint, plain[each.name])
    return kind(**known)


def _value(hint: Any, plain: Any) -> Any:
    """Return a value of a type: a record, an enumeration, a tuple, or what stands alone."""
    if isinstance(hint, types.UnionType):
        return None if plain is None else _value(get_args(hint)[0], plain)
    if get_origin(hint) is tuple:
        if not isinstance(plain, list):
            raise TypeError("not a list")
        items = get_args(hint)
        kinds = [items[0]] * len(plain) if items[-1] is ... else items
        return tuple(_value(kind, each) for kind, each in zip(kinds, plain, strict=True))
    if is_dataclass(hint):
        return _record(hint, plain)
    if issubclass(get_origin(hint) or hint, Enum):
        return hint(plain)
    return _alone(get_origin(hint) or hint, plain)


def _alone(kind: type[Any], plain: Any) -> Any:
    """Return a number, a text or a dict; ``"NaN"`` and ``"Infinity"`` are words that float knows."""
    if kind is float:
        return float(plain)
    if not isinstance(plain, kind) or isinstance(plain, bool):
        raise TypeError(f"not {kind.__name__}")
    if isinstance(plain, int) and not -_MOST < plain < _MOST:
        raise ValueError("no count")
    return plain


def _setting(plain: Any) -> Any:
    """Return the value of an option; several are a tuple, as they were."""
    return tuple(plain) if isinstance(plain, list) else plain

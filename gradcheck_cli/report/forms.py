"""The formats of a batch by their name; each is made only when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from gradcheck_cli.summary import Summary

Documents = Iterable[Mapping[str, Any]]


def pieces(form: str, documents: Documents, summary: Summary) -> Iterator[str]:
    """Return the report of a batch in a format, in pieces, one or more for each case."""
    return _renderer(form)(documents, summary)


def _renderer(form: str) -> Callable[[Documents, Summary], Iterator[str]]:
    own = {"json": _json, "jsonl": _jsonl}
    if form in own:
        return own[form]
    found: Callable[[Documents, Summary], Iterator[str]]
    found = getattr(import_module(f"gradcheck_cli.report.{form}"), form)  # a module has its format's name
    return found


def _one_line(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))


def _jsonl(documents: Documents, summary: Summary) -> Iterator[str]:
    for document in documents:
        yield _one_line(document) + "\n"
    yield _one_line({"summary": summary.document()}) + "\n"


def _json(documents: Documents, summary: Summary) -> Iterator[str]:
    """Yield the cases a line each, so that no more than one is held at a time."""
    yield '{"cases": ['
    separator = "\n"
    for document in documents:
        yield separator + _one_line(document)
        separator = ",\n"
    yield '\n],\n"summary": ' + _one_line(summary.document()) + "}\n"

"""One outcome in the formats of a batch: a batch of one case, named after its logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gradcheck_cli.outcome import Outcome
from gradcheck_cli.report.document import document, pictured, to_json, to_jsonl
from gradcheck_cli.report.forms import pieces
from gradcheck_cli.report.sentence import sentence
from gradcheck_cli.summary import Head, Summary


def named(name: str, number: int, message: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of an outcome as that of a case: its name, and the verdict in a sentence."""
    return {"case": name, "number": number, "message": message, **found}


def single(form: str, outcome: Outcome) -> Iterator[str]:
    """Return the report of one outcome in a format, in pieces; JSON is that of the command itself."""
    if form in ("json", "jsonl"):
        return iter([(to_json if form == "json" else to_jsonl)(outcome) + "\n"])
    name = outcome.inputs[0].path if outcome.inputs else outcome.command
    return alone(form, named(name, 0, sentence(outcome), document(outcome) | pictured(outcome)))


def alone(form: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Return the report of a case that is a batch by itself; a page for people is about the case alone."""
    if form == "html":
        from gradcheck_cli.report import html  # noqa: PLC0415 - of seven formats

        return html.alone(found)
    summary = Summary(1)
    summary.add(Head.of_document(found))
    return pieces(form, [found], summary)

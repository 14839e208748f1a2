"""One outcome in the formats of a batch: a batch of one case, named after its logits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from gradcheck_cli.outcome import Outcome
from gradcheck_cli.report.document import document, pictured, poured
from gradcheck_cli.report.forms import pieces
from gradcheck_cli.report.sentence import sentence
from gradcheck_cli.summary import Head, Summary

_TOGETHER = 1 << 10  # lines written together


def named(name: str, number: int, message: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of an outcome as that of a case: its name, and the verdict in a sentence."""
    return {"case": name, "number": number, "message": message, **found}


def single(form: str, outcome: Outcome) -> Iterator[str]:
    """Return the report of one outcome in a format, in pieces; JSON is that of the command itself."""
    if form in ("json", "jsonl"):
        return chain(poured(outcome, indent=2 if form == "json" else None), ["\n"])
    if form == "csv" and (outcome.curves or outcome.matrix is not None):
        from gradcheck_cli.report import curves, matrix  # noqa: PLC0415 - of a study: every step or entry

        return _lines(curves.csv(outcome) if outcome.curves else matrix.csv(outcome))
    name = outcome.inputs[0].path if outcome.inputs else outcome.command
    return alone(form, named(name, 0, sentence(outcome), document(outcome) | pictured(outcome)))


def _lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines with their ends, many together: each piece is written by itself."""
    rest = iter(lines)
    while some := list(islice(rest, _TOGETHER)):
        yield "\n".join([*some, ""])


def alone(form: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Return the report of a case that is a batch by itself; a page for people is about the case alone."""
    if form == "html":
        from gradcheck_cli.report import html  # noqa: PLC0415 - of seven formats

        return html.alone(found)
    summary = Summary(1)
    summary.add(Head.of_document(found))
    return pieces(form, [found], summary)

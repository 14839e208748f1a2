"""One outcome in the formats of a batch: a batch of one case, named after its logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gradcheck_cli.outcome import Outcome
from gradcheck_cli.report.document import document, to_json, to_jsonl
from gradcheck_cli.report.forms import pieces
from gradcheck_cli.report.sentence import sentence
from gradcheck_cli.summary import Head, Summary


def named(name: str, number: int, message: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of an outcome as that of a case: its name, and the verdict in a sentence."""
    return {"case": name, "number": number, "message": message, **found}


def single(form: str, outcome: Outcome, pictures: Sequence[Mapping[str, Any]] = ()) -> Iterator[str]:
    """Return the report of one outcome in a format, in pieces; JSON is that of the command itself."""
    if form in ("json", "jsonl"):
        return iter([(to_json if form == "json" else to_jsonl)(outcome) + "\n"])
    if form == "csv" and (outcome.curves or outcome.matrix is not None):
        from gradcheck_cli.report import curves, matrix  # noqa: PLC0415 - of a study: every step or entry

        return (f"{each}\n" for each in (curves.csv if outcome.curves else matrix.csv)(outcome))
    name = outcome.inputs[0].path if outcome.inputs else outcome.command
    return alone(form, {**named(name, 0, sentence(outcome), document(outcome)), "pictures": list(pictures)})


def alone(form: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Return the report of a case that is a batch by itself."""
    summary = Summary(1)
    summary.add(Head.of_document(found))
    return pieces(form, [found], summary)

"""A batch → Markdown for a step summary or a merge request, below the size that GitHub takes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gradcheck_cli.report import numbers
from gradcheck_cli.report.words import STATES, diagnosed, headline, said, verdict_of
from gradcheck_cli.summary import VERDICTS, Head, Summary
from gradcheck_cli.visible import visible

LIMIT = 1 << 20
"""Bytes of a step summary; a longer one is refused whole."""

_ROOM = 900_000  # bytes of the table: what stands around it is short
_MEANING = re.compile(r"[\\`*_{}\[\]<>#|@&~$:]")
_MESSAGE = 300  # characters


def markdown(documents: Iterable[Mapping[str, Any]], summary: Summary) -> Iterator[str]:
    """Yield the report: the counts, then the cases that did not pass as far as there is room."""
    del documents  # the summary has what is told of them
    yield f"### softgrad: {STATES[verdict_of(summary)]}\n\n{headline(summary)}\n\n"
    yield "| verdict | cases |\n|---|---:|\n"
    yield "".join(f"| {each} | {numbers.count(summary.counts[each])} |\n" for each in VERDICTS)
    if summary.codes:
        yield f"\n{plain(diagnosed(summary))}\n"
    heads = summary.failures
    if heads:
        yield "\n| verdict | case | margin | found |\n|---|---|---:|---|\n"
    listed, used = 0, 0
    for head in heads:
        row = _row(head)
        used += len(row.encode())
        if used > _ROOM:
            break
        yield row
        listed += 1
    more = summary.done - summary.counts["pass"] - listed
    if more:
        yield f"\nand {numbers.many(more, 'more case', 'more cases')}\n"


def plain(text: str) -> str:
    """Return text that Markdown shows as it stands: every sign that could mean something is an entity."""
    return _MEANING.sub(lambda match: f"&#{ord(match.group())};", visible(text))


def _row(head: Head) -> str:
    margin = "" if head.margin is None else numbers.margin(head.margin)
    message = plain(visible(said(head), _MESSAGE))
    return f"| {html.escape(STATES[head.verdict])} | {plain(head.case)} | {margin} | {message} |\n"

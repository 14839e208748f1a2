"""A batch → one HTML file: summary, failures to sort, and all there is to know about each failing case."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gradcheck_cli.report import frame, numbers
from gradcheck_cli.report.dossier import dossier, page
from gradcheck_cli.report.restored import outcome_of
from gradcheck_cli.report.words import STATES, counted, diagnosed, headline, verdict_of
from gradcheck_cli.summary import VERDICTS, Head, Summary

DETAILED = 100
"""Cases that did not pass of which everything is shown."""

_SCRIPT = """
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), column = head.cellIndex, body = head.closest("table").tBodies[0];
    const down = head.dataset.down !== "1";
    for (const each of head.parentNode.cells) { delete each.dataset.down; }
    if (down) { head.dataset.down = "1"; }
    const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
    const order = (a, b) => {
      const x = key(a), y = key(b), n = Number(x) - Number(y);
      return Number.isNaN(n) ? x.localeCompare(y) : n;
    };
    const rows = [...body.rows].sort((a, b) => (down ? 1 : -1) * order(a, b));
    body.append(...rows);
  });
}
"""


def html(documents: Iterable[Mapping[str, Any]], summary: Summary) -> Iterator[str]:
    """Yield the file in pieces."""
    verdict = verdict_of(summary)
    yield frame.begin(f"{STATES[verdict]} {headline(summary)}", _SCRIPT)
    yield f"<h1>{frame.verdict(verdict, STATES[verdict])} {frame.text(headline(summary))}</h1>\n"
    yield f'{_counts(summary)}<p class="aside">{frame.text(counted(summary))}</p>\n'
    if summary.codes:
        yield f"<p>Diagnosis: {frame.text(diagnosed(summary))}</p>\n"
    if summary.worst is not None and summary.worst.margin is not None:
        worst = f"{summary.worst.case}, {summary.worst.check}: margin {numbers.margin(summary.worst.margin)}"
        yield f"<p>Worst: {frame.text(worst)}</p>\n"
    yield from _failures(summary.failures)
    detailed = 0
    for document in documents:
        if document["verdict"] != "pass" and detailed < DETAILED:
            detailed += 1
            yield from _case(document)
    left = summary.done - summary.counts["pass"] - detailed
    if left:
        more = numbers.many(left, "more case", "more cases")
        yield f"<p>The evidence of {more} is in the JSON report.</p>\n"
    yield frame.end(_SCRIPT)


def alone(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a file about one case that nothing stands beside."""
    if document["verdict"] != "error":
        yield from page(outcome_of(document))
        return
    yield frame.begin(f"{STATES['error']} {document['error']}")
    yield f"<h1>{frame.verdict('error', STATES['error'])} {frame.text(document['error'])}</h1>\n"
    yield frame.end()


def _anchor(case: str) -> str:
    """Return where a case stands in the file: names differ, and may hold anything."""
    return "case-" + hashlib.sha256(case.encode(errors="surrogatepass")).hexdigest()[:16]


def _counts(summary: Summary) -> str:
    rows = "".join(
        f'<tr><td class="{each}">{each}</td><td class="n">{numbers.count(summary.counts[each])}</td></tr>\n'
        for each in VERDICTS
    )
    return f"<table>\n<tbody>\n{rows}</tbody>\n</table>\n"


def _failures(heads: list[Head]) -> Iterator[str]:
    """Yield the table of cases that did not pass; its headings sort it."""
    if not heads:
        return
    names = "".join(
        f'<th><button type="button">{each}</button></th>'
        for each in ("verdict", "case", "margin", "diagnosis", "found")
    )
    yield f"<h2>Cases that did not pass</h2>\n<table>\n<thead>\n<tr>{names}</tr>\n</thead>\n<tbody>\n"
    for head in heads:
        margin = "" if head.margin is None else numbers.margin(head.margin)
        yield (
            f"<tr><td>{frame.verdict(head.verdict, head.verdict)}</td>"
            f'<td class="w"><a href="#{_anchor(head.case)}">{frame.text(head.case)}</a></td>'
            f'<td class="n" data-key="{-1.0 if head.margin is None else head.margin!r}">{margin}</td>'
            f'<td>{frame.text(" ".join(head.code))}</td><td class="w">{frame.text(head.message)}</td></tr>\n'
        )
    yield "</tbody>\n</table>\n"


def _case(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield one case: its verdict, its evidence, its pictures."""
    kind, message = document["verdict"], document.get("message", document.get("error", ""))
    yield f'<h2 id="{_anchor(document["case"])}">{frame.text(document["case"])}</h2>\n'
    yield f"<p>{frame.verdict(kind, STATES[kind])} {frame.text(message)}</p>\n"
    if kind != "error":
        yield from dossier(outcome_of(document))

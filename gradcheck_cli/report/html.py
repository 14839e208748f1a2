"""A batch → one HTML file: summary, failures to sort, and where the errors of each failing case are.

The file stands alone: no script but its own, nothing fetched, and a policy that says so. Every word of
somebody else is escaped; pictures are SVG.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from gradcheck_cli.report import numbers
from gradcheck_cli.report.drawing import heat_map, histogram
from gradcheck_cli.report.evidence import evidence
from gradcheck_cli.report.words import STATES, counted, diagnosed, headline, verdict_of
from gradcheck_cli.summary import VERDICTS, Head, Summary
from gradcheck_cli.visible import visible

DETAILED = 100
"""Cases that did not pass of which everything is shown."""

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222;
background:#fff}
table{border-collapse:collapse;margin:1rem 0}
th,td{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
th button{font:inherit;font-weight:600;border:0;background:none;cursor:pointer;padding:0}
td.n{text-align:right;font-variant-numeric:tabular-nums}
pre{background:#f6f6f6;padding:.7rem;overflow-x:auto}
.fail{color:#b00020;font-weight:600}
.error,.inconclusive{color:#8a5a00;font-weight:600}
.pass{color:#1b6e2c;font-weight:600}
figure{display:inline-block;margin:.5rem 2rem .5rem 0;vertical-align:top}
figcaption{font-size:.85rem;color:#555;max-width:24rem}
svg text{font:11px system-ui,sans-serif;fill:#444}
"""

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
    yield _head(summary)
    yield f'<h1><span class="{verdict_of(summary)}">{STATES[verdict_of(summary)]}</span> softgrad</h1>\n'
    yield f"<p>{_text(headline(summary))}</p>\n<p>{_text(counted(summary))}</p>\n{_counts(summary)}"
    if summary.codes:
        yield f"<p>Diagnosis: {_text(diagnosed(summary))}</p>\n"
    if summary.worst is not None and summary.worst.margin is not None:
        worst = f"{summary.worst.case}, {summary.worst.check}: margin {numbers.margin(summary.worst.margin)}"
        yield f"<p>Worst: {_text(worst)}</p>\n"
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
    yield f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"


def _head(summary: Summary) -> str:
    """Return the head: the policy admits this script, by its hash, and no other."""
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy, quote=True)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>softgrad: {STATES[verdict_of(summary)]}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    )


def _text(text: str) -> str:
    return escape(visible(text), quote=True)


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
            f'<tr><td class="{head.verdict}">{head.verdict}</td>'
            f'<td><a href="#{_anchor(head.case)}">{_text(head.case)}</a></td>'
            f'<td class="n" data-key="{-1.0 if head.margin is None else head.margin!r}">{margin}</td>'
            f"<td>{_text(' '.join(head.code))}</td><td>{_text(head.message)}</td></tr>\n"
        )
    yield "</tbody>\n</table>\n"


def _case(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield one case: its verdict, its evidence, its pictures."""
    verdict, message = document["verdict"], document.get("message", document.get("error", ""))
    yield f'<h2 id="{_anchor(document["case"])}">{_text(document["case"])}</h2>\n'
    yield f'<p><span class="{escape(verdict, quote=True)}">{_text(verdict)}</span> {_text(message)}</p>\n'
    lines = "\n".join(map(_text, evidence(document)))
    if lines:
        yield f"<pre>{lines}</pre>\n"
    for picture in document.get("pictures", ()):
        yield heat_map(picture)
        yield histogram(picture)

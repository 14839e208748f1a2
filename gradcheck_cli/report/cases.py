"""A batch → what a terminal shows: counts, the cases that did not pass, the worst, the diagnoses.

A table of ten thousand rows tells nobody anything: at most so many failing cases are listed, and the formats
for programs have them all.
"""

from __future__ import annotations

from rich.text import Text

from gradcheck_cli.report import numbers
from gradcheck_cli.report.layout import GAP, Column, fit, pad, rows, wrap
from gradcheck_cli.report.words import STATES, counted, diagnosed, headline, said, verdict_of
from gradcheck_cli.summary import Head, Summary
from gradcheck_cli.visible import visible

LISTED = 20
STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "error": "bold yellow"}
_LEAST = 24  # cells that running text keeps


def render(summary: Summary, *, width: int | None = None, listed: int = LISTED) -> Text:
    """Return the whole report of a batch; at most so many failing cases are listed."""
    verdict = verdict_of(summary)
    sections = [
        [Text.assemble((STATES[verdict], STYLES[verdict]), GAP, headline(summary))],
        _failures(summary, width, listed),
        _facts(summary, width),
        [Text.assemble((STATES[verdict], STYLES[verdict]), GAP, visible(counted(summary)))],
    ]
    shown = [Text("\n").join(lines) for lines in sections if lines]
    return Text("\n\n").join(shown)


def line(head: Head) -> Text:
    """Return one case on a line, as it is told while the batch runs."""
    return Text.assemble(
        (STATES[head.verdict], STYLES[head.verdict]), f"  {visible(head.case)}: {said(head)}"
    )


def _failures(summary: Summary, width: int | None, listed: int) -> list[Text]:
    heads = summary.failures[:listed]
    if not heads:
        return []
    columns = [
        Column("verdict", [STATES[head.verdict] for head in heads], right=False),
        Column("case", [visible(head.case) for head in heads], right=False),
        Column("margin", ["-" if h.margin is None else numbers.margin(h.margin) for h in heads], rank=1),
    ]
    found = Column("found", [said(head) for head in heads], right=False)
    beside = width is None or sum(each.width + len(GAP) for each in columns) + found.width <= width
    heading, *lines = rows([*columns, found] if beside else fit(columns, width)[0])
    shown = [Text(heading, style="bold")]
    for head, told in zip(heads, lines, strict=True):
        text = Text(told)
        text.stylize(STYLES[head.verdict], 0, len(STATES[head.verdict]))
        shown.append(text)
        if not beside and width is not None:
            shown += [Text(GAP + line) for line in wrap(said(head), max(width - len(GAP), _LEAST))]
    more = summary.done - summary.counts["pass"] - len(heads)
    if more:
        told = f"and {numbers.many(more, 'more case', 'more cases')}; --format jsonl has them all"
        shown.append(Text(told, style="dim"))
    return shown


def _facts(summary: Summary, width: int | None) -> list[Text]:
    """Return the worst case, what the failures were, and what a reader may have missed."""
    facts = []
    if summary.worst is not None and summary.worst.margin is not None:
        worst = summary.worst
        where = "" if worst.check is None else f", {worst.check}"
        facts.append(("worst", f"{worst.case}{where}: margin {numbers.margin(summary.worst.margin)}"))
    if summary.codes:
        facts.append(("diagnosis", diagnosed(summary)))
    if summary.unjudged:
        cases = numbers.many(summary.unjudged, "case had", "cases had")
        facts.append(("note", f"{cases} no exported tensor to judge: softgrad checked itself on the logits"))
    label = max((len(name) for name, _ in facts), default=0)
    shown = []
    for name, told in facts:
        first, *others = wrap(visible(told), None if width is None else max(width - label - len(GAP), 24))
        shown.append(Text.assemble((pad(name, label), "bold"), GAP, first))
        shown += [Text(" " * (label + len(GAP)) + other) for other in others]
    return shown

"""Outcome → what a terminal shows: the verdict and its reason first, then the evidence.

A number is never cut and a user's text is never markup. The lines are already as wide as they
will be, so print them as they are: ``console.print(render(...), soft_wrap=True)``.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from gradcheck_cli.outcome import Check, Input, Outcome, Verdict
from gradcheck_cli.report import checks, facts, numbers
from gradcheck_cli.report.curves import curves
from gradcheck_cli.report.layout import GAP, Column, fit, pad, rows, shorten, wrap
from gradcheck_cli.report.matrix import matrix
from gradcheck_cli.report.picture import Palette, pictures
from gradcheck_cli.report.remarks import ASIDE, HEADING, labelled, reason_lines, told_lines, warning_lines
from gradcheck_cli.report.sentence import sentence, word
from gradcheck_cli.report.worst import left_out, worst_of_each
from gradcheck_cli.visible import visible

STYLES = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}
PATH_LEAST = 24  # cells a path keeps, however narrow the terminal
LABEL_LEAST = len("settings")  # so that roles and facts stand in one column


def render(
    outcome: Outcome,
    *,
    width: int | None = None,
    top: int = 5,
    verbose: bool = False,
    palette: Palette = Palette.BLOCKS,
) -> Text:
    """Return the whole report.

    Parameters
    ----------
    outcome
        What was found.
    width
        Cells in a line; None for as many as the lines need (a pipe, a file).
    top
        Worst entries to show of each failing check.
    verbose
        Show every setting, the worst entries of passing checks, and the coverage and the allowance
        of each check.
    palette
        What the pictures, where the outcome has any, are made of.

    """
    sections = [
        _headline(outcome, width),
        reason_lines(outcome, width),
        _inputs(outcome, width, verbose=verbose),
        *matrix(outcome, width),
        *curves(outcome, width),
        _checks(outcome.checks, width),
        *worst_of_each(outcome, width, top, verbose=verbose),
        *pictures(outcome, palette),
        _aligned(facts.grounds(outcome, verbose=verbose), width),
        warning_lines(outcome, width, verbose=verbose),
        _aligned(facts.saved(outcome), width),
        _last(outcome, width),
    ]
    shown = [Text("\n").join(lines) for lines in sections if lines]
    return Text("\n\n").join(shown)


def _headline(outcome: Outcome, width: int | None) -> list[Text]:
    verdict = word(outcome.verdict)
    return list(labelled(verdict, sentence(outcome), len(verdict), width, STYLES[outcome.verdict]))


def _last(outcome: Outcome, width: int | None) -> list[Text]:
    """Return the verdict once more, for a log that is read from its end."""
    verdict = word(outcome.verdict)
    return list(labelled(verdict, facts.ending(outcome), len(verdict), width, STYLES[outcome.verdict]))


def _inputs(outcome: Outcome, width: int | None, *, verbose: bool) -> list[Text]:
    """Return the tensors, then the problem that they pose and the settings."""
    label = max((LABEL_LEAST, *(cell_len(visible(each.role)) for each in outcome.inputs)))
    told = facts.subject(outcome, verbose=verbose)
    return [*_tensors(outcome.inputs, label, width), *told_lines(told, label, width)]


def _tensors(inputs: Sequence[Input], label: int, width: int | None) -> list[Text]:
    """Return a line for each tensor, its path last, and what was assumed about it below."""
    columns = [
        Column("input", [pad(visible(i.role), label) for i in inputs], right=False),
        Column("dtype", [visible(i.dtype) for i in inputs], right=False),
        Column("shape", [numbers.shape(i.shape) for i in inputs], right=False),
    ]
    paths = [facts.place(i) for i in inputs]
    room = None if width is None else width - sum(c.width + len(GAP) for c in columns)
    beside = room is None or room >= PATH_LEAST
    if beside:
        columns.append(Column("path", [shorten(path, room) for path in paths], right=False))
    heading, *lines = rows(columns)
    shown = [Text(heading, style=HEADING)] if inputs else []
    for each, line, path in zip(inputs, lines, paths, strict=True):
        shown.append(Text(line))
        below = [] if beside or width is None else [shorten(path, width - label - len(GAP))]
        for note in (*below, *facts.notes(each)):
            shown.extend(labelled("", note, label, width, ASIDE))
    return shown


def _aligned(told: Sequence[facts.Told], width: int | None) -> list[Text]:
    """Return labels in a column, and what they say beside it."""
    return list(told_lines(told, max((len(label) for label, _ in told), default=0), width))


def _checks(found: Sequence[Check], width: int | None) -> list[Text]:
    """Return a row for each check, and what is to be known about the table."""
    if not found:
        return []
    ordered = checks.in_order(found)
    table = _table(checks.columns(ordered), width, [c.verdict for c in ordered])
    return table + [
        Text(line, style=ASIDE) for each in checks.footnotes(ordered) for line in wrap(each, width)
    ]


def _table(columns: list[Column], width: int | None, verdicts: Sequence[Verdict]) -> list[Text]:
    """Return a table whose rows end with their verdict, and what was left out of it."""
    kept, dropped = fit(columns, width)
    heading, *lines = rows(kept)
    shown = [Text(heading, style=HEADING)]
    for line, verdict in zip(lines, verdicts, strict=True):
        text = Text(line)
        text.stylize(STYLES[verdict], len(line) - len(word(verdict)))
        shown.append(text)
    return shown + left_out(dropped, width)

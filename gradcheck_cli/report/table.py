"""Outcome → what a terminal shows: the verdict and its reason first, then the evidence.

A number is never cut and a user's text is never markup. The lines are already as wide as they
will be, so print them as they are: ``console.print(render(...), soft_wrap=True)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import Field, fields
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from gradcheck_cli.outcome import Check, Input, Outcome, Verdict
from gradcheck_cli.reading import Reading
from gradcheck_cli.report import numbers
from gradcheck_cli.report.curves import curves
from gradcheck_cli.report.layout import GAP, Column, fit, pad, rows, shorten, wrap
from gradcheck_cli.report.matrix import matrix
from gradcheck_cli.report.picture import Palette, pictures
from gradcheck_cli.report.remarks import ASIDE, HEADING, labelled, reason_lines, saved_lines, warning_lines
from gradcheck_cli.report.sentence import EVERY, accuracy, names, sentence, tolerance_given, word
from gradcheck_cli.report.worst import left_out, worst_of_each
from gradcheck_cli.settings import RUNNING, Settings, flag_of, words_of
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
        _grounds(outcome, width, verbose=verbose),
        warning_lines(outcome, width, verbose=verbose),
        saved_lines(outcome, width),
        _last(outcome, width),
    ]
    shown = [Text("\n").join(lines) for lines in sections if lines]
    return Text("\n\n").join(shown)


def _headline(outcome: Outcome, width: int | None) -> list[Text]:
    verdict = word(outcome.verdict)
    return list(labelled(verdict, sentence(outcome), len(verdict), width, STYLES[outcome.verdict]))


def _last(outcome: Outcome, width: int | None) -> list[Text]:
    """Return the verdict once more, for a log that is read from its end."""
    off = [c.name for c in outcome.checks if c.verdict is not Verdict.PASS]
    checks = "1 check" if len(outcome.checks) == 1 else f"{len(outcome.checks)} checks"
    fared = "failed" if outcome.verdict is Verdict.FAIL else "did not pass"
    found = f"{len(off)} of {checks} {fared} ({visible(names(off))})" if off else checks
    verdict = word(outcome.verdict)
    told = f"{found} in {numbers.seconds(outcome.seconds)}"
    return list(labelled(verdict, told, len(verdict), width, STYLES[outcome.verdict]))


def _inputs(outcome: Outcome, width: int | None, *, verbose: bool) -> list[Text]:
    """Return the tensors, then the problem that they pose and the settings."""
    label = max((LABEL_LEAST, *(cell_len(visible(each.role)) for each in outcome.inputs)))
    facts = _facts(outcome, verbose=verbose)
    told = [line for name, fact in facts for line in labelled(name, fact, label, width)]
    return [*_tensors(outcome.inputs, label, width), *told]


def _tensors(inputs: Sequence[Input], label: int, width: int | None) -> list[Text]:
    """Return a line for each tensor, its path last, and what was assumed about it below."""
    columns = [
        Column("input", [pad(visible(i.role), label) for i in inputs], right=False),
        Column("dtype", [visible(i.dtype) for i in inputs], right=False),
        Column("shape", [numbers.shape(i.shape) for i in inputs], right=False),
    ]
    paths = [visible(_place(i)) for i in inputs]
    room = None if width is None else width - sum(c.width + len(GAP) for c in columns)
    beside = room is None or room >= PATH_LEAST
    if beside:
        columns.append(Column("path", [shorten(path, room) for path in paths], right=False))
    heading, *lines = rows(columns)
    shown = [Text(heading, style=HEADING)] if inputs else []
    for each, line, path in zip(inputs, lines, paths, strict=True):
        shown.append(Text(line))
        below = [] if beside or width is None else [shorten(path, width - label - len(GAP))]
        for note in (*below, *_notes(each)):
            shown.extend(labelled("", note, label, width, ASIDE))
    return shown


def _place(each: Input) -> str:
    return each.path if each.member is None else f"{each.path}:{each.member}"


def _notes(each: Input) -> list[str]:
    """Return what is to be said of a tensor besides its dtype and shape."""
    notes = [] if each.order == "C" else [f"{each.order} order"]
    if each.grid is not None and each.grid != each.dtype:
        notes.append(f"values on the {each.grid} grid")
    return [visible(note) for note in (*notes, *each.notes)]


def _facts(outcome: Outcome, *, verbose: bool) -> list[tuple[str, str]]:
    """Return the problem that the tensors pose, and the settings that are not the defaults."""
    told = _settings(outcome, verbose=verbose)
    return [("data", _data(outcome)), *([("settings", told)] if told else [])]


def _data(outcome: Outcome) -> str:
    data = outcome.data
    shown = [
        numbers.many(data.rows, "row", "rows"),
        f"{numbers.many(data.classes, 'class', 'classes')} on axis {data.axis}",
    ]
    ignored = numbers.count(data.ignored_rows) if data.ignored_rows else "none"
    if outcome.command == "jacobian":
        shown += [data.targets]
    elif data.divisor is None:
        shown += [data.targets, f"{ignored} wholly masked"]
    else:
        shown += [data.targets, f"{ignored} ignored", f"divisor {numbers.amount(data.divisor)}"]
    return visible(", ".join(shown))


def _settings(outcome: Outcome, *, verbose: bool) -> str:
    """Return the options as they are typed: those that were changed, or all of them."""
    settings, known = outcome.settings, _options_of(outcome.command)
    defaults = {each.name: each.default for each in (*known, *fields(Reading))}
    running = {each.name for each in known if words_of(each).group == RUNNING}
    told = [n for n, v in settings.items() if verbose or (v != defaults.get(n) and n not in running)]
    return visible(", ".join(_typed(name, settings[name]) for name in told))


def _options_of(command: str) -> tuple[Field[Any], ...]:
    """Return the options of a command, in the order they are offered."""
    if command == "check":
        return fields(Settings)
    from gradcheck_cli.choices import OF_COMMAND  # noqa: PLC0415 - most reports are those of check

    return fields(OF_COMMAND[command])  # type: ignore[arg-type]  # the records are dataclasses


def _typed(name: str, value: Any) -> str:
    """Return an option with its value as it is typed."""
    if isinstance(value, bool):
        return flag_of(name if value else f"no_{name}")
    values = value if isinstance(value, tuple) and value else (value,)
    return " ".join(f"{flag_of(name)} {_option(each)}" for each in values)


def _option(value: Any) -> str:
    if value in (None, ()):
        return "(not set)"
    return numbers.number(value, 9) if isinstance(value, float) else str(value)


def _checks(checks: Sequence[Check], width: int | None) -> list[Text]:
    """Return a row for each check, the user's tensors before softgrad's checks of itself."""
    if not checks:
        return []
    checks = sorted(checks, key=lambda check: not check.exported)
    columns = [
        Column("check", [visible(c.name) for c in checks], right=False),
        Column("entries", [numbers.count(c.entries) for c in checks], rank=1),
        Column("failing", [numbers.count(c.failing) for c in checks]),
        Column("max abs error", [numbers.number(c.max_abs_error) for c in checks], rank=2),
        Column("max ulp", [_ulp(c) for c in checks], rank=3),
        Column("margin", [numbers.margin(c.max_margin) for c in checks]),
        Column("verdict", [_said(c.verdict) for c in checks], right=False),
    ]
    own = [c.name for c in checks if not c.exported]
    less = [c.name for c in checks if c.coverage != EVERY]
    told = ["margin = error / allowed, above 1 fails"]
    if own and len(own) < len(checks):
        told.append(f"{names(own)}: softgrad's checks of itself")
    if less:
        told.append(f"{names(less)}: not every entry, -v says which")
    table = _table(columns, width, [c.verdict for c in checks])
    return table + [Text(line, style=ASIDE) for each in told for line in wrap(visible(each), width)]


def _ulp(check: Check) -> str:
    return "-" if check.max_ulp_error is None else numbers.number(check.max_ulp_error, 2)


def _said(verdict: Verdict) -> str:
    """Return a verdict for a row: only what is not well is shouted."""
    return verdict.value if verdict is Verdict.PASS else word(verdict)


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


def _grounds(outcome: Outcome, width: int | None, *, verbose: bool) -> list[Text]:
    """Return where the allowances come from, and what was not covered whole."""
    judged = [c for c in outcome.checks if verbose or c.exported or c.verdict is not Verdict.PASS]
    sampled = [c for c in outcome.checks if verbose or (c.exported and c.coverage != EVERY)]
    facts = [
        *(("accuracy", told) for c in outcome.checks if c.exported and (told := accuracy(c))),
        *(("allowed", f"{who}: {what}") for what, who in _shared((c.tolerance, c.name) for c in judged)),
        *(("covered", f"{who}: {what}") for what, who in _shared((c.coverage, c.name) for c in sampled)),
    ]
    if tolerance_given(outcome) is not None:
        facts.append(("note", f"{tolerance_given(outcome)} replaces the proven bound"))
    label = max((len(name) for name, _ in facts), default=0)
    return [line for name, told in facts for line in labelled(name, visible(told), label, width)]


def _shared(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return each statement once, with the checks that it holds for."""
    holders: dict[str, list[str]] = {}
    for statement, holder in pairs:
        holders.setdefault(statement, []).append(holder)
    return [(statement, names(who)) for statement, who in holders.items()]

"""What a report says in sentences with a label before them: reasons, warnings, what was saved."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from gradcheck_cli.outcome import Outcome
from gradcheck_cli.report import numbers
from gradcheck_cli.report.layout import GAP, pad, wrap
from gradcheck_cli.report.reason import reasons
from gradcheck_cli.visible import visible

HEADING = "bold"
ASIDE = "dim"
WORDS_LEAST = 24  # cells that running text keeps: more than any number has


def reason_lines(outcome: Outcome, width: int | None) -> list[Text]:
    """Return which bug it is, what to do about it, and where the failures are."""
    told = reasons(outcome)
    label = max((len(name) for name, _ in told), default=0)
    return [
        line for name, words in told for line in labelled(name, words, label, width, HEADING if name else "")
    ]


def saved_lines(outcome: Outcome, width: int | None) -> list[Text]:
    """Return where failing rows were saved, and what to run there."""
    if outcome.saved is None:
        return []
    rows = numbers.many(outcome.saved.rows, "row", "rows")
    told = (("saved", f"{rows} to {outcome.saved.folder}"), ("again", outcome.saved.command))
    return [line for label, words in told for line in labelled(label, visible(words), 5, width)]


def warning_lines(outcome: Outcome, width: int | None, *, verbose: bool) -> list[Text]:
    """Return the warnings; what the data lacks, which is often much, on one line if not asked for."""
    lacking = [each.lacks for each in outcome.warnings if each.lacks is not None]
    told = [
        ("warning", f"{each.message} ({each.code})", "yellow")
        for each in outcome.warnings
        if verbose or each.lacks is None
    ]
    if lacking and not verbose:
        told.append(("unseen", f"{'; '.join(lacking)} (-v names the bugs that could hide so)", ASIDE))
    return [
        line
        for label, words, style in told
        for line in labelled(label, visible(words), len("warning"), width, style)
    ]


def labelled(label: str, told: str, room: int, width: int | None, style: str = HEADING) -> Iterator[Text]:
    """Yield wrapped lines with a label to the left of the first; without a label the style is theirs."""
    first, *others = wrap(told, None if width is None else max(width - room - len(GAP), WORDS_LEAST))
    style_of_told = "" if label else style
    yield Text.assemble((pad(label, room) + GAP, style if label else ""), (first, style_of_told))
    for line in others:
        yield Text.assemble(" " * room + GAP, (line, style_of_told))

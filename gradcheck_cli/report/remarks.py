"""What a report says in sentences with a label before them: reasons, warnings, what was saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.text import Text

from gradcheck_cli.outcome import Outcome
from gradcheck_cli.report import facts
from gradcheck_cli.report.layout import GAP, pad, wrap
from gradcheck_cli.report.reason import reasons

HEADING = "bold"
ASIDE = "dim"
WORDS_LEAST = 24  # cells that running text keeps: more than any number has


def reason_lines(outcome: Outcome, width: int | None) -> list[Text]:
    """Return which mistake or bug it is, what to do about it, and where the failures are."""
    told = [*facts.mistakes(outcome), *reasons(outcome)]
    label = max((len(name) for name, _ in told), default=0)
    return [
        line for name, words in told for line in labelled(name, words, label, width, HEADING if name else "")
    ]


def warning_lines(outcome: Outcome, width: int | None, *, verbose: bool) -> list[Text]:
    """Return the warnings, and what the data could not have shown."""
    styles = {"warning": "yellow", "unseen": ASIDE}
    return [
        line
        for label, words in facts.warnings(outcome, verbose=verbose)
        for line in labelled(label, words, len("warning"), width, styles[label])
    ]


def told_lines(told: Iterable[facts.Told], room: int, width: int | None) -> Iterator[Text]:
    """Yield labels and what is said under them, wrapped."""
    for label, words in told:
        yield from labelled(label, words, room, width)


def labelled(label: str, told: str, room: int, width: int | None, style: str = HEADING) -> Iterator[Text]:
    """Yield wrapped lines with a label to the left of the first; without a label the style is theirs."""
    first, *others = wrap(told, None if width is None else max(width - room - len(GAP), WORDS_LEAST))
    style_of_told = "" if label else style
    yield Text.assemble((pad(label, room) + GAP, style if label else ""), (first, style_of_told))
    for line in others:
        yield Text.assemble(" " * room + GAP, (line, style_of_told))

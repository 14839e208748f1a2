"""Outcome → HTML: the report of a terminal in its order, everything `-v` adds folded away, pictures drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradcheck_cli.outcome import Check, Input, Outcome, Verdict
from gradcheck_cli.report import checks, facts, frame, numbers, worst
from gradcheck_cli.report.drawing import heat_map, histogram
from gradcheck_cli.report.layout import Column
from gradcheck_cli.report.reason import reasons
from gradcheck_cli.report.sentence import sentence, word
from gradcheck_cli.visible import visible

_FOLDED = "every setting, allowance and sample, and what this data could not show"
_MORE = "the list below"


def page(outcome: Outcome) -> Iterator[str]:
    """Yield a file about one outcome, in pieces."""
    yield frame.begin(f"{word(outcome.verdict)} {sentence(outcome)}") + _headline(outcome)
    yield from dossier(outcome)
    yield frame.end()


def cell(outcome: Outcome) -> Iterator[str]:
    """Yield the same as one element with its style, for the cell of a notebook."""
    yield f'<div class="softgrad">\n<style>{frame.STYLE}</style>\n{_headline(outcome)}'
    yield from dossier(outcome)
    yield "</div>\n"


def _headline(outcome: Outcome) -> str:
    said = frame.verdict(outcome.verdict.value, word(outcome.verdict))
    return f"<h1>{said} {frame.text(sentence(outcome))}</h1>\n"


def dossier(outcome: Outcome) -> Iterator[str]:
    """Yield what is known about an outcome besides its verdict and the sentence that explains it."""
    yield frame.told([*facts.mistakes(outcome), *reasons(outcome)])
    yield _inputs(outcome.inputs)
    yield frame.told(facts.subject(outcome, verbose=False))
    yield _checks(outcome.checks)
    yield from _worst(outcome)
    for each in outcome.pictures:
        yield heat_map(each)
        yield histogram(each)
    yield frame.told([*facts.grounds(outcome, verbose=False), *facts.saved(outcome)])
    yield frame.told(facts.warnings(outcome, verbose=False, more=_MORE))
    yield _rest(outcome)
    yield f'<p class="aside">{frame.text(facts.ending(outcome))}</p>\n'


def _inputs(inputs: Sequence[Input]) -> str:
    if not inputs:
        return ""
    return frame.table(
        [
            Column("input", [visible(each.role) for each in inputs], right=False),
            Column("dtype", [visible(each.dtype) for each in inputs], right=False),
            Column("shape", [numbers.shape(each.shape) for each in inputs], right=False),
            Column("path", [facts.place(each) for each in inputs], right=False),
            Column("", ["; ".join(facts.notes(each)) for each in inputs], right=False),
        ]
    )


def _checks(found: Sequence[Check]) -> str:
    if not found:
        return ""
    ordered = checks.in_order(found)
    notes = "".join(f'<p class="aside">{frame.text(each)}</p>\n' for each in checks.footnotes(ordered, _MORE))
    return frame.table(checks.columns(ordered), [each.verdict.value for each in ordered]) + notes


def _worst(outcome: Outcome) -> Iterator[str]:
    """Yield the worst entries of each check that failed, and the tolerance it would have passed with."""
    for check in checks.in_order(outcome.checks):
        entries = worst.beyond(check, len(check.worst))
        if entries:
            yield f"<h3>{frame.text(worst.title(check, entries))}</h3>\n{frame.table(worst.columns(entries))}"
        if check.failing and check.exported and outcome.verdict is Verdict.FAIL:
            yield f"<p>{frame.text(worst.would_have_passed(check))}</p>\n"


def _rest(outcome: Outcome) -> str:
    """Return, folded away, every setting, allowance and sample, and the bugs that could hide."""
    every = [*facts.subject(outcome, verbose=True)[1:], *facts.grounds(outcome, verbose=True)]
    unseen = [each for each in outcome.warnings if each.lacks is not None]
    every += [("unseen", f"{each.message} ({each.code})") for each in unseen]
    return f"<details>\n<summary>{_FOLDED}</summary>\n{frame.told(every)}</details>\n"

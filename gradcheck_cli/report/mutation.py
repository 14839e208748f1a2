"""What became of planted bugs → a table: how many are caught and named first, then each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from gradcheck_cli.mutate import Fate, Mutation
from gradcheck_cli.report import numbers
from gradcheck_cli.report.layout import Column, fit, rows, wrap
from gradcheck_cli.report.sentence import names
from gradcheck_cli.report.worst import left_out
from gradcheck_cli.visible import visible

MISSED = "bold yellow"
HEADING = "bold"


def render(found: Mutation, *, width: int | None = None) -> Text:
    """Return the whole report, no wider than so many cells."""
    lines = [Text(line, style=HEADING) for line in wrap(_summary(found), width)]
    lines += [Text(""), *_table(found.fates, width)]
    notes = _notes(found.fates)
    if notes:
        lines += [Text(""), *(Text(line) for note in notes for line in wrap(visible(note), width))]
    return Text("\n").join(lines)


def _summary(found: Mutation) -> str:
    caught = [each for each in found.fates if each.caught]
    named = [each for each in caught if each.code in each.named]
    rules = {rule: sum(each.refused_by[rule] for each in found.fates) for rule in _rules(found.fates)}
    bugs = numbers.many(len(found.fates), "bug", "bugs")
    told = f"{len(caught)} of {bugs} planted in {found.dtype} are caught, {len(named)} of them named"
    others = names([f"{rule} refuses {count}" for rule, count in rules.items()])
    return f"{told}, in {numbers.seconds(found.seconds)}" + (f"; {others}" if others else "")


def _rules(fates: Sequence[Fate]) -> list[str]:
    return list(fates[0].refused_by) if fates else []


def _table(fates: Sequence[Fate], width: int | None) -> list[Text]:
    columns = [
        Column("bug", [each.code for each in fates], right=False),
        Column("kind", [each.kind for each in fates], rank=4, right=False),
        Column("failing", [numbers.count(each.failing) for each in fates], rank=3),
        Column("margin", [numbers.margin(each.margin) for each in fates], rank=2),
        Column("caught", ["yes" if each.caught else "NO" for each in fates], right=False),
        Column("named", [_named(each) for each in fates], right=False),
        *(
            Column(rule, ["refused" if each.refused_by[rule] else "passed" for each in fates], 1, right=False)
            for rule in _rules(fates)
        ),
    ]
    kept, dropped = fit(columns, width)
    heading, *lines = rows(kept)
    styled = [
        Text(line, style="" if each.caught else MISSED) for line, each in zip(lines, fates, strict=True)
    ]
    return [Text(heading, style=HEADING), *styled, *left_out(dropped, width)]


def _named(fate: Fate) -> str:
    """Return yes, or what was named instead."""
    if not fate.caught:
        return "-"
    if fate.code in fate.named:
        return "yes" if len(fate.named) == 1 and not fate.tied else "or another"
    return "tied" if fate.code in fate.tied else ("as another" if fate.named else "no")


def _notes(fates: Sequence[Fate]) -> list[str]:
    """Return why bugs were not caught or not named, those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for each in fates:
        if each.note:
            other = f" ({', '.join((*each.named, *each.tied))})" if each.caught and each.named else ""
            reasons.setdefault(each.note + other, []).append(each.code)
    return [f"{names(codes)}: {reason}" for reason, codes in reasons.items()]

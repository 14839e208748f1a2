"""The entries with the largest margins, and the tolerance that a failing check would have passed with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from gradcheck_cli.outcome import Check, Outcome, Verdict, Worst
from gradcheck_cli.report import numbers
from gradcheck_cli.report.layout import Column, fit, rows, wrap
from gradcheck_cli.report.remarks import ASIDE, HEADING
from gradcheck_cli.report.sentence import names
from gradcheck_cli.visible import visible


def worst_of_each(outcome: Outcome, width: int | None, top: int, *, verbose: bool) -> Iterator[list[Text]]:
    """Yield for each failing check its worst entries, and the tolerance it would have passed with.

    Where the ruler itself is off nothing exported was judged, so no tolerance is advised.
    """
    for check in sorted(outcome.checks, key=lambda check: (not check.failing, not check.exported)):
        if not check.failing:
            if verbose and check.worst[:top]:
                yield _worst(check.worst[:top], f"largest margins of {check.name}", width)
            continue
        worst = beyond(check, top)
        shown = _worst(worst, title(check, worst), width) if worst else []
        if check.exported and outcome.verdict is Verdict.FAIL:
            shown += [Text(line) for line in wrap(would_have_passed(check), width)]
        if shown:
            yield shown


def beyond(check: Check, top: int) -> tuple[Worst, ...]:
    """Return the worst entries, at most so many; those after them are within their allowance."""
    return check.worst[: min(top, check.failing)]


def title(check: Check, worst: Sequence[Worst]) -> str:
    """Return what stands above the worst entries of a check."""
    return visible(f"worst of {check.name}, {len(worst)} of {numbers.count(check.failing)} failing")


def _worst(worst: Sequence[Worst], above: str, width: int | None) -> list[Text]:
    """Return the entries with the largest margins under a title."""
    kept, dropped = fit(columns(worst), width)
    heading, *lines = rows(kept)
    titled = [Text(t, style=HEADING) for t in wrap(visible(above), width)]
    return [*titled, Text(heading, style=HEADING), *map(Text, lines), *left_out(dropped, width)]


def columns(worst: Sequence[Worst]) -> list[Column]:
    """Return the columns of the table; the label is one only where rows have labels."""
    values = [numbers.apart(w.got, w.expected, numbers.VALUE_DIGITS) for w in worst]
    errors = [numbers.apart(w.abs_error, w.allowed) for w in worst]
    columns = [
        Column("index", [numbers.index(w.index) for w in worst], right=False),
        Column("label", ["-" if w.label is None else str(int(w.label)) for w in worst], rank=4),
        Column("got", [got for got, _ in values]),
        Column("expected", [expected for _, expected in values], rank=1),
        Column("error", [error for error, _ in errors], rank=3),
        Column("allowed", [allowed for _, allowed in errors], rank=2),
        Column("margin", [numbers.margin(w.margin) for w in worst]),
    ]
    return [c for c in columns if c.heading != "label" or any(w.label is not None for w in worst)]


def would_have_passed(check: Check) -> str:
    """Return the smallest tolerances that would have let a failing check pass."""
    ways = []
    if check.required_atol < float("inf"):
        ways.append(f"--atol {numbers.at_least(check.required_atol)} --rtol 0")
    if check.required_rtol < float("inf"):
        ways.append(f"--atol 0 --rtol {numbers.at_least(check.required_rtol)}")
    if not ways:
        return visible(f"No tolerance would have passed {check.name}.")
    return visible(f"{check.name} would have passed with {' or with '.join(ways)}")


def left_out(dropped: Sequence[Column], width: int | None) -> list[Text]:
    """Return the line that names the columns which did not fit, if there are any."""
    headings = names([column.heading for column in dropped])
    return [Text(t, style=ASIDE) for t in wrap(f"(too narrow for {headings})", width)] if dropped else []

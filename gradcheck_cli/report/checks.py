"""The table of checks, for every form of a report: the user's tensors before softgrad's checks of itself."""

from __future__ import annotations

from collections.abc import Sequence

from gradcheck_cli.outcome import Check, Verdict
from gradcheck_cli.report import numbers
from gradcheck_cli.report.layout import Column
from gradcheck_cli.report.sentence import EVERY, names, word
from gradcheck_cli.visible import visible


def in_order(checks: Sequence[Check]) -> list[Check]:
    """Return the checks as a reader wants them: what was handed in comes first."""
    return sorted(checks, key=lambda check: not check.exported)


def columns(checks: Sequence[Check]) -> list[Column]:
    """Return the columns of the table; the last is the verdict."""
    return [
        Column("check", [visible(c.name) for c in checks], right=False),
        Column("entries", [numbers.count(c.entries) for c in checks], rank=1),
        Column("failing", [numbers.count(c.failing) for c in checks]),
        Column("max abs error", [numbers.number(c.max_abs_error) for c in checks], rank=2),
        Column("max ulp", [_ulp(c) for c in checks], rank=3),
        Column("margin", [numbers.margin(c.max_margin) for c in checks]),
        Column("verdict", [_said(c.verdict) for c in checks], right=False),
    ]


def footnotes(checks: Sequence[Check], more: str = "-v") -> list[str]:
    """Return what a reader needs to know to read the table; `more` is where the rest stands."""
    own = [c.name for c in checks if not c.exported]
    less = [c.name for c in checks if c.coverage != EVERY]
    told = ["margin = error / allowed, above 1 fails"]
    if own and len(own) < len(checks):
        told.append(f"{names(own)}: softgrad's checks of itself")
    if less:
        told.append(f"{names(less)}: not every entry, {more} says which")
    return [visible(each) for each in told]


def _ulp(check: Check) -> str:
    return "-" if check.max_ulp_error is None else numbers.number(check.max_ulp_error, 2)


def _said(verdict: Verdict) -> str:
    """Return a verdict for a row: only what is not well is shouted."""
    return verdict.value if verdict is Verdict.PASS else word(verdict)

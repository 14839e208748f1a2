"""Findings become checks: pass, fail, or inconclusive where nothing could be compared."""

from __future__ import annotations

from collections.abc import Callable

from gradcheck_cli.findings import Entry, Finding
from gradcheck_cli.outcome import Check, Verdict, Worst

Place = Callable[[Entry], tuple[tuple[int, ...], int | None]]
"""Where an entry is in its tensor's own layout, and the label of its row."""


def verdict_of(finding: Finding) -> Verdict:
    """Return pass iff there was something to compare and every margin is at most 1 (NaN is not).

    Where nothing fails, but the bounds can say nothing of some rows, it is inconclusive.
    """
    if finding.entries == 0:
        return Verdict.INCONCLUSIVE
    if not (finding.max_margin <= 1.0 and finding.failing == 0):
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE if finding.vague else Verdict.PASS


def judged(
    name: str, finding: Finding, place: Place, *, tolerance: str, coverage: str = "every entry"
) -> Check:
    """Return the check that a finding amounts to."""
    return Check(
        name=name,
        verdict=verdict_of(finding),
        entries=finding.entries,
        failing=finding.failing,
        max_abs_error=finding.max_abs,
        max_rel_error=finding.max_rel,
        max_ulp_error=finding.max_ulp,
        max_margin=finding.max_margin,
        required_atol=finding.max_abs,
        required_rtol=finding.max_rel,
        explained_by=None,
        tolerance=tolerance,
        coverage=coverage,
        worst=tuple(_worst(entry, place) for entry in finding.worst),
    )


def _worst(entry: Entry, place: Place) -> Worst:
    index, label = place(entry)
    return Worst(index, label, entry.got, entry.expected, entry.error, entry.allowed, entry.margin)

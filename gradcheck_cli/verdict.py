"""Findings become checks: pass, fail, or inconclusive where nothing could be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gradcheck_cli.findings import Entry, Finding
from gradcheck_cli.grades import Grade
from gradcheck_cli.outcome import SELF_CHECKS, Check, Verdict, Worst

Place = Callable[[Entry], tuple[tuple[int, ...], int | None]]
"""Where an entry is in its tensor's own layout, and the label of its row."""


def verdict_of(finding: Finding) -> Verdict:
    """Return pass iff there was something to compare and every margin is at most 1 (NaN is not).

    Where nothing fails, but what is allowed could hide anything, it is inconclusive.
    """
    if finding.entries == 0:
        return Verdict.INCONCLUSIVE
    if not (finding.max_margin <= 1.0 and finding.failing == 0):
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE if finding.vague or undecided(finding.grade) else Verdict.PASS


def believed(own: Sequence[Check], exported: Sequence[Check]) -> tuple[Check, ...]:
    """Return all checks; where softgrad does not agree with itself, it judges nothing that was exported."""
    if all(each.verdict is Verdict.PASS for each in own):
        return (*own, *exported)
    return (*own, *(replace(each, verdict=Verdict.INCONCLUSIVE) for each in exported))


def undecided(grade: Grade) -> bool:
    """Tell whether an export that is within its bounds may be wrong all the same."""
    vanished = grade.flushed > 0 and grade.flushed == grade.nonzero
    hidden = grade.hidden > 0 and grade.clear == 0
    return vanished or hidden or few_strained(grade)


def few_strained(grade: Grade) -> bool:
    """Tell whether a 16-bit export is rounded once nearly everywhere, but not in a handful of places.

    16-bit arithmetic shows everywhere: in right exports that need it at all away from the label column,
    where p - 1 is rounded once more, at least 9 in 100 rows and 4 in 10,000 entries do.
    """
    if not grade.strained:
        return False
    few_rows = grade.strained_rows * _FEW_OF_ROWS <= grade.rows
    return few_rows or (grade.nonzero >= _MANY and grade.strained * _FEW_OF_ENTRIES < grade.nonzero)


_MANY = 10_000
_FEW_OF_ENTRIES = 10_000
_FEW_OF_ROWS = 40


def judged(  # noqa: PLR0913 - what a check says, and how much of it is shown
    name: str,
    finding: Finding,
    place: Place,
    *,
    tolerance: str,
    coverage: str = "every entry",
    top: int | None = None,
) -> Check:
    """Return the check that a finding amounts to, with so many of its worst entries (None: all)."""
    return Check(
        name=name,
        verdict=verdict_of(finding),
        entries=finding.entries,
        failing=finding.failing,
        max_abs_error=finding.max_abs,
        max_rel_error=finding.max_rel,
        max_ulp_error=finding.max_ulp,
        median_ulp_error=_quantile(finding, 0.5),
        p99_ulp_error=_quantile(finding, 0.99),
        ulp_entries=finding.grade.counted,
        max_margin=finding.max_margin,
        required_atol=finding.max_abs,
        required_rtol=finding.max_rel,
        explained_by=None if name in SELF_CHECKS else finding.grade.model.words,
        tolerance=tolerance,
        coverage=coverage,
        worst=tuple(_worst(entry, place) for entry in finding.worst[:top]),
    )


def _quantile(finding: Finding, share: float) -> float | None:
    """Return a share's error in ulps; it is known from above, so the largest error limits it."""
    found = finding.grade.quantile(share)
    return found if found is None or finding.max_ulp is None else min(found, finding.max_ulp)


def _worst(entry: Entry, place: Place) -> Worst:
    index, label = place(entry)
    return Worst(index, label, entry.got, entry.expected, entry.error, entry.allowed, entry.margin)

"""What is said of a batch in words, the same in every format for people."""

from __future__ import annotations

from gradcheck_cli.report import numbers
from gradcheck_cli.summary import Head, Summary
from gradcheck_cli.visible import visible

STATES = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE", "error": "ERROR"}


def verdict_of(summary: Summary) -> str:
    """Return the verdict of the whole: fail before error before inconclusive."""
    for verdict in ("fail", "error", "inconclusive"):
        if summary.counts[verdict]:
            return verdict
    return "pass" if summary.done == summary.planned and summary.done else "inconclusive"


def headline(summary: Summary) -> str:
    """Return how many cases came to what: ``2 of 12 cases are wrong, 1 could not be checked``."""
    cases = numbers.many(summary.done, "case", "cases")
    wrong, undecided, errors = (summary.counts[each] for each in ("fail", "inconclusive", "error"))
    told = []
    if wrong:
        told.append(f"{numbers.count(wrong)} of {cases} {'is' if wrong == 1 else 'are'} wrong")
    of = "" if told else f" of {cases}"
    if undecided:
        told.append(f"{numbers.count(undecided)}{of} could not be decided")
        of = ""
    if errors:
        told.append(f"{numbers.count(errors)}{of} could not be checked")
    if not told:
        told.append("the only case is right" if summary.done == 1 else f"all {cases} are right")
        if not summary.done:
            told = ["no case was run"]
    left = summary.planned - summary.done
    if left:
        told.append(f"{numbers.many(left, 'case was', 'cases were')} not run")
    return ", ".join(told)


def counted(summary: Summary) -> str:
    """Return the counts by verdict, and the time that the cases took together."""
    counts = ", ".join(f"{numbers.count(n)} {verdict}" for verdict, n in _in_order(summary))
    shard = "" if summary.shard is None else f"; shard {summary.shard[0]} of {summary.shard[1]}"
    cases = numbers.many(summary.done, "case", "cases")
    return f"{cases}: {counts or 'none run'} in {numbers.seconds(summary.seconds)}{shard}"


def diagnosed(summary: Summary) -> str:
    """Return what the failures were: ``7 of 9 failures: sum-for-mean; 1: swapped``."""
    first, *others = sorted(summary.codes.items(), key=lambda item: (-item[1], item[0]))
    failures = numbers.many(summary.counts["fail"], "failure", "failures")
    told = [f"{numbers.count(first[1])} of {failures}: {first[0]}"]
    return "; ".join(told + [f"{numbers.count(count)}: {code}" for code, count in others])


def said(head: Head) -> str:
    """Return what is wrong with a case on one line: the bug, where it has a name, then the rest."""
    told = " ".join(head.message.split())
    return visible(f"{' and '.join(head.code)}: {told}" if head.code else told)


def _in_order(summary: Summary) -> list[tuple[str, int]]:
    return [(each, summary.counts[each]) for each in STATES if summary.counts[each]]

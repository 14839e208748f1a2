"""Why a gradient is wrong, in words: the bugs, what to do about them, ties, and where it fails."""

from __future__ import annotations

from gradcheck_cli.outcome import Diagnosis, Outcome, Verdict
from gradcheck_cli.report.sentence import names
from gradcheck_cli.visible import visible

UNEXPLAINED = "no bug that softgrad knows explains every entry"


def named(outcome: Outcome) -> tuple[Diagnosis, ...]:
    """Return the bugs of the best explanation."""
    return tuple(each for each in outcome.diagnosis if each.tied_with is None)


def reasons(outcome: Outcome) -> list[tuple[str, str]]:
    """Return labels and sentences, safe for a terminal; nothing where no gradient failed."""
    if not (outcome.diagnosis or outcome.facts):
        return []
    best = named(outcome)
    told = [("diagnosis", f"{each.code} ({each.kind}): {each.message}") for each in best]
    if len(best) > 1:
        told.append(("", "these together explain every entry"))
    told += [("advice", each.advice) for each in best]
    if best and best[0].flags:
        told.append(("pass", f"{' '.join(best[0].flags)}, and the gradient is right"))
    tied = [each for each in outcome.diagnosis if each.tied_with is not None]
    told += [("or", f"{each.code}: {each.message}; {_apart(each)}") for each in tied]
    if not best:
        told.append(("diagnosis", UNEXPLAINED))
    told += [("where", each.message) for each in outcome.facts if not _said(each.message, best)]
    return [(label, visible(words)) for label, words in told]


def _apart(tied: Diagnosis) -> str:
    because = "" if tied.tied_because is None else f", because {tied.tied_because}"
    return f"this data cannot tell them apart{because}"


def brief(outcome: Outcome) -> str:
    """Return the diagnosis as the end of the verdict's line: ``; sum-for-mean (pass --reduction sum)``."""
    if outcome.verdict is not Verdict.FAIL or not (outcome.diagnosis or outcome.facts):
        return ""
    best = named(outcome)
    if not best:
        first = f": {outcome.facts[0].message}" if outcome.facts else ""
        return visible(f"; unexplained{first}")
    tied = [each.code for each in outcome.diagnosis if each.tied_with is not None]
    alternatives = f" or {names(tied)}" if tied else ""
    hint = f" (pass {' '.join(best[0].flags)})" if best[0].flags else ""
    return visible(f"; {names([each.code for each in best])}{alternatives}{hint}")


def _said(fact: str, best: tuple[Diagnosis, ...]) -> bool:
    """Tell whether a diagnosis says the same already."""
    return any(fact in each.message for each in best)

"""Why a gradient is wrong, in words: the bugs, what to do about them, ties, and where it fails."""

from __future__ import annotations

from gradcheck_cli.outcome import Diagnosis, Outcome, Verdict
from gradcheck_cli.report.sentence import names
from gradcheck_cli.visible import visible

UNEXPLAINED = "no bug that softgrad knows explains every entry"
KEEP = (
    "see what the failing entries share; softgrad check --save-failure DIR keeps a few rows that fail alone"
)


def named(outcome: Outcome) -> tuple[Diagnosis, ...]:
    """Return the bugs of the best explanation."""
    return tuple(each for each in outcome.diagnosis if each.tied_with is None)


def reasons(outcome: Outcome) -> list[tuple[str, str]]:
    """Return labels and sentences, safe for a terminal; nothing where no gradient failed."""
    exports = list(
        dict.fromkeys([*(each.of for each in outcome.diagnosis), *(each.of for each in outcome.facts)])
    )
    told = []
    for each in exports:
        lead = f"{each}: " if len(exports) > 1 else ""
        told += [(label, f"{lead if label else ''}{words}") for label, words in _of_export(outcome, each)]
    return [(label, visible(words)) for label, words in told]


def _of_export(outcome: Outcome, of: str) -> list[tuple[str, str]]:
    """Return why one export is wrong."""
    best = tuple(each for each in named(outcome) if each.of == of)
    told = [("diagnosis", f"{each.code} ({each.kind}): {each.message}") for each in best]
    if len(best) > 1:
        told.append(("", "these together explain every entry"))
    told += [("advice", each.advice) for each in best]
    if best and best[0].flags:
        what = "gradient" if of.startswith("grad") else of
        told.append(("flags", f"{' '.join(best[0].flags)}, and the {what} is right"))
    tied = [each for each in outcome.diagnosis if each.tied_with is not None and each.of == of]
    told += [("or", f"{each.code}: {each.message}; {_apart(each)}") for each in tied]
    if not best:
        told.append(("diagnosis", UNEXPLAINED))
        told += [("advice", KEEP)] if outcome.command == "check" and outcome.saved is None else []
    facts = [each.message for each in outcome.facts if each.of == of]
    return told + [("where", each) for each in facts if not _said(each, best)]


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
    tied = list(dict.fromkeys(each.code for each in outcome.diagnosis if each.tied_with is not None))
    alternatives = f" or {names(tied)}" if tied else ""
    hint = f" (pass {' '.join(best[0].flags)})" if best[0].flags else ""
    codes = list(dict.fromkeys(each.code for each in best))
    return visible(f"; {names(codes)}{alternatives}{hint}")


def _said(fact: str, best: tuple[Diagnosis, ...]) -> bool:
    """Tell whether a diagnosis says the same already."""
    return any(fact in each.message for each in best)

"""What a report says in labels and sentences about its subject: files, problem, settings, allowances, gaps.

Every line is safe for a terminal; each form of a report lays them out in its own way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, fields
from typing import Any

from gradcheck_cli.outcome import Input, Outcome, Verdict
from gradcheck_cli.reading import Reading
from gradcheck_cli.report import numbers
from gradcheck_cli.report.reason import brief
from gradcheck_cli.report.sentence import EVERY, accuracy, names, tolerance_given
from gradcheck_cli.settings import RUNNING, Settings, flag_of, words_of
from gradcheck_cli.visible import visible

_MISTAKEN = "look-like"
"""In the code of a warning that a file is not what it was given as."""

Told = tuple[str, str]
"""A label and what is said under it."""


def place(each: Input) -> str:
    """Return the path of a tensor, with the member where it is one of several."""
    return visible(each.path if each.member is None else f"{each.path}:{each.member}")


def notes(each: Input) -> list[str]:
    """Return what is to be said of a tensor besides its dtype and shape."""
    told = [] if each.order == "C" else [f"{each.order} order"]
    if each.grid is not None and each.grid != each.dtype:
        told.append(f"values on the {each.grid} grid")
    return [visible(note) for note in (*told, *each.notes)]


def subject(outcome: Outcome, *, verbose: bool) -> list[Told]:
    """Return the problem that the tensors pose, and the settings that are not the defaults."""
    told = _settings(outcome, verbose=verbose)
    return [("data", _data(outcome)), *([("settings", told)] if told else [])]


def _data(outcome: Outcome) -> str:
    data = outcome.data
    shown = [
        numbers.many(data.rows, "row", "rows"),
        f"{numbers.many(data.classes, 'class', 'classes')} on axis {data.axis}",
    ]
    ignored = numbers.count(data.ignored_rows) if data.ignored_rows else "none"
    if outcome.command == "jacobian":
        shown += [data.targets]
    elif data.divisor is None:
        shown += [data.targets, f"{ignored} wholly masked"]
    else:
        shown += [data.targets, f"{ignored} ignored", f"divisor {numbers.amount(data.divisor)}"]
    return visible(", ".join(shown))


def _settings(outcome: Outcome, *, verbose: bool) -> str:
    """Return the options as they are typed: those that were changed, or all of them."""
    settings, known = outcome.settings, _options_of(outcome.command)
    defaults = {each.name: each.default for each in (*known, *fields(Reading))}
    running = {each.name for each in known if words_of(each).group == RUNNING}
    told = [n for n, v in settings.items() if verbose or (v != defaults.get(n) and n not in running)]
    return visible(", ".join(_typed(name, settings[name]) for name in told))


def _options_of(command: str) -> tuple[Field[Any], ...]:
    """Return the options of a command, in the order they are offered."""
    if command == "check":
        return fields(Settings)
    from gradcheck_cli.choices import OF_COMMAND  # noqa: PLC0415 - most reports are those of check

    return fields(OF_COMMAND[command])  # type: ignore[arg-type]  # the records are dataclasses


def _typed(name: str, value: Any) -> str:
    """Return an option with its value as it is typed."""
    if isinstance(value, bool):
        return flag_of(name if value else f"no_{name}")
    values = value if isinstance(value, tuple) and value else (value,)
    return " ".join(f"{flag_of(name)} {_option(each)}" for each in values)


def _option(value: Any) -> str:
    if value in (None, ()):
        return "(not set)"
    return numbers.number(value, 9) if isinstance(value, float) else str(value)


def grounds(outcome: Outcome, *, verbose: bool) -> list[Told]:
    """Return how accurate the exports are, where the allowances come from, and what was not covered whole."""
    judged = [c for c in outcome.checks if verbose or c.exported or c.verdict is not Verdict.PASS]
    sampled = [c for c in outcome.checks if verbose or (c.exported and c.coverage != EVERY)]
    told = [
        *(("accuracy", accuracy(c)) for c in outcome.checks if c.exported and accuracy(c)),
        *(("allowed", f"{who}: {what}") for what, who in _shared((c.tolerance, c.name) for c in judged)),
        *(("covered", f"{who}: {what}") for what, who in _shared((c.coverage, c.name) for c in sampled)),
    ]
    if tolerance_given(outcome) is not None:
        told.append(("note", f"{tolerance_given(outcome)} replaces the proven bound"))
    return [(label, visible(words)) for label, words in told]


def _shared(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return each statement once, with the checks that it holds for."""
    holders: dict[str, list[str]] = {}
    for statement, holder in pairs:
        holders.setdefault(statement, []).append(holder)
    return [(statement, names(who)) for statement, who in holders.items()]


def mistakes(outcome: Outcome) -> list[Told]:
    """Return which file most likely stands in another's place, where the checks did not pass."""
    if outcome.verdict is Verdict.PASS:
        return []
    return [("likely", visible(each.message)) for each in outcome.warnings if _MISTAKEN in each.code]


def warnings(outcome: Outcome, *, verbose: bool, more: str = "-v") -> list[Told]:
    """Return the warnings; what the data lacks, often much, in one unless asked: `more` is where it is."""
    told = [
        ("warning", f"{each.message} ({each.code})")
        for each in outcome.warnings
        if (verbose or each.lacks is None) and (outcome.verdict is Verdict.PASS or _MISTAKEN not in each.code)
    ]
    lacking = [each.lacks for each in outcome.warnings if each.lacks is not None]
    if lacking and not verbose:
        told.append(("unseen", f"{'; '.join(lacking)} ({more} names the bugs that could hide so)"))
    return [(label, visible(words)) for label, words in told]


def saved(outcome: Outcome) -> list[Told]:
    """Return where failing rows were saved, and what to run there."""
    if outcome.saved is None:
        return []
    rows = numbers.many(outcome.saved.rows, "row", "rows")
    told = (("saved", f"{rows} to {outcome.saved.folder}"), ("again", outcome.saved.command))
    return [(label, visible(words)) for label, words in told]


def ending(outcome: Outcome) -> str:
    """Return how many failed, the time, and the bug: ``1 of 6 checks failed (grad) in 1 s; clipped``."""
    off = [c.name for c in outcome.checks if c.verdict is not Verdict.PASS]
    checks = "1 check" if len(outcome.checks) == 1 else f"{len(outcome.checks)} checks"
    fared = "failed" if outcome.verdict is Verdict.FAIL else "did not pass"
    found = f"{len(off)} of {checks} {fared} ({visible(names(off))})" if off else checks
    return f"{found} in {numbers.seconds(outcome.seconds)}{brief(outcome)}"

"""The verdict in one sentence, the first thing that every human report says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradcheck_cli.outcome import Check, Outcome, Verdict
from gradcheck_cli.report import numbers
from gradcheck_cli.visible import visible

EVERY = "every entry"  # Check.coverage where nothing was sampled
PROVEN = "its proven bound"

RULERS = {
    "forward": "softmax and loss against their definition",
    "difference": "the analytic gradient against finite differences",
    "audit": "finite differences against brute force",
    "columns": "the Jacobian against its column form",
    "symmetry": "the finite differences against their transpose",
    "hessian": "second derivatives against differences",
    **dict.fromkeys(
        (
            "whole-row-forward",
            "whole-row-central",
            "forward-difference",
            "central",
            "complex",
            "richardson",
            "directional",
        ),
        "finite differences against their predicted bound",
    ),
    "weight-difference": "dE/dW against finite differences",
    "bias-difference": "dE/db against finite differences",
    "inputs-difference": "dE/dx against finite differences",
    "weight-audit": "dE/dW against the loss worked out again",
    "directions": "dE/dW against finite differences along directions",
    "chain": "the gradient through the probabilities against a - y",
    "invariants": "what must hold for every softmax gradient",
}

EXPLAINED = {
    "correctly rounded": "correctly rounded",
    "tree": "as accurate as sums in a tree",
    "lanes": "as accurate as sums in eight lanes",
    "any order": "as accurate as sums in any order",
    "fused lse": "as accurate as exp(z - lse) with a rounded lse",
    "native half": "as accurate as 16-bit arithmetic",
}
"""The accuracy grade of an export, by the model that explains it."""


VERIFIED = {
    "check": "softmax, loss and gradient",
    "vjp": "softmax layer and its backward",
    "jacobian": "Jacobian of the softmax",
    "linear": "linear layer, softmax and loss",
}
"""What the difference of each command's self-check proves."""


def word(verdict: Verdict) -> str:
    """Return the verdict as it is shouted: ``PASS``, ``FAIL``, ``INCONCLUSIVE``."""
    return verdict.value.upper()


def sentence(outcome: Outcome) -> str:
    """Return what was found, without the verdict word, safe for a terminal."""
    if outcome.verdict is Verdict.FAIL:
        return _failed(outcome)
    if outcome.verdict is Verdict.PASS:
        return _passed(outcome)
    return _undecided(outcome)


def names(words: Sequence[str]) -> str:
    """Return a list in prose: ``grad, probs and loss``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def tolerance_given(outcome: Outcome) -> str | None:
    """Return the tolerance the user set in place of the proven bound, if there is one."""
    return tolerance_in(outcome.settings)


def tolerance_in(settings: Mapping[str, Any]) -> str | None:
    """Return the tolerance that settings have in place of the proven bound, if there is one."""
    rtol, atol = settings.get("rtol"), settings.get("atol")
    if rtol is None or atol is None:
        return None
    return f"--rtol {numbers.number(rtol, 9)} --atol {numbers.number(atol, 9)}"


def failing(check: Check) -> str:
    """Return how many entries failed: ``128 of 5,120 entries (2.5%)``."""
    if check.entries == 0:
        return "no entry compared"
    entries = "entries" if check.coverage == EVERY else "entries checked"
    if check.failing == check.entries:
        return f"all {numbers.count(check.entries)} {entries}"
    how_many = f"{numbers.count(check.failing)} of {numbers.count(check.entries)} {entries}"
    return f"{how_many} ({numbers.share(check.failing, check.entries)})" if check.failing else how_many


def accuracy(check: Check) -> str:
    """Return how accurate an export is: its grade, and its errors in ulps of what it is stored in."""
    said = [] if check.explained_by is None else [EXPLAINED[check.explained_by]]
    middle, high, most = check.median_ulp_error, check.p99_ulp_error, check.max_ulp_error
    if middle is not None and high is not None and most is not None:
        of = "" if check.ulp_entries == check.entries else f" of {numbers.count(check.ulp_entries)} entries"
        median, tail, largest = (numbers.number(each, 2) for each in (middle, high, most))
        said.append(f"errors in ulps{of}: median {median}, 99 % up to {tail}, max {largest}")
    return f"{check.name}: {'; '.join(said)}" if said else ""


def _failed(outcome: Outcome) -> str:
    first, *others = [c for c in outcome.checks if c.verdict is Verdict.FAIL]
    beyond = _beyond(outcome, first)
    if first.entries == 1 and first.failing == 1:
        told = f"{first.name}: outside {beyond}{_worst(first)}"
    else:
        verb = "is" if first.failing == 1 else "are"
        told = f"{first.name}: {failing(first)} {verb} outside {beyond}{_worst(first)}"
    if not others:
        return visible(told)
    return visible(f"{told}; {names([c.name for c in others])} {'fails' if len(others) == 1 else 'fail'} too")


def _worst(check: Check) -> str:
    """Return how bad it is and where, as the end of a sentence."""
    said = f"worst margin {numbers.margin(check.max_margin)}"
    if not check.worst:
        return f"; {said}"
    worst = check.worst[0]
    got, expected = numbers.apart(worst.got, worst.expected, numbers.VALUE_DIGITS)
    at = f" at {numbers.index(worst.index)}" if worst.index else ""
    if check.entries == 1 or not math.isfinite(worst.got):
        return f"; got {got}, expected {expected}{at}"
    return f"; {said}{at}"


def _beyond(outcome: Outcome, check: Check) -> str:
    given = tolerance_given(outcome)
    if given is not None:
        return given
    precision = _precision(outcome, check)
    return f"what {precision} arithmetic can explain" if precision else "what rounding can explain"


def _precision(outcome: Outcome, check: Check) -> str | None:
    """Return the precision the exporter is held to, as far as the outcome tells it."""
    asked = outcome.settings.get("compute_dtype")
    if asked is not None:
        return str(asked)
    for each in outcome.inputs:
        if each.role == check.name:
            stored = each.grid or each.dtype
            return stored if "float" in stored else None
    return None


def _passed(outcome: Outcome) -> str:
    exported = [c for c in outcome.checks if c.exported]
    if not exported:
        return visible(_verified(outcome))
    worst = max(exported, key=lambda c: c.max_margin)
    entries = EVERY if all(c.coverage == EVERY for c in exported) else "every entry checked"
    bound = tolerance_given(outcome) or PROVEN
    if len(exported) == 1 and worst.entries == 1 and worst.worst:
        right = numbers.number(worst.worst[0].expected, numbers.VALUE_DIGITS)
        return visible(
            f"{worst.name} is within {bound} of {right} (margin {numbers.margin(worst.max_margin)})"
        )
    return within([c.name for c in exported], (worst.name, worst.max_margin), bound, entries)


def within(
    exported: Sequence[str], worst: tuple[str, float], bound: str = PROVEN, entries: str = EVERY
) -> str:
    """Return that exports are within their bound, and by how much: the worst of them and its margin."""
    where = "" if len(exported) == 1 else f", {worst[0]}"
    found = f"worst margin {numbers.margin(worst[1])}{where}"
    return visible(f"{entries} of {names(exported)} is within {bound} ({found})")


def _verified(outcome: Outcome) -> str:
    """Return what the self-check proved, where no exported tensor was given."""
    if outcome.curves:
        return _swept(outcome)
    for check in outcome.checks:
        if check.name == ("weight-difference" if outcome.command == "linear" else "difference"):
            extent = "all" if check.coverage == EVERY else "a sample of"
            kind = "directional" if outcome.settings.get("method") == "directional" else "partial"
            extent = "" if kind == "directional" else f"{extent} "
            partials = f"{extent}{numbers.count(check.entries)} {kind} derivatives"
            what = VERIFIED[outcome.command]
            verified = f"{what} verified against finite differences: {partials}"
            return f"{verified}; no exported tensor was given to judge"
    return f"softgrad agrees with itself: {names([c.name for c in outcome.checks])}"


def _swept(outcome: Outcome) -> str:
    """Return what a sweep shows: how good the difference that most people write is, and at which step."""
    naive, best = (next(c for c in outcome.curves if c.name == n) for n in ("whole-row-central", "central"))
    step, error = numbers.number(naive.steps[naive.best]), numbers.number(naive.max_error[naive.best])
    return (
        f"every error is within its predicted bound; central differences of whole rows are best at the step "
        f"{step}, off by up to {error}, in closed form by up to {numbers.number(best.max_error[best.best])}"
    )


def _undecided(outcome: Outcome) -> str:
    if not outcome.checks:
        return "nothing was verified"
    off = [c for c in outcome.checks if not c.exported and c.verdict is not Verdict.PASS]
    if not off:
        open_ = [c.name for c in outcome.checks if c.verdict is Verdict.INCONCLUSIVE]
        reason = (
            ": rounding alone may cost most of it (see the warning)"
            if any(each.lacks is None for each in outcome.warnings)
            else ""
        )
        return visible(f"{names(open_)} could not be decided{reason}")
    first = off[0]
    meaning = RULERS.get(first.name, first.name)
    judged = "" if not any(c.exported for c in outcome.checks) else ", so no exported tensor is judged"
    return visible(
        f"softgrad's own check '{first.name}' is off ({meaning}: {failing(first)} out of bounds"
        f"{_worst(first)}){judged}"
    )

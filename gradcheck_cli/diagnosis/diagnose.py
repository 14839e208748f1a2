"""A failed gradient in, the bug in words out: READ FIRST in this folder.

sample -> hypotheses that explain it -> one walk over every entry -> names and facts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from gradcheck_cli.diagnosis import patterns
from gradcheck_cli.diagnosis.claim import Claim
from gradcheck_cli.diagnosis.hypothesis import Hypothesis
from gradcheck_cli.diagnosis.memory import other_orders
from gradcheck_cli.diagnosis.sample import Sample, draw
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.solve import Explanation, distinct, solve
from gradcheck_cli.diagnosis.stepwise import in_micro_batches
from gradcheck_cli.diagnosis.survey import Survey, survey
from gradcheck_cli.diagnosis.view import Rows
from gradcheck_cli.diagnosis.weakness import weaknesses
from gradcheck_cli.diagnosis.where import facts, ratio
from gradcheck_cli.errors import SoftgradError
from gradcheck_cli.exports import Scalar, identify
from gradcheck_cli.outcome import Diagnosis, Fact
from gradcheck_cli.problem import pose
from gradcheck_cli.records import dataclass
from gradcheck_cli.settings import Settings, flag_of
from gradcheck_cli.tensors import Tensor

_MOST_CLAIMS = 3
_POSED_ANEW = 8  # rows of each view that are judged again under other flags
_FEWEST_ANEW, _ENTRIES_ANEW = 4, 1 << 13  # of all views, the first of which holds the worst rows
_TOGETHER = 1 << 13  # entries up to which they are worked out together, with those between them
_MOSTLY = 0.2

GUESSES = frozenset({"row-factors"})
"""Facts that end in a question, which a named bug has answered."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a diagnosis rests on."""

    situation: Situation
    tensors: Mapping[str, Tensor]
    scalars: Mapping[str, Scalar]
    worst: tuple[int, ...]  # rows
    processes: int


def diagnose(evidence: Evidence) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    """Return the bugs that explain every entry of a failed export, and facts about where it fails.

    Nothing is named that leaves one entry unexplained.
    """
    of = evidence.situation.export.name
    named, told = _diagnosed(evidence)
    return tuple(replace(each, of=of) for each in named), tuple(replace(each, of=of) for each in told)


def _diagnosed(evidence: Evidence) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    situation = evidence.situation
    with np.errstate(all="ignore"):
        sample = draw(situation, evidence.worst, situation.settings.seed)
        if not any(view.got.any() for view in sample.views):
            found = survey(situation, (), evidence.processes)
            return patterns.all_zero(found, situation), facts(found, sample)
        if (
            situation.classes == 1 and situation.of_gradient
        ):  # the right gradient is 0, and any number says nothing of what it is
            return (), facts(survey(situation, (), evidence.processes), sample)
        solution = solve(sample)
        explanations = _best(solution.explanations)
        found = survey(situation, _claims(explanations), evidence.processes, solution.factor)
        if explanations and all(found.unexplained):  # rows that the sample did not hold tell otherwise
            worst = [row for rows in found.strange for row in rows]
            sample = draw(situation, [*worst, *evidence.worst], situation.settings.seed)
            solution = solve(sample)
            explanations = _best(solution.explanations)
            found = survey(situation, _claims(explanations), evidence.processes, solution.factor)
        sure = [each for each, left in zip(explanations, found.unexplained, strict=True) if not left]
        named = _named(sure, found, sample, evidence)
        named = named or patterns.patterns(found, situation) or _in_parts(found, sample, evidence)
        named = named or _reordered(evidence, found)
        return named, tuple(each for each in facts(found, sample) if not (named and each.code in GUESSES))


def _best(explanations: Sequence[Explanation]) -> list[Explanation]:
    """Return the best explanation and those that are as good: as few bugs, as specific, as tight."""
    different = distinct(explanations)
    return [each for each in different if each.rank == different[0].rank][:_MOST_CLAIMS]


def _claims(explanations: Sequence[Explanation]) -> list[Claim]:
    return [Claim(each.hypothesis, each.loose) for each in explanations]


def _named(
    explanations: Sequence[Explanation], found: Survey, sample: Sample, evidence: Evidence
) -> tuple[Diagnosis, ...]:
    if not explanations:
        return ()
    best = explanations[0].hypothesis
    named = list(_worded(best, found, _flags(best, sample, evidence)))
    for each in explanations[1:]:
        tied = _worded(each.hypothesis, found, _flags(each.hypothesis, sample, evidence))
        because = _because(best, each.hypothesis, evidence.situation)
        named += [replace(one, tied_with=best.codes[0], tied_because=because) for one in tied]
    return tuple(named)


def _in_parts(found: Survey, sample: Sample, evidence: Evidence) -> tuple[Diagnosis, ...]:
    """Return the micro-batches that explain every row, which a sample does not show."""
    if found.in_ignored or found.factor[0] <= found.factor[1]:
        return ()
    explained = in_micro_batches(sample, evidence.processes)
    return _worded(explained[0], found, ()) if explained else ()


def _because(best: Hypothesis, other: Hypothesis, situation: Situation) -> str | None:
    """Return why two hypotheses predict the same, if it is known."""
    factors = [
        each.scale.variant.value for each in (best, other) if each.scale and not (each.row or each.changes)
    ]
    if len(factors) == 2 and factors[0] == factors[1]:
        return f"both are a factor of {factors[0]:.9g} here"
    codes = {*best.codes, *other.codes}
    lacking = [each.lacks for each in weaknesses(situation) if codes & set(each.hides)]
    return " and ".join(lacking) or None


def _worded(hypothesis: Hypothesis, found: Survey, flags: tuple[str, ...]) -> tuple[Diagnosis, ...]:
    """Return the bugs of a hypothesis in words, each with the evidence."""
    worded = []
    for each in hypothesis.suspects:
        told, bug = each.variant.parameters, each.bug
        message = bug.happened.format(**told)
        if each is hypothesis.scale and len(hypothesis.suspects) == 1:
            message += f"; got = {ratio(found.factor)} x expected in every entry"
        worded.append(
            Diagnosis(
                code=bug.code,
                kind=bug.kind,
                message=message,
                formula=bug.formula.format(**told),
                advice=bug.advice.format(**told),
                parameters=told,
                explained=1.0,
                flags=flags,
                together_with=tuple(code for code in hypothesis.codes if code != bug.code),
            )
        )
    return tuple(worded)


def _flags(hypothesis: Hypothesis, sample: Sample, evidence: Evidence) -> tuple[str, ...]:
    """Return the flags that all the bugs together ask for, if the sample is right under them."""
    if not all(each.variant.flags for each in hypothesis.suspects):
        return ()
    flags = tuple(flag for each in hypothesis.suspects for flag in each.variant.flags)
    asked = dict(zip(flags[::2], flags[1::2], strict=True))
    try:
        other = _posed(asked, evidence)
    except SoftgradError:
        return ()
    rows = [int(row) for view in sample.views for row in view.recipe.numbers[:_POSED_ANEW]]
    rows = sorted(rows[: max(_FEWEST_ANEW, _ENTRIES_ANEW // other.classes)])
    together = max(_POSED_ANEW, _TOGETHER // other.classes)
    right = all(not view.failing.any() for view in Rows(other, together).gathered(rows, together))
    return flags if right else ()


def _posed(asked: Mapping[str, str], evidence: Evidence) -> Situation:
    """Return the situation under other flags, with the same exported gradient."""
    before = evidence.situation
    terms: dict[str, Any] = {}
    for each in fields(Settings):
        text = asked.get(flag_of(each.name))
        if text is not None:
            kind = str(each.type).partition(" ")[0]
            terms[each.name] = {"int": int, "float": float}.get(kind, str)(text)
    if "normalizer" in terms:
        terms["reduction"] = Settings.reduction
    if "reduction" in terms and "normalizer" not in terms:
        terms["normalizer"] = None
    settings = replace(before.settings, **terms)
    scalars = {role: each for role, each in evidence.scalars.items() if role == "upstream"}
    tensors = {
        role: each
        for role, each in evidence.tensors.items()
        if role in ("logits", "labels", "upstream", "class-weights")
    }
    if "--upstream" in asked:
        scalars["upstream"] = Scalar.parse(asked["--upstream"], None)
        tensors.pop("upstream", None)
    export = before.export
    if settings.compute_dtype != before.settings.compute_dtype:
        export = identify(export.name, export.rows, settings.compute_dtype, settings.logits_rounded)
    return Situation(pose(tensors, scalars, settings), settings, export, before.tolerance)


def _reordered(evidence: Evidence, found: Survey) -> tuple[Diagnosis, ...]:
    """Return that the gradient was exported in another order, where that explains everything."""
    if (
        found.failing < _MOSTLY * found.entries or evidence.situation.width == 1
    ):  # another order leaves hardly an entry in its place
        return ()
    first = evidence.situation.problem.first_counted
    for words, other in other_orders(evidence.situation):
        if Rows(other, 1).view(range(first, first + 1)).failing.any():
            continue
        sample = draw(other, evidence.worst, other.settings.seed)
        if any(view.failing.any() for view in sample.views):
            continue
        again = survey(other, (), evidence.processes)
        if not again.failing and found.failing:
            return patterns.transposed(words)
    return ()

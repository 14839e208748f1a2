"""A failed gradient of a linear layer in, the bug in words out.

A few inputs or examples -> the guesses that one factor brings in line with them -> all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcheck_cli.diagnosis.damage import Damage, places
from gradcheck_cli.diagnosis.guess import Claim, Name, Scale, Trial, worded
from gradcheck_cli.diagnosis.summed import together
from gradcheck_cli.diagnosis.summed.catalogue import RUNNING, SUMMED_OVER_ALL, TURNED
from gradcheck_cli.diagnosis.summed.examples import Examples
from gradcheck_cli.diagnosis.summed.piece import Judged, Part
from gradcheck_cli.diagnosis.summed.running import reproduced, rounding_like
from gradcheck_cli.diagnosis.summed.standing import Held, single
from gradcheck_cli.diagnosis.summed.sums import Rough, Sums
from gradcheck_cli.diagnosis.summed.suspects import Layer, Together
from gradcheck_cli.outcome import Diagnosis, Fact

_MOST_CLAIMS = 4


def diagnose(layer: Layer, rough: Rough) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    """Return the bugs that explain every entry of a failed gradient of the layer, and where it fails."""
    with np.errstate(all="ignore"):
        factors, alone = rough.suspects
        judged = _judged(layer, rough)
        few, left = _sampled(judged, alone)
        damage, standing, last = _walked(judged, single(layer, few, factors, left))
        if last is None or not damage.failing:
            return (), ()
        facts = places(damage, len(damage.rows), len(damage.columns), layer.export.name)
        if not damage.nonzero:
            return (_said(layer, _ZERO, {}),), facts
        standing = standing or _standing(judged, together.decayed(layer, few, factors, left))
        named = worded(standing, layer.export.name) or _summed_over_all(layer, last)
        named = named or worded(_two_at_once(judged, rough, last, factors, alone), layer.export.name)
        if not named and layer.export.name != "grad-inputs":
            named = _kept_short(layer, last)
            like = None if named else rounding_like(layer, last)
            facts = facts if like is None else (like, *facts)
        return named, facts


_ZERO = Name(
    "all-zero", "0", "every entry is 0",
    "check that the backward pass ran, and that it wrote into the buffer that was exported",
)  # fmt: skip


def _judged(layer: Layer, rough: Rough) -> Judged:
    """Return what is judged: a row for each example, or sums over all of them."""
    return Examples(layer) if layer.export.name == "grad-inputs" else Sums(layer, rough)


def _sampled(judged: Judged, bugs: Sequence[Together]) -> tuple[list[Part], list[Together]]:
    """Return a few rows, and the bugs that a glance at fewer leaves, with what they make of them."""
    left = judged.glance(bugs)
    return judged.few(left), left


def _walked(judged: Judged, held: Sequence[Held]) -> tuple[Damage, list[Claim[Part]], Part | None]:
    """Walk over every entry: where it fails, the claims that explain all of it, and the last piece."""
    held = sorted(held, key=lambda each: each.claim.rank)[:_MOST_CLAIMS]
    trials = [Trial() for _ in held]
    layer, damage, last = judged.layer, Damage.none(0, 0), None
    for part in judged.every(list(dict.fromkeys(each.bugs for each in held if each.bugs))):
        if last is None:
            rows = layer.problem.rows if layer.export.name == "grad-inputs" else len(part.got)
            damage = Damage.none(rows, part.got.shape[1])
        damage.add(part)
        for trial, each in zip(trials, held, strict=True):
            trial.add(part, each.claim, layer.export)
        last = part
    tried = zip(held, trials, strict=True)
    return damage, [each.claim for each, trial in tried if _holds(trial, each.claim, damage)], last


def _holds(trial: Trial, claim: Claim[Part], damage: Damage) -> bool:
    """Tell whether a claim explains every entry; one that is read transposed may be right then."""
    if TURNED in claim.names and not damage.failing:
        return not trial.unexplained and trial.telling > len(damage.columns)
    return trial.holds(len(claim.names))


def _standing(judged: Judged, held: Sequence[Held]) -> list[Claim[Part]]:
    """Return the claims that explain every entry."""
    return _walked(judged, held)[1] if held else []


def _two_at_once(
    judged: Judged, rough: Rough, part: Part, scales: Sequence[Scale], alone: Sequence[Together]
) -> list[Claim[Part]]:
    """Return the claims of a gradient that is read transposed, or else of two bugs of the loss."""
    layer = judged.layer
    other = together.turned(layer, part)
    if other is not None:
        turned = _judged(other, rough)
        few, left = _sampled(turned, alone)
        standing = _standing(turned, together.of_turned(other, few, scales, left))
        if standing:
            return standing
    pairs = together.paired(layer, alone)
    few, pairs = _sampled(judged, pairs) if pairs else ([], [])
    return _standing(judged, together.of_pairs(layer, few, scales, pairs))


def _summed_over_all(layer: Layer, part: Part) -> tuple[Diagnosis, ...]:
    """Return that every class has the sum over all of them, where that is so."""
    got, right, allowed = part.got, part.right, part.allowed
    if layer.export.name != "grad-bias" or got.size <= 2 or np.ptp(got) != 0.0:
        return ()
    near = abs(float(got[0, 0] - right.sum())) <= float(allowed.sum() + right.size * allowed.max())
    return (_said(layer, SUMMED_OVER_ALL, {}),) if near else ()


def _kept_short(layer: Layer, part: Part) -> tuple[Diagnosis, ...]:
    """Return that the sum over the examples was kept in 16 bits, where that gives every entry."""
    found = reproduced(layer, part)
    if found is None:
        return ()
    told = {"chunks": found.chunks, "size": found.size, "grid": layer.export.grid.name}
    words = {"each": found.each, "way": found.way.words}
    return (_said(layer, RUNNING, told | words),)


def _said(layer: Layer, name: Name, told: dict[str, Any]) -> Diagnosis:
    return Diagnosis(
        name.code, name.kind, name.happened.format(**told), name.formula.format(**told),
        name.advice.format(**told), told, explained=1.0, of=layer.export.name,
    )  # fmt: skip

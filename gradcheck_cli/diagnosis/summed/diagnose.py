"""A failed gradient of a linear layer in, the bug in words out.

A few inputs or examples -> the guesses that one factor brings in line with them -> all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gradcheck_cli.diagnosis.bug import Suspect
from gradcheck_cli.diagnosis.damage import Damage, places
from gradcheck_cli.diagnosis.guess import Claim, Guess, Name, Scale, Trial, claims, interval, refused, worded
from gradcheck_cli.diagnosis.summed.catalogue import (
    AFTER_SUM,
    DECAY,
    NOT_REDUCED,
    OF_TURNED,
    RUNNING,
    SUMMED_OVER_ALL,
    TURNED,
    WITH_INPUTS,
    decay_of,
)
from gradcheck_cli.diagnosis.summed.piece import Part, of_suspect, pieces
from gradcheck_cli.diagnosis.summed.running import reproduced, rounding_like
from gradcheck_cli.diagnosis.summed.suspects import Layer, Made
from gradcheck_cli.outcome import Diagnosis, Fact

_MOST_CLAIMS = 4


def diagnose(layer: Layer) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    """Return the bugs that explain every entry of a failed gradient of the layer, and where it fails."""
    with np.errstate(all="ignore"):
        scales, suspected = layer.suspects()
        few = list(pieces(layer, suspected, sample=True))
        held = _standing(layer, few, [_scale(each) for each in scales], suspected)
        kept = [each for each in suspected if any(of is each for _, of in held)]
        damage, trials, parts = None, [Trial() for _ in held], []
        for part in pieces(layer, kept, sample=False):
            if damage is None:
                rows = layer.problem.rows if layer.export.name == "grad-inputs" else len(part.got)
                damage = Damage.none(rows, part.got.shape[1])
            damage.add(part)
            for trial, (claim, _) in zip(trials, held, strict=True):
                trial.add(part, claim, layer.export)
            parts = [part]
        if damage is None or not damage.failing:
            return (), ()
        facts = places(damage, len(damage.rows), len(damage.columns), layer.export.name)
        tried = zip(held, trials, strict=True)
        standing = [claim for (claim, _), trial in tried if trial.holds(len(claim.names))]
        if not damage.nonzero:
            return (_said(layer, _ZERO, {}),), facts
        named = worded(standing, layer.export.name)
        if not named and layer.export.name != "grad-inputs":
            named = _of_matrix(layer, parts[0]) or _kept_short(layer, parts[0])
            like = None if named else rounding_like(layer, parts[0])
            facts = facts if like is None else (like, *facts)
        return named, facts


_ZERO = Name(
    "all-zero", "0", "every entry is 0",
    "check that the backward pass ran, and that it wrote into the buffer that was exported",
)  # fmt: skip


def _scale(suspect: Suspect) -> Scale:
    """Return a factor of all entries in the form of a guess."""
    bug, variant = suspect.bug, suspect.variant
    value = 1.0 if variant.value is None else variant.value
    return Scale(_name(suspect), value, variant.parameters, variant.flags, bug.general)


def _name(suspect: Suspect) -> Name:
    bug = suspect.bug
    return Name(bug.code, bug.formula, bug.happened, bug.advice, bug.kind)


def _standing(
    layer: Layer, few: Sequence[Part], scales: Sequence[Scale], suspected: Sequence[Suspect]
) -> list[tuple[Claim[Part], Suspect | None]]:
    """Return the claims that a sample leaves, each with the bug of the loss that it is of."""
    export = layer.export
    bare: Guess[Part] = Guess(None, lambda part: (part.right, part.allowed))
    found: list[tuple[Claim[Part], Suspect | None]] = [
        (claim, None) for claim in claims(bare, interval(few, bare, export), scales, bare=True)
    ]
    for each in suspected:
        guess: Guess[Part] = Guess(
            _name(each), of_suspect(each), each.variant.parameters, general=each.bug.general
        )
        factors = interval(few, guess, export)
        found += [(claim, each) for claim in claims(guess, factors, scales, bare=False)]
        if each.bug.code == "upstream-ignored":
            after = replace(guess, name=None)
            found += [(claim, each) for claim in claims(after, factors, _after_sum(layer), bare=True)]
    for guess in _own(layer, few):
        found += [(claim, None) for claim in claims(guess, interval(few, guess, export), scales, bare=False)]
    found.sort(key=lambda pair: pair[0].rank)
    return found[:_MOST_CLAIMS]


def _after_sum(layer: Layer) -> list[Scale]:
    """Return what a sum of unweighted examples may have been multiplied by."""
    upstream = layer.situation.upstream_of(range(layer.problem.rows))
    values = {"the mean": float(upstream.mean()), "the sum": float(upstream.sum())}
    values["the first"] = float(upstream[0])
    return [Scale(AFTER_SUM, value, {"of": of}) for of, value in values.items() if value not in (0.0, 1.0)]


def _own(layer: Layer, few: Sequence[Part]) -> list[Guess[Part]]:
    """Return the guesses that are read off the layer and not off the loss."""
    found: list[Guess[Part]] = []
    if few and few[0].ends is not None and layer.problem.rows > 1:
        found += [
            Guess(NOT_REDUCED, partial(_ended, place), {"which": which})
            for place, which in enumerate(("first", "last"))
        ]
    if few and few[0].folded is not None and layer.problem.features > 1:
        for of, parts in (("sum", 1), ("mean", layer.problem.features)):
            found.append(Guess(WITH_INPUTS, partial(_folded, parts), {"of": of}))
    if few and few[0].other is not None:
        found.append(Guess(TURNED, _turned, dict(OF_TURNED["grad-inputs"])))
    return found


def _ended(place: int, part: Part) -> Made:
    """Return the share of the first (0) or the last example (1) in the bias's gradient."""
    if part.ends is None:
        raise ValueError("only the bias's gradient is compared with single examples")
    return part.ends[place]


def _folded(parts: int, part: Part) -> Made:
    """Return the sum of the weight's gradient over the inputs, or their mean."""
    if part.folded is None:
        raise ValueError("only the bias's gradient is compared with sums over the inputs")
    plane, error = part.folded
    return plane / parts, error / parts


def _turned(part: Part) -> Made:
    """Return G W."""
    if part.other is None:
        raise ValueError("only a square weight can be confused with its transpose")
    return part.other


def _of_matrix(layer: Layer, part: Part) -> tuple[Diagnosis, ...]:
    """Return what is wrong with the weight's or the bias's gradient as a whole, if that is known."""
    got, right, allowed = part.got, part.right, part.allowed
    if layer.export.name == "grad-weight" and got.shape[0] == got.shape[1]:
        told = ~refused(got.T, right, np.maximum(allowed, allowed.T))
        if told.all() and np.count_nonzero(np.abs(right) > 2.0 * allowed) > got.shape[0]:
            return (_said(layer, TURNED, dict(OF_TURNED["grad-weight"])),)
    if layer.export.name == "grad-bias" and got.size > 2 and np.ptp(got) == 0.0:
        near = abs(float(got[0, 0] - right.sum())) <= float(allowed.sum() + right.size * allowed.max())
        return (_said(layer, SUMMED_OVER_ALL, {}),) if near else ()
    if part.weight is not None:
        decay = decay_of(got, right, part.weight, allowed)
        if decay is not None:
            return (_said(layer, DECAY, {"decay": decay}),)
    return ()


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

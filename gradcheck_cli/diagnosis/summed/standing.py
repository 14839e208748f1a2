"""Guesses on a gradient of a linear layer, and those that a few of its sums leave standing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from gradcheck_cli.diagnosis.bug import Suspect
from gradcheck_cli.diagnosis.guess import Claim, Guess, Name, Scale, claims, interval
from gradcheck_cli.diagnosis.summed.catalogue import AFTER_SUM, NOT_REDUCED, OF_TURNED, TURNED, WITH_INPUTS
from gradcheck_cli.diagnosis.summed.piece import Part, of_bugs
from gradcheck_cli.diagnosis.summed.suspects import Layer, Made, Together
from gradcheck_cli.records import dataclass


@dataclass(frozen=True, eq=False)
class Held:
    """A claim, and the bugs of the loss that it is of."""

    claim: Claim[Part]
    bugs: Together = ()


def scale_of(suspect: Suspect) -> Scale:
    """Return a factor of all entries in the form of a guess."""
    bug, variant = suspect.bug, suspect.variant
    value = 1.0 if variant.value is None else variant.value
    return Scale(_name(suspect), value, variant.parameters, variant.flags, bug.general)


def _name(suspect: Suspect) -> Name:
    bug = suspect.bug
    return Name(bug.code, bug.formula, bug.happened, bug.advice, bug.kind)


def guess_of(bugs: Together) -> Guess[Part]:
    """Return bugs of the loss, two at most, in the form of a guess; none of them is what is right."""
    if not bugs:
        return Guess(None, lambda part: (part.right, part.allowed))
    first, *others = bugs
    told = {name: value for each in bugs for name, value in each.variant.parameters.items()}
    second = _name(others[0]) if others else None
    general = any(each.bug.general for each in bugs)
    return Guess(_name(first), of_bugs(bugs), told, general=general, second=second)


def single(
    layer: Layer, few: Sequence[Part], scales: Sequence[Scale], suspected: Sequence[Together]
) -> list[Held]:
    """Return the claims of one bug, and of one with a factor, that a sample leaves."""
    export = layer.export
    bare = guess_of(())
    found = [Held(claim) for claim in claims(bare, interval(few, bare, export), scales, bare=True)]
    for bugs in suspected:
        guess = guess_of(bugs)
        factors = interval(few, guess, export)
        found += [Held(claim, bugs) for claim in claims(guess, factors, scales, bare=False)]
        if bugs[0].bug.code == "upstream-ignored":
            after = replace(guess, name=None)
            found += [Held(claim, bugs) for claim in claims(after, factors, _after_sum(layer), bare=True)]
    for guess in _own(layer, few):
        factors = interval(few, guess, export)
        found += [Held(claim) for claim in claims(guess, factors, scales, bare=False)]
    return found


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

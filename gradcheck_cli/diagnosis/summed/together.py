"""Two things wrong at once: two bugs of the loss; weight decay, or a transposed weight, and one bug more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from gradcheck_cli.diagnosis.bug import CONVENTION
from gradcheck_cli.diagnosis.guess import Claim, Core, Guess, Scale, claims, floor_of, interval
from gradcheck_cli.diagnosis.summed.catalogue import DECAY, OF_TURNED, TURNED, decay_of
from gradcheck_cli.diagnosis.summed.piece import Part
from gradcheck_cli.diagnosis.summed.standing import Held, guess_of
from gradcheck_cli.diagnosis.summed.suspects import Layer, Made, Together
from gradcheck_cli.exports import Export
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.tensors import Rows

_RIVALS = (frozenset({"softmax", "chain"}), frozenset({"softmax", "link"}))
_OFTEN = frozenset({"upstream", "ignored"})  # slots that are tried together with others first
_SPLIT = frozenset({"mean-of-means", "sum-of-means"})  # come in too many variants to be paired
_FREE, _SHARE = 1 << 19, 8  # entries that pairs may cost, and inputs whose sums cost as much as a pair
_NEAR = 0.01  # relative distance of a factor from what least squares say


def paired(layer: Layer, suspected: Sequence[Together]) -> list[Together]:
    """Return the bugs of the loss two at a time, as many as cost no more than the check did.

    What 16 bits may cost a sum excuses so much that only one bug can be told through it.
    """
    problem = layer.problem
    if layer.export.grid.half:
        return []
    most = problem.features // _SHARE + _FREE // (problem.rows * problem.classes)
    able = [
        each
        for (each,) in suspected
        if not (each.bug.general or each.variant.general or each.variant.guessed or each.bug.code in _SPLIT)
    ]
    pairs: list[Together] = [
        (one, other)
        for one, other in combinations(able, 2)
        if one.bug.slot != other.bug.slot and frozenset((one.bug.slot, other.bug.slot)) not in _RIVALS
    ]
    pairs.sort(key=lambda pair: not any(each.bug.slot in _OFTEN for each in pair))
    return pairs[:most]


def of_pairs(
    layer: Layer, few: Sequence[Part], scales: Sequence[Scale], pairs: Sequence[Together]
) -> list[Held]:
    """Return the claims of two bugs that a sample leaves, with what the loss is divided by at most."""
    divisors = [each for each in scales if each.name.kind == CONVENTION]
    return [
        Held(claim, bugs)
        for bugs in pairs
        for guess in (guess_of(bugs),)
        for claim in claims(guess, interval(few, guess, layer.export), divisors, bare=False)
    ]


def decayed(
    layer: Layer, few: Sequence[Part], scales: Sequence[Scale], suspected: Sequence[Together]
) -> list[Held]:
    """Return the claims of weight decay that a sample leaves: alone, with a factor, or with one bug."""
    if not few or few[0].weight is None:
        return []
    (part,), export = few, layer.export
    found = [Held(claim) for claim in _decays(part, guess_of(()), scales, export)]
    others = [] if found or export.grid.half else suspected
    return found + [
        Held(claim, bugs) for bugs in others for claim in _decays(part, guess_of(bugs), (), export)
    ]


def may_decay(few: Sequence[Part], bugs: Together) -> bool:
    """Tell whether weight decay beside bugs would explain a coarse look at a gradient."""
    if not few or few[0].weight is None:
        return False
    (part,) = few
    plane, error = guess_of(bugs).core(part)
    sure = np.where(error > 0.0, 1.0 / error, 0.0)
    off, weight = (part.got - plane) * sure, part.weight * sure
    mu = np.vdot(weight, off) / max(np.vdot(weight, weight), 2.0**-1000)
    return bool((np.abs(off - mu * weight) <= 2.0).all())


def _decays(part: Part, guess: Guess[Part], scales: Sequence[Scale], export: Export) -> Iterator[Claim[Part]]:
    """Yield a guess with weight decay, where one mu will do; with a factor, where that brings it about."""
    if part.weight is None:
        return
    plane, error = guess.core(part)
    likely = _factor(part, plane, error)
    near = (each for each in scales if abs(each.value - likely) <= _NEAR * abs(likely))
    for scale in (None, *near):
        by = 1.0 if scale is None else scale.value
        ends = decay_of(part.got, by * plane, part.weight, abs(by) * error + floor_of(export, part.got))
        if ends is None:
            continue
        core, told = _with_decay(guess, ends, by), {"decay": 0.5 * (ends[0] + ends[1])}
        first, second = (DECAY, None) if guess.name is None else (guess.name, DECAY)
        yield Claim(replace(guess, name=first, second=second, core=core, told=guess.told | told), scale)
        return


def _factor(part: Part, plane: Floats, error: Floats) -> float:
    """Return c of the c P + mu W that comes nearest to what was got, each entry by what it may be off by."""
    weight = np.zeros_like(plane) if part.weight is None else part.weight
    sure = np.where(error > 0.0, 1.0 / error, 0.0)
    terms = np.stack([(each * sure).ravel() for each in (plane, weight, part.got)])
    (pp, pw, pg), (_, ww, wg), _ = terms @ terms.T
    rest = pp * ww - pw * pw
    return float((pg * ww - wg * pw) / rest) if rest > 0.0 else np.nan


def _with_decay(guess: Guess[Part], ends: tuple[float, float], by: float) -> Core[Part]:
    """Return what a guess makes with mu W besides, which a factor will multiply; mu may be off by a bit."""
    mu, blur = 0.5 * (ends[0] + ends[1]) / by, 0.5 * (ends[1] - ends[0]) / abs(by)

    def core(part: Part) -> Made:
        plane, error = guess.core(part)
        weight = np.zeros_like(plane) if part.weight is None else part.weight
        return plane + mu * weight, error + blur * np.abs(weight)

    return core


def turned(layer: Layer, part: Part) -> Layer | None:
    """Return the layer with the weight's gradient read transposed, where that is nearer to what is right."""
    problem, export = layer.problem, layer.export
    if export.name != "grad-weight" or problem.features != problem.classes:
        return None
    got, right = part.got, part.right
    if not np.isfinite(got).all() or abs(np.vdot(got.T, right)) <= abs(np.vdot(got, right)):
        return None
    rows = export.rows
    other = replace(export, rows=Rows(rows.tensor, 0 if rows.axis else 1))
    return replace(layer, situation=replace(layer.situation, export=other, kept={}))


def of_turned(
    layer: Layer, few: Sequence[Part], scales: Sequence[Scale], suspected: Sequence[Together]
) -> list[Held]:
    """Return the claims that a sample of a gradient leaves that is read transposed: with one bug at most."""
    divisors = [each for each in scales if each.name.kind == CONVENTION]
    words, found = OF_TURNED["grad-weight"], []
    for bugs in ((), *(() if layer.export.grid.half else suspected)):
        guess = guess_of(bugs)
        first, second = (TURNED, None) if guess.name is None else (guess.name, TURNED)
        guess = replace(guess, name=first, second=second, told=guess.told | words)
        factors = interval(few, guess, layer.export)
        allowed = divisors if bugs else scales
        found += [Held(claim, bugs) for claim in claims(guess, factors, allowed, bare=False)]
    return found

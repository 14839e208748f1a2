"""Which bug a stated loss is: one number against what each bug would have made of all rows.

A single number is soon hit by chance, so only one bug is ever named, and only where the number is told so
sharply that no more than a few in ten thousand others would do as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck_cli.blocks import Block, Tile
from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.diagnosis import view
from gradcheck_cli.diagnosis.beside import BESIDE
from gradcheck_cli.diagnosis.bug import Bug, Suspect, suspects
from gradcheck_cli.diagnosis.every import over_every_row
from gradcheck_cli.diagnosis.hypothesis import apply
from gradcheck_cli.diagnosis.readout import losses
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.diagnosis.scale import SCALES
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.slack import Prediction
from gradcheck_cli.exports import Export, Scalar
from gradcheck_cli.grid import Grid
from gradcheck_cli.numeric.accuracy import any_order
from gradcheck_cli.numeric.exact import ExactSum
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.outcome import Diagnosis, Fact
from gradcheck_cli.problem import Problem
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags
from gradcheck_cli.settings import Settings

_SHARP = 1e-4  # largest relative window that a number is named through
_MOST = 1e300  # stands for an infinite loss
_REDUCED = {
    "sum-for-mean": "this is the summed loss: it is not divided by {right_divisor:,.9g}",
    "mean-for-sum": "this is the mean loss: the sum is divided by {divisor:,.9g}",
    "mean-over-valid-rows": None, "mean-over-all-rows": None, "mean-over-batch": None,
    "mean-over-elements": None, "averaged-twice": None, "weights-not-normalised": None,
}  # fmt: skip
"""Factors of a gradient that a loss has as well, in words for it where the others speak of a gradient."""

_OWN_FACTORS = frozenset({"sign-flipped", "log-base-two", "log-base-ten"})
_CHANGES = frozenset({
    "temperature-missing", "softcap-missing", "softcap-after-temperature", "smoothing-missing",
    "smoothing-over-others", "weights-missing", "label-off-by-one", "ignored-rows-not-zeroed",
    "zloss-missing", "zloss-factor", "double-softmax",
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Stated:
    """A stated loss that failed, and what is right."""

    problem: Problem
    settings: Settings
    got: Scalar
    tolerance: Tolerance | None
    right: float
    allowed: float  # what the rows' losses may be off by, added up

    @property
    def situation(self) -> Situation:
        """Return the situation of the rows' losses, of which none was exported."""
        by = self.got
        export = Export("loss", self.problem.targets, by.grid, by.compute, by.native, None, by.logits)
        return Situation(self.problem, self.settings, export, self.tolerance)

    def leeway(self, value: float) -> float:
        """Return what a sum of so much may be off by, besides the errors of its terms."""
        if self.tolerance is not None:
            return self.tolerance.atol + self.tolerance.rtol * abs(value)
        by = self.got
        relative = by.compute.unit * (any_order(self.problem.rows) + 4.0)
        relative += by.grid.unit if by.grid is not by.compute else 0.0
        return relative * abs(value) + by.rounding + by.grid.smallest_subnormal

    def hit(self, value: float, error: float) -> bool:
        """Tell whether the stated number is so near to a predicted one, and could hardly be by chance."""
        room = error + self.leeway(value)
        return abs(self.got.value - value) <= room <= _SHARP * abs(value)


def diagnose(stated: Stated, processes: int) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    """Return the bugs that make the stated number of the rows, and how far off it is."""
    situation = stated.situation
    nothing = Sample(situation, (), whole=False, source=view.Rows(situation, 1))
    with np.errstate(all="ignore"):
        found = [each for each in suspects(_factors(), nothing) if _explains(stated, each)]
        if not found:
            _, _, changes = BESIDE["loss"]
            tried = suspects((bug for bug in changes if bug.code in _CHANGES), nothing)
            totals = _totals(situation, tried, processes)
            found = [each for each, total in zip(tried, totals, strict=True) if stated.hit(*total)]
    return tuple(_worded(found)), tuple(_facts(stated))


def _factors() -> Iterator[Bug]:
    """Yield the factors that a loss may have, in words for a loss."""
    own, _, _ = BESIDE["loss"]
    for bug in SCALES:
        if bug.code in _REDUCED:
            happened = _REDUCED[bug.code] or bug.happened
            yield replace(bug, happened=happened, formula="E x {factor:.9g}")
    yield from (bug for bug in own if bug.code in _OWN_FACTORS)


def _explains(stated: Stated, suspect: Suspect) -> bool:
    value = suspect.variant.value or 0.0
    return stated.hit(value * stated.right, abs(value) * stated.allowed)


def _totals(situation: Situation, tried: Sequence[Suspect], processes: int) -> list[tuple[float, float]]:
    """Return the loss under each bug, and what its rows may be off by together.

    Raises
    ------
    InputError
        If a file changed since it was checked.
    """
    problem = situation.problem
    records = over_every_row(problem, Grid.of(problem), processes, lambda _: _Adding(situation, tried))
    return [_merged([record[place] for record in records]) for place in range(len(tried))]


class _Adding:
    """The loss under each bug, and what it may be off by, of the rows so far."""

    def __init__(self, situation: Situation, tried: Sequence[Suspect]) -> None:
        self._situation = situation
        self._tried = tried
        self._sums = [[ExactSum({}), ExactSum({})] for _ in tried]

    def take(self, block: Block) -> None:
        """Add the rows of a block."""
        for tile in block.tiles():
            right = _recipe(self._situation, tile, block.counted[tile.rows])
            for each, suspect in zip(self._sums, self._tried, strict=True):
                shares = _shares(apply((suspect,), right))
                each[:] = [one.merge(ExactSum.of(more)) for one, more in zip(each, shares, strict=True)]

    def record(self) -> list[list[Any]]:
        """Return the sums as plain numbers."""
        return [[list(one.counters.items()) for one in each] for each in self._sums]


def _recipe(situation: Situation, tile: Tile, counted: Flags) -> Recipe:
    return Recipe.of(situation, tile, range(tile.start, tile.stop), counted, np.zeros((len(counted), 1)))


def _shares(recipe: Recipe) -> tuple[Floats, Floats]:
    """Return each row's share of the loss and what it may be off by, both finite: (n,), (n,)."""
    plain, square, _ = losses(recipe)
    z_divisor = recipe.situation.problem.z_divisor
    share = plain * recipe.counted / recipe.divisor + square / z_divisor
    error = Prediction.of(recipe).slack.scaled[:, 0] / np.minimum(recipe.divisor, z_divisor)
    return np.nan_to_num(share, nan=_MOST, posinf=_MOST, neginf=-_MOST), np.nan_to_num(error, nan=_MOST)


def _merged(records: Sequence[Sequence[Any]]) -> tuple[float, float]:
    totals = [ExactSum({}), ExactSum({})]
    for record in records:
        totals = [one.merge(ExactSum(dict(more))) for one, more in zip(totals, record, strict=True)]
    return totals[0].value(), totals[1].value()


def _worded(found: Sequence[Suspect]) -> Iterator[Diagnosis]:
    """Yield the bugs in words, the first as the best and the others as tied with it."""
    different: dict[str, Suspect] = {}
    for each in found:
        different.setdefault(each.bug.code, each)
    ordered = sorted(different.values(), key=lambda each: each.bug.general)
    for each in ordered:
        told, bug = each.variant.parameters, each.bug
        yield Diagnosis(
            code=bug.code,
            kind=bug.kind,
            message=bug.happened.format(**told),
            formula=bug.formula.format(**told),
            advice=bug.advice.format(**told),
            parameters=told,
            explained=1.0,
            flags=each.variant.flags,
            tied_with=None if each is ordered[0] else ordered[0].bug.code,
            of="loss",
        )


def _facts(stated: Stated) -> Iterator[Fact]:
    if stated.right:
        yield Fact("one-factor", f"got = {stated.got.value / stated.right:.6g} x expected", of="loss")

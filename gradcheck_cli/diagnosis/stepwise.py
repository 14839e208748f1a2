"""Factors of rows that are constant over long runs: seen by a walk over every row, where a sample cannot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from gradcheck_cli.blocks import Block
from gradcheck_cli.diagnosis.bug import Suspect
from gradcheck_cli.diagnosis.every import over_every_row
from gradcheck_cli.diagnosis.fit import factors
from gradcheck_cli.diagnosis.hypothesis import Hypothesis
from gradcheck_cli.diagnosis.micro import RowFactors, uneven
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.upstream import MEAN_OF_MEANS, SUM_OF_MEANS
from gradcheck_cli.diagnosis.view import View, sights_of
from gradcheck_cli.grid import Grid
from gradcheck_cli.numeric.precision import Floats

_STEPS = 0.25  # of neighbouring rows may have different factors, or they are not constant over runs


def in_micro_batches(sample: Sample, processes: int) -> tuple[Hypothesis, ...]:
    """Return the micro-batches that explain every row, where the rows looked at may lie in several.

    Each row is explained by what it allows of its own factor, entry by entry: nothing is left to confirm.
    """
    if sample.situation.width == 1 or sample.whole or not _in_runs(sample.views):
        return ()
    rows = row_factors(sample.situation, processes)
    return tuple(
        Hypothesis(row=Suspect(bug, variant))
        for bug, mean in ((MEAN_OF_MEANS, True), (SUM_OF_MEANS, False))
        for variant in uneven(sample.situation, rows, mean=mean)
    )


def _in_runs(views: Sequence[View]) -> bool:
    """Tell whether every row looked at has a factor, and mostly that of the row before."""
    steps = neighbours = 0
    for view in views:
        found = factors(view, view.recipe)[0]
        if not (found.low <= found.high).all():
            return False
        ends = zip(view.recipe.numbers.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
        for (row, low, high), (below, lower, higher) in pairwise(ends):
            if below == row + 1:
                neighbours += 1
                steps += not max(low, lower) <= min(high, higher)
    return neighbours > 0 and steps <= _STEPS * neighbours


def row_factors(situation: Situation, processes: int) -> RowFactors:
    """Return the factors that every row that counts allows.

    Raises
    ------
    InputError
        If a file changed since it was checked.
    """
    grid = Grid.of(situation.problem)
    records = over_every_row(situation.problem, grid, processes, lambda _: _Gathering(situation))
    numbers, low, high = (
        np.frombuffer(b"".join(each.get(name, b"") for each in records), dtype=np.float64)
        for name in ("numbers", "low", "high")
    )
    order = np.argsort(numbers)
    return RowFactors(numbers[order].astype(np.int64), low[order], high[order])


class _Gathering:
    """The factors that the rows so far allow."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._seen: list[tuple[Floats, Floats, Floats]] = []

    def take(self, block: Block) -> None:
        """Look at the rows of a block that count."""
        for sight in sights_of(self._situation, block):
            found, counted = factors(sight.view, sight.view.recipe)[0], sight.counted
            numbers = np.arange(sight.rows.start, sight.rows.stop, dtype=np.float64)
            self._seen.append((numbers[counted], found.low[counted], found.high[counted]))

    def record(self) -> dict[str, bytes]:
        """Return the rows' numbers and factors as bytes, by name; nothing where no row was seen."""
        columns = (np.concatenate(each) for each in zip(*self._seen, strict=True))
        return dict(zip(("numbers", "low", "high"), (each.tobytes() for each in columns), strict=False))

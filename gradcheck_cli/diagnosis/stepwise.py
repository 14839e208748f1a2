"""Factors of rows that are constant over long runs: seen by a walk over every row, where a sample cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gradcheck_cli.blocks import Grid, Room, work_out
from gradcheck_cli.diagnosis.bug import Suspect
from gradcheck_cli.diagnosis.fit import factors
from gradcheck_cli.diagnosis.hypothesis import Hypothesis
from gradcheck_cli.diagnosis.micro import RowFactors, uneven
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.upstream import MEAN_OF_MEANS, SUM_OF_MEANS
from gradcheck_cli.diagnosis.view import View, sights_of
from gradcheck_cli.engine import silent
from gradcheck_cli.errors import InputError
from gradcheck_cli.workers import Counter, FailedPiece, spread

_WORTH_A_PROCESS = 1 << 19
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
    problem = situation.problem
    grid = Grid.of(problem)
    counter = Counter(min(processes, 1 + situation.rows * situation.classes // _WORTH_A_PROCESS))

    def work(blocks: Iterator[int]) -> dict[str, Any]:
        room = Room.of(problem, grid, depth=True)
        seen: list[tuple[Any, Any, Any]] = []
        with np.errstate(all="ignore"):
            for number in blocks:
                try:
                    block = work_out(problem, grid.rows_of(number), grid, room)
                except InputError as error:
                    raise FailedPiece(number, str(error)) from error
                for sight in sights_of(situation, block):
                    found, counted = factors(sight.view, sight.view.recipe)[0], sight.counted
                    numbers = np.arange(sight.rows.start, sight.rows.stop, dtype=np.float64)
                    seen.append((numbers[counted], found.low[counted], found.high[counted]))
        columns = (np.concatenate(each) for each in zip(*seen, strict=True))
        return dict(zip(("numbers", "low", "high"), (each.tobytes() for each in columns), strict=True))

    records = spread(work, grid.blocks, counter, silent(situation.rows, counter.total))
    numbers, low, high = (
        np.frombuffer(b"".join(each.get(name, b"") for each in records), dtype=np.float64)
        for name in ("numbers", "low", "high")
    )
    order = np.argsort(numbers)
    return RowFactors(numbers[order].astype(np.int64), low[order], high[order])

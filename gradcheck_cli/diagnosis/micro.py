"""Micro-batches: the factors of rows as runs of one value, and the sizes of the parts that make them.

A run of rows with the factor r is made of micro-batches of c = d / r counted rows each, d the divisor (for a
mean of M means, d / (M r)); rows that show no factor belong to either side.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from gradcheck_cli.diagnosis.bug import Variant
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.records import dataclass

MOST_PARTS = 64
_WINDOW = 256  # rows of a run that are looked at together, to begin with


@dataclass(frozen=True, eq=False)
class RowFactors:
    """The rows that count, in order, and the factors that each of them allows: (m,) each."""

    numbers: Indices
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Run:
    """Consecutive rows that one factor will do for."""

    start: int
    low: float
    high: float
    sure: int  # rows that count and show the factor, or lie between such
    loose: int  # rows that count after the last of them

    def parts(self, size: int) -> int:
        """Return how many micro-batches of a size fit the run, 0 if none do."""
        if size < 1:
            return 0
        parts = -(-self.sure // size)
        return parts if parts * size <= self.sure + self.loose else 0


def uneven(situation: Situation, rows: RowFactors, *, mean: bool) -> Iterator[Variant]:
    """Yield unequal contiguous micro-batches, as the factors of all rows that count show them."""
    if not situation.divided or situation.problem.loss.class_weights is not None:
        return
    most = min(MOST_PARTS, situation.counted // 2)
    runs = _runs(rows, most)
    if not 1 < len(runs) <= most or not all(0.0 < run.low <= run.high < np.inf for run in runs):
        return
    edges = np.array([run.start for run in runs[1:]])
    found = list(_totals(runs, situation.problem.divisor, MOST_PARTS if mean else 1))
    for total, parts, sizes in sorted(found, key=lambda each: each[0] - each[1])[:1]:
        divisors = np.array(sizes) * total
        fewest = 0 if mean and parts < total else min(sizes)
        told = {"parts": total if mean else parts, "fewest": fewest, "most": max(sizes), "lie": "contiguous"}
        factor = partial(_stepwise, edges=edges, shares=situation.problem.divisor / divisors)
        yield Variant(factor=factor, parameters=told)


def _totals(runs: list[Run], divisor: float, most: int) -> Iterator[tuple[int, int, list[int]]]:
    """Yield what the means may be divided by: that, how many of them show, and the rows that count in each.

    Micro-batches in which no row counts show nothing, but are divided by as well.
    """
    for total in range(len(runs) if most > 1 else 1, most + 1):
        share = divisor / total
        sizes = [_whole(share / run.low, share / run.high) for run in runs]
        parts = [run.parts(size) for run, size in zip(runs, sizes, strict=True)]
        if min(parts) > 0 and (most == 1 or sum(parts) <= total):
            yield total, sum(parts), sizes


def _whole(first: float, second: float) -> int:
    """Return the whole number in an interval, 0 if there is none, or more than one."""
    low, high = sorted((first, second))
    found = round(low)
    return found if low * (1 - 1e-9) <= found <= high * (1 + 1e-9) and high - low < 0.5 else 0


def _runs(rows: RowFactors, most: int) -> list[Run]:
    """Return the runs of counted rows that share a factor; one more than so many where there are more."""
    runs: list[Run] = []
    start, count = 0, len(rows.numbers)
    while start < count and len(runs) <= most:
        stop = _end(rows, start)
        low, high = np.maximum(rows.low[start:stop], 0.0), rows.high[start:stop]
        shows = np.flatnonzero(low > 0.0)
        sure = int(shows[-1]) + 1 if shows.size else 1
        first = int(rows.numbers[start])
        runs.append(Run(first, float(low.max()), float(high.min()), sure, stop - start - sure))
        start = stop
    return runs


def _end(rows: RowFactors, start: int) -> int:
    """Return where the run of rows from a place on ends; one that allows nothing is a run of its own."""
    window, low, high = _WINDOW, 0.0, np.inf
    place = start
    while place < len(rows.numbers):
        part = slice(place, place + window)
        lows = np.maximum(np.maximum.accumulate(rows.low[part]), low)
        highs = np.minimum(np.minimum.accumulate(rows.high[part]), high)
        off = np.flatnonzero(~(lows <= highs))
        if off.size:
            return max(place + int(off[0]), start + 1)
        low, high, place, window = float(lows[-1]), float(highs[-1]), place + len(lows), 2 * window
    return len(rows.numbers)


def _stepwise(recipe: Recipe, edges: Indices, shares: Floats) -> Floats:
    """Return for each row the share between the edges it lies in: (n,)."""
    picked: Floats = shares[np.searchsorted(edges, recipe.numbers, side="right")]
    return picked


def even(situation: Situation, *, mean: bool) -> Iterator[Variant]:
    """Yield equal micro-batches, contiguous or dealt in turn, each divided by the rows that count in it."""
    if not situation.divided or situation.problem.loss.class_weights is not None:
        return
    for parts in range(2, min(MOST_PARTS, situation.rows) + 1):
        size, left = divmod(situation.rows, parts)
        if not left and situation.problem.ignored_rows:  # else as many rows count in each
            counted = situation.counted_in(parts)
            yield from _of_counts(situation, counted, partial(_block, size=size), "contiguous", mean=mean)
    for parts in (2**power for power in range(1, MOST_PARTS.bit_length())):
        if parts < situation.rows and (situation.problem.ignored_rows or situation.rows % parts):
            counted = situation.counted_in(parts, in_turn=True)
            yield from _of_counts(situation, counted, partial(_turn, parts=parts), "interleaved", mean=mean)


def _block(numbers: Indices, size: int) -> Indices:
    return numbers // size


def _turn(numbers: Indices, parts: int) -> Indices:
    return numbers % parts


def _of_counts(
    situation: Situation, counted: Indices, which: partial[Indices], lie: str, *, mean: bool
) -> Iterator[Variant]:
    """Yield the factors of micro-batches in which so many rows count, if there are several: (parts,)."""
    if len(set(counted[counted > 0].tolist())) == 1:
        return  # every row has the same factor
    share = situation.problem.divisor / np.maximum(counted, 1) / (len(counted) if mean else 1)

    def factor(recipe: Recipe) -> Floats:
        picked: Floats = share[which(recipe.numbers)]
        return picked

    told = {"parts": len(counted), "fewest": int(counted.min()), "most": int(counted.max()), "lie": lie}
    yield Variant(factor=factor, parameters=told)

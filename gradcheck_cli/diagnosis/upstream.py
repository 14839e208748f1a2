"""B. What multiplies a row: the upstream gradient, class weights, the divisor of its micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from gradcheck_cli.diagnosis.bug import DEFECT, Bug, Variant
from gradcheck_cli.diagnosis.fit import factors
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.records import dataclass
from gradcheck_cli.tensors import Rows

_MOST_PARTS = 64  # micro-batches


def _per_row(sample: Sample) -> bool:
    return isinstance(sample.situation.problem.upstream, Rows)


def _ignored(sample: Sample) -> Iterable[Variant]:
    if _per_row(sample):
        yield Variant(change=lambda r: r.changed(upstream=np.ones_like(r.upstream)))


def _first(sample: Sample) -> Iterable[Variant]:
    first = sample.situation.first_upstream
    if _per_row(sample) and first:
        yield Variant(
            change=lambda r: r.changed(upstream=np.full_like(r.upstream, first)), parameters={"first": first}
        )


def _twice(sample: Sample) -> Iterable[Variant]:
    if _per_row(sample):
        yield Variant(change=lambda r: r.changed(upstream=r.upstream**2))


def _over(first: Floats, second: Floats) -> Floats:
    """Return first / second, 1 where the second is 0: such rows are 0 whatever multiplies them."""
    return np.divide(first, second, out=np.ones_like(first), where=second != 0.0)


def _weights(recipe: Recipe, of: Callable[[Recipe], Indices]) -> Floats:
    """Return the class weight of a class for each row: (n,)."""
    weights = recipe.loss.class_weights
    if weights is None:
        return np.ones(len(recipe.counted))
    picked: Floats = weights[np.clip(of(recipe), 0, len(weights) - 1)]
    return picked


def _weighted(sample: Sample) -> bool:
    return sample.situation.problem.loss.class_weights is not None and not sample.situation.problem.soft


def _twice_weighted(sample: Sample) -> Iterable[Variant]:
    if _weighted(sample):
        yield Variant(factor=lambda r: _weights(r, lambda each: each.labels))


def _by_row(sample: Sample) -> Iterable[Variant]:
    if _weighted(sample):
        classes = sample.situation.classes
        yield Variant(
            factor=lambda r: _over(
                _weights(r, lambda each: each.numbers % classes), _weights(r, lambda each: each.labels)
            )
        )


def _micro(sample: Sample, *, mean: bool) -> Iterable[Variant]:
    """Yield the factors of equal contiguous micro-batches, each divided by the rows that count in it."""
    situation = sample.situation
    if not situation.divided or situation.problem.loss.class_weights is not None:
        return
    if not situation.problem.ignored_rows:  # equal micro-batches have as many rows that count
        return
    for parts in range(2, min(_MOST_PARTS, situation.rows) + 1):
        if situation.rows % parts:
            continue
        counted = situation.counted_in(parts)
        if len(set(counted[counted > 0].tolist())) == 1:
            continue  # every row has the same factor
        share = situation.problem.divisor / np.maximum(counted, 1) / (parts if mean else 1)
        size = situation.rows // parts

        def factor(recipe: Recipe, share: Floats = share, size: int = size) -> Floats:
            picked: Floats = share[recipe.numbers // size]
            return picked

        told = {
            "parts": parts,
            "size": size,
            "fewest": int(counted.min()),
            "most": int(counted.max()),
        }
        yield Variant(factor=factor, parameters=told)


def _seen_micro(sample: Sample, *, mean: bool) -> Iterable[Variant]:
    """Yield unequal contiguous micro-batches, as the factors of the rows show them, if every row is there.

    A run of rows with the factor r is made of micro-batches of c = d / r counted rows each, d the divisor
    (for a mean of M means, d / (M r)); rows that show no factor belong to either side.
    """
    situation = sample.situation
    if not (sample.whole and situation.divided) or situation.problem.loss.class_weights is not None:
        return
    runs = sample.once(_factor_runs)
    if not 1 < len(runs) <= min(_MOST_PARTS, situation.counted // 2):
        return
    if not all(0.0 < run.low <= run.high < np.inf for run in runs):
        return
    edges = np.array([run.start for run in runs[1:]])
    for total in range(len(runs), _MOST_PARTS + 1) if mean else (1,):
        share = situation.problem.divisor / total
        sizes = [_whole(share / run.low, share / run.high) for run in runs]
        parts = [run.parts(size) for run, size in zip(runs, sizes, strict=True)]
        if min(parts) < 1 or (mean and sum(parts) != total):
            continue
        shares = np.array([share / size for size in sizes])
        told = {"parts": sum(parts), "fewest": min(sizes), "most": max(sizes)}
        yield Variant(factor=partial(_stepwise, edges=edges, shares=shares), parameters=told)
        return


@dataclass(frozen=True)
class _Run:
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


def _whole(first: float, second: float) -> int:
    """Return the whole number in an interval, 0 if there is none, or more than one."""
    low, high = sorted((first, second))
    found = round(low)
    return found if low * (1 - 1e-9) <= found <= high * (1 + 1e-9) and high - low < 0.5 else 0


def _factor_runs(sample: Sample) -> list[_Run]:
    """Return the runs of counted rows that share a factor, none where a row has no factor."""
    numbers, lows, highs = _row_factors(sample)
    runs: list[_Run] = []
    for number, low, high in zip(numbers.tolist(), lows.tolist(), highs.tolist(), strict=True):
        run = runs[-1] if runs else None
        if run is not None and low <= 0.0:  # shows nothing
            runs[-1] = replace(run, loose=run.loose + 1)
        elif run is not None and max(low, run.low) <= min(high, run.high):
            both = (max(low, run.low), min(high, run.high))
            runs[-1] = _Run(run.start, *both, run.sure + run.loose + 1, 0)
        else:
            runs.append(_Run(number, max(low, 0.0), high, 1, 0))
    return runs


def _row_factors(sample: Sample) -> tuple[Indices, Floats, Floats]:
    """Return the rows that count, in order, and the factors that each of them allows: (m,) each.

    None at all where a row allows no factor.
    """
    numbers, lows, highs = [], [], []
    for view in sample.views:
        found = factors(view, view.recipe)[0]
        if (found.low > found.high)[view.counted].any():
            return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0)
        numbers.append(view.recipe.numbers[view.counted])
        lows.append(found.low[view.counted])
        highs.append(found.high[view.counted])
    order = np.argsort(np.concatenate(numbers))
    return np.concatenate(numbers)[order], np.concatenate(lows)[order], np.concatenate(highs)[order]


def _stepwise(recipe: Recipe, edges: Indices, shares: Floats) -> Floats:
    """Return for each row the share between the edges it lies in: (n,)."""
    picked: Floats = shares[np.searchsorted(edges, recipe.numbers, side="right")]
    return picked


def _mean_of_means(sample: Sample) -> Iterable[Variant]:
    yield from _micro(sample, mean=True)
    yield from _seen_micro(sample, mean=True)


def _sum_of_means(sample: Sample) -> Iterable[Variant]:
    yield from _micro(sample, mean=False)
    yield from _seen_micro(sample, mean=False)


UPSTREAM = (
    Bug(
        "upstream-ignored", DEFECT, "(Q a - q) / divisor, without g_i",
        "the upstream gradient is left out: each row's got / expected is 1 / its upstream",
        "multiply each row by its own grad_output",
        "upstream", _ignored,
    ),
    Bug(
        "upstream-first-row-only", DEFECT, "g_0 (Q a - q) / divisor",
        "the first row's upstream gradient, {first:.9g}, is used for all rows",
        "index grad_output with the row: it is read as if it were a scalar",
        "upstream", _first,
    ),
    Bug(
        "upstream-applied-twice", DEFECT, "g_i^2 (Q a - q) / divisor",
        "the upstream gradient is multiplied in twice: each row's got / expected is its upstream",
        "multiply by grad_output once, in the forward pass or in the backward pass",
        "upstream", _twice,
    ),
)  # fmt: skip

ROW_FACTORS = (
    Bug(
        "weights-applied-twice", DEFECT, "w_y^2 (a - y) / divisor",
        "the class weights are multiplied in twice: each row's got / expected is the weight of its label",
        "apply the class weights in the loss or in the gradient of the rows, not in both",
        "rows", _twice_weighted,
    ),
    Bug(
        "weights-by-row", DEFECT, "w_i (a - y) / divisor, i the row",
        "the class weights are indexed by the row and not by its label",
        "read weight[label[row]], not weight[row]",
        "rows", _by_row,
    ),
    Bug(
        "mean-of-means", DEFECT, "(Q a - q) / ({parts} rows that count in the micro-batch)",
        "the mean is taken in each of {parts} contiguous micro-batches and averaged, although "
        "{fewest:,} to {most:,} rows count in them",
        "divide every micro-batch by the rows that count in all of them (the global token count)",
        "rows", _mean_of_means,
    ),
    Bug(
        "sum-of-means", DEFECT, "(Q a - q) / rows that count in the micro-batch",
        "the mean is taken in each of {parts} contiguous micro-batches ({fewest:,} to {most:,} rows "
        "count), and "
        "these are added up",
        "divide every micro-batch by the rows that count in all of them (the global token count)",
        "rows", _sum_of_means,
    ),
)  # fmt: skip

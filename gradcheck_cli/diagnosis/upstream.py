"""B. What multiplies a row: the upstream gradient, class weights, the divisor of its micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from gradcheck_cli.diagnosis.bug import DEFECT, Bug, Variant
from gradcheck_cli.diagnosis.fit import factors
from gradcheck_cli.diagnosis.micro import RowFactors, even, uneven
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.tensors import Rows


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


def _seen(sample: Sample, *, mean: bool) -> Iterable[Variant]:
    """Yield unequal micro-batches, if every row is there."""
    if not sample.whole:
        return
    yield from uneven(sample.situation, sample.once(_row_factors), mean=mean)


def _row_factors(sample: Sample) -> RowFactors:
    """Return the rows that count with the factors that each of them allows; none where one allows none."""
    found = []
    for view in sample.views:
        ends = factors(view, view.recipe)[0]
        if (ends.low > ends.high)[view.counted].any():
            return RowFactors(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
        found.append((view.recipe.numbers[view.counted], ends.low[view.counted], ends.high[view.counted]))
    numbers, low, high = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.argsort(numbers)
    return RowFactors(numbers[order], low[order], high[order])


def _mean_of_means(sample: Sample) -> Iterable[Variant]:
    yield from even(sample.situation, mean=True)
    yield from _seen(sample, mean=True)


def _sum_of_means(sample: Sample) -> Iterable[Variant]:
    yield from even(sample.situation, mean=False)
    yield from _seen(sample, mean=False)


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

MEAN_OF_MEANS = Bug(
    "mean-of-means", DEFECT, "(Q a - q) / ({parts} rows that count in the micro-batch)",
    "the mean is taken in each of {parts} {lie} micro-batches and averaged, although {fewest:,} to {most:,} "
    "rows count in them",
    "divide every micro-batch by the rows that count in all of them (the global token count)",
    "rows", _mean_of_means,
)  # fmt: skip
SUM_OF_MEANS = Bug(
    "sum-of-means", DEFECT, "(Q a - q) / rows that count in the micro-batch",
    "the mean is taken in each of {parts} {lie} micro-batches ({fewest:,} to {most:,} rows count), and these "
    "are added up",
    "divide every micro-batch by the rows that count in all of them (the global token count)",
    "rows", _sum_of_means,
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
    MEAN_OF_MEANS,
    SUM_OF_MEANS,
)  # fmt: skip

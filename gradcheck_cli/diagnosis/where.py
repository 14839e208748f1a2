"""Where the failures are and what they have in common, in words: facts, also where no bug is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from gradcheck_cli.diagnosis.fit import Range, factors, holds
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.diagnosis.situation import CONFIDENT, Situation
from gradcheck_cli.diagnosis.survey import Counts, Survey
from gradcheck_cli.outcome import Fact

_MOST_RUNS = 4
_OFFSETS = {2**31: "2^31", 2**32: "2^32"}


def facts(found: Survey, sample: Sample) -> tuple[Fact, ...]:
    """Return what can be said of the failing entries, the most telling first."""
    tellers: tuple[Callable[[Survey, Sample], Iterator[Fact]], ...] = (
        _factor, _zeros, _not_numbers, _labels, _ignored, _confident, _columns, _rows,
    )  # fmt: skip
    return tuple(fact for tell in tellers for fact in tell(found, sample))


def ratio(interval: tuple[float, float]) -> str:
    """Return a factor with the digits that its interval leaves sure: ``480.00``."""
    low, high = interval
    middle = 0.5 * (low + high)
    digits = 5
    while digits > 2 and abs(high - low) > 2.0 * 10.0 ** (1 - digits) * abs(middle):
        digits -= 1
    if 1e5 <= abs(middle) < 1e9:
        return f"{middle:,.0f}"
    text = f"{middle:#.{digits}g}"
    return text.removesuffix(".") if "e" not in text else f"{middle:.{digits}g}"


def _factor(found: Survey, sample: Sample) -> Iterator[Fact]:
    """Yield the factor of all entries, or else that each row has one of its own."""
    low, high = found.factor
    if low <= high < np.inf and low > -np.inf and not low <= 0.0 <= high and not low <= 1.0 <= high:
        yield Fact("one-factor", f"got = {ratio((low, high))} x expected in every entry")
        return
    if low <= 0.0 <= high or sample.situation.width == 1:  # a single entry is always some factor off
        return
    ranges = [factors(view, view.recipe)[0] for view in sample.views]
    whole = Range(*(np.concatenate([getattr(each, name) for each in ranges]) for name in ("low", "high")))
    told = (whole.low > 0.0) & np.isfinite(whole.high)
    if whole.low.size > 2 and (whole.low <= whole.high).all() and told.sum() > 2 and not holds(whole.common):
        least, most = float(whole.high[told].min()), float(whole.low[told].max())
        if most < 1.01 * least:
            return
        yield Fact(
            "row-factors",
            f"each row is expected x a factor of its own, {least:.4g} to {most:.4g} in the rows looked at: "
            "an upstream gradient, or weights, that softgrad was not told of?",
        )


def _zeros(found: Survey, _: Sample) -> Iterator[Fact]:
    if found.zeros == found.failing:
        yield Fact("zeros", f"{_all(found.failing)} got exactly 0")
    elif found.zeros:
        yield Fact("zeros", f"{found.zeros:,} of the failing entries got exactly 0")


def _not_numbers(found: Survey, _: Sample) -> Iterator[Fact]:
    if found.not_numbers:
        some = _all(found.failing) if found.not_numbers == found.failing else f"{found.not_numbers:,} of them"
        yield Fact("not-numbers", f"{some} got NaN or an infinity")


def _labels(found: Survey, sample: Sample) -> Iterator[Fact]:
    if sample.situation.width == 1:
        return
    column = "likeliest class" if sample.situation.problem.soft else "label"
    if found.at_label == found.failing:
        verb = "is" if found.failing == 1 else "are"
        yield Fact("at-label", f"{_all(found.failing)} {verb} in the column of the row's {column}")
    elif found.at_label == 0 and found.failing > 3 and not found.in_ignored:
        yield Fact("not-at-label", f"no failing entry is in the column of its row's {column}")


def _ignored(found: Survey, sample: Sample) -> Iterator[Fact]:
    if found.in_ignored and found.in_ignored == found.failing:
        ignored = sample.situation.problem.ignored_rows
        yield Fact(
            "in-ignored-rows",
            f"{_all(found.failing)} are in ignored rows: {found.ignored_rows:,} of {ignored:,} fail",
        )


def _confident(found: Survey, sample: Sample) -> Iterator[Fact]:
    rows = len(found.failing_rows)
    if rows and found.confident_rows == rows and found.all_confident < sample.situation.counted:
        yield Fact(
            "in-confident-rows",
            f"all {rows:,} failing rows are confident (the probability of the label is above {CONFIDENT}; "
            f"{found.all_confident:,} rows are)",
        )


def _columns(found: Survey, sample: Sample) -> Iterator[Fact]:
    columns, classes = found.failing_columns, sample.situation.width
    few = len(columns) < classes and (len(columns) <= classes // 2 or _runs(columns) == 1)
    if not few or found.at_label == found.failing:
        return
    yield Fact("in-columns", f"{len(columns):,} of {classes:,} columns fail: {runs_of(columns, classes)}")


def runs_of(numbers: Counts, of: int) -> str:
    """Return numbers in words: all >= a, all < b, runs, every s-th, or their range."""
    first, last = int(numbers[0]), int(numbers[-1])
    if _runs(numbers) == 1 and last == of - 1 and first > 0:
        return f"all from {first:,} on{_block(first, of)}"
    if _runs(numbers) == 1 and first == 0:
        return f"all below {last + 1:,}"
    if len(numbers) == 1:
        return f"number {first:,}"
    if _runs(numbers) <= _MOST_RUNS:
        cuts = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]
        runs = [(int(numbers[a]), int(numbers[b - 1])) for a, b in pairwise(cuts)]
        return ", ".join(f"{a:,}" if a == b else f"{a:,} .. {b:,}" for a, b in runs)
    step = int(np.gcd.reduce(np.diff(numbers)))
    if step > 1:
        return f"between {first:,} and {last:,}, multiples of {step:,} apart"
    return f"between {first:,} and {last:,}"


def _block(first: int, of: int) -> str:
    """Return the block whose tail this may be: the largest power of two that divides the boundary."""
    size = first & -first
    if size < 4 or of - first >= size:
        return ""
    return f", the tail of the last block of {size:,}?"


def _runs(numbers: Counts) -> int:
    return 1 + int(np.count_nonzero(np.diff(numbers) != 1))


def _rows(found: Survey, sample: Sample) -> Iterator[Fact]:
    rows, total = found.failing_rows, sample.situation.rows
    if found.in_ignored == found.failing or len(rows) == sample.situation.counted:
        return
    if len(rows) < total and (len(rows) <= total // 2 or _runs(rows) == 1):
        place = _offset(int(rows[0]), sample.situation) if rows[-1] == total - 1 else ""
        yield Fact("in-rows", f"{len(rows):,} of {total:,} rows fail: {runs_of(rows, total)}{place}")


def _offset(first: int, situation: Situation) -> str:
    """Return the power of two that the first failing row's entries begin to pass, if any."""
    for offset, name in _OFFSETS.items():
        if offset // situation.width == first > 0:
            return f"; the entry number {name} is in the first of them"
    return ""


def _all(count: int) -> str:
    return "the failing entry" if count == 1 else f"all {count:,} failing entries"

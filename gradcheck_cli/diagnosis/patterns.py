"""Bugs that show in where a file fails, and not in what it holds there."""

from __future__ import annotations

import math

from gradcheck_cli.diagnosis.bug import DEFECT
from gradcheck_cli.diagnosis.count import ALL
from gradcheck_cli.diagnosis.scale import clipped
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.survey import Survey
from gradcheck_cli.diagnosis.where import ratio
from gradcheck_cli.outcome import Diagnosis

_OFFSETS = {2**31: "2^31", 2**32: "2^32"}
_BLOCK = 8  # rows or columns, the smallest that a tail is the rest of


def _diagnosis(code: str, message: str, formula: str, advice: str, **parameters: object) -> Diagnosis:
    return Diagnosis(code, DEFECT, message, formula, advice, parameters, explained=1.0)


def all_zero(found: Survey, situation: Situation) -> tuple[Diagnosis, ...]:
    """Return that nothing was exported but zeros, and what may have made them."""
    if found.nonzero:
        return ()
    first = situation.of_gradient and situation.first_upstream == 0.0
    hint = " (the upstream gradient of row 0 is 0: was it used for all rows?)" if first else ""
    message = f"every entry is 0{hint}"
    ran = "the backward pass" if situation.of_gradient else "the kernel"
    advice = f"check that {ran} ran, and that it wrote into the buffer that was exported"
    named = _diagnosis("all-zero", message, "0", advice)
    if not first:
        return (named,)
    other = _diagnosis(
        "upstream-first-row-only",
        "the first row's upstream gradient, 0, may have been used for all rows",
        "g_0 (Q a - q) / divisor",
        "index grad_output with the row: it is read as if it were a scalar",
        first=0.0,
    )
    return named, Diagnosis(**{**vars(other), "tied_with": "all-zero"})


def transposed(words: str) -> tuple[Diagnosis, ...]:
    """Return that the file holds the right numbers in another order."""
    return (
        _diagnosis(
            "transposed",
            f"the numbers are right, but {words}: read so, every entry passes",
            "G transposed",
            "export a contiguous copy in the logits' own layout, or fix the strides",
        ),
    )


def patterns(found: Survey, situation: Situation) -> tuple[Diagnosis, ...]:
    """Return the bug that the places of the failures show, if there is one."""
    return _clipped(found, situation) or _overflowed(found, situation) or _tail(found, situation)


def _clipped(found: Survey, situation: Situation) -> tuple[Diagnosis, ...]:
    # Roundings are as often up as down: their sum over n entries grows with the root of n alone.
    blur = 8.0 * situation.export.grid.unit / math.sqrt(found.entries)
    low, high = found.factor
    threshold = clipped(found.norm(0), found.norm(1), blur) if low <= high and low > 0.0 else None
    if threshold is None or not situation.of_gradient:
        return ()
    message = (
        f"the gradient is clipped to the norm {threshold:g} (it would be {found.norm(1):.6g}); "
        f"got = {ratio(found.factor)} x expected in every entry"
    )
    return (
        _diagnosis(
            "clipped",
            message,
            f"G min(1, {threshold:g} / |G|)",
            "export the gradient before it is clipped",
            threshold=threshold,
            norm=found.norm(1),
        ),
    )


def _overflowed(found: Survey, situation: Situation) -> tuple[Diagnosis, ...]:
    """Return that everything from one power of two on is wrong: an offset that did not fit its type."""
    rows = found.failing_rows
    for offset, name in _OFFSETS.items():
        first = offset // situation.width
        if rows.size and first == rows[0] and first > 0 and rows.size >= _fills(situation, first):
            message = (
                f"rows from {first:,} on are wrong, where the entry number passes {name}; all before are "
                "right"
            )
            advice = "compute row x stride in 64 bits"
            return (_diagnosis("offset-overflow", message, "rows of a wrapped offset", advice, first=first),)
    return ()


def _fills(situation: Situation, first: int) -> float:
    """Return how many rows fail at least where all from one on are wrong; few are right by chance."""
    return 0.9 * (situation.rows - first - situation.problem.ignored_rows)


def _tail(found: Survey, situation: Situation) -> tuple[Diagnosis, ...]:
    """Return that the last columns, or the last rows, hold something else in every entry."""
    columns, rows = found.failing_columns, found.failing_rows
    first = int(columns[0])
    block = first & -first
    whole = int(found.columns[first:].min()) >= situation.counted * 0.9
    often = "every" if int(found.columns[first:].min()) == situation.counted else "nearly every"
    if first > 0 and block >= _BLOCK and whole and columns.size > 1 and situation.width - first <= block:
        message = (
            f"the last {columns.size:,} of {situation.classes:,} columns, from {first:,} on, are wrong in "
            f"{often} row, all others right"
        )
        advice = f"check the mask of the last block of columns ({block:,} wide, or a part of that)"
        return (_diagnosis("tail-columns", message, "columns of another buffer", advice, first=first),)
    first = int(rows[0])
    block = first & -first
    full = int((found.rows[first:] & ALL != 0).sum()) == situation.rows - first
    if first > 0 and block >= _BLOCK and full and rows.size > 1 and situation.rows - first <= block:
        message = (
            f"the last {rows.size:,} of {situation.rows:,} rows, from {first:,} on, are wrong in every entry"
        )
        advice = "check the bounds of the last block of rows: they were not written, or by another block"
        return (_diagnosis("stale-rows", message, "rows of another buffer", advice, first=first),)
    return ()

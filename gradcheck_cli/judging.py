"""Rows of an exported tensor beside what is right: judged, and graded by the model that explains them.

For allowances that are worked out entry by entry; `comparisons` has those that are affine in the
probabilities.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck_cli.bounds import ACCEPTED, add_storage
from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.exports import Export, rounding
from gradcheck_cli.findings import Sides, Tally, compare
from gradcheck_cli.grades import ARITHMETIC, tightest
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass

LOOSEST = Model.NATIVE_HALF
"""The loosest model that is accepted; of an export that is none of 16 bits it allows what a rounded
logsumexp does."""


@dataclass(frozen=True, eq=False)
class Explanations:
    """What the entries of an export may be off by under each model; the planes may be one and the same."""

    export: Export
    spread: Callable[[Model], Floats]

    def tightest(self, error: Floats, start: Model) -> Model:
        """Return the tightest model, from `start` on, that explains errors which are allowed."""
        ways = (*ARITHMETIC, ACCEPTED) if self.export.native is None else (*ARITHMETIC, ACCEPTED, LOOSEST)
        return tightest(start, ways, lambda model: bool((error <= self.spread(model)).all()))


def judge_rows(
    tally: Tally,
    start: int,
    values: tuple[Floats, Floats],
    by: Tolerance | Explanations,
    room: tuple[Floats, Floats] | None = None,
) -> None:
    """Compare what was got with what is right in the rows from `start` on, and grade it.

    A tolerance grades nothing, and what fails is explained by nothing.
    """
    got, expected = values
    if isinstance(by, Tolerance):
        tally.needs(Model.NONE)
        compare_rows(tally, start, Sides(got, expected, by.spread(expected, np.empty_like(expected))), room)
        return
    failing = tally.finding.failing
    error = compare_rows(tally, start, Sides(got, expected, by.spread(LOOSEST)), room)
    tally.needs(by.export.finest)
    tally.needs(Model.NONE if tally.finding.failing > failing else by.tightest(error, tally.model))


def compare_rows(tally: Tally, start: int, sides: Sides, room: tuple[Floats, Floats] | None = None) -> Floats:
    """Compare the rows from `start` on, in two planes of the room, and return their errors."""
    width = sides.got.shape[1]

    def place(position: int) -> tuple[int, int]:
        row, column = divmod(position, width)
        return start + row, column

    error, work = (np.empty_like(sides.got), np.empty_like(sides.got)) if room is None else room
    tally.count_ulps(start, sides.got, sides.expected)
    tally.add(compare(sides, tally.look(place), error, work))
    return error


def stored(allowed: Floats, expected: Floats, got: Floats, export: Export, model: Model = LOOSEST) -> Floats:
    """Return the allowance after storage and printing; the one given is overwritten.

    What is correctly rounded is rounded to the precision of the computation first. What lies below the
    smallest normal number of it may have been flushed to zero.
    """
    expected = np.where(np.isinf(expected), 0.0, expected)
    size, grid = np.abs(expected), export.grid
    if model is Model.CORRECTLY_ROUNDED:
        allowed += export.compute.unit * (size + allowed)
    if grid is not export.compute and not grid.half:
        allowed *= 1.0 + grid.unit
        allowed += grid.unit * size + grid.smallest_subnormal
    add_storage(allowed, expected, export, size.copy())
    relative, absolute = rounding(export.decimals)
    allowed += relative * size + absolute + 4.0 * export.compute.smallest_normal
    if export.flushes:
        np.maximum(allowed, grid.smallest_normal, out=allowed, where=got == 0.0)
    return allowed

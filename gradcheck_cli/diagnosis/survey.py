"""One walk over every row: where the failures are, and which hypotheses explain all of them.

What a walk finds merges in any order, so processes share the work as they do for the check itself.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.blocks import Grid, Room, work_out
from gradcheck_cli.diagnosis.fit import factors
from gradcheck_cli.diagnosis.hypothesis import Hypothesis
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.view import View, views_of
from gradcheck_cli.engine import silent
from gradcheck_cli.errors import InputError
from gradcheck_cli.exports import rounding
from gradcheck_cli.findings import ExactSum
from gradcheck_cli.workers import Counter, FailedPiece, spread

CONFIDENT = 0.99
_WORTH_A_PROCESS = 1 << 19
_REMEMBERED = 8  # rows that a hypothesis does not explain

Interval = tuple[float, float]
NO_FACTOR: Interval = (float("inf"), -float("inf"))

Counts = NDArray[np.int64]
Marks = NDArray[np.uint8]

SOME, ALL, ZERO = 1, 2, 4
"""Marks of a row: some of it fails, all of it does, it is exported as 0 though it is not."""


@dataclass(frozen=True)
class Claim:
    """What a hypothesis explains of the file."""

    hypothesis: Hypothesis
    loose: bool

    @property
    def scale_alone(self) -> float | None:
        """Return the factor of all entries, where the hypothesis is nothing else."""
        alone = not (self.hypothesis.changes or self.hypothesis.row or self.loose)
        scale = self.hypothesis.scale
        return scale.variant.value if alone and scale is not None else None


@dataclass(frozen=True, eq=False)
class Survey:
    """Counts over all entries; (N,) and (K,) maps of failing rows and columns."""

    entries: int
    failing: int
    at_label: int  # failing, in the column of the row's label (or likeliest class)
    in_ignored: int
    not_numbers: int  # failing and NaN or infinite
    zeros: int  # failing and exactly 0
    ignored_rows: int  # with a failing entry
    confident_rows: int  # with a failing entry
    all_confident: int  # rows
    dropped: float  # largest right entry that is 0 in the export
    kept: float  # smallest right entry that is not
    factor: tuple[float, float]  # the factors that every entry allows
    squares: tuple[ExactSum, ExactSum]  # of what was exported, and of what is right
    rows: Marks  # (N,) SOME, ALL and ZERO of each row, added up
    columns: Counts  # (K,)
    unexplained: tuple[int, ...]  # of each claim: entries that it does not explain
    strange: tuple[tuple[int, ...], ...]  # of each claim: some rows that it does not explain

    @property
    def failing_rows(self) -> Counts:
        """Return the numbers of the rows with a failing entry."""
        return np.flatnonzero(self.rows & SOME)

    @property
    def zero_rows(self) -> Counts:
        """Return the numbers of the rows that are exported as 0 though they are not."""
        return np.flatnonzero(self.rows & ZERO)

    @property
    def failing_columns(self) -> Counts:
        """Return the numbers of the columns with a failing entry."""
        return np.flatnonzero(self.columns)

    def norm(self, which: int) -> float:
        """Return the Euclidean norm of what was exported (0) or of what is right (1)."""
        return float(np.sqrt(self.squares[which].value()))


def survey(
    situation: Situation, claims: Sequence[Claim], processes: int, factor: Interval | None = None
) -> Survey:
    """Return what a walk over all rows shows of the failures and of some hypotheses.

    `factor` is what a sample leaves open for one factor of all entries, None where there is none.

    Raises
    ------
    InputError
        If a file changed since it was checked.
    """
    grid = Grid.of(situation.problem)
    entries = situation.rows * situation.classes
    counter = Counter(min(processes, 1 + entries // _WORTH_A_PROCESS))

    def work(blocks: Iterator[int]) -> dict[str, Any]:
        walk = _Walk(situation, claims, factor)
        room = Room.of(situation.problem, grid, depth=True)
        with np.errstate(all="ignore"):
            for number in blocks:
                try:
                    block = work_out(situation.problem, grid.rows_of(number), grid, room)
                except InputError as error:
                    raise FailedPiece(number, str(error)) from error
                for view in views_of(situation, block):
                    walk.look(view)
        return walk.record()

    records = spread(work, grid.blocks, counter, silent(situation.rows, counter.total))
    return _merged(situation, records, claims)


class _Walk:
    """The survey of one process as it grows."""

    def __init__(self, situation: Situation, claims: Sequence[Claim], factor: Interval | None) -> None:
        self.claims = claims
        values = [each.scale_alone for each in claims if each.scale_alone is not None]
        self.low, self.high = NO_FACTOR if factor is None else factor
        self.guess = values[0] if values else 0.5 * (self.low + self.high)
        self.floor = 4.0 * situation.export.grid.smallest_subnormal + rounding(situation.export.decimals)[1]
        self.counts = dict.fromkeys(_COUNTED, 0)
        self.dropped, self.kept = 0.0, np.inf
        self.squares = [ExactSum({}), ExactSum({})]
        self.rows = np.zeros(situation.rows, dtype=np.uint8)
        self.columns = np.zeros(situation.classes, dtype=np.int64)
        self.unexplained = [0] * len(claims)
        self.strange: list[list[int]] = [[] for _ in claims]

    def look(self, view: View) -> None:
        """Take in some rows."""
        self._count(view)
        self.rows[view.rows.start : view.rows.stop] = (
            SOME * view.failing.any(axis=1)
            + ALL * view.failing.all(axis=1)
            + ZERO * (~view.got.any(axis=1) & view.right.any(axis=1))
        )
        self.columns += view.failing.sum(axis=0)
        self._measure(view)
        for place, claim in enumerate(self.claims):
            if claim.scale_alone is not None:
                continue  # the factors that every entry allows tell
            refuted = claim.hypothesis.refuted(view.recipe, loose=claim.loose)
            found = int(np.count_nonzero(refuted))
            self.unexplained[place] += found
            if found and len(self.strange[place]) < _REMEMBERED:
                strange = view.rows.start + np.flatnonzero(refuted.any(axis=1))
                self.strange[place] += strange[: _REMEMBERED - len(self.strange[place])].tolist()

    def _count(self, view: View) -> None:
        failing = view.failing
        wrong_rows, confident = failing.any(axis=1), view.counted & (view.own_a > CONFIDENT)
        more = {
            "entries": failing.size,
            "failing": failing.sum(),
            "at_label": (failing[np.arange(len(failing)), view.pivot] & view.counted).sum(),
            "in_ignored": failing[~view.counted].sum(),
            "not_numbers": (failing & ~view.finite).sum(),
            "zeros": (failing & (view.got == 0.0)).sum(),
            "ignored_rows": (wrong_rows & ~view.counted).sum(),
            "confident_rows": (wrong_rows & confident).sum(),
            "all_confident": confident.sum(),
        }
        for name, count in more.items():
            self.counts[name] += int(count)

    def _measure(self, view: View) -> None:
        right = np.abs(view.right)
        nothing = view.got == 0.0
        self.dropped = max(self.dropped, float(np.max(right, where=nothing, initial=0.0)))
        self.kept = min(self.kept, float(np.min(right, where=~nothing & (right > 0.0), initial=np.inf)))
        if not self.low <= self.high:
            return  # norms matter only beside one factor of all entries
        if view.situation.tolerance is not None:
            low, high = factors(view, view.recipe)[0].common
            self.low, self.high = max(self.low, low), min(self.high, high)
        else:  # a factor of all entries multiplies what is allowed them as well
            error = np.abs(view.got - self.guess * view.right)
            if not (error <= abs(self.guess) * view.allowed + self.floor).all():
                self.low, self.high = NO_FACTOR
        for place, plane in enumerate((view.got, view.right)):
            squares = np.einsum("ij,ij->i", plane, plane)
            if np.isfinite(squares).all():
                self.squares[place] = self.squares[place].merge(ExactSum.of(squares))

    def record(self) -> dict[str, Any]:
        """Return the survey as something that JSON holds."""
        return {
            "counts": self.counts,
            "ends": [self.dropped, self.kept, self.low, self.high],
            "squares": [list(each.counters.items()) for each in self.squares],
            "rows": _packed(self.rows),
            "columns": _packed(self.columns),
            "unexplained": self.unexplained,
            "strange": self.strange,
        }


_COUNTED = (
    "entries", "failing", "at_label", "in_ignored", "not_numbers", "zeros", "ignored_rows", "confident_rows",
    "all_confident",
)  # fmt: skip


def _packed(numbers: Counts | Marks) -> str:
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def _unpacked(text: str, kind: type[Any]) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def _merged(situation: Situation, records: Sequence[dict[str, Any]], claims: Sequence[Claim]) -> Survey:
    rows = np.zeros(situation.rows, dtype=np.uint8)
    squares = [ExactSum({}), ExactSum({})]
    for each in records:
        rows |= _unpacked(each["rows"], np.uint8)
        more = [ExactSum(dict(pairs)) for pairs in each["squares"]]
        squares = [mine.merge(its) for mine, its in zip(squares, more, strict=True)]
    dropped, kept, low, high = zip(*(each["ends"] for each in records), strict=True)
    return Survey(
        **{name: sum(each["counts"][name] for each in records) for name in _COUNTED},
        dropped=max(dropped),
        kept=min(kept),
        factor=(max(low), min(high)),
        squares=(squares[0], squares[1]),
        rows=rows,
        columns=np.sum([_unpacked(each["columns"], np.int64) for each in records], axis=0),
        unexplained=tuple(
            sum(each["unexplained"][place] for each in records) + _outside(claim, max(low), min(high))
            for place, claim in enumerate(claims)
        ),
        strange=tuple(
            tuple(sorted(row for each in records for row in each["strange"][place])[:_REMEMBERED])
            for place in range(len(claims))
        ),
    )


def _outside(claim: Claim, low: float, high: float) -> int:
    """Return 1 where a factor of all entries is claimed that some entry does not allow."""
    return int(claim.scale_alone is not None and not low <= claim.scale_alone <= high)

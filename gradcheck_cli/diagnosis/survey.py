"""One walk over every row: where the failures are, and which hypotheses explain all of them.

What a walk finds merges in any order, so processes share the work as they do for the check itself.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.diagnosis.claim import Claim
from gradcheck_cli.diagnosis.count import COUNTED, REMEMBERED, SOME, Count
from gradcheck_cli.diagnosis.every import over_every_row
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.grid import BLOCK_ROWS, Grid
from gradcheck_cli.numeric.exact import ExactSum
from gradcheck_cli.records import dataclass

_TILE, _TILES = 1 << 17, 2  # entries of a tile: more than for the check, as fewer planes are in use at a time

Interval = tuple[float, float]

Counts = NDArray[np.int64]
Marks = NDArray[np.uint8]


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
    nonzero: int  # at least one for each row that was exported as anything but 0
    factor: tuple[float, float]  # the factors that every entry allows
    squares: tuple[ExactSum, ExactSum]  # of what was exported, and of what is right
    rows: Marks  # (N,) SOME, ALL and ZERO of each row, added up
    columns: Counts  # (K,)
    unexplained: tuple[bool, ...]  # of each claim: whether there is an entry that it does not explain
    strange: tuple[tuple[int, ...], ...]  # of each claim: some rows that it does not explain

    @property
    def failing_rows(self) -> Counts:
        """Return the numbers of the rows with a failing entry."""
        return np.flatnonzero(self.rows & SOME)

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
    records = over_every_row(
        situation.problem,
        _grid(situation),
        processes,
        lambda room: Count(situation, claims, factor, room),
    )
    return _merged(situation, records, claims)


def _grid(situation: Situation) -> Grid:
    """Return how the rows are cut for the walk."""
    tile = min(max(1, _TILE // situation.classes), BLOCK_ROWS, situation.rows)
    return Grid(situation.rows, tile, min(tile * _TILES, situation.rows))


def _unpacked(text: str, kind: type[Any]) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def _merged(situation: Situation, records: Sequence[dict[str, Any]], claims: Sequence[Claim]) -> Survey:
    rows = np.zeros(situation.rows, dtype=np.uint8)
    squares = [ExactSum({}), ExactSum({})]
    for each in records:
        rows |= _unpacked(each["rows"], np.uint8)
        more = [ExactSum(dict(pairs)) for pairs in each["squares"]]
        squares = [mine.merge(its) for mine, its in zip(squares, more, strict=True)]
    low, high = zip(*(each["ends"] for each in records), strict=True)
    return Survey(
        **{name: sum(each["counts"][name] for each in records) for name in COUNTED},
        factor=(max(low), min(high)),
        squares=(squares[0], squares[1]),
        rows=rows,
        columns=np.sum([_unpacked(each["columns"], np.int64) for each in records], axis=0),
        unexplained=tuple(
            any(each["strange"][place] for each in records) or _outside(claim, max(low), min(high))
            for place, claim in enumerate(claims)
        ),
        strange=tuple(
            tuple(sorted(row for each in records for row in each["strange"][place])[:REMEMBERED])
            for place in range(len(claims))
        ),
    )


def _outside(claim: Claim, low: float, high: float) -> bool:
    """Tell whether a factor of all entries is claimed that some entry does not allow."""
    return claim.scale_alone is not None and not low <= claim.scale_alone <= high

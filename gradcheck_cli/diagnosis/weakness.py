"""What this data could not have shown: bugs that leave no trace in it, whether the check passed or not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck_cli.blocks import Room, work_out
from gradcheck_cli.diagnosis.situation import CONFIDENT, Situation
from gradcheck_cli.grid import Grid
from gradcheck_cli.numeric.softmax import Sums
from gradcheck_cli.outcome import Warning  # noqa: A004 - the word of the JSON contract
from gradcheck_cli.records import dataclass
from gradcheck_cli.tensors import Rows

LOOK, RUNS = 1 << 13, 4  # entries looked at for what costs a softmax, and runs of rows they lie in
OVERFLOWS = {"float32": 88.7, "float64": 709.8}
_BLOCK = 128  # columns that a kernel takes at a time
_CHUNK = 1 << 17  # values read together


@dataclass(frozen=True)
class Weakness:
    """Something the data lacks, and the bugs that it takes to show."""

    code: str
    lacks: str
    hides: tuple[str, ...]

    @property
    def warning(self) -> Warning:
        """Return it as a warning."""
        message = f"{self.lacks}: {', '.join(self.hides)} would not show"
        return Warning(self.code, message, lacks=self.lacks)


def weaknesses(situation: Situation) -> tuple[Weakness, ...]:
    """Return what the data lacks, the most telling first."""
    with np.errstate(all="ignore"):
        return tuple(
            each for look in (_of_rows, _of_upstream, _of_weights, _of_labels, _of_logits, _of_shape)
            for each in look(situation)
        )  # fmt: skip


def _of_rows(situation: Situation) -> Iterator[Weakness]:
    if situation.counted == 1:
        yield Weakness(
            "one-row",
            "only one row counts",
            ("sum-for-mean", "mean-for-sum", "averaged-twice", "label-shifted", "upstream-first-row-only"),
        )
    if not situation.problem.soft and not situation.problem.ignored_rows:
        yield Weakness(
            "no-ignored-row",
            "no row is ignored",
            ("ignored-rows-not-zeroed", "mean-over-all-rows", "mean-of-means"),
        )


def _of_upstream(situation: Situation) -> Iterator[Weakness]:
    upstream = situation.problem.upstream
    if not isinstance(upstream, Rows):
        if upstream == 1.0:
            yield Weakness(
                "no-upstream",
                "the upstream gradient is 1",
                ("upstream-ignored", "upstream-applied-twice", "upstream-first-row-only"),
            )
        elif situation.rows > 1:
            yield Weakness(
                "uniform-upstream", "every row has the same upstream gradient", ("upstream-first-row-only",)
            )
        return
    first = situation.first_upstream
    starts = range(0, situation.rows, _CHUNK)
    ends = ((start, min(start + _CHUNK, situation.rows)) for start in starts)
    if situation.rows > 1 and all((situation.upstream_of(range(*each)) == first).all() for each in ends):
        yield Weakness(
            "uniform-upstream", "every row has the same upstream gradient", ("upstream-first-row-only",)
        )


def _of_weights(situation: Situation) -> Iterator[Weakness]:
    weights = situation.problem.loss.class_weights
    if weights is not None and np.ptp(weights) == 0.0:
        yield Weakness(
            "uniform-weights",
            "every class has the same weight",
            ("weights-missing", "weights-per-column", "weights-by-row"),
        )


def _of_labels(situation: Situation) -> Iterator[Weakness]:
    if situation.problem.soft:
        return
    ends, last = set(), situation.classes - 1
    for start in range(0, situation.rows, _CHUNK):
        labels = situation.labels_of(range(start, min(start + _CHUNK, situation.rows)))
        ends |= {end for end in (0, last) if (labels == end).any()}
    if len(ends) < len({0, last}):
        missing = " or ".join(str(end) for end in sorted({0, last} - ends))
        yield Weakness(
            "no-label-at-the-ends",
            f"no label is {missing}",
            ("class-ignored", "label-off-by-one (at the ends)"),
        )


def _of_logits(situation: Situation) -> Iterator[Weakness]:
    """Look at a few rows: the rest may hold what they lack."""
    looked = _looked_at(situation)
    rows = sum(len(each.own_a) for each in looked)
    where = "no row" if rows >= situation.rows else f"none of {rows:,} rows looked at"
    if not situation.problem.soft and not any(bool((each.own_a > CONFIDENT).any()) for each in looked):
        yield Weakness(
            "no-confident-row",
            f"{where} is confident (label above {CONFIDENT})",
            ("low-precision-rmw", "clamped-probability (near 1)"),
        )
    reach = max(float(each.reach.max()) for each in looked)
    limit = OVERFLOWS.get(situation.export.compute.name, 88.7)
    if reach < limit:
        yield Weakness("small-logits", f"{where} has a logit beyond {limit:g}", ("no-max-subtraction",))


def _looked_at(situation: Situation) -> list[Sums]:
    """Return the softmax of a few runs of rows that lie evenly, or of all rows."""
    problem, rows = situation.problem, situation.rows
    most = min(rows, max(1, LOOK // situation.classes))
    runs = 1 if most == rows else min(RUNS, most)
    size = most // runs
    grid = Grid(rows, size, size)
    room = Room.of(problem, grid, depth=False)
    starts = [0] if runs == 1 else np.linspace(0, rows - size, runs).astype(int).tolist()
    return [work_out(problem, range(start, start + size), grid, room).at.sums for start in starts]


def _of_shape(situation: Situation) -> Iterator[Weakness]:
    if situation.rows == situation.classes > 1:
        yield Weakness(
            "square", "there are as many rows as classes", ("averaged-twice from mean-over-elements",)
        )
    if situation.classes >= _BLOCK and situation.classes % _BLOCK == 0:
        lacks = f"{situation.classes:,} classes fill blocks of {_BLOCK}"
        yield Weakness("full-blocks", lacks, ("tail-columns", "padded-lanes"))

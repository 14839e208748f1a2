"""The survey of one process as it grows: what fails, and whether the hypotheses explain every entry."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.blocks import Block, Room
from gradcheck_cli.diagnosis.claim import Claim
from gradcheck_cli.diagnosis.fit import factors
from gradcheck_cli.diagnosis.outline import Outline, judged_at_once, outlined
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.situation import CONFIDENT, Situation
from gradcheck_cli.diagnosis.view import Sight, sights_of
from gradcheck_cli.exports import rounding
from gradcheck_cli.numeric.exact import ExactSum
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.refusals import Flags

_PIECE = 1 << 15  # entries that a hypothesis is worked out for together: its planes stay in the cache
REMEMBERED = 8  # rows that a hypothesis does not explain
NO_FACTOR = (float("inf"), -float("inf"))

SOME, ALL, ZERO = 1, 2, 4
"""Marks of a row: some of it fails, all of it does, it is exported as 0 though it is not."""

COUNTED = (
    "entries", "failing", "at_label", "in_ignored", "not_numbers", "zeros", "ignored_rows", "confident_rows",
    "all_confident", "nonzero",
)  # fmt: skip


class Count:
    """Takes blocks and counts."""

    def __init__(
        self, situation: Situation, claims: Sequence[Claim], factor: tuple[float, float] | None, room: Room
    ) -> None:
        self.situation = situation
        self.claims = claims
        values = [each.scale_alone for each in claims if each.scale_alone is not None]
        self.low, self.high = NO_FACTOR if factor is None else factor
        self.guess = values[0] if values else 0.5 * (self.low + self.high)
        self.floor = 4.0 * situation.export.grid.smallest_subnormal + rounding(situation.export.decimals)[1]
        self.counts = dict.fromkeys(COUNTED, 0)
        self.squares = [ExactSum({}), ExactSum({})]
        self.rows = np.zeros(situation.rows, dtype=np.uint8)
        self.columns = np.zeros(situation.width, dtype=np.int64)
        self.strange: list[list[int]] = [[] for _ in claims]  # rows that a claim does not explain
        self._room = np.empty_like(room.got)

    def take(self, block: Block) -> None:
        """Take in a block."""
        by_outline = outlined(self.situation, block)
        for sight in sights_of(self.situation, block):
            outline = Outline.of(sight, self._room) if by_outline else None
            self._judge(sight, outline if judged_at_once(self.situation) else None)
            for place, claim in enumerate(self.claims):
                if claim.scale_alone is None and not self.strange[place]:  # else it is told, or refuted
                    self.strange[place] = _strange(claim, sight, outline)

    def _judge(self, sight: Sight, outline: Outline | None) -> None:
        """Count what fails, and hold every entry against the one factor of all, if there is one."""
        confident = sight.counted & (sight.tile.at.sums.own_a > CONFIDENT)
        self.counts["all_confident"] += _count(confident)
        if outline is None:
            failing, every = sight.view.failing, np.arange(len(confident))
            self._one_by_one(sight, every, failing, np.asarray(sight.view.right.any(axis=1)))
        else:
            left = self._at_once(outline)
            if left.size:
                at = sight.tile.at
                meant: Flags = (at.coefficient != 0.0) | (at.own_gradient != 0.0)
                self._one_by_one(sight, left, outline.failing(left), meant[left])
        if self.low <= self.high:
            self._measure(sight, outline)

    def _at_once(self, outline: Outline) -> Indices:
        """Count the rows that are right or wrong throughout outside the label; return the others."""
        sight, extremes = outline.sight, outline.others
        lowest, highest = extremes.lowest, extremes.highest
        least, most = outline.limits
        got, right, allowed = outline.at_label
        nothing = (lowest == 0.0) & (highest == 0.0)
        one_sided = nothing | (lowest > 0.0) | (highest < 0.0)
        wrong = extremes.beyond(sight.tile.at.coefficient, most) & one_sided
        sure = extremes.within(sight.tile.at.coefficient, least) | wrong
        sure &= np.isfinite(lowest) & np.isfinite(highest) & np.isfinite(got)
        wrong &= sure
        own = sure & ~(np.abs(got - right) <= allowed)
        others, silent = self.situation.classes - 1, got == 0.0
        zero = sure & nothing & silent
        every = np.arange(len(sure))
        self._mark(sight, every, wrong | own, wrong & own, zero & ((right != 0.0) | wrong))
        more = {
            "entries": _count(sure) * (others + 1),
            "failing": _count(wrong) * others + _count(own),
            "at_label": _count(own & sight.counted),
            "in_ignored": _count(wrong & ~sight.counted) * others + _count(own & ~sight.counted),
            "zeros": _count(wrong & nothing) * others + _count(own & silent),
            "nonzero": _count(sure & ~(nothing & silent)),
        }
        self._add(more)
        self.columns += _count(wrong)
        np.add.at(self.columns, outline.labels, own.astype(np.int64) - wrong)
        left: Indices = np.flatnonzero(~sure)
        return left

    def _mark(self, sight: Sight, rows: Indices, some: Flags, every: Flags, zero: Flags) -> None:
        """Mark some rows of a tile, and count the failing ones."""
        marks = SOME * some + ALL * every + ZERO * zero
        self.rows[sight.rows.start + rows] |= marks.astype(np.uint8)
        counted, own_a = sight.counted[rows], sight.tile.at.sums.own_a[rows]
        more = {
            "ignored_rows": _count(some & ~counted),
            "confident_rows": _count(some & counted & (own_a > CONFIDENT)),
        }
        self._add(more)

    def _add(self, more: dict[str, int]) -> None:
        for name, count in more.items():
            self.counts[name] += count

    def _one_by_one(self, sight: Sight, rows: Indices, failing: Flags, meant: Flags) -> None:
        """Count what fails of some rows; `meant` are those that ought not to be 0."""
        got = sight.got if len(rows) == len(sight.got) else sight.got[rows]
        counted, silent = sight.counted[rows], got == 0.0
        some, whole, nothing = (
            np.asarray(each) for each in (failing.any(axis=1), failing.all(axis=1), silent.all(axis=1))
        )
        pivot = sight.tile.planes.pivot[rows] if self.situation.width > 1 else 0
        own = failing[np.arange(len(rows)), pivot]
        more = {
            "entries": failing.size,
            "failing": _count(failing),
            "at_label": _count(own & counted),
            "in_ignored": _count(failing[~counted]),
            "not_numbers": _count(failing & ~np.isfinite(got)),
            "zeros": _count(failing & silent),
            "nonzero": _count(~nothing),
        }
        self._add(more)
        self._mark(sight, rows, some, whole, nothing & meant)
        if some.any():
            self.columns += np.count_nonzero(failing, axis=0)

    def _measure(self, sight: Sight, outline: Outline | None) -> None:
        """Hold a tile against the one factor of all entries."""
        if self.situation.tolerance is not None:
            low, high = factors(sight.view, sight.view.recipe)[0].common
            self.low, self.high = max(self.low, low), min(self.high, high)
        else:  # a factor of all entries multiplies what is allowed them as well
            left = np.arange(len(sight.counted)) if outline is None else self._off(outline)
            if left.size:
                view = sight.view.picked(left)
                error = np.abs(view.got - self.guess * view.right)
                if not (error <= abs(self.guess) * view.allowed + self.floor).all():
                    self.low, self.high = NO_FACTOR
        if not self.claims:  # norms matter only beside a factor that no hypothesis explains
            for place, plane in enumerate((sight.got, sight.tile.g if outline else sight.view.right)):
                squares = np.einsum("ij,ij->i", plane, plane)
                if np.isfinite(squares).all():
                    self.squares[place] = self.squares[place].merge(ExactSum.of(squares))

    def _off(self, outline: Outline) -> Indices:
        """Return the rows that the one factor does not explain for sure."""
        size, least = abs(self.guess), outline.limits[0]
        fits = outline.others.within(self.guess * outline.sight.tile.at.coefficient, size * least)
        got, right, allowed = outline.at_label
        fits &= np.abs(got - self.guess * right) <= size * allowed + self.floor
        left: Indices = np.flatnonzero(~fits)
        return left

    def record(self) -> dict[str, Any]:
        """Return the count as something that JSON holds."""
        return {
            "counts": self.counts,
            "ends": [self.low, self.high],
            "squares": [list(each.counters.items()) for each in self.squares],
            "rows": _packed(self.rows),
            "columns": _packed(self.columns),
            "strange": self.strange,
        }


def _strange(claim: Claim, sight: Sight, outline: Outline | None) -> list[int]:
    """Return some rows of a tile that a claim does not explain; none where it explains all."""
    for rows in _doubtful(claim, sight.recipe, outline):
        part = sight.recipe.picked(rows)
        refuted = claim.hypothesis.refuted(part, loose=claim.loose).any(axis=1)
        if refuted.any():
            strange: list[int] = part.numbers[refuted][:REMEMBERED].tolist()
            return strange
    return []


def _doubtful(claim: Claim, recipe: Recipe, outline: Outline | None) -> Iterator[Indices | slice]:
    """Yield the rows of a tile whose entries must be looked at to tell whether a claim explains them."""
    if outline is not None:
        first = recipe.picked(slice(1))
        if claim.hypothesis.changed(first).base is first.base:  # then it costs little to change the others
            changed = claim.hypothesis.changed(recipe)
            line = changed.line
            if line is not None:
                left = np.flatnonzero(~outline.explained(changed, line, claim.hypothesis.multiplier(recipe)))
                yield from (left,) if left.size else ()
                return
    step = max(1, _PIECE // recipe.base.shape[1])
    yield from (slice(start, start + step) for start in range(0, len(recipe.counted), step))


def _count(which: Any) -> int:
    return int(np.count_nonzero(which))


def _packed(numbers: NDArray[np.int64] | NDArray[np.uint8]) -> str:
    return base64.b64encode(numbers.tobytes()).decode("ascii")

"""Which hypotheses explain the sample: single bugs first, then two at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from gradcheck_cli.diagnosis.bug import CONVENTION, Bug, Suspect, suspects
from gradcheck_cli.diagnosis.catalogue import CHANGES
from gradcheck_cli.diagnosis.fit import Range, by_chance, factors, holds
from gradcheck_cli.diagnosis.hypothesis import Hypothesis, apply
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.diagnosis.scale import SCALES
from gradcheck_cli.diagnosis.screen import Candidates, Changes, Screen
from gradcheck_cli.diagnosis.upstream import ROW_FACTORS
from gradcheck_cli.diagnosis.view import View
from gradcheck_cli.records import dataclass

_WIDEST = 1.2  # largest over smallest factor, from which a factor is too vague to be named
_BETTER = 0.5  # of the failing entries' error must go
_ALONE = frozenset({"finish"})  # slots whose bugs are not tried together with others
_RIVALS = (frozenset({"softmax", "chain"}), frozenset({"softmax", "link"}))

Interval = tuple[float, float]
Ranges = Callable[[int], tuple[Range, Range | None]]
"""The factors that bring one of the sample's views in line, tightly and loosely."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """A hypothesis that explains every entry of the sample."""

    hypothesis: Hypothesis
    interval: Interval  # factors that the data leaves open
    loose: bool  # only with 16-bit arithmetic admitted

    @property
    def rank(self) -> tuple[int, bool, bool]:
        """Return the key by which explanations are sorted: few bugs, specific and tight ones first."""
        parts = self.hypothesis.suspects
        return len(parts), any(each.bug.general or each.variant.general for each in parts), self.loose


@dataclass(frozen=True, eq=False)
class Solution:
    """The explanations of the sample, best first, and the factor of all entries if there is one."""

    explanations: tuple[Explanation, ...]
    factor: Interval | None


def solve(sample: Sample) -> Solution:
    """Return what explains the sample."""
    return _Solver(sample).solution()


class _Solver:
    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        scales, rows, changes = known(sample.situation.export.name)
        self.scales = suspects(scales, sample)
        self.rows = suspects(rows, sample)
        with np.errstate(all="ignore"):
            self.changes = suspects(changes, sample)
            self.screen = Screen(sample, self.rows)
        self.factor: Interval | None = None

    def solution(self) -> Solution:
        """Try single changes and then pairs, each with every factor of rows and of all.

        What one bug explains needs no two: then nothing is looked for but single bugs that explain as much.
        """
        with np.errstate(all="ignore"):
            singles = [(each,) for each in self.changes]
            found = [*self._of((), (None, *self.rows))]
            found += self._explanations([each for each in singles if not each[0].bug.costly], found)
            found = found or self._explanations([each for each in singles if each[0].bug.costly], found)
            if not found:
                found = self._explanations(_pairs(self.changes), found)
        return Solution(tuple(sorted(found, key=lambda each: each.rank)), self.factor)

    def _explanations(self, sets: Sequence[Changes], known: Sequence[Explanation]) -> list[Explanation]:
        """Return what explains the sample with changes; as they are first, then with factors as well."""
        passed = list(self.screen.passed(sets))
        found = [each for one in passed if one.alone for each in self._of(one.changes, (None,))]
        fewest = min((each.rank[0] for each in (*known, *found)), default=None)
        if fewest is None or any(fewest > len(one.changes) for one in passed):
            for one in passed:
                rows = tuple(row for row in one.rows if row is not None or not one.alone)
                found += self._of(one.changes, rows)
        return found

    def _of(self, changes: Changes, rows: Candidates) -> Iterator[Explanation]:
        """Yield what explains the sample with these changes of the recipe, and one of these row factors."""
        seen: list[tuple[Range, Range | None]] = []

        def ranges(place: int) -> tuple[Range, Range | None]:
            if place == len(seen):
                view = self.sample.views[place]
                seen.append(factors(view, apply(changes, view.recipe)))
            return seen[place]

        for row in rows:
            for loose in (False, True):
                interval = self._common(ranges, row, loose=loose)
                if interval is None:
                    continue
                yield from self._named(changes, row, interval, loose=loose)
                break

    def _common(self, ranges: Ranges, row: Suspect | None, *, loose: bool) -> Interval | None:
        """Return the factors that all views leave open, or None."""
        low, high = -np.inf, np.inf
        for place, view in enumerate(self.sample.views):
            tight, wide = ranges(place)
            found = wide if loose else tight
            if found is None:
                return None
            if row is not None and row.variant.factor is not None:
                found = found.divided(row.variant.factor(view.recipe))
            lowest, highest = found.common
            low, high = max(low, lowest), min(high, highest)
            if not holds((low, high)):
                return None
        return low, high

    def _named(
        self, changes: Changes, row: Suspect | None, interval: Interval, *, loose: bool
    ) -> Iterator[Explanation]:
        low, high = interval
        if low <= 0.0 <= high:  # nothing at all explains it as well
            return
        bare = not changes and row is None
        matching: list[Suspect | None] = [None]
        if not low <= 1.0 <= high:
            if bare and not loose:
                self.factor = interval
            vague = max(abs(low), abs(high)) > _WIDEST * min(abs(low), abs(high))
            matching = [] if vague else [s for s in self.scales if low <= (s.variant.value or 0.0) <= high]
        elif bare:
            return
        for scale in matching:
            if scale is not None and scale.bug.general and by_chance(scale.variant.value or 1.0, interval):
                continue
            hypothesis = Hypothesis(changes, row, scale)
            if not _plausible(hypothesis, loose=loose) or (loose and self.factor is not None):
                continue
            if self._improves(hypothesis) and self._shows(hypothesis):
                yield Explanation(hypothesis, interval, loose)

    def _improves(self, hypothesis: Hypothesis) -> bool:
        """Tell whether the prediction is nearer than the right answer: by half where it fails, and in sum."""
        errors = np.sum([_errors(view, hypothesis) for view in self.sample.views], axis=0)
        failing_left, failing_before, left, before = errors
        return bool(failing_left <= _BETTER * failing_before and failing_before > 0.0 and left <= before)

    def _shows(self, hypothesis: Hypothesis) -> bool:
        """Tell whether enough numbers agree: two for each bug, and one more.

        A single number is what too many formulas give.
        """
        seen = 0
        for view in self.sample.views:
            seen += _numbers(view, hypothesis)
            if seen > 2 * len(hypothesis.suspects):
                return True
        return False


def _errors(view: View, hypothesis: Hypothesis) -> tuple[float, float, float, float]:
    """Return the error of the prediction and of the right answer, in failing entries and in all.

    An entry that is no number counts 1 where it is not predicted.
    """
    plane = hypothesis.predict(view.recipe).plane
    same = (view.got == plane) | (np.isnan(view.got) & np.isnan(plane))
    left, before = np.abs(view.got - plane), np.abs(view.got - view.right)
    left, before = np.where(same, 0.0, left), np.where(view.got == view.right, 0.0, before)
    left, before = (np.where(np.isfinite(each), each, 1.0) for each in (left, before))
    failing = view.failing
    return float(left[failing].sum()), float(before[failing].sum()), float(left.sum()), float(before.sum())


def _numbers(view: View, hypothesis: Hypothesis) -> int:
    """Return how many entries are predicted that could be told from 0 (or are predicted to be NaN)."""
    found = hypothesis.predict(view.recipe)
    allowed = found.slack
    return int(np.count_nonzero(~(np.abs(found.plane) <= 2.0 * (allowed.scaled + allowed.floor))))


def _pairs(changes: Sequence[Suspect]) -> list[Changes]:
    """Return the changes that can be there together, two at a time."""
    paired = [
        each
        for each in changes
        if each.bug.slot not in _ALONE and not each.bug.general and not each.variant.guessed
    ]
    return [
        (one, other)
        for one, other in combinations(paired, 2)
        if one.bug.slot != other.bug.slot and frozenset((one.bug.slot, other.bug.slot)) not in _RIVALS
    ]


def _plausible(hypothesis: Hypothesis, *, loose: bool) -> bool:
    """Tell whether there are two bugs at most, besides what the loss is divided by.

    16-bit arithmetic excuses so much that only one bug can be told through it.
    """
    conventions = sum(
        each.bug.kind == CONVENTION and each.bug.slot == "scale" for each in hypothesis.suspects
    )
    return len(hypothesis.suspects) - conventions <= (1 if loose else 2)


def known(export: str) -> tuple[Sequence[Bug], Sequence[Bug], Sequence[Bug]]:
    """Return what is known of an export: factors of all entries, factors of rows, and changes."""
    if export == "grad":
        return SCALES, ROW_FACTORS, CHANGES
    from gradcheck_cli.diagnosis.beside import BESIDE  # noqa: PLC0415 - mostly it is the gradient that fails

    return BESIDE[export]


def distinct(explanations: Sequence[Explanation]) -> list[Explanation]:
    """Return the explanations without those that name the same bugs as an earlier one."""
    found: dict[tuple[str, ...], Explanation] = {}
    for each in explanations:
        found.setdefault(each.hypothesis.codes, each)
    return list(found.values())

"""Which hypotheses explain the sample: single bugs first, then two at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import combinations

import numpy as np

from gradcheck_cli.diagnosis.bug import CONVENTION, Bug, Suspect, suspects
from gradcheck_cli.diagnosis.catalogue import CHANGES
from gradcheck_cli.diagnosis.fit import Range, by_chance, fitting, holds
from gradcheck_cli.diagnosis.hypothesis import Hypothesis, apply
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.diagnosis.scale import SCALES
from gradcheck_cli.diagnosis.screen import Candidates, Changes, Screen
from gradcheck_cli.diagnosis.slack import Prediction, Slack
from gradcheck_cli.diagnosis.upstream import ROW_FACTORS
from gradcheck_cli.diagnosis.view import View
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass

_WIDEST = 1.2  # largest over smallest factor, from which a factor is too vague to be named
_BETTER = 0.5  # of the failing entries' error must go
_ALONE = frozenset({"finish"})  # slots whose bugs are not tried together with others
_RIVALS = (frozenset({"softmax", "chain"}), frozenset({"softmax", "link"}))

Interval = tuple[float, float]


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
        _, rows, changes = known(sample.situation.export.name)
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
        trial = _Trial(self.sample, changes)
        for row in rows:
            for loose in (False, True):
                interval = trial.common(row, loose=loose)
                if interval is None:
                    continue
                yield from self._named(trial, row, interval, loose=loose)
                break

    def _named(
        self, trial: _Trial, row: Suspect | None, interval: Interval, *, loose: bool
    ) -> Iterator[Explanation]:
        low, high = interval
        if low <= 0.0 <= high:  # nothing at all explains it as well
            return
        bare = not trial.changes and row is None
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
            hypothesis = Hypothesis(trial.changes, row, scale)
            if not _plausible(hypothesis, loose=loose) or (loose and self.factor is not None):
                continue
            if self._convinces(trial, hypothesis):
                yield Explanation(hypothesis, interval, loose)

    @cached_property
    def scales(self) -> list[Suspect]:
        """Return what may multiply all entries."""
        return suspects(known(self.sample.situation.export.name)[0], self.sample)

    @cached_property
    def _before(self) -> Floats:
        """Return the error of the right answer in failing entries and in all: (2,)."""
        errors: Floats = np.sum([_errors(view, view.right_there) for view in self.sample.views], axis=0)
        return errors

    def _convinces(self, trial: _Trial, hypothesis: Hypothesis) -> bool:
        """Tell whether the prediction is nearer than the right answer, and whether enough numbers agree.

        Nearer by half where it fails, and in sum. Two numbers for each bug and one more must agree: a single
        one is what too many formulas give.
        """
        left, agree, enough = self._before * (_BETTER, 1.0), 0, 2 * len(hypothesis.suspects)
        if not left[0] > 0.0:
            return False
        for place, view in enumerate(self.sample.views):
            by, found = hypothesis.multiplier(view.recipe)[:, None], trial.prediction(place)
            plane = by * found.plane
            left -= _errors(view, plane)
            if not (left >= 0.0).all():
                return False
            if agree <= enough:
                agree += _numbers(plane, np.abs(by), found.slack)
        return agree > enough


class _Trial:
    """Changes of the recipe, tried on one view of the sample after the other."""

    def __init__(self, sample: Sample, changes: Changes) -> None:
        self.changes = changes
        self._views = sample.views
        self._predictions: list[Prediction] = []
        self._ranges: list[tuple[Range, Range | None]] = []

    def prediction(self, place: int) -> Prediction:
        """Return what is predicted of a view, in the columns to try hypotheses on."""
        for view in self._views[len(self._predictions) : place + 1]:
            self._predictions.append(Prediction.of(apply(self.changes, view.recipe), view.columns))
        return self._predictions[place]

    def common(self, row: Suspect | None, *, loose: bool) -> Interval | None:
        """Return the factors that all views leave open, or None."""
        low, high = -np.inf, np.inf
        for place, view in enumerate(self._views):
            if place == len(self._ranges):
                self._ranges.append(fitting(self.prediction(place)))
            tight, wide = self._ranges[place]
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


def _errors(view: View, plane: Floats) -> Floats:
    """Return the error of a prediction in failing entries, and in all: (2,).

    An entry that is no number counts 1 where it is not predicted.
    """
    got, failing = view.got_there, view.failing_there
    error = np.abs(got - plane)
    if not np.isfinite(error).all():
        error[(got == plane) | (np.isnan(got) & np.isnan(plane))] = 0.0
        error[~np.isfinite(error)] = 1.0
    return np.array([np.einsum("ij,ij->", error, failing), error.sum()])


def _numbers(plane: Floats, by: Floats, allowed: Slack) -> int:
    """Return how many entries are predicted that could be told from 0 (or are predicted to be NaN)."""
    return int(np.count_nonzero(~(np.abs(plane) <= 2.0 * (by * allowed.scaled + allowed.floor))))


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

"""A first look at many hypotheses on the very worst rows, all together: most are refuted there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gradcheck_cli.diagnosis.bug import Suspect
from gradcheck_cli.diagnosis.fit import Range, fitting
from gradcheck_cli.diagnosis.hypothesis import apply
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.diagnosis.slack import Prediction
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags

_ROWS, _ENTRIES = 2, 1 << 10  # that hypotheses are tried on first
_TOGETHER = 1 << 15  # entries of several hypotheses that are fitted together

_COLUMNS = 64

Changes = tuple[Suspect, ...]
Candidates = tuple[Suspect | None, ...]
"""What may multiply the rows besides; None stands for nothing."""


@dataclass(frozen=True, eq=False)
class Passed:
    """Changes that some factor brings in line with the first rows."""

    changes: Changes
    rows: Candidates
    alone: bool  # whether they are in line as they are


class Screen:
    """The first rows of a sample, and what may multiply rows besides."""

    def __init__(self, sample: Sample, rows: Sequence[Suspect]) -> None:
        """Choose the rows."""
        view = sample.probe
        count = max(1, min(_ROWS, _ENTRIES // sample.situation.classes))
        self.first = view.picked(list(range(min(count, len(view.counted))))).narrowed(_COLUMNS)
        self.candidates: Candidates = (None, *rows)
        known = [each.variant.factor(self.first.recipe) for each in rows if each.variant.factor is not None]
        self.by = np.stack([np.ones(len(self.first.counted)), *known])
        self._changed: dict[int, Recipe] = {}
        self._joined: dict[tuple[int, ...], Recipe] = {}

    def passed(self, sets: Sequence[Changes]) -> Iterator[Passed]:
        """Yield the sets of changes that some factor brings in line, with what may multiply their rows."""
        width = self.first.got.shape[1] if self.first.columns is None else len(self.first.columns)
        step = max(1, _TOGETHER // (len(self.first.counted) * width))
        for start in range(0, len(sets), step):
            part = sets[start : start + step]
            stands, alone = self._stand(part)
            for place in np.flatnonzero(stands.any(axis=1)).tolist():
                left = zip(self.candidates, stands[place], strict=True)
                rows = tuple(each for each, flag in left if flag)
                yield Passed(part[place], rows, bool(alone[place]))

    def _stand(self, sets: Sequence[Changes]) -> tuple[Flags, Flags]:
        """Tell which candidates each set stands with, and which sets stand as they are: (s, m), (s,)."""
        order, made = [], []
        for places in self._alike(sets):
            order += places
            made.append(self._predicted([sets[each] for each in places]))
        stands = np.zeros((len(sets), len(self.by)), dtype=bool)
        alone = np.zeros(len(sets), dtype=bool)
        for found in fitting(Prediction.joined(made)):
            if found is None:
                continue
            whole = Range(found.low.reshape(len(sets), -1), found.high.reshape(len(sets), -1))
            for place, by in enumerate(self.by):
                stands[order, place] |= (whole.divided(by) if place else whole).possible
            alone[order] |= whole.admits(1.0)
        return stands, alone

    def _alike(self, sets: Sequence[Changes]) -> Iterator[list[int]]:
        """Yield places of sets whose last change is the same, and can be made to the rows of all at once."""
        most = max(1, _TOGETHER // self.first.got.size)
        found: dict[tuple[object, ...], list[int]] = {}
        for place, changes in enumerate(sets):
            found.setdefault((id(changes[-1]), *self._before(changes).kind), []).append(place)
        for places in found.values():
            yield from (places[start : start + most] for start in range(0, len(places), most))

    def _predicted(self, sets: Sequence[Changes]) -> Prediction:
        """Return what sets of changes predict that end with the same one."""
        before = [self._before(each) for each in sets]
        key = tuple(id(each) for each in before)
        if key not in self._joined:
            self._joined[key] = before[0] if len(before) == 1 else Recipe.joined(before)
        return Prediction.of(apply(sets[0][-1:], self._joined[key]), self.first.columns)

    def _before(self, changes: Changes) -> Recipe:
        """Return the recipe of the first rows with all changes made but the last."""
        if len(changes) == 1:
            return self.first.recipe
        if id(changes[0]) not in self._changed:
            self._changed[id(changes[0])] = apply(changes[:-1], self.first.recipe)
        return self._changed[id(changes[0])]

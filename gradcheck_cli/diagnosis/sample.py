"""The rows that hypotheses are tried on first: failing ones, passing ones, and those that tell bugs apart."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any, TypeVar

import numpy as np

from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.view import Rows, View
from gradcheck_cli.records import dataclass

_ENTRIES = 1 << 17  # of all views
_SHARE = 64  # entries of the problem to one that is looked at, if there are very many
_LEAST = 1 << 14  # entries
_RUN = 8  # rows that are read together
_VIEW_ENTRIES = 1 << 17
_PROBE_ENTRIES = 1 << 12
_COLUMNS = 1 << 13  # from which on only some are tried
_MOST_ROWS = 512
_FEWEST_ROWS = 12

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Sample:
    """Views of some rows; the first is small, and holds the worst rows."""

    situation: Situation
    views: tuple[View, ...]
    whole: bool  # whether every row is there
    source: Rows
    kept: dict[Any, Any] = field(default_factory=dict)  # what was read off it, by what reads it

    def once(self, read: Callable[[Sample], T]) -> T:
        """Return what something reads off the sample, which is worked out the first time."""
        if read not in self.kept:
            self.kept[read] = read(self)
        found: T = self.kept[read]
        return found

    @property
    def probe(self) -> View:
        """Return the first view."""
        return self.views[0]


def draw(situation: Situation, worst: Iterable[int], seed: int, *, entries: int | None = None) -> Sample:
    """Return a sample of the problem's rows: the worst, the ends, some spread evenly, some at random."""
    classes, rows = situation.classes, situation.rows
    entries = min(_ENTRIES, max(_LEAST, rows * classes // _SHARE)) if entries is None else entries
    most = max(1, min(entries, _VIEW_ENTRIES) // classes)
    source = Rows(situation, min(rows, most))
    chosen = _chosen(situation, list(worst), seed, entries, most)
    probe = max(2, min(32, _PROBE_ENTRIES // classes))
    if rows <= most:
        everything = source.view(range(rows))
        parts = [chosen[:probe], sorted(chosen[probe:])]
        views = [everything.picked(places) for places in parts if places]
    else:
        views = [*source.gathered(chosen[:probe], probe), *source.gathered(sorted(chosen[probe:]), most)]
    narrow = tuple(view.narrowed(_COLUMNS) for view in views)
    return Sample(situation, narrow, len(chosen) == rows, source)


def _chosen(situation: Situation, worst: list[int], seed: int, entries: int, most: int) -> list[int]:
    """Return the numbers of rows, those to look at first to begin with; most lie in runs of a few."""
    rows = situation.rows
    limit = min(rows, max(_fewest(entries), min(_MOST_ROWS, entries // situation.classes)))
    first = [*worst[:4], situation.problem.first_counted, 0, rows - 1, rows // 2, *_ignored(situation)]
    chosen = list(dict.fromkeys([*first, *worst[4:]]))
    if limit == rows:
        return list(dict.fromkeys([*chosen, *range(rows)]))
    run = max(1, min(_RUN, limit // 4, most))
    parts = np.linspace(0, rows - run, max(2, -(-limit // run))).round().astype(int).tolist()
    rng = random.Random(seed)  # a sample, no secret
    rng.shuffle(parts)
    half = len(parts) // 2  # the others lie anywhere
    parts[half:] = [rng.randrange(rows - run + 1) for _ in parts[half:]]
    spread = [row for start in parts for row in range(start, start + run)]
    return list(dict.fromkeys([*chosen, *spread]))[:limit]


def _fewest(entries: int) -> int:
    return _FEWEST_ROWS if entries >= _LEAST else 4


def _ignored(situation: Situation) -> list[int]:
    """Return two of the ignored rows, the first and the last among the rows looked at."""
    problem = situation.problem
    if problem.soft or not problem.ignored_rows:
        return []
    step = 1 << 17
    for start in range(0, situation.rows, step):
        labels = situation.labels_of(range(start, min(start + step, situation.rows)))
        found = np.flatnonzero(labels == problem.ignore_index)
        if found.size:
            return [start + int(found[0]), start + int(found[-1])]
    return []

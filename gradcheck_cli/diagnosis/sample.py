"""The rows that hypotheses are tried on first: failing ones, passing ones, and those that tell bugs apart."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.view import Rows, View

_ENTRIES = 1 << 17  # of all views
_VIEW_ENTRIES = 1 << 15
_PROBE_ENTRIES = 1 << 12
_COLUMNS = 1 << 13  # from which on only some are tried
_MOST_ROWS = 512
_FEWEST_ROWS = 12


@dataclass(frozen=True, eq=False)
class Sample:
    """Views of some rows; the first is small, and holds the worst rows."""

    situation: Situation
    views: tuple[View, ...]
    whole: bool  # whether every row is there
    source: Rows

    @property
    def probe(self) -> View:
        """Return the first view."""
        return self.views[0]


def draw(situation: Situation, worst: Iterable[int], seed: int, *, entries: int = _ENTRIES) -> Sample:
    """Return a sample of the problem's rows: the worst, the ends, some spread evenly, some at random."""
    classes, rows = situation.classes, situation.rows
    most = max(1, min(entries, _VIEW_ENTRIES) // classes)
    source = Rows(situation, min(rows, most))
    chosen = _chosen(situation, list(worst), seed, entries)
    probe = max(2, min(32, _PROBE_ENTRIES // classes))
    if rows <= most:
        everything = source.view(range(rows))
        parts = [chosen[:probe], sorted(chosen[probe:])]
        views = [everything.picked(places) for places in parts if places]
    else:
        views = [*source.gathered(chosen[:probe], probe), *source.gathered(sorted(chosen[probe:]), most)]
    narrow = tuple(view.narrowed(_COLUMNS) for view in views)
    return Sample(situation, narrow, len(chosen) == rows, source)


def _chosen(situation: Situation, worst: list[int], seed: int, entries: int) -> list[int]:
    rows = situation.rows
    limit = min(rows, max(_fewest(entries), min(_MOST_ROWS, entries // situation.classes)))
    rng = random.Random(seed)  # a sample, no secret
    first = [*worst[:4], situation.problem.first_counted, 0, rows - 1, rows // 2, *_ignored(situation)]
    spread = np.linspace(0, rows - 1, max(limit // 2, 2)).round().astype(int).tolist()
    drawn = [rng.randrange(rows) for _ in range(limit)]
    rng.shuffle(spread)
    chosen = list(dict.fromkeys([*first, *worst[4:], *spread, *drawn]))
    if limit == rows:
        chosen = list(dict.fromkeys([*chosen, *range(rows)]))
    return chosen[:limit]


def _fewest(entries: int) -> int:
    return _FEWEST_ROWS if entries >= _ENTRIES else 4


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

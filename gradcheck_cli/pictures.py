"""Where the failing entries are, in a few thousand parts, and how large the errors are.

A second pass over the rows, made after a failure and only where somebody is to see it. The counts are those
of the check itself: the same judges look at the same rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from gradcheck_cli.engine import Job
from gradcheck_cli.findings import Finding, Place, Tally
from gradcheck_cli.grades import octaves
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.outcome import Picture
from gradcheck_cli.refusals import Flags

HEIGHT, WIDTH = 48, 96
"""Parts of a map at most, of the rows and of the classes; who has less room joins neighbours."""

Shape = tuple[int, int]
"""Rows and columns of an exported tensor."""


def pictures(
    shapes: Mapping[str, Shape], findings: Mapping[str, Finding], failed: Collection[str], jobs: Sequence[Job]
) -> tuple[Picture, ...]:
    """Return a picture of each exported tensor, by name; a map where it failed.

    The jobs are what put those that failed through their comparisons once more.
    """
    maps = {name: _Map(shape) for name, shape in shapes.items() if name in failed}
    for job in jobs:
        _mark(job, maps)
    none = np.zeros((0, 0), dtype=np.int64)
    return tuple(
        Picture(
            name,
            *shape,
            tuple(tuple(map(int, row)) for row in (maps[name].counts if name in maps else none)),
            octaves(findings[name].grade.ulps),
        )
        for name, shape in shapes.items()
    )


def _mark(job: Job, maps: Mapping[str, _Map]) -> None:
    """Go through all rows of a job in one process, and count what fails."""
    marks = {each.name: maps[each.name].mark if each.name in maps else None for each in job.comparisons}
    steps = job.walk({name: Tally(None, 0, mark=mark) for name, mark in marks.items()})
    with np.errstate(all="ignore"):
        for block in range(job.grid.blocks):
            steps.take(job.grid.rows_of(block))
        steps.finish()


class _Map:
    """The failing entries of one exported tensor, counted by parts of it."""

    def __init__(self, shape: Shape) -> None:
        self._rows, columns = shape
        self.counts: Indices = np.zeros((min(HEIGHT, self._rows), min(WIDTH, columns)), dtype=np.int64)
        width = self.counts.shape[1]
        self._starts = np.arange(width) * columns // width  # first column of each part

    def mark(self, place: Place, failing: Flags) -> None:
        """Count the failing entries of whole rows, one after the other: (n, columns)."""
        start, _ = place(0)
        by_columns = np.add.reduceat(failing, self._starts, axis=1, dtype=np.int64)
        parts = np.arange(start, start + len(failing)) * len(self.counts) // self._rows
        np.add.at(self.counts, parts, by_columns)

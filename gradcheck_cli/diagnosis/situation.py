"""What is known of a failed check as a whole: the problem, the wrong gradient, and a few numbers."""

from __future__ import annotations

from dataclasses import field
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.exports import Export
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.problem import Problem
from gradcheck_cli.records import dataclass
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import Rows

CONFIDENT = 0.99
"""Probability of a label from which on its row is called confident."""

_CHUNK = 1 << 17  # labels looked at together
_ENTRIES = 1 << 18  # logits looked at together


@dataclass(frozen=True, eq=False)
class Situation:
    """The problem, the exported gradient, and how it was judged."""

    problem: Problem
    settings: Settings
    export: Export
    tolerance: Tolerance | None
    kept: dict[str, Any] = field(default_factory=dict)  # what was worked out of all rows

    @property
    def of_gradient(self) -> bool:
        """Whether the export is the gradient at the logits."""
        return self.export.name == "grad"

    @property
    def width(self) -> int:
        """Return the number of entries of a row of the export."""
        return 1 if self.export.name == "loss" else self.problem.classes

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return self.problem.rows

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return self.problem.classes

    @property
    def counted(self) -> int:
        """Return the number of rows that are not ignored."""
        return self.problem.rows - self.problem.ignored_rows

    @property
    def divided(self) -> bool:
        """Whether the loss is divided by anything."""
        return self.settings.normalizer is not None or self.settings.reduction not in ("sum", "none")

    @cached_property
    def batch(self) -> int:
        """Return the length of the first axis that is no class axis."""
        shape = self.problem.logits.tensor.shape
        outer = shape[: self.problem.axis] + shape[self.problem.axis + 1 :]
        return outer[0] if outer else 1

    @cached_property
    def weight_sum(self) -> float:
        """Return the sum of the class weights of the labels of rows that count."""
        weights = self.problem.loss.class_weights
        if weights is None or self.problem.soft:
            return float(self.counted)
        return sum(
            float(weights[labels[labels != self.problem.ignore_index]].sum()) for _, labels in self._labels()
        )

    @cached_property
    def first_upstream(self) -> float:
        """Return the upstream gradient of the first row."""
        return float(self.upstream_of(range(1))[0])

    def upstream_of(self, rows: range) -> Floats:
        """Return the upstream gradients of some rows, of ignored ones too: (n,)."""
        found = np.empty(len(rows))
        if isinstance(self.problem.upstream, Rows):
            self.problem.upstream.read(rows.start, rows.stop, found)
        else:
            found.fill(self.problem.upstream)
        return found

    def labels_of(self, rows: range) -> Indices:
        """Return the labels of some rows as they are stored, -1 before the first and after the last."""
        found = np.full(len(rows), -1, dtype=np.int64)
        start, stop = max(rows.start, 0), min(rows.stop, self.rows)
        if start < stop:
            self.problem.targets.read(start, stop, found[start - rows.start : stop - rows.start])
        return found

    def counted_in(self, parts: int, *, in_turn: bool = False) -> Indices:
        """Return how many rows count in each of so many parts, contiguous ones or dealt in turn: (parts,)."""
        size = self.rows // parts
        if self.problem.soft:
            return size + (
                np.arange(parts) < self.rows - parts * size if in_turn else np.zeros(parts, np.int64)
            )
        found = np.zeros(parts, dtype=np.int64)
        for start, labels in self._labels():
            places = np.arange(start, start + len(labels))[labels != self.problem.ignore_index]
            found += np.bincount(places % parts if in_turn else places // size, minlength=parts)
        return found

    @cached_property
    def column_lse(self) -> Floats:
        """Return logsumexp of each column over all rows, what a softmax along the wrong axis divides by."""
        step = max(1, min(self.rows, _ENTRIES // self.classes))
        top = np.full(self.classes, -np.inf)
        total = np.zeros(self.classes)
        link = self.problem.loss.link
        for start in range(0, self.rows, step):
            z = np.empty((min(step, self.rows - start), self.classes))
            self.problem.logits.read(start, start + len(z), z)
            v = link.apply(z)
            higher = np.maximum(top, v.max(axis=0))
            level = np.where(np.isfinite(higher), higher, 0.0)
            total = total * np.exp(top - level) + np.exp(v - level).sum(axis=0)
            top = higher
        found: Floats = np.log(total) + np.where(np.isfinite(top), top, 0.0)
        return found

    def _labels(self) -> list[tuple[int, Indices]]:
        starts = range(0, self.rows, _CHUNK)
        return [(start, self.labels_of(range(start, min(start + _CHUNK, self.rows)))) for start in starts]

"""What is known of rows before their logits are read: labels, which of them count, and their scale."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from gradcheck_cli.errors import InputError
from gradcheck_cli.numeric import cross_entropy
from gradcheck_cli.numeric.cross_entropy import Scale, Targets
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices, Sums
from gradcheck_cli.problem import Problem
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags
from gradcheck_cli.tensors import Rows


@dataclass(frozen=True, eq=False)
class Coming:
    """Consecutive rows with hard labels before their logits are read."""

    rows: range
    labels: Indices  # (n,) class 0 stands in for ignored rows
    counted: Flags
    q: Targets
    by: Scale

    @cached_property
    def coefficient(self) -> Floats:
        """Return what multiplies a_j in the gradient, without a z-loss: (n,)."""
        return self.by.s * self.q.mass

    @classmethod
    def of(cls, problem: Problem, rows: range) -> Coming:
        """Return the rows of a problem without distributions and z-loss."""
        labels, counted = _hard_labels(problem, rows)
        q = cross_entropy.class_targets(labels, problem.classes, problem.loss)
        return cls(rows, labels, counted, q, scale_of(problem, rows, None, counted))


def labels_of(problem: Problem, rows: range) -> tuple[Indices | None, Flags]:
    """Return the labels, or None where the targets are distributions, and which rows count."""
    return (None, np.ones(len(rows), dtype=bool)) if problem.soft else _hard_labels(problem, rows)


def _hard_labels(problem: Problem, rows: range) -> tuple[Indices, Flags]:
    """Return the labels, class 0 standing in for ignored rows, and which rows count."""
    labels = np.empty(len(rows), dtype=np.int64)
    problem.targets.read(rows.start, rows.stop, labels)
    counted = labels != problem.ignore_index
    labels *= counted
    if labels.min() < 0 or labels.max() >= problem.classes:
        raise InputError(f"{problem.targets.tensor.name}: changed while it was read")
    return labels, counted


def scale_of(problem: Problem, rows: range, found: Sums | None, counted: Flags) -> Scale:
    """Return what multiplies the loss of each row; without a z-loss the sums are not needed."""
    upstream = np.empty(len(rows))
    if isinstance(problem.upstream, Rows):
        problem.upstream.read(rows.start, rows.stop, upstream)
        bad = np.flatnonzero(~np.isfinite(upstream))
        if bad.size:
            place = list(problem.upstream.index_of(rows.start + int(bad[0])))
            raise InputError(
                f"{problem.upstream.tensor.name}, entry {place}: "
                f"the upstream gradient {upstream[bad[0]]:g} is not finite"
            )
    else:
        upstream.fill(problem.upstream)
    upstream *= counted
    return cross_entropy.scale(found, problem.loss, upstream / problem.divisor, upstream / problem.z_divisor)

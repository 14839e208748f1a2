"""Rows of the problem as a block of numbers: softmax, targets, scale and gradient, ready to compare."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck_cli.errors import InputError
from gradcheck_cli.numeric import cross_entropy
from gradcheck_cli.numeric.cross_entropy import Scale, Targets
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import DEEPEST, Forward, Indices, UndefinedRow, forward
from gradcheck_cli.problem import Problem
from gradcheck_cli.tensors import Rows
from gradcheck_cli.visible import visible

BLOCK_ENTRIES = 1 << 15
"""Entries of a block: eight float64 planes of it stay in a core's second-level cache."""


@dataclass(frozen=True, eq=False)
class Room:
    """The planes one thread works in, reused for every block: (rows, K) float64 each."""

    z: Floats
    a: Floats
    g: Floats
    got: Floats
    allowed: Floats
    error: Floats
    work: Floats
    slope: Floats | None
    targets: Floats | None

    @classmethod
    def of(cls, problem: Problem, rows: int) -> Room:
        """Return room for blocks of so many rows."""

        def plane() -> Floats:
            return np.empty((rows, problem.classes))

        slope = None if problem.loss.link.softcap is None else plane()
        targets = plane() if problem.soft else None
        return cls(plane(), plane(), plane(), plane(), plane(), plane(), plane(), slope, targets)

    def first(self, rows: int) -> Room:
        """Return the same room for a shorter block."""
        return Room(
            *(None if each is None else each[:rows] for each in vars(self).values())  # type: ignore[arg-type]
        )


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive rows, worked out. The arrays are the room's: valid until the next block."""

    start: int
    f: Forward
    q: Targets
    by: Scale
    g: Floats
    counted: np.ndarray[tuple[int], np.dtype[np.bool_]]  # (n,) rows that are not ignored
    labels: Indices | None  # (n,) None for distributions
    room: Room

    @property
    def stop(self) -> int:
        """Return the row after the last."""
        return self.start + len(self.f.rows)


def height(problem: Problem) -> int:
    """Return the number of rows of a block; a row longer than a block makes a block of one row."""
    return max(1, BLOCK_ENTRIES // problem.classes)


def work_out(problem: Problem, start: int, stop: int, whole: Room) -> Block:
    """Return the block of rows start .. stop - 1: read, forward, targets, gradient."""
    room = whole.first(stop - start)
    problem.logits.read(start, stop, room.z)
    labels, counted = _labels(problem, start, stop)
    try:
        f = forward(room.z, labels, problem.loss.link, room.a, room.slope)
    except UndefinedRow as undefined:
        raise InputError(_undefined(problem, start + undefined.row)) from None
    q = _targets(problem, start, stop, f, room)
    _refuse_masked_targets(problem, start, f, q, counted)
    by = _scale(problem, start, stop, f, counted)
    g = cross_entropy.gradient(f, q, by, room.g, room.work)
    return Block(start, f, q, by, g, counted, labels, room)


def _labels(
    problem: Problem, start: int, stop: int
) -> tuple[Indices | None, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Return the labels, class 0 standing in for ignored rows, and which rows count."""
    if problem.soft:
        return None, np.ones(stop - start, dtype=bool)
    labels = np.empty(stop - start, dtype=np.int64)
    problem.targets.read(start, stop, labels)
    counted = labels != problem.ignore_index
    labels *= counted
    if labels.min() < 0 or labels.max() >= problem.classes:
        raise InputError(f"{visible(problem.targets.tensor.path)}: changed while it was read")
    return labels, counted


def _targets(problem: Problem, start: int, stop: int, f: Forward, room: Room) -> Targets:
    if room.targets is None:
        return cross_entropy.class_targets(f.pivot, problem.classes, problem.loss)
    problem.targets.read(start, stop, room.targets)
    lowest, highest = room.targets.min(axis=1), room.targets.max(axis=1)
    bad = np.flatnonzero(~((lowest >= 0.0) & (highest < np.inf)))
    if bad.size:
        row = int(bad[0])
        column = int(np.flatnonzero(~((room.targets[row] >= 0) & (room.targets[row] < np.inf)))[0])
        place = list(problem.targets.index_of(start + row, column))
        raise InputError(
            f"{visible(problem.targets.tensor.path)}, entry {place}: target {room.targets[row, column]:g} is not "
            "a finite number >= 0 (labels have the logits' own shape, so they are taken as distributions)"
        )
    return cross_entropy.distribution_targets(room.targets, f.pivot, problem.loss)


def _scale(
    problem: Problem, start: int, stop: int, f: Forward, counted: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Scale:
    upstream = np.empty(stop - start)
    if isinstance(problem.upstream, Rows):
        problem.upstream.read(start, stop, upstream)
        bad = np.flatnonzero(~np.isfinite(upstream))
        if bad.size:
            place = list(problem.upstream.index_of(start + int(bad[0])))
            raise InputError(
                f"{visible(problem.upstream.tensor.path)}, entry {place}: "
                f"the upstream gradient {upstream[bad[0]]:g} is not finite"
            )
    else:
        upstream.fill(problem.upstream)
    upstream *= counted
    return cross_entropy.scale(f, problem.loss, upstream / problem.divisor, upstream / problem.z_divisor)


def _undefined(problem: Problem, row: int) -> str:
    """Say which logit makes a row's softmax undefined."""
    z = np.empty((1, problem.classes))
    problem.logits.read(row, row + 1, z)
    where = visible(problem.logits.tensor.path)
    wrong = np.flatnonzero(np.isnan(z[0]) | np.isposinf(z[0]))
    if wrong.size:
        place = list(problem.logits.index_of(row, int(wrong[0])))
        return f"{where}, entry {place}: logit {z[0, wrong[0]]:g}: a softmax needs finite logits, or -inf for masked classes"
    place = list(problem.logits.index_of(row))
    if np.isneginf(z).all():
        return f"{where}, row {place}: every class is masked (-inf), so the softmax is undefined"
    return (
        f"{where}, row {place}: a masked class (-inf) under --softcap is ambiguous "
        "(c tanh(-inf/c) = -c is not masked): apply the mask after the cap, or export without it"
    )


def _refuse_masked_targets(
    problem: Problem, start: int, f: Forward, q: Targets, counted: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> None:
    """Refuse rows whose target lies on a masked class: their loss is infinite."""
    masked = (f.at_pivot(f.d) <= DEEPEST) & (q.at_pivot > 0) & counted
    if not q.sparse and f.d.min() <= DEEPEST:
        masked |= ((f.d <= DEEPEST) & (np.broadcast_to(q.plane(), f.d.shape) > 0)).any(axis=1) & counted
    if masked.any():
        row = int(np.flatnonzero(masked)[0])
        place = list(problem.logits.index_of(start + row))
        cause = "its label" if q.sparse else "a class with target weight (labels, smoothing)"
        raise InputError(
            f"{visible(problem.logits.tensor.path)}, row {place}: {cause} is a masked class (-inf), "
            "so the loss is infinite and has no gradient"
        )

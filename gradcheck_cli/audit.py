"""The ruler's own audit: a seeded sample of rows done again, the slow and obvious way.

The engine's inner loop is fast because it reuses one softmax for everything. Here a few rows are
recomputed with Python's own exp and an exactly rounded sum, and a few partial derivatives by brute force,
from whole-row losses at moved logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.blocks import Block, Room, work_out
from gradcheck_cli.findings import Finding, Look, compare
from gradcheck_cli.numeric import accuracy, cross_entropy, difference
from gradcheck_cli.numeric.precision import FLOAT64, Floats
from gradcheck_cli.numeric.softmax import DEEPEST
from gradcheck_cli.problem import Problem

_FORWARD_ENTRIES = 1 << 13  # entries recomputed at most, but one whole row at least
_MOVED_LOGITS = 1 << 20  # logits read for brute-force differences at most, but one entry at least
_ENTRIES = 48  # partial derivatives audited where they are cheap


@dataclass(frozen=True)
class Audit:
    """What the sample showed, and what it covered."""

    forward: Finding
    differences: Finding
    rows: int


def audit(problem: Problem, seed: int, top: int) -> Audit:
    """Return the audit of a seeded sample: the same for every thread count and block size."""
    rng = np.random.default_rng(seed)
    forward, differences = Finding(), Finding()
    again = max(1, min(problem.rows, 8, _FORWARD_ENTRIES // problem.classes))
    moved = max(1, min(_ENTRIES, _MOVED_LOGITS // (4 * problem.classes)))
    rows = _sample(rng, problem.rows, max(again, min(moved, 16)))
    room = Room.of(problem, 1)
    with np.errstate(all="ignore"):
        for order, row in enumerate(rows):
            block = work_out(problem, row, row + 1, room)
            if order < again:
                forward = forward.merge(_forward(block, problem, top), top)
            share = moved // len(rows) + (order < moved % len(rows))
            if block.counted[0]:
                differences = differences.merge(_differences(block, problem, share, rng, top), top)
    return Audit(forward, differences, len(rows))


def _sample(rng: np.random.Generator, population: int, size: int) -> list[int]:
    """Return rows without repetition, the first and the last among them, in random order."""
    size = min(size, population)
    ends = {0, population - 1}
    drawn = (int(row) for row in rng.integers(0, population, size=4 * size))
    chosen = list(dict.fromkeys([*ends, *drawn]))[:size]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _forward(block: Block, problem: Problem, top: int) -> Finding:
    """Compare the engine's softmax with math.exp over math.fsum."""
    f = block.f
    weights = [math.exp(max(d, -800.0)) if d > DEEPEST else 0.0 for d in f.d[0].tolist()]
    total = math.fsum(weights)
    slow = np.array([[w / total for w in weights]])
    whole = accuracy.probability_error(f, problem.loss.link, FLOAT64, accuracy.pairwise(problem.classes))
    bare, nothing = accuracy.bare(f)
    allowed = whole.spread(bare, nothing, f.a, np.empty_like(f.a), np.empty_like(f.a))
    return compare(f.a, slow, allowed, _look(block, top), np.empty_like(f.a), np.empty_like(f.a))


def _differences(block: Block, problem: Problem, count: int, rng: np.random.Generator, top: int) -> Finding:
    """Compare some partial derivatives of the row with five-point differences of its whole loss."""
    columns = _columns(block, count, rng)
    if not columns:
        return Finding()
    logits = np.empty((1, problem.classes))
    problem.logits.read(block.start, block.stop, logits)
    q = np.array(np.broadcast_to(block.q.plane(), logits.shape))
    q[0, block.f.pivot[0]] = block.q.at_pivot[0]
    gradient = _row_gradient(block, problem)
    brute, allowed = [], []
    for column in columns:
        slope, _ = difference.five_point(logits[0], q[0], problem.loss, column)
        brute.append(slope)
        allowed.append(accuracy.audit_error(logits[0], q[0], problem.loss, float(gradient[column]), column))
    picked = np.ascontiguousarray(gradient[columns])[None, :]
    finding = compare(
        np.array([brute]),
        picked,
        np.array([allowed]),
        _look(block, top),
        np.empty_like(picked),
        np.empty_like(picked),
    )
    return _placed(finding, columns)


def _columns(block: Block, count: int, rng: np.random.Generator) -> list[int]:
    """Return the label, the likeliest class and random classes; masked classes cannot be moved."""
    d = block.f.d[0]
    wanted = [int(block.f.pivot[0]), int(d.argmax()), *map(int, rng.integers(0, d.size, size=count))]
    return [column for column in dict.fromkeys(wanted) if d[column] > DEEPEST][:count]


def _row_gradient(block: Block, problem: Problem) -> Floats:
    """Return the row's gradient of its own loss: the engine's formula with upstream and divisors 1."""
    one = np.ones(1)
    by = cross_entropy.scale(block.f, problem.loss, one, one)
    return cross_entropy.gradient(block.f, block.q, by, block.room.got, block.room.work)[0]


def _look(block: Block, top: int) -> Look:
    return Look(block.start, None, top)


def _placed(finding: Finding, columns: list[int]) -> Finding:
    """Return the finding with the entries' true columns in place of their position in the sample."""
    worst = tuple(replace(entry, column=columns[entry.column]) for entry in finding.worst)
    return replace(finding, worst=worst)

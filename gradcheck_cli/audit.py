"""The ruler's own audit: a seeded sample of rows done again, the slow and obvious way.

The engine's inner loop is fast because it reuses one softmax for everything. Here a few rows are
recomputed with Python's own exp and an exactly rounded sum, and a few partial derivatives by brute force,
from whole-row losses at moved logits.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np

from gradcheck_cli.blocks import Room, Tile, work_out
from gradcheck_cli.findings import Finding, Look, Sides, compare
from gradcheck_cli.grid import Grid
from gradcheck_cli.numeric import accuracy, cross_entropy, difference, ruler
from gradcheck_cli.numeric.precision import FLOAT64
from gradcheck_cli.numeric.softmax import DEEPEST
from gradcheck_cli.problem import Problem
from gradcheck_cli.records import dataclass

_FORWARD_ENTRIES = 1 << 13  # entries recomputed at most, but one whole row at least
_MOVED_LOGITS = 1 << 18  # logits read for brute-force differences at most, but one entry at least


@dataclass(frozen=True)
class Extent:
    """How much of a problem is audited, where that is cheap."""

    rows: int = 8
    entries: int = 24  # partial derivatives


WHOLE = Extent()
ONE_OF_MANY = Extent(rows=1, entries=2)
"""For one small problem of a batch: ten thousand of them are a large sample together."""


@dataclass(frozen=True)
class Audit:
    """What the sample showed, and what it covered."""

    forward: Finding
    differences: Finding


def audit(problem: Problem, seed: int | str, top: int, extent: Extent = WHOLE) -> Audit:
    """Return the audit of a seeded sample: the same for every block size and number of processes."""
    rng = random.Random(seed)  # a sample, no secret; numpy.random is slow to import
    forward, differences = Finding(), Finding()
    again = max(1, min(problem.rows, extent.rows, _FORWARD_ENTRIES // problem.classes))
    moved = max(1, min(extent.entries, _MOVED_LOGITS // (4 * problem.classes)))
    rows = sample_rows(rng, problem, max(again, min(moved, extent.rows)))
    grid = Grid(problem.rows, 1, 1)
    room = Room.of(problem, grid, depth=True)
    with np.errstate(all="ignore"):
        for order, row in enumerate(rows):
            block = work_out(problem, range(row, row + 1), grid, room)
            (tile,) = block.tiles()
            if order < again:
                forward = forward.merge(recomputed(tile, top), top)
            share = moved // len(rows) + (order < moved % len(rows))
            if block.counted[0]:
                differences = differences.merge(_differences(tile, problem, share, rng, top), top)
    return Audit(forward, differences)


def sample_rows(rng: random.Random, problem: Problem, size: int) -> list[int]:
    """Return different rows, one that counts and the last among them, in random order; one alone counts."""
    if size == 1 and _counts(problem, row := rng.randrange(problem.rows)):
        return [row]
    drawn = [rng.randrange(problem.rows) for _ in range(4 * size)]
    chosen = list(dict.fromkeys([problem.first_counted, problem.rows - 1, *drawn]))[:size]
    return rng.sample(chosen, len(chosen))


def _counts(problem: Problem, row: int) -> bool:
    """Tell whether a row is not ignored."""
    if problem.soft:
        return True
    label = np.empty(1, dtype=np.int64)
    problem.targets.read(row, row + 1, label)
    return bool(label[0] != problem.ignore_index)


def recomputed(tile: Tile, top: int) -> Finding:
    """Compare the engine's softmax with math.exp over math.fsum."""
    planes, sums, link = tile.planes, tile.at.sums, tile.at.loss.link
    weights = list(map(math.exp, np.maximum(planes.d[0], -800.0).tolist()))  # exp(-800) is 0
    slow = np.array([weights]) / math.fsum(weights)
    allowance = accuracy.probability_error(sums, link, FLOAT64, accuracy.pairwise(sums.classes))
    bare, flat = accuracy.bare(sums, link), replace(planes, slope=None)
    allowed, error, work = np.empty((3, *slow.shape))
    allowance.spread(bare, flat, planes.a, allowed, work)
    return compare(Sides(planes.a, slow, allowed), Look(tile.place, None, top), error, work)


def _differences(tile: Tile, problem: Problem, count: int, rng: random.Random, top: int) -> Finding:
    """Compare some partial derivatives of the row with five-point differences of its whole loss."""
    columns = sample_columns(tile, count, rng)
    if not columns:
        return Finding()
    logits = np.empty((1, problem.classes))
    problem.logits.read(tile.start, tile.stop, logits)
    q = np.array(np.broadcast_to(tile.at.q.plane(), logits.shape))
    tile.planes.put_pivot(q, tile.at.q.at_pivot)
    one = np.ones(1)
    by = cross_entropy.scale(tile.at.sums, problem.loss, one, one)
    own = cross_entropy.Point.of(problem.loss, tile.at.sums, tile.at.q, by)
    gradient = cross_entropy.gradient(
        own, tile.planes, tile.plane(tile.room.got), tile.plane(tile.room.work)
    )[0]
    brute, allowed = [], []
    for column in columns:
        brute.append(difference.five_point(logits[0], q[0], problem.loss, column)[0])
        allowed.append(ruler.audit_error(logits[0], q[0], problem.loss, float(gradient[column]), column))
    picked = np.ascontiguousarray(gradient[columns])
    look = Look(lambda position: (tile.start, columns[position]), None, top)
    sides = Sides(np.array(brute), picked, np.array(allowed))
    return compare(sides, look, np.empty_like(picked), np.empty_like(picked))


def sample_columns(tile: Tile, count: int, rng: random.Random) -> list[int]:
    """Return the label, the likeliest class and random classes; masked classes cannot be moved."""
    d = tile.planes.d[0]
    drawn = [rng.randrange(d.size) for _ in range(count)]
    wanted = [int(tile.planes.pivot[0]), int(d.argmax()), *drawn]
    return [column for column in dict.fromkeys(wanted) if d[column] > DEEPEST][:count]

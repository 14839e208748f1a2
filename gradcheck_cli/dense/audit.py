"""The audit of the weight's gradient: a few weights moved, and the loss of whole rows worked out again.

The differences of every entry share one softmax. Here a column of logits is multiplied out anew from inputs
and moved weights, and the loss is summed over whole rows as one writes it down.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np

from gradcheck_cli.dense.problem import LinearProblem
from gradcheck_cli.dense.rows import Stretch, Stretches
from gradcheck_cli.findings import Finding, Look, Sides, compare
from gradcheck_cli.grid import Grid
from gradcheck_cli.numeric import cross_entropy, linear
from gradcheck_cli.numeric.difference import AUDIT_STEP, unit_of
from gradcheck_cli.numeric.precision import FLOAT64, Floats
from gradcheck_cli.numeric.softmax import row_sum
from gradcheck_cli.records import dataclass

_MOVED_LOGITS = 1 << 21  # put through brute-force differences at most, but one entry and one block at least
_ENTRIES = 8


@dataclass(frozen=True)
class Extent:
    """How much of a problem is audited: so many partial derivatives, each over some blocks of rows."""

    entries: int
    blocks: frozenset[int]
    rows: int

    @classmethod
    def of(cls, problem: LinearProblem, seed: int) -> Extent:
        """Return what takes a fraction of a second: all rows if they are few enough, else a seeded sample."""
        grid = Grid.of(problem.head)
        many = max(1, min(grid.blocks, _MOVED_LOGITS // (4 * grid.block * problem.classes)))
        blocks = frozenset(random.Random(seed).sample(range(grid.blocks), many))
        rows = sum(len(grid.rows_of(number)) for number in blocks)
        return cls(max(1, min(_ENTRIES, _MOVED_LOGITS // (4 * rows * problem.classes))), blocks, rows)

    def words(self, problem: LinearProblem, seed: int) -> str:
        """Say what is covered."""
        some = "" if self.rows == problem.rows else f"the loss of {self.rows:,} of {problem.rows:,} rows, "
        return f"seeded sample, by brute force ({some}seed {seed})"


def audit(problem: LinearProblem, stretches: Stretches, seed: int, top: int) -> Finding:
    """Compare a few entries of dE/dW, over a seeded sample of rows, with five-point differences of the loss.

    Both sides are of the same rows, and the sample is the same for every number of processes.
    """
    rng, extent = random.Random(seed), Extent.of(problem, seed)
    entries = [_Entry.drawn(problem, rng, first=number == 0) for number in range(extent.entries)]
    got, right, allowed = np.zeros((3, len(entries)))
    with np.errstate(all="ignore"):
        for rows in stretches.of_blocks(extent.blocks):
            z = np.empty_like(rows.g)
            problem.logits.read(rows.start, rows.start + len(z), z)
            off = linear.analytic_error(rows.at, rows.planes, rows.g, _reach(problem, rows), problem.features)
            for place, each in enumerate(entries):
                parts = each.differences(problem, rows, z)
                got[place] += parts.sum()
                right[place] += rows.x[:, each.row] @ rows.g[:, each.column]
                allowed[place] += each.allowed(problem, rows, off)
                allowed[place] += 2.0 * problem.rows * FLOAT64.unit * np.abs(parts).sum()
        allowed += 2.0**-1000
        look = Look(lambda position: (entries[position].row, entries[position].column), None, top)
        return compare(Sides(got, right, allowed), look, np.empty_like(got), np.empty_like(got))


def _reach(problem: LinearProblem, rows: Stretch) -> Floats:
    return problem.reach[rows.start : rows.start + len(rows.g)]


@dataclass(frozen=True)
class _Entry:
    """One weight and the step it is moved by, a power of two."""

    row: int
    column: int
    step: float

    @classmethod
    def drawn(cls, problem: LinearProblem, rng: random.Random, *, first: bool) -> _Entry:
        """Return a seeded weight of a class that is not masked; the first is of a label's class."""
        head, open_ = problem.head, np.flatnonzero(np.isfinite(problem.bias)).tolist()
        row, column = rng.randrange(problem.features), rng.choice(open_)
        if first and not head.soft:
            label = np.empty(1, dtype=np.int64)
            head.targets.read(head.first_counted, head.first_counted + 1, label)
            column = int(label[0]) if int(label[0]) in open_ else column
        largest = float(problem.largest[row]) or 1.0
        whole = AUDIT_STEP * unit_of(head.loss.link) / largest
        return cls(row, column, 2.0 ** math.floor(math.log2(whole)))

    def differences(self, problem: LinearProblem, rows: Stretch, z: Floats) -> Floats:
        """Return what each row adds to the difference quotient: (n,).

        [8 (F(h) - F(-h)) - (F(2h) - F(-2h))] / 12h. The logits are shifted by a common maximum unless a
        softcap or a z-loss makes the loss depend on it.
        """
        h, w = self.step, problem.weight[:, self.column].copy()
        top = z.max(axis=1) if linear.shift_is_nothing(rows.at) else np.zeros(len(z))
        point, own, losses = z - top[:, None], w[self.row], []
        for by in (h, -h, 2.0 * h, -2.0 * h):
            w[self.row] = own + by
            point[:, self.column] = row_sum(rows.x * w) + problem.bias[self.column] - top
            losses.append(_losses(rows, point))
        plus, minus, plus2, minus2 = losses
        parts: Floats = (8.0 * (plus - minus) - (plus2 - minus2)) / (12.0 * h)
        return parts

    def allowed(self, problem: LinearProblem, rows: Stretch, off: Floats) -> float:
        """Return what the difference and the entry may be off by, given what G may be."""
        x = np.abs(rows.x[:, self.row])
        own = linear.difference_error(rows.at, problem.rows) * rows.size[:, self.column]
        fixed, moved = linear.audit_errors(rows.at, rows.planes, _reach(problem, rows), problem.features)
        slope = rows.size[:, self.column] + 2.0 * AUDIT_STEP * np.abs(rows.at.by.z)
        truncation = linear.audit_truncation(rows.at)
        return float(
            x @ (truncation + off[:, self.column] + own) + 1.5 / self.step * (fixed.sum() + moved @ slope)
        )


def _losses(rows: Stretch, points: Floats) -> Floats:
    """Return each row's share of the loss at logits: (n, K) to (n,)."""
    loss, z = rows.at.loss, rows.at.by.z
    chain = 1.0 if loss.link.softcap is not None else loss.link.temperature
    whole = cross_entropy.plain_loss(points, rows.pull * chain, replace(loss, z_loss=0.0))
    if loss.z_loss:
        square = cross_entropy.plain_loss(points, np.zeros_like(rows.pull), replace(loss, z_loss=1.0))
        whole += 0.5 * chain * z * square
    return whole

"""The weight's gradient along random directions: what stands in for the entries that are not differenced.

A direction is p q^T, p and q of random signs: all weights move at once, the logits z_nj by h (x_n p) q_j.
"""

from __future__ import annotations

import mmap
import random

import numpy as np

from gradcheck_cli.dense.problem import LinearProblem
from gradcheck_cli.dense.rows import Stretch, Stretches
from gradcheck_cli.findings import Finding, Look, Sides, compare
from gradcheck_cli.numeric import linear
from gradcheck_cli.numeric.difference import unit_of
from gradcheck_cli.numeric.precision import FLOAT64, Floats
from gradcheck_cli.records import dataclass

COUNT = 8


@dataclass(frozen=True, eq=False)
class Directions:
    """Some directions, and what each input's gradient contributes to them, written by every process."""

    p: Floats  # (D, m)
    q: Floats  # (K, m)
    along: Floats  # (D, m) dE/dW_i q, in memory that forked processes share

    @classmethod
    def drawn(cls, problem: LinearProblem, seed: int) -> Directions:
        """Return seeded directions."""
        rng = random.Random(seed)

        def signs(length: int) -> Floats:
            return np.array([[rng.choice((-1.0, 1.0)) for _ in range(COUNT)] for _ in range(length)])

        shared = mmap.mmap(-1, 8 * COUNT * problem.features)
        along = np.frombuffer(shared, dtype=np.float64).reshape(problem.features, COUNT)
        return cls(signs(problem.features), signs(problem.classes), along)

    def note(self, start: int, right: Floats) -> None:
        """Note the gradient of some inputs' weights: (m, K)."""
        self.along[start : start + len(right)] = right @ self.q

    def compared(self, problem: LinearProblem, stretches: Stretches, top: int) -> Finding:
        """Compare <dE/dW, direction> with the central difference of the loss, once all is noted."""
        analytic = (self.p * self.along).sum(axis=0)
        link = problem.head.loss.link
        step = linear.step_for(float(problem.largest.sum()), unit_of(link))
        step = step if link.softcap is not None else step / link.temperature
        got, allowed = np.zeros((2, COUNT))
        terms = problem.features + problem.classes + problem.rows
        with np.errstate(all="ignore"):
            for rows in stretches:
                got += self._difference(rows, step)
                share = linear.difference_error(rows.at, terms) + 4.0 * terms * FLOAT64.unit
                allowed += share * float((np.abs(rows.x).sum(axis=1) * rows.size.sum(axis=1)).sum())
            allowed += 2.0**-1000
            look = Look(lambda number: (number, 0), None, top)
            return compare(Sides(got, analytic, allowed), look, np.empty_like(got), np.empty_like(got))

    def _difference(self, rows: Stretch, step: float) -> Floats:
        """Return the central differences along each direction: (m,)."""
        out = np.empty(COUNT)
        moves = rows.x @ self.p
        for number in range(COUNT):
            t = step * moves[:, number, None] * self.q[None, :, number]
            up, down = linear.bent_moves(rows.at, rows.planes, t)
            above = (rows.planes.a * np.expm1(up)).sum(axis=1)
            below = (rows.planes.a * np.expm1(down)).sum(axis=1)
            ratio = rows.at.coefficient * np.log1p((above - below) / (1.0 + below))
            out[number] = float((ratio - (rows.pull * (up - down)).sum(axis=1)).sum()) / (2.0 * step)
        return out

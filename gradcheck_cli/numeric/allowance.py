"""What each entry of a plane may be off by: a sum of named terms, worked out entry by entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.numeric.cross_entropy import Point
from gradcheck_cli.numeric.precision import Floats, Precision
from gradcheck_cli.numeric.softmax import Indices, Planes
from gradcheck_cli.records import dataclass

DEPTH_OF_ZERO = 800.0
"""Depth beyond which a probability is 0 in float64, and with it whatever is multiplied by the depth."""


@dataclass(frozen=True, eq=False)
class Allowance:
    """What each entry may be off by, slope_j a_j (fixed + depth D_j) + target q_j + relative |g_j| + floor.

    Under a softcap also bent ((|s| Q + |zeta|) a_j + |s| q_j), the error of 1 - tanh^2.

    Each entry's own; nothing in it grows with the number of entries. (n,) arrays unless said.
    """

    fixed: Floats
    depth: float | Floats
    target: float | Floats
    floor: float | Floats
    relative: float = 0.0
    bent: float = 0.0  # absolute in the slope

    def __add__(self, other: Allowance) -> Allowance:
        """Return the allowance for both causes together."""
        return Allowance(
            self.fixed + other.fixed,
            self.depth + other.depth,
            self.target + other.target,
            self.floor + other.floor,
            self.relative + other.relative,
            self.bent + other.bent,
        )

    def stored(self, grid: Precision) -> Allowance:
        """Return the allowance after rounding to `grid`: |fl(g) - g| <= u |g| + eta/2 (g as computed)."""
        more = 1.0 + grid.unit
        return Allowance(
            self.fixed * more,
            self.depth * more,
            self.target * more,
            self.floor * more + grid.smallest_subnormal / 2.0,
            self.relative * more + grid.unit,
            self.bent * more,
        )

    def rounded(self, relative: float, absolute: float) -> Allowance:
        """Return the allowance after printing in decimal: half a unit of the last digit shown."""
        if relative == absolute == 0.0:
            return self
        return replace(self, relative=self.relative + relative, floor=self.floor + absolute)

    def at_pivot(self, at: Point, slope: Floats | float, g: Floats | float) -> Floats:
        """Return the pivot column's allowance: (n,), given the slope and the gradient there."""
        p, q = at.sums.own_a, at.q
        affine = slope * p * (self.fixed - self.depth * np.maximum(at.sums.own_d, -DEPTH_OF_ZERO))
        bent = self.bent * (at.magnitude * p + np.abs(at.by.s) * q.at_pivot)
        total: Floats = affine + bent + self.target * q.at_pivot + self.relative * np.abs(g) + self.floor
        return total

    def spread(self, at: Point, planes: Planes, g: Floats, out: Floats, work: Floats) -> Floats:
        """Write every entry's allowance to `out`: (n, K), given the true gradient g."""
        self.outside_pivot(at, planes, g, out, work)
        slope = 1.0 if planes.slope is None else planes.at_pivot(planes.slope)
        planes.put_pivot(out, self.at_pivot(at, slope, planes.at_pivot(g)))
        return out

    def outside_pivot(self, at: Point, planes: Planes, g: Floats, out: Floats, work: Floats) -> Floats:
        """Write the allowance of entries to `out`, none of them treated as the pivot's: (n, K)."""
        if isinstance(self.depth, float) and self.depth == 0.0:
            np.multiply(planes.a, column(self.fixed), out=out)
        else:
            np.maximum(planes.d, -DEPTH_OF_ZERO, out=out)
            out *= -column(self.depth)
            out += column(self.fixed)
            out *= planes.a
        if planes.slope is not None:
            out *= planes.slope
            np.multiply(planes.a, column(self.bent * at.magnitude), out=work)
            out += work
        if not at.q.sparse:
            np.multiply(at.q.plane(), column(self.target + self.bent * np.abs(at.by.s)), out=work)
            out += work
        if self.relative:
            np.abs(g, out=work)
            work *= self.relative
            out += work
        out += column(self.floor)
        return out

    def part(self, rows: slice | Indices) -> Allowance:
        """Return the allowance of some of the rows."""

        def of(value: float | Floats) -> float | Floats:
            return value[rows] if isinstance(value, np.ndarray) else value

        return Allowance(
            self.fixed[rows],
            of(self.depth),
            of(self.target),
            of(self.floor),
            self.relative,
            self.bent,
        )


def column(x: float | Floats) -> float | Floats:
    """Return per-row numbers as a column that broadcasts over the classes."""
    return x[:, None] if isinstance(x, np.ndarray) else x

"""The error of each method of finite differences against its step, on a sample of a problem's entries."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from gradcheck_cli.audit import sample_columns, sample_rows
from gradcheck_cli.blocks import Room, Tile, work_out
from gradcheck_cli.findings import Finding, Look, Sides, compare
from gradcheck_cli.grid import Grid
from gradcheck_cli.numeric import cross_entropy, methods, stencil
from gradcheck_cli.numeric.accuracy import reference_error
from gradcheck_cli.numeric.cross_entropy import Point
from gradcheck_cli.numeric.methods import Method
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Planes
from gradcheck_cli.outcome import Curve
from gradcheck_cli.problem import Problem
from gradcheck_cli.records import dataclass
from gradcheck_cli.stencils import signs

STEPS = tuple(10.0 ** (-k / 2.0) for k in range(2, 31))
"""From 0.1 to 1e-15, two steps a decade."""

WHOLE_ROW = {"whole-row-forward": "forward", "whole-row-central": "central"}
CLOSED = {
    "forward-difference": "forward",
    "central": "central",
    "complex": "complex",
    "richardson": "richardson",
}
NAMES = (*WHOLE_ROW, *CLOSED, "directional")

_ROWS = 16
_ENTRIES = 192  # at most; fewer where rows are long
_MOVED_LOGITS = 1 << 22  # put through whole-row losses at each step, at most
_NEARLY = 10.0  # times the least error: what belongs to the plateau


@dataclass(frozen=True, eq=False)
class Measured:
    """A method at one step: errors, what they may be, and what was right, entry by entry."""

    got: Floats
    expected: Floats
    allowed: Floats
    places: tuple[tuple[int, int], ...]

    def finding(self, top: int) -> Finding:
        """Return the finding on these entries."""
        look = Look(lambda position: self.places[position], None, top)
        sides = Sides(self.got, self.expected, self.allowed)
        return compare(sides, look, np.empty_like(self.got), np.empty_like(self.got))


@dataclass(frozen=True, eq=False)
class Row:
    """A sampled row: its logits, targets, point with scale 1, gradient, and the columns to look at."""

    number: int
    z: Floats
    q: Floats
    at: Point
    planes: Planes
    gradient: Floats  # (K,)
    own: Floats  # (K,) what it may be off by
    columns: list[int]

    @property
    def places(self) -> list[tuple[int, int]]:
        """Return row and column of each entry."""
        return [(self.number, column) for column in self.columns]


def sampled(problem: Problem, seed: int) -> list[Row]:
    """Return seeded rows that count, with their entries to look at."""
    rng = random.Random(seed)
    entries = max(1, min(_ENTRIES, _MOVED_LOGITS // (2 * problem.classes)))
    rows = sample_rows(rng, problem, max(1, min(_ROWS, problem.rows, entries)))
    grid = Grid(problem.rows, 1, 1)
    room = Room.of(problem, grid, depth=True)
    found = []
    with np.errstate(all="ignore"):
        for row in rows:
            block = work_out(problem, range(row, row + 1), grid, room)
            (tile,) = block.tiles()
            if block.counted[0]:
                found.append(_row(tile, problem, sample_columns(tile, -(-entries // len(rows)), rng)))
    return found


def _row(tile: Tile, problem: Problem, columns: list[int]) -> Row:
    """Return a row with everything in arrays of its own, and scale 1."""
    z = np.empty((1, problem.classes))
    problem.logits.read(tile.start, tile.stop, z)
    slope = None if tile.planes.slope is None else np.array(tile.planes.slope)
    d, a = np.array(tile.planes.d), np.array(tile.planes.a)
    planes = Planes(d, a, slope, tile.planes.rows, tile.planes.pivot)
    one = np.ones(1)
    by = cross_entropy.scale(tile.at.sums, problem.loss, one, one)
    at = Point.of(problem.loss, tile.at.sums, tile.at.q, by)
    q = np.array(np.broadcast_to(at.q.plane(), z.shape))
    planes.put_pivot(q, at.q.at_pivot)
    g = cross_entropy.gradient(at, planes, np.empty_like(a), np.empty_like(a))
    own = reference_error(at).spread(at, planes, g, np.empty_like(a), np.empty_like(a))
    return Row(tile.start, z[0], q[0], at, planes, g[0], own[0], columns)


def curves(rows: list[Row], seed: int, top: int) -> tuple[tuple[Curve, ...], dict[str, Finding]]:
    """Return each method's curve, and whether its errors stayed inside their bounds."""
    directions = signs(len(rows[0].z), seed)
    shown, findings = [], {}
    with np.errstate(all="ignore"):
        for name in NAMES:
            measured = [_at_step(name, step, rows, directions) for step in STEPS]
            finding = Finding()
            for each in measured:
                finding = finding.merge(each.finding(top), top)
            findings[name] = finding
            shown.append(_curve(name, measured))
    return tuple(shown), findings


def _curve(name: str, measured: list[Measured]) -> Curve:
    errors = [np.abs(each.got - each.expected) for each in measured]
    largest = [float(each.max()) for each in errors]
    best = int(np.argmin(largest))
    enough = _NEARLY * max(largest[best], 2.0**-54)
    first = last = best
    while first > 0 and largest[first - 1] <= enough:
        first -= 1
    while last + 1 < len(largest) and largest[last + 1] <= enough:
        last += 1
    medians = tuple(float(np.median(each)) for each in errors)
    bounds = tuple(float(each.allowed.max()) for each in measured)
    return Curve(name, STEPS, tuple(largest), medians, bounds, best, (first, last))


def _at_step(name: str, step: float, rows: list[Row], directions: Floats) -> Measured:
    """Return what a method gives at a step, on every sampled entry (or row and direction)."""
    if name == "directional":
        parts = [_along(row, step, directions) for row in rows]
    else:
        method = Method((WHOLE_ROW | CLOSED)[name], step)
        one: Callable[[Row, Method], Measured] = _whole_row if name in WHOLE_ROW else _closed
        parts = [one(row, method) for row in rows]
    planes = (
        np.concatenate([getattr(part, plane) for part in parts]) for plane in ("got", "expected", "allowed")
    )
    got, expected, allowed = planes
    return Measured(got, expected, allowed, tuple(place for part in parts for place in part.places))


def _closed(row: Row, by: Method) -> Measured:
    at, planes = row.at, row.planes
    got = methods.slope(stencil.change(at, planes), by.name, by.step)[0] / stencil.scale(at)
    whole = stencil.difference_error(at, by)
    g = row.gradient[None, :]
    allowed = whole.spread(at, planes, g, np.empty_like(g), np.empty_like(g))
    slope = 1.0 if planes.slope is None else planes.at_pivot(planes.slope)
    planes.put_pivot(allowed, stencil.difference_at_pivot(at, by, whole, slope))
    chosen = row.columns
    return Measured(got[chosen], row.gradient[chosen], allowed[0, chosen], tuple(row.places))


def _whole_row(row: Row, by: Method) -> Measured:
    got, allowed = np.empty((2, len(row.columns)))
    for position, column in enumerate(row.columns):
        a = float(row.planes.a[0, column])
        got[position] = stencil.whole_row(row.z, row.q, row.at.loss, column, by)
        bound = stencil.whole_row_error(row.z, row.q, row.at, a, column, by)
        allowed[position] = bound + row.own[column]
    return Measured(got, row.gradient[row.columns], allowed, tuple(row.places))


def _along(row: Row, step: float, directions: Floats) -> Measured:
    at, planes = row.at, row.planes
    changes = (stencil.along(at, planes, each) for each in directions)
    got = np.concatenate([methods.slope(each, "central", step) for each in changes]) / stencil.scale(at)
    allowed = np.repeat(stencil.direction_error(at, step), len(directions))
    places = ((row.number, 0),) * len(directions)
    return Measured(got, directions @ row.gradient, allowed, places)

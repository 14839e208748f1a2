"""The audit of a layer's ruler: a seeded sample of rows done again, the slow and obvious way."""

from __future__ import annotations

import random

import numpy as np

from gradcheck_cli.audit import Audit, recomputed
from gradcheck_cli.findings import Finding, Look, Sides, compare
from gradcheck_cli.grid import Grid
from gradcheck_cli.layer.blocks import LayerTile, room_of, work_out
from gradcheck_cli.layer.problem import LayerProblem
from gradcheck_cli.numeric import layer, methods, slack
from gradcheck_cli.numeric.difference import AUDIT_STEP
from gradcheck_cli.numeric.softmax import DEEPEST

_FORWARD_ENTRIES = 1 << 13  # entries recomputed at most, but one whole row at least
_MOVED_LOGITS = 1 << 18  # logits put through a brute-force difference at most, but one entry at least
_ENTRIES = 24  # partial derivatives audited where they are cheap
_ROWS = 8
_TRIES = 8  # rows drawn for each one wanted, in case some are wholly masked


def audit(problem: LayerProblem, seed: int, top: int) -> Audit:
    """Return the audit of a seeded sample: the same for every block size and number of processes."""
    rng = random.Random(seed)
    forward, differences = Finding(), Finding()
    wanted = max(1, min(problem.rows, _ROWS))
    again = max(1, min(wanted, _FORWARD_ENTRIES // problem.classes))
    moved = max(1, min(_ENTRIES, _MOVED_LOGITS // (4 * problem.classes)))
    grid, seen = Grid(problem.rows, 1, 1), 0
    room = room_of(problem, grid)
    drawn = [problem.rows - 1, *(rng.randrange(problem.rows) for _ in range(_TRIES * wanted))]
    with np.errstate(all="ignore"):
        for row in dict.fromkeys(drawn):
            (tile,) = work_out(problem, range(row, row + 1), grid, room).tiles()
            if tile.gone[0]:
                continue
            if seen < again:
                forward = forward.merge(recomputed(tile, top), top)
            share = moved // wanted + (seen < moved % wanted)
            differences = differences.merge(_differences(tile, problem, share, rng, top), top)
            seen += 1
            if seen == wanted:
                break
    return Audit(forward, differences)


def _differences(tile: LayerTile, problem: LayerProblem, count: int, rng: random.Random, top: int) -> Finding:
    """Compare some partial derivatives of the row with five-point differences of f on the whole row."""
    columns = _columns(tile, count, rng)
    if not columns:
        return Finding()
    d, t, temperature = tile.planes.d[0], tile.t[0], problem.link.temperature
    v = np.where(d > DEEPEST, d, -np.inf)
    brute, allowed = [], []
    for column in columns:
        found = methods.five_point(
            lambda points: layer.plain(points, t[None, :], log=problem.log), v, column, AUDIT_STEP
        )
        gradient = float(tile.g[0, column]) * temperature
        brute.append(found / temperature)
        allowed.append(slack.audit_error(d, t, gradient, column, log=problem.log) / temperature)
    picked = np.ascontiguousarray(tile.g[0, columns])
    look = Look(lambda position: (tile.start, columns[position]), None, top)
    sides = Sides(np.array(brute), picked, np.array(allowed))
    return compare(sides, look, np.empty_like(picked), np.empty_like(picked))


def _columns(tile: LayerTile, count: int, rng: random.Random) -> list[int]:
    """Return the likeliest class, that of the largest gradient, and random classes; none that is masked."""
    d = tile.planes.d[0]
    drawn = [rng.randrange(d.size) for _ in range(2 * count)]
    wanted = [int(d.argmax()), int(np.abs(tile.g[0]).argmax()), *drawn]
    return [column for column in dict.fromkeys(wanted) if d[column] > DEEPEST][:count]

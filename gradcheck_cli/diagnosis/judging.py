"""What is right of an export and what the check allows it: the one place where its bounds are asked for."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.blocks import Seen, Tile
from gradcheck_cli.bounds import ACCEPTED, Ladder, add_storage
from gradcheck_cli.comparisons import expected_of, stored
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.losses import RowLoss
from gradcheck_cli.numeric import cross_entropy, half, logarithms
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.refusals import Flags

Judged = tuple[Floats, Floats]
"""What is right and what is allowed: (n, K) each, of losses (n, 1)."""


def judged(situation: Situation, tile: Tile, ladder: Ladder, counted: Flags, got: Floats) -> Judged:
    """Return what is right of a tile and what the check allows, in planes of their own."""
    name = situation.export.name
    if name == "loss":
        return _losses(situation, tile, counted)
    _, expected = expected_of(situation.export, tile)
    out = tile.plane(tile.room.allowed)
    if situation.tolerance is not None:
        allowed = situation.tolerance.spread(expected, out)
    elif name in ("grad", "probs"):
        allowed = _affine(situation, tile, ladder, got)
    else:
        allowed = _logarithmic(situation, tile, expected, got)
    return np.array(expected, order="C"), np.array(allowed, order="C")


def _affine(situation: Situation, tile: Tile, ladder: Ladder, got: Floats) -> Floats:
    """Return what is allowed of a gradient or of probabilities."""
    export = situation.export
    planes, expected = expected_of(export, tile)
    error, work, out = (tile.plane(each) for each in (tile.room.error, tile.room.work, tile.room.allowed))
    bound, point = ladder.bound(ACCEPTED), ladder.point.part(tile.rows)
    bound.allowance.part(tile.rows).outside_pivot(point, planes, expected, out, work)
    planes.put_pivot(out, bound.own[tile.rows])
    add_storage(out, expected, export, work)
    if export.flushes:
        np.maximum(out, export.grid.smallest_normal, out=out, where=got == 0.0)
    if export.native is not None:
        out += half.native_error(point, planes, export.native, expected, (error, work))
    return out


def _logarithmic(situation: Situation, tile: Tile, expected: Floats, got: Floats) -> Floats:
    """Return what is allowed of log-probabilities, or of the gradient at the probabilities."""
    at, planes, out = tile.at, tile.planes, tile.plane(tile.room.allowed)
    by = situation.export.arithmetic
    if situation.export.name == "log-probs":
        logarithms.log_probability_error(at.sums, planes.d, at.loss.link, by, out)
    else:
        logarithms.gradient_at_probabilities_error(at, planes, by, (got, expected), out)
    return stored(out, expected, situation.export)


def _losses(situation: Situation, tile: Tile, counted: Flags) -> Judged:
    """Return the losses of a tile's rows, as a column."""
    whole = RowLoss(Seen(np.arange(tile.start, tile.stop), tile.at, counted))
    if not tile.at.q.sparse:
        whole.plain[...] = cross_entropy.losses(tile.at, tile.planes.d, tile.plane(tile.room.work))
    expected, allowed = whole.shares(situation.export.arithmetic)
    if situation.tolerance is not None:
        allowed = situation.tolerance.spread(expected, allowed)
    else:
        allowed = stored(allowed, expected, situation.export)
    return expected[:, None], allowed[:, None]

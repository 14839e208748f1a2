"""What an exported gradient of a softmax layer may be off by, under each model that may explain it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.bounds import add_storage
from gradcheck_cli.exports import Export, rounding
from gradcheck_cli.findings import Finding
from gradcheck_cli.grades import ARITHMETIC, Grade, tightest
from gradcheck_cli.layer.blocks import LayerTile
from gradcheck_cli.numeric import accuracy, slack
from gradcheck_cli.numeric.layer import LayerPoint
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.slack import Slack

WAYS = (*ARITHMETIC, Model.FUSED_LSE)
"""The models of plain arithmetic, from the tightest to the loosest that is accepted."""


class Bounds:
    """What an exported gradient may be off by on a tile, under each model that may explain it."""

    def __init__(self, tile: LayerTile, export: Export, room: tuple[Floats, Floats]) -> None:
        self.tile = tile
        self.export = export
        self.room = room
        self._largest = np.abs(tile.g).max(axis=1) * tile.point.link.temperature

    def spread(self, out: Floats, model: Model, *, native: bool = False) -> Floats:
        """Write every entry's allowance to `out`; with native half on top if that is asked for."""
        tile, point = self.tile, self.tile.point
        whole = allowance(point, self.export, self._largest, model).over(point.link.temperature)
        whole.spread(tile.planes, tile.g, out, self.room[1])
        add_storage(out, tile.g, self.export, self.room[1])
        if native and self.export.native is not None:
            out += slack.native_error(point, tile.planes, self.export.native, tile.g, self.room)
        if self.export.flushes:
            got = tile.plane(tile.room.got)
            np.maximum(out, self.export.grid.smallest_normal, out=out, where=got == 0.0)
        return out

    def tightest(self, error: Floats, start: Model) -> Model:
        """Return the tightest model, from `start` on, that explains errors which are allowed."""
        ways = WAYS if self.export.native is None else (*WAYS, Model.NATIVE_HALF)
        out = self.tile.plane(self.tile.room.allowed)
        return tightest(start, ways, lambda model: bool((error <= self.spread(out, model)).all()))

    def known(self) -> Finding:
        """Return of how many rows the bounds can say nothing, and how much rounded logits hide."""
        point, there = self.tile.point, ~self.tile.gone
        sigma = accuracy.any_order(point.sums.classes)
        lost = accuracy.probability_error(point.sums, point.link, self.export.compute, sigma).fixed
        vague = int(np.count_nonzero((lost > accuracy.VAGUE) & there))
        if self.export.logits is None:
            return Finding(vague=vague)
        hides = slack.rounded_logits_error(replace(point, log=False), self.export.logits).relative[there]
        hidden = int(np.count_nonzero(hides >= 1.0))
        grade = Grade(hides=float(hides.max(initial=0.0)), hidden=hidden, clear=hides.size - hidden)
        return Finding(vague=vague, grade=grade)


def allowance(at: LayerPoint, export: Export, largest: Floats, model: Model) -> Slack:
    """Return what an exported gradient may be off by, all but what 16 bits cost: (n,) largest |g| at v."""
    whole = slack.reference_error(at)
    if model is Model.CORRECTLY_ROUNDED:
        whole = whole.stored(export.compute)
    else:
        whole += slack.gradient_error(at, export.compute, model.sigma(at.sums.classes))
    if model >= Model.FUSED_LSE:
        whole += slack.fused_lse_error(at, export.compute, largest)
    if export.grid.half and model is not Model.CORRECTLY_ROUNDED:
        whole += slack.saved_error(at, export.grid)
    if export.logits is not None:
        whole += slack.rounded_logits_error(at, export.logits)
    if export.grid is not export.compute and not export.grid.half:
        whole = whole.stored(export.grid)
    return whole.rounded(*rounding(export.decimals))

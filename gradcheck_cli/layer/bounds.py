"""What an exported gradient of a softmax layer may be off by, under each model that may explain it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.bounds import ACCEPTED, add_storage
from gradcheck_cli.exports import Export, rounding
from gradcheck_cli.findings import Finding
from gradcheck_cli.grades import Grade
from gradcheck_cli.layer.blocks import LayerTile
from gradcheck_cli.numeric import accuracy, slack
from gradcheck_cli.numeric.layer import LayerPoint
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.slack import Slack


class Bounds:
    """What an exported gradient may be off by on a tile, under each model that may explain it."""

    def __init__(self, tile: LayerTile, export: Export) -> None:
        self.tile = tile
        self.export = export
        self._largest = np.abs(tile.g).max(axis=1) * tile.point.link.temperature

    def spread(self, model: Model) -> Floats:
        """Write every entry's allowance to the room's plane for it; `error` of the room stays as it is."""
        tile, point, export = self.tile, self.tile.point, self.export
        out, work = tile.plane(tile.room.allowed), tile.plane(tile.room.work)
        plain = min(model, ACCEPTED)
        whole = allowance(point, export, self._largest, plain).over(point.link.temperature)
        whole.spread(tile.planes, tile.g, out, work)
        add_storage(out, tile.g, export, work)
        if model > plain and export.native is not None:
            room = np.empty_like(out), work
            out += slack.native_error(point, tile.planes, export.native, tile.g, room)
        if export.flushes:
            np.maximum(out, export.grid.smallest_normal, out=out, where=tile.plane(tile.room.got) == 0.0)
        return out

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

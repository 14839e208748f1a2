"""A judged gradient of the layer in pieces, with the planes that bugs make of it beside what is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from gradcheck_cli.diagnosis.guess import Core, Piece
from gradcheck_cli.diagnosis.summed.suspects import Layer, Made, Together
from gradcheck_cli.exports import rounding
from gradcheck_cli.judging import stored
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass


@dataclass(frozen=True, eq=False)
class Part(Piece):
    """Rows of a gradient of the layer: of inputs for the weight, of examples for the inputs."""

    made: dict[Together, Made]
    ends: tuple[Made, Made] | None  # of the bias: the first example's share, and the last one's
    folded: Made | None  # of the bias: the weight's gradient summed over the inputs
    weight: Floats | None  # the parameter's own rows
    other: Made | None  # of the inputs: G W in place of G W^T


class Judged(Protocol):
    """A judged gradient of the layer, and what bugs make of it."""

    @property
    def layer(self) -> Layer:
        """The layer."""

    def glance(self, tried: Sequence[Together]) -> list[Together]:
        """Return the bugs that a very few rows do not rule out."""

    def few(self, tried: Sequence[Together]) -> list[Part]:
        """Return a few rows."""

    def every(self, tried: Sequence[Together]) -> Iterator[Part]:
        """Yield all rows."""


def of_bugs(bugs: Together) -> Core[Part]:
    """Return the core that looks up what bugs of the loss made."""
    return lambda part: part.made[bugs]


def allowed_of(layer: Layer, leeway: Floats, right: Floats, got: Floats) -> Floats:
    """Return what the check allows."""
    if layer.tolerance is not None:
        return layer.tolerance.spread(right, np.empty_like(right))
    return stored(leeway, right, got, layer.export)


def stored_as(layer: Layer, plane: Floats, error: Floats) -> Made:
    """Return a plane with storage and printing added to its error."""
    if layer.tolerance is not None:
        return plane, layer.tolerance.spread(plane, np.empty_like(plane))
    export = layer.export
    share = export.grid.unit + 4.0 * export.compute.unit + rounding(export.decimals)[0]
    return plane, error + share * np.abs(plane)

"""Rows of the softmax layer as a piece that bugs are tried on, and the walks over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.blocks import Grid
from gradcheck_cli.bounds import ACCEPTED
from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.diagnosis.guess import Piece
from gradcheck_cli.exports import Export, rounding
from gradcheck_cli.judging import LOOSEST
from gradcheck_cli.layer.blocks import LayerRoom, LayerTile, room_of, work_out
from gradcheck_cli.layer.bounds import Bounds
from gradcheck_cli.layer.problem import LayerProblem
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.refusals import Flags
from gradcheck_cli.tensors import Rows

_SMALLEST = 1e-304  # probability


@dataclass(frozen=True, eq=False)
class Pulled(Piece):
    """Rows of the layer with their ingredients: (n, K), and (n,) where said.

    `error` is what a product with a probability may be off by for each unit of the other factor: a rho, with
    rho = u (4 (-log a) + 4 log K + K + 48 + 26 |v|max + 2 |lse|) as in `slack.py`, K for sums in any order.
    """

    plain: Floats  # what is allowed without 16-bit arithmetic
    a: Floats
    t: Floats  # upstream
    v: Floats  # logits over the temperature
    error: Floats
    top: Floats  # (n,) largest v
    gone: Flags  # (n,) wholly masked
    temperature: float
    share: float  # relative error of storing and printing
    absolute: float  # tolerance that was asked for, 0 with proven bounds


@dataclass(frozen=True, eq=False)
class Layer:
    """A problem of the layer with one of its exports, and how that was judged."""

    problem: LayerProblem
    export: Export
    tolerance: Tolerance | None

    def pieces(self, rows: range, grid: Grid, room: LayerRoom) -> Iterator[Pulled]:
        """Yield some consecutive rows of at most a block, tile by tile."""
        for tile in work_out(self.problem, rows, grid, room).tiles():
            yield self._piece(tile, room)

    def few(self, rows: list[int]) -> list[Pulled]:
        """Return single rows."""
        grid = Grid(self.problem.rows, 1, 1)
        room = room_of(self.problem, grid)
        return [piece for row in rows for piece in self.pieces(range(row, row + 1), grid, room)]

    def _piece(self, tile: LayerTile, room: LayerRoom) -> Pulled:
        got, t = np.empty_like(tile.g), np.empty_like(tile.g)
        room.read(self.export.rows, tile.start, got)
        tile.plane(room.got)[...] = got
        room.read(self.problem.upstream, tile.start, t)
        t[tile.gone] = 0.0
        error, share, absolute = self._error(tile)
        sums, gone = tile.point.sums, tile.gone
        return Pulled(
            start=tile.start,
            got=got,
            right=np.array(tile.g),
            allowed=self._allowed(tile, native=True),
            plain=self._allowed(tile, native=False),
            a=np.array(tile.planes.a),
            t=t,
            v=tile.planes.d + sums.top[:, None],
            error=error,
            top=sums.top,
            gone=gone.copy(),
            temperature=self.problem.link.temperature,
            share=share,
            absolute=absolute,
        )

    def _allowed(self, tile: LayerTile, *, native: bool) -> Floats:
        """Return what the check allows: (n, K)."""
        if self.tolerance is not None:
            return self.tolerance.spread(tile.g, np.empty_like(tile.g))
        return np.array(Bounds(tile, self.export).spread(LOOSEST if native else ACCEPTED))

    def _error(self, tile: LayerTile) -> tuple[Floats, float, float]:
        """Return a rho, the relative error of storing, and the absolute tolerance."""
        export, sums, a = self.export, tile.point.sums, tile.planes.a
        if self.tolerance is not None:
            return np.zeros_like(a), self.tolerance.rtol, self.tolerance.atol
        u, classes = export.compute.unit, self.problem.classes
        of_row = np.full(len(a), 4.0 * np.log(classes) + classes + 48.0)
        lse = np.abs(sums.top + np.log(sums.total))
        of_row += 2.0 * lse + (26.0 * sums.reach if self.problem.link.temperature != 1.0 else 0.0)
        exponent = u * (of_row[:, None] - 4.0 * np.log(np.maximum(a, _SMALLEST)))
        if export.logits is not None:
            exponent += 2.0 * export.logits.unit * sums.reach[:, None]
        rho = np.expm1(np.minimum(exponent, 1.0))
        if export.grid.half:  # probabilities that were kept in the export's format
            rho += export.grid.unit
        return a * rho, export.grid.unit + 4.0 * u + rounding(export.decimals)[0], 0.0


def dot(x: Floats, y: Floats) -> Floats:
    """Return the inner product of each row: (n, K), (n, K) to (n, 1)."""
    found: Floats = np.einsum("ij,ij->i", x, y)[:, None]
    return found


def stored(piece: Pulled, plane: Floats, error: Floats) -> tuple[Floats, Floats]:
    """Return a plane at v as one at the logits, with storage added to its error."""
    plane, error = plane / piece.temperature, error / piece.temperature
    told = np.where(np.isfinite(plane), np.abs(plane), 0.0)
    return plane, error + piece.share * told + piece.absolute


def sighted(rows: Rows, numbers: range) -> Floats:
    """Return some rows of a tensor."""
    found = np.empty((len(numbers), rows.classes))
    rows.read(numbers.start, numbers.stop, found)
    return found

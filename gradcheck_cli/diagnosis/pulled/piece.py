"""Rows of the softmax layer as a piece that bugs are tried on, and the walks over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from gradcheck_cli.bounds import ACCEPTED
from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.diagnosis.guess import Piece
from gradcheck_cli.exports import Export, rounding
from gradcheck_cli.grid import Grid
from gradcheck_cli.judging import LOOSEST
from gradcheck_cli.layer.blocks import LayerRoom, LayerTile, room_of, work_out
from gradcheck_cli.layer.bounds import Bounds
from gradcheck_cli.layer.problem import LayerProblem
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags
from gradcheck_cli.tensors import Rows

_SMALLEST = 1e-304  # probability


@dataclass(frozen=True, eq=False)
class Pulled(Piece):
    """Rows of the layer with their ingredients: (n, K), and (n,) where said."""

    a: Floats
    top: Floats  # (n,) largest v
    gone: Flags  # (n,) wholly masked
    temperature: float
    share: float  # relative error of storing and printing
    absolute: float  # tolerance that was asked for, 0 with proven bounds
    worked_out: dict[str, Floats]
    work_out: Callable[[str], Floats]  # only while the rows' tile is at hand

    @property
    def t(self) -> Floats:
        """Return the upstream: (n, K)."""
        return self._of("t")

    @property
    def v(self) -> Floats:
        """Return the logits over the temperature: (n, K)."""
        return self._of("v")

    @property
    def plain(self) -> Floats:
        """Return what is allowed without 16-bit arithmetic: (n, K)."""
        return self._of("plain")

    @property
    def error(self) -> Floats:
        """Return what a product with a probability may be off by for each unit of the other factor: a rho.

        rho = u (4 (-log a) + 4 log K + K + 48 + 26 |v|max + 2 |lse|) as in `slack.py`, K for any order.
        """
        return self._of("error")

    def under(self, t: Floats) -> Pulled:
        """Return the rows under another upstream: (n, K)."""
        return replace(self, worked_out={**self.worked_out, "t": t})

    def _of(self, name: str) -> Floats:
        if name not in self.worked_out:
            self.worked_out[name] = self.work_out(name)
        return self.worked_out[name]


class Few:
    """A few rows of a layer, read as they are asked for and kept; single ones first, then short runs."""

    def __init__(self, layer: Layer, rows: Sequence[range]) -> None:
        """Choose the rows."""
        self.layer = layer
        self._coming = layer.pieces_of(rows)
        self._seen: list[Pulled] = []

    def __iter__(self) -> Iterator[Pulled]:
        """Yield the rows, those seen already first."""
        yield from self._seen
        for piece in self._coming:
            self._seen.append(piece)
            yield piece


@dataclass(frozen=True, eq=False)
class Layer:
    """A problem of the layer with one of its exports, and how that was judged."""

    problem: LayerProblem
    export: Export
    tolerance: Tolerance | None

    def pieces(self, rows: range, grid: Grid, room: LayerRoom) -> Iterator[Pulled]:
        """Yield some consecutive rows of at most a block, tile by tile; good until the next one."""
        for tile in work_out(self.problem, rows, grid, room).tiles():
            yield self._piece(tile, room)

    def pieces_of(self, runs: Sequence[range]) -> Iterator[Pulled]:
        """Yield some runs of rows, each in a room of its own, to be kept."""
        for run in runs:
            grid = Grid(self.problem.rows, len(run), len(run))
            yield from self.pieces(run, grid, room_of(self.problem, grid))

    def _piece(self, tile: LayerTile, room: LayerRoom) -> Pulled:
        got = np.empty_like(tile.g)
        room.read(self.export.rows, tile.start, got)
        tile.plane(room.got)[...] = got
        sums, share, absolute = tile.point.sums, 0.0, 0.0
        allowed = self._allowed(tile, native=True)
        if self.tolerance is not None:
            share, absolute = self.tolerance.rtol, self.tolerance.atol
        else:
            share = self.export.grid.unit + 4.0 * self.export.compute.unit + rounding(self.export.decimals)[0]

        makers: dict[str, Callable[[], Floats]] = {
            "t": partial(self._upstream, tile, room),
            "v": lambda: tile.planes.d + sums.top[:, None],
            "plain": lambda: self._allowed(tile, native=False) if self.export.native else allowed,
            "error": partial(self._error, tile),
        }

        return Pulled(
            start=tile.start,
            got=got,
            right=tile.g,
            allowed=allowed,
            a=tile.planes.a,
            top=sums.top,
            gone=tile.gone,
            temperature=self.problem.link.temperature,
            share=share,
            absolute=absolute,
            worked_out={},
            work_out=lambda name: makers[name](),
        )

    def _upstream(self, tile: LayerTile, room: LayerRoom) -> Floats:
        """Return the upstream, 0 in rows that are left out: (n, K)."""
        t = np.empty_like(tile.g)
        room.read(self.problem.upstream, tile.start, t)
        t[tile.gone] = 0.0
        return t

    def _allowed(self, tile: LayerTile, *, native: bool) -> Floats:
        """Return what the check allows: (n, K)."""
        if self.tolerance is not None:
            return self.tolerance.spread(tile.g, np.empty_like(tile.g))
        return np.array(Bounds(tile, self.export).spread(LOOSEST if native else ACCEPTED))

    def _error(self, tile: LayerTile) -> Floats:
        """Return a rho: (n, K)."""
        export, sums, a = self.export, tile.point.sums, tile.planes.a
        if self.tolerance is not None:
            return np.zeros_like(a)
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
        found: Floats = a * rho
        return found


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

"""What a recipe keeps short: targets of one column, and gradients that are a multiple of a_j elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcheck_cli.blocks import Tile
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags

Places = list[int] | slice | Indices
"""Some of the rows."""


@dataclass(frozen=True, eq=False)
class Weights:
    """The target weights q of n rows: one column of each row, or a plane."""

    columns: Indices  # (n,)
    own: Floats  # (n,) q in that column
    dense: Floats | None = None  # (n, K) all of q, where it is not 0 elsewhere

    @classmethod
    def of(cls, plane: Floats) -> Weights:
        """Return those of a plane."""
        return cls(np.zeros(len(plane), dtype=np.int64), plane[:, 0], plane)

    def plane(self, classes: int) -> Floats:
        """Return q: (n, K)."""
        if self.dense is not None:
            return self.dense
        found = np.zeros((len(self.columns), classes))
        found[np.arange(len(found)), self.columns] = self.own
        return found

    def where(self, rows: Flags) -> Weights:
        """Return those of some rows, and 0 in the others: (n,)."""
        dense = None if self.dense is None else np.where(rows[:, None], self.dense, 0.0)
        return Weights(self.columns, np.where(rows, self.own, 0.0), dense)

    def picked(self, places: Places) -> Weights:
        """Return those of some of the rows."""
        dense = None if self.dense is None else self.dense[places]
        return Weights(self.columns[places], self.own[places], dense)

    @classmethod
    def joined(cls, parts: Sequence[Weights]) -> Weights:
        """Return those of the rows of several, all planes or none."""
        dense = [part.dense for part in parts if part.dense is not None]
        columns, own = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("columns", "own")
        )
        return cls(columns, own, np.concatenate(dense) if dense else None)


@dataclass(frozen=True, eq=False)
class Line:
    """A gradient that is one number of its row times a_j, but for one column: (n,) arrays."""

    coefficient: Floats
    size: Floats  # what multiplies a_j in the sum of the sizes of its terms
    columns: Indices
    taken: Floats  # what is taken away in that column

    def at(self, columns: Indices) -> Floats:
        """Return what is taken away in some columns: (m,) to (n, m)."""
        return np.where(columns == self.columns[:, None], self.taken[:, None], 0.0)


def weights_of(tile: Tile) -> Weights:
    """Return the right target weights of a tile."""
    q, planes = tile.at.q, tile.planes
    if q.sparse:
        return Weights(planes.pivot, q.at_pivot)
    plane = np.array(np.broadcast_to(q.plane(), planes.a.shape), order="C")
    planes.put_pivot(plane, q.at_pivot)
    return Weights.of(plane)

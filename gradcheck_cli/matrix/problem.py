"""Tensors become a problem of one row's Jacobian: its logits, and perhaps an exported matrix."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradcheck_cli.choices import MatrixSettings
from gradcheck_cli.errors import InputError, UsageError
from gradcheck_cli.exports import Export, identify
from gradcheck_cli.layer.problem import class_axis
from gradcheck_cli.numeric.jacobian import SoftmaxRow
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Link, UndefinedRow
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import undefined
from gradcheck_cli.tensors import Rows, Tensor


@dataclass(frozen=True, eq=False)
class MatrixProblem:
    """One row, and the rows of an exported Jacobian that belong to it."""

    logits: Rows
    row: int
    at: SoftmaxRow
    axis: int
    export: Export | None
    first: int  # the exported rows' first
    tensors: tuple[Tensor, ...]

    @property
    def rows(self) -> int:
        """Return the number of rows of the Jacobian."""
        return self.at.classes

    @property
    def classes(self) -> int:
        """Return the number of its columns."""
        return self.at.classes

    @property
    def exports(self) -> tuple[Export, ...]:
        """Return what is judged: the exported matrix, if there is one."""
        return () if self.export is None else (self.export,)

    @property
    def index(self) -> tuple[int, ...]:
        """Return which row of the logits it is, in their own layout."""
        return self.logits.index_of(self.row)


def pose(tensors: Mapping[str, Tensor], settings: MatrixSettings) -> MatrixProblem:
    """Return the problem that the tensors pose under the settings.

    Raises
    ------
    InputError
        If the row has no softmax, or the exported Jacobian does not fit it.
    UsageError
        If there is no such row or axis.
    """
    logits = tensors["logits"]
    axis = class_axis(logits, settings.axis)
    rows = Rows(logits, axis)
    if settings.row >= rows.count:
        raise UsageError(f"--row {settings.row}: {logits.name} has {rows.count} rows, 0 .. {rows.count - 1}")
    z: Floats = np.empty((1, rows.classes))
    rows.read(settings.row, settings.row + 1, z)
    try:
        with np.errstate(all="ignore"):
            at = SoftmaxRow.of(z[0], Link(settings.temperature))
    except UndefinedRow:
        raise InputError(undefined(rows, settings.row)) from None
    export, first = None, 0
    if "jacobian" in tensors:
        first = _first_row(tensors["jacobian"], rows, settings.row)
        shown = Rows(tensors["jacobian"], -1)
        export = identify("jacobian", shown, settings.compute_dtype, settings.logits_rounded)
    return MatrixProblem(rows, settings.row, at, axis, export, first, tuple(tensors.values()))


def _first_row(tensor: Tensor, logits: Rows, row: int) -> int:
    """Return where the row's own matrix begins in an exported Jacobian, of this row or of all rows."""
    square = (logits.classes, logits.classes)
    whole = logits.tensor.shape
    axis = logits.axis or 0
    outer = whole[:axis] + whole[axis + 1 :]
    if tensor.shape == square:
        return 0
    if tensor.shape == (*outer, *square):
        return row * logits.classes
    raise InputError(
        f"{tensor.name} has shape {tensor.shape}, but {logits.tensor.name} has shape {whole}: the Jacobian "
        f"of one row has shape {square}" + (f", of all rows {(*outer, *square)}" if outer else "")
    )

"""The account that an outcome gives of the tensors that went in."""

from __future__ import annotations

from collections.abc import Iterable

from gradcheck_cli import exports
from gradcheck_cli.exports import Export
from gradcheck_cli.outcome import Input
from gradcheck_cli.tensors import Tensor


def inputs(tensors: Iterable[Tensor], judged: Iterable[Export]) -> tuple[Input, ...]:
    """Return a record of each tensor; of exports also the grid they are judged on."""
    grids = {export.name: export.grid.name for export in judged}
    return tuple(
        Input(
            role=tensor.role,
            path=tensor.path,
            member=tensor.member,
            dtype=tensor.dtype,
            grid=grids.get(tensor.role),
            shape=tensor.shape,
            order=tensor.order,
            notes=tuple(tensor.notes) + _printing(tensor),
        )
        for tensor in tensors
    )


def _printing(tensor: Tensor) -> tuple[str, ...]:
    if tensor.decimals is None or not any(exports.rounding(tensor.decimals)):
        return ()
    if tensor.role in ("labels", "class-weights"):
        return ()
    return (f"printed with {exports.printed(tensor.decimals)}",)

"""One pass over the labels: every one checked, the ignored ones counted, the weights added up."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.errors import InputError
from gradcheck_cli.numeric.cross_entropy import Loss
from gradcheck_cli.numeric.precision import BY_NAME
from gradcheck_cli.records import dataclass
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import Rows

_CHUNK = 1 << 17  # labels looked at together


@dataclass(frozen=True)
class Census:
    """What one pass over the labels counts."""

    rows: int
    ignored: int
    weight: float  # sum of the class weights of the rows that count, or their number
    first: int = 0  # the first row that counts

    @property
    def counted(self) -> int:
        """Return the number of rows that are not ignored."""
        return self.rows - self.ignored


def count(labels: Rows, classes: int, loss: Loss, settings: Settings) -> Census:
    """Check every label and count the rows that are ignored."""
    _refuse_narrow(labels, classes)
    ignored, first, weights = 0, -1, []
    for start, chunk in _label_chunks(labels):
        skip = chunk == settings.ignore_index
        if first < 0 and not skip.all():
            first = start + int(skip.argmin())
        ignored += int(skip.sum())
        bad = np.flatnonzero(~skip & ((chunk < 0) | (chunk >= classes)))
        if bad.size:
            raise InputError(_bad_label(labels, start + int(bad[0]), int(chunk[bad[0]]), classes))
        if loss.class_weights is not None:
            weights.append(float(loss.class_weights[chunk[~skip]].sum()))
    weight = math.fsum(weights) if loss.class_weights is not None else float(labels.count - ignored)
    return Census(labels.count, ignored, weight, max(first, 0))


def _refuse_narrow(labels: Rows, classes: int) -> None:
    """Refuse a type in which some class has no number of its own: labels in it have wrapped or were rounded.

    A wrapped label is a wrong class, or -100 and its row ignored, without a sign of it.
    """
    name, dtype = labels.tensor.name, labels.tensor.dtype
    if dtype == "bool":
        if classes != 2:
            raise InputError(
                f"{name}: booleans can be the labels of 2 classes, but there are {classes} (a mask?)"
            )
        return
    if dtype == "text":  # whole numbers of any size are parsed as such
        return
    floating = BY_NAME.get(dtype)
    highest = 1 << floating.digits if floating is not None else int(np.iinfo(labels.tensor.stored).max)
    if highest < classes - 1:
        how = "rounded" if floating is not None else "wrapped around"
        raise InputError(
            f"{name}: {dtype} holds every label only up to {highest}, but there are {classes} classes: "
            f"labels may have {how}; save them as int64"
        )


def _label_chunks(labels: Rows) -> Iterator[tuple[int, NDArray[np.int64]]]:
    for start in range(0, labels.count, _CHUNK):
        chunk = np.empty(min(_CHUNK, labels.count - start), dtype=np.int64)
        labels.read(start, start + len(chunk), chunk)
        yield start, chunk


def _bad_label(labels: Rows, row: int, label: int, classes: int) -> str:
    index = labels.index_of(row)
    place = f"row {index[0]}" if len(index) == 1 else f"row {list(index)}"
    message = f"{labels.tensor.name}, {place}: class {label} is outside 0 .. {classes - 1}"
    if label == classes:
        return f"{message} (1-based labels? subtract 1)"
    if label < 0:
        return f"{message} (rows to ignore? pass --ignore-index {label})"
    return message

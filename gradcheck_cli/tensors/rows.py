"""A tensor seen as rows along its class axis."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradcheck_cli.errors import UsageError
from gradcheck_cli.tensors import conversion
from gradcheck_cli.tensors.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

# Classes that do not lie next to each other are read in one go with what lies between them as long as the
# gap costs less than another system call, and the whole stays small. Where they are read one by one, as many
# of their neighbours come along, which are the next rows.
GAP_BYTES = 4096
SPAN_BYTES = 4 << 20

_NOTHING: tuple[int, int, Array] = (-1, 0, np.empty((0, 0)))


class Rows:
    """The rows of a tensor, read by range; several threads may read at once.

    A row is one logical index of all axes but the class axis, in C order. The memory is seen as
    (outer, classes, inner): row ``o * inner + i`` has its classes at stride ``inner``.
    """

    def __init__(self, tensor: Tensor, axis: int | None) -> None:
        """See each element as a row of its own where ``axis`` is None."""
        shape = tensor.shape
        self.tensor = tensor
        self.axis: int | None = None
        self._flat: Rows | None = None
        self._held = _NOTHING  # slab, first neighbour, values: replaced as a whole, for threads
        if axis is None:
            self.classes, self.count = 1, math.prod(shape)
            self._inner = 1
            if tensor.layout == "F":
                self._flat = Rows(tensor, 1)
            return
        if not -len(shape) <= axis < len(shape):
            raise UsageError(f"{tensor.name}: there is no axis {axis} in the shape {shape}")
        self.axis = axis % len(shape)
        self.classes = shape[self.axis]
        self.count = math.prod(shape) // self.classes
        if tensor.layout == "F":  # two axes: the memory is the transpose in C order
            self._inner = self.count if self.axis == 1 else 1
        else:
            self._inner = math.prod(shape[self.axis + 1 :])

    def read(self, start: int, stop: int, out: Array) -> None:
        """Fill ``out`` with rows ``start`` to ``stop``: (n, classes) float64, or (n,) where axis is None.

        An int64 ``out`` takes whole numbers only.
        """
        self._check_range(start, stop, out.shape)
        if self.tensor.stored == out.dtype and self._is_plain:
            if stop > start:
                self.tensor.read_into(out, start * self.classes)
            return
        for where, part in self._parts(start, stop):
            target = out[where]
            fault = conversion.convert(part, target, self.tensor.dtype)
            if fault is not None:
                place = np.unravel_index(fault.place, part.shape)
                row = start + where.start + int(place[0])
                self._refuse(row, int(place[1]) if len(place) > 1 else None, fault.reason)

    def read_floats(self, start: int, stop: int, out: Array) -> Array:
        """Return rows in float32, where the file has them in that format or in bfloat16, or fill ``out``.

        What is returned is this thread's, until the next call of any method.
        """
        if (
            self.axis is None
            or not self._is_plain
            or not conversion.is_single(self.tensor.dtype, self.tensor.stored)
        ):
            self.read(start, stop, out)
            return out
        self._check_range(start, stop, out.shape)
        part = _scratch((stop - start, self.classes), self.tensor.stored)
        self.tensor.read_into(part, start * self.classes)
        return conversion.decoded(part, self.tensor.dtype)

    def read_stored(self, start: int, stop: int) -> Array:
        """Return rows as they are stored, in native byte order: (n, classes), or (n,) where axis is None.

        bfloat16 and float8 come as their bits in unsigned integers.
        """
        shape = (stop - start,) if self.axis is None else (stop - start, self.classes)
        self._check_range(start, stop, shape)
        out = np.empty(shape, self.tensor.stored.newbyteorder("="))
        for where, part in self._parts(start, stop):
            np.copyto(out[where], part)
        return out

    def index_of(self, row: int, column: int | None = None) -> tuple[int, ...]:
        """Return the index of a row's entry in the tensor's own shape; without a column, the row's alone."""
        shape = self.tensor.shape
        if self.axis is None:
            return tuple(_unravelled(row, shape))
        index = _unravelled(row, shape[: self.axis] + shape[self.axis + 1 :])
        if column is not None:
            index.insert(self.axis, column)
        return tuple(index)

    @property
    def _is_plain(self) -> bool:
        return self._inner == 1 and self._flat is None

    def _check_range(self, start: int, stop: int, shape: tuple[int, ...]) -> None:
        wanted = (stop - start,) if self.axis is None else (stop - start, self.classes)
        if not 0 <= start <= stop <= self.count or tuple(shape) != wanted:
            raise ValueError(f"rows {start} to {stop} of {self.count} do not fit an array of shape {shape}")

    def _refuse(self, row: int, column: int | None, reason: str) -> None:
        tensor = self.tensor
        if self.axis is None:
            where = f"{tensor.role.removesuffix('s')} {{}} in row {row}"
        else:
            where = f"{tensor.role} {{}} at {list(self.index_of(row, column))}"
        tensor.source.refuse(where.format(reason.partition(" ")[0]) + " " + reason.partition(" ")[2])

    def _parts(self, start: int, stop: int) -> Iterator[tuple[slice, Array]]:
        """Yield (slice of the output rows, stored values in the shape of that slice)."""
        if stop == start:
            return
        if self._flat is not None:
            yield slice(0, stop - start), self._elements(self._flat, start, stop)
        elif self._inner == 1:
            shape = (stop - start,) if self.axis is None else (stop - start, self.classes)
            part = _scratch(shape, self.tensor.stored)
            self.tensor.read_into(part, start * self.classes)
            yield slice(0, stop - start), part
        else:
            yield from self._slabs(start, stop)

    def _slabs(self, start: int, stop: int) -> Iterator[tuple[slice, Array]]:
        """Yield parts of (outer, classes, inner) memory, one slab after the other, transposed to rows."""
        inner = self._inner
        row = start
        while row < stop:
            outer, first = divmod(row, inner)
            size = min(inner - first, stop - row)
            yield slice(row - start, row - start + size), self._slab(outer, first, size).T
            row += size

    def _slab(self, outer: int, first: int, size: int) -> Array:
        """Return (classes, size) stored values: ``size`` neighbours of every class of one slab."""
        of, begin, held = self._held
        if of != outer or not begin <= first <= first + size <= begin + held.shape[1]:
            begin, held = self._fetched(outer, first, size)
            self._held = (outer, begin, held) if size < self._inner else _NOTHING
        return held[:, first - begin : first - begin + size]

    def _fetched(self, outer: int, first: int, size: int) -> tuple[int, Array]:
        """Return neighbours of every class, and the first of them; those that follow come along."""
        tensor, inner, classes = self.tensor, self._inner, self.classes
        base, item = outer * classes * inner, tensor.stored.itemsize
        size = min(inner - first, max(size, SPAN_BYTES // (classes * item)))
        if size == inner or ((inner - size) * item <= GAP_BYTES and classes * inner * item <= SPAN_BYTES):
            whole = np.empty((classes, inner), tensor.stored)
            tensor.read_into(whole, base)
            return 0, whole
        part = np.empty((classes, size), tensor.stored)
        for label in range(classes):
            tensor.read_into(part[label], base + first + label * inner)
        return first, part

    @staticmethod
    def _elements(rows: Rows, start: int, stop: int) -> Array:
        """Return elements in C order of a tensor of two axes that lies in Fortran order."""
        top, bottom = start // rows.classes, -(-stop // rows.classes)
        skipped = top * rows.classes
        return rows.read_stored(top, bottom).reshape(-1)[start - skipped : stop - skipped]


def _unravelled(place: int, shape: tuple[int, ...]) -> list[int]:
    """Return the index of a place in C order."""
    index = []
    for size in reversed(shape):
        place, at = divmod(place, size)
        index.append(at)
    return index[::-1]


_LOCAL = threading.local()


def _scratch(shape: tuple[int, ...], stored: np.dtype[Any]) -> Array:
    """Return this thread's buffer for stored values, in that shape; its content lasts until the next call."""
    size = math.prod(shape) * stored.itemsize
    buffer = getattr(_LOCAL, "buffer", None)
    if buffer is None or buffer.nbytes < size:
        buffer = _LOCAL.buffer = np.empty(size, np.uint8)
    array: Array = buffer[:size].view(stored).reshape(shape)
    return array

"""Numbers copied once into an unlinked temporary file, where they are random access."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any

import numpy as np

from gradcheck_cli.errors import InputError
from gradcheck_cli.tensors.tensor import Tensor

TILE_BYTES = 16 << 20


def new_spool(name: str) -> IO[bytes]:
    """Return an empty file without a name; it goes with its descriptor, whatever ends the process.

    ``name`` is what is to be unpacked there, for a message.
    """
    import tempfile  # noqa: PLC0415 - slow to import, and most files need no spool

    try:
        return tempfile.TemporaryFile(prefix=".softgrad-", buffering=0)
    except OSError as error:
        raise InputError(
            f"{name}: no temporary file to unpack it into: {error.strerror} (set TMPDIR)"
        ) from error


def write_at(name: str, spool: IO[bytes], numbers: np.ndarray[Any, Any], offset: int) -> int:
    """Write C-contiguous numbers at a byte offset; return the offset after them."""
    return write_bytes(name, spool, numbers.reshape(-1).view(np.uint8).data, offset)


def write_bytes(name: str, spool: IO[bytes], data: bytes | memoryview, offset: int) -> int:
    """Write bytes at an offset; return the offset after them."""
    left = memoryview(data)
    try:
        while left:
            done = os.pwrite(spool.fileno(), left, offset)
            left = left[done:]
            offset += done
    except OSError as error:
        raise InputError(
            f"{name}: cannot be unpacked into a temporary file: {error.strerror} (set TMPDIR)"
        ) from error
    return offset


def in_c_order(tensor: Tensor) -> Tensor:
    """Return the same tensor with its last index fastest, copied tile by tile.

    Needed for Fortran order with three axes or more, where a row has no simple stride pattern. A tile keeps
    the first and the last axis long, because those are what is contiguous on the two sides.
    """
    spool = new_spool(tensor.name)
    try:
        _copy_tiles(tensor, spool)
    except BaseException:
        spool.close()
        raise
    return replace(tensor, spool=spool, offset=0, layout="C")


def _copy_tiles(tensor: Tensor, spool: IO[bytes]) -> None:
    shape, stored = tensor.shape, tensor.stored
    tile = _tile(shape, TILE_BYTES // stored.itemsize)
    for start in itertools.product(*(range(0, n, t) for n, t in zip(shape, tile, strict=True))):
        size = tuple(min(t, n - s) for n, t, s in zip(shape, tile, start, strict=True))
        box = np.empty(size[::-1], stored)
        flat = box.reshape(-1)
        done = 0
        for element, length in _runs(shape[::-1], start[::-1], size[::-1]):
            tensor.read_into(flat[done : done + length], element)
            done += length
        flat = np.ascontiguousarray(box.T).reshape(-1)
        done = 0
        for element, length in _runs(shape, start, size):
            write_at(tensor.name, spool, flat[done : done + length], element * stored.itemsize)
            done += length


def _tile(shape: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """Return the extents of a tile of at most ``limit`` elements, the middle axes shortened first."""
    tile = list(shape)
    while math.prod(tile) > limit:
        middle = max(range(1, len(tile) - 1), key=tile.__getitem__)
        longest = middle if tile[middle] > 1 else max((0, len(tile) - 1), key=tile.__getitem__)
        tile[longest] = -(-tile[longest] // 2)
    return tuple(tile)


def _runs(shape: tuple[int, ...], start: tuple[int, ...], size: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield (first element, length) of the contiguous runs of a box in a C-order array."""
    last = len(shape) - 1
    while last > 0 and size[last] == shape[last]:
        last -= 1
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    length = size[last] * strides[last]
    base = start[last] * strides[last]
    for index in itertools.product(
        *(range(s, s + n) for s, n in zip(start[:last], size[:last], strict=True))
    ):
        yield base + sum(i * stride for i, stride in zip(index, strides, strict=False)), length

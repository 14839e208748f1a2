"""Small NPY files read whole, and those of one form on top of each other as one tensor.

What makes one large file fast costs many small ones too much: a descriptor, a header parsed and a dozen
checks each. Files with the same header and size need all that once. What is out of the ordinary is left to
:mod:`gradcheck_cli.tensors.opening`, which says what is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradcheck_cli.errors import InputError
from gradcheck_cli.reading import Reading
from gradcheck_cli.tensors.arrays import Array, in_memory
from gradcheck_cli.tensors.location import STANDARD_INPUT
from gradcheck_cli.tensors.npy import MAGIC, Npy
from gradcheck_cli.tensors.source import open_source
from gradcheck_cli.tensors.tensor import Tensor

LARGEST = 1 << 15
"""Bytes of a small file."""


def whole(path: str) -> bytes | None:
    """Return the bytes of a small NPY file; None where it is anything else, or changes while it is read."""
    if path == STANDARD_INPUT:
        return None
    try:
        source = open_source(path)
    except InputError:
        return None
    try:
        if source.size > LARGEST:
            return None
        data = source.head(source.size)
        source.check_unchanged()
    except InputError:
        return None
    finally:
        source.close()
    return data if data.startswith(MAGIC) and len(data) == source.size else None


def form_of(data: bytes) -> tuple[bytes, int]:
    """Return the header of an NPY file and its size: all that there is to know but the numbers."""
    start = 10 if data[6:7] == b"\x01" else 12
    return data[: start + int.from_bytes(data[8:start], "little")], len(data)


def first_of(data: bytes, path: str, role: str, reading: Reading) -> Tensor:
    """Return the tensor of a file that was read whole.

    Raises
    ------
    InputError
        If the usual way would not take it either.
    """
    source = in_memory(data, path)
    try:
        return Npy(source).tensor(None, role, reading)
    finally:
        source.close()


def numbers_of(first: Tensor, files: Sequence[bytes]) -> Array | None:
    """Return the numbers of files that have the form of the first: (files, ...).

    None where they are not stored as what they are, in C order.
    """
    if first.layout != "C" or first.spool is not None or first.stored.name != first.dtype:
        return None
    end = first.offset + math.prod(first.shape) * first.stored.itemsize
    together = b"".join([each[first.offset : end] for each in files])
    return np.frombuffer(together, first.stored).reshape(len(files), *first.shape)

"""Arrays of NumPy and of other libraries as tensors: copied once, into a file in memory that has no name."""

from __future__ import annotations

import os
from typing import IO, Any, NoReturn

import numpy as np

from gradcheck_cli.errors import InputError
from gradcheck_cli.tensors.dlpack import held
from gradcheck_cli.tensors.dtypes import BITS, Kind, checked
from gradcheck_cli.tensors.npy import SCALAR_ROLES
from gradcheck_cli.tensors.source import Source, source_of
from gradcheck_cli.tensors.spool import new_spool, write_at, write_bytes
from gradcheck_cli.tensors.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

_CHUNK = 1 << 20  # elements that are brought into C order together


def tensor_of(value: Any, role: str) -> Tensor:
    """Return an array as the tensor that a file with its numbers would be.

    Anything with ``__array__`` or ``__dlpack__`` is an array, and so are nested lists of numbers. A tensor of
    torch is taken as it is, without its graph and from whatever device it is on.

    Raises
    ------
    InputError
        If it is no array of numbers, or an empty one.
    """
    array, name = _numbers(value, role)
    if array.size == 0:
        raise InputError(f"{role}: is empty (shape {array.shape}): nothing to verify")
    if array.ndim == 0 and role not in SCALAR_ROLES:
        raise InputError(f"{role}: is a single number (shape ()), but {role} need at least one axis")
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    stored = np.dtype(BITS[name])
    source = _written(array, stored, role)
    try:
        kind = _judgeable(source, Kind(stored, name), role)
    except BaseException:
        source.close()
        raise
    return Tensor(
        role=role,
        path=role,
        dtype=name,
        shape=array.shape,
        source=source,
        stored=stored,
        order="F" if fortran else "C",
        notes=kind.notes,
    )


def _written(array: Array, stored: np.dtype[Any], role: str) -> Source:
    """Return a file in memory with the numbers in C order."""
    with _memory(role) as memory:
        chunks = np.nditer(
            array,
            flags=["external_loop", "buffered"],
            op_dtypes=[stored],
            order="C",
            casting="equiv",
            buffersize=_CHUNK,
        )
        offset = 0
        for chunk in chunks:
            offset = write_at(role, memory, np.ascontiguousarray(chunk), offset)
        return source_of(role, os.dup(memory.fileno()))


def in_memory(data: bytes, name: str) -> Source:
    """Return bytes as a file in memory."""
    with _memory(name) as memory:
        write_bytes(name, memory, data, 0)
        return source_of(name, os.dup(memory.fileno()))


def _memory(role: str) -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("softgrad"), "r+b", buffering=0)
    return new_spool(role)


def _numbers(value: Any, role: str) -> tuple[Array, str]:
    """Return the numbers in the type of their bits, and the name of their own type."""
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"{role}: is a masked array; fill it, for example with .filled(0)")
    for step in ("detach", "cpu"):  # a tensor of torch: off its graph, off its device
        if callable(getattr(value, step, None)):
            value = getattr(value, step)()
    array = _array(value)
    if array is None:
        if hasattr(value, "__dlpack__"):
            return held(value, role)
        raise InputError(f"{role}: a {type(value).__name__} is neither an array of numbers nor a path")
    name = array.dtype.name
    if array.dtype.str == "|V2":
        return array.view(np.uint16), "bfloat16"
    if name not in BITS:
        raise InputError(f"{role}: holds {name}, which is no type of numbers known; convert it to float32")
    return array if array.dtype.kind == BITS[name][0] else array.view(BITS[name]), name


def _array(value: Any) -> Array | None:
    """Return what NumPy makes of it, None where that is nothing."""
    if not (hasattr(value, "__array__") or isinstance(value, (list, tuple, int, float))):
        return None
    try:
        return np.asarray(value)
    except (TypeError, RuntimeError, ValueError):  # a type that NumPy has not, ragged lists
        return None


def _judgeable(source: Source, kind: Kind, role: str) -> Kind:
    """Return the kind with what is to be said of it for this role."""
    if role != "labels" and kind.name in ("int16", "uint16"):
        _refuse_short_integers(source, kind.name)
    return checked(source, kind, role)


def _refuse_short_integers(source: Source, name: str) -> NoReturn:
    source.refuse(
        f"holds 2-byte integers ({name}): the bits of bfloat16, or numbers? hand over "
        ".view(ml_dtypes.bfloat16), or .astype('float32') if they are numbers"
    )

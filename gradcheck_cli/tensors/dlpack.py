"""Numbers that another library holds, seen in place through DLPack, those types included that NumPy lacks.

NumPy's own ``from_dlpack`` knows neither bfloat16 nor float8, so the few fields of the structure are read
here (dlpack.h, version 1.1).
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from gradcheck_cli.errors import InputError
from gradcheck_cli.tensors.dtypes import BITS

Array = np.ndarray[Any, np.dtype[Any]]

_CPU = (1, 3)  # main memory, and main memory that a GPU can reach
_NAMES = {
    (0, 8): "int8", (0, 16): "int16", (0, 32): "int32", (0, 64): "int64",
    (1, 8): "uint8", (1, 16): "uint16", (1, 32): "uint32", (1, 64): "uint64",
    (2, 16): "float16", (2, 32): "float32", (2, 64): "float64",
    (4, 16): "bfloat16", (6, 8): "bool",
    (10, 8): "float8_e4m3fn", (11, 8): "float8_e4m3fnuz",
    (12, 8): "float8_e5m2", (13, 8): "float8_e5m2fnuz",
}  # fmt: skip
"""By code and bits, the name of a type."""


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    """The first member of a DLManagedTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("dims", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def held(value: Any, role: str) -> tuple[Array, str]:
    """Return the numbers in place, in the type of their bits, and the name of their own type.

    Raises
    ------
    InputError
        If they are on another device, or of a type that is none of numbers.
    """
    kind, _ = value.__dlpack_device__()
    if kind not in _CPU:
        raise InputError(f"{role}: is in the memory of another device; copy it to the CPU first")
    try:
        capsule = value.__dlpack__()
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{role}: its library does not hand it over: {error}") from error
    tensor = _tensor(capsule)
    name = _NAMES.get((tensor.dtype.code, tensor.dtype.bits))
    if name is None or tensor.dtype.lanes != 1:
        raise InputError(
            f"{role}: holds numbers of DLPack type {tensor.dtype.code} with {tensor.dtype.bits} bits, which "
            "is not known; convert it to float32"
        )
    return _seen(tensor, np.dtype(BITS[name]), capsule), name


def _tensor(capsule: Any) -> _Tensor:
    """Return the structure that a capsule points to; whoever made the capsule frees it with the capsule."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return _Tensor.from_address(pointer(capsule, b"dltensor"))


def _seen(tensor: _Tensor, bits: np.dtype[Any], capsule: Any) -> Array:
    """Return the memory as an array, which keeps the capsule."""
    shape = tuple(tensor.shape[: tensor.dims])
    if 0 in shape:
        return np.empty(shape, bits)
    strides = None
    if tensor.strides:
        strides = tuple(each * bits.itemsize for each in tensor.strides[: tensor.dims])
    if strides is not None and min(strides, default=0) >= 0:
        span = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + bits.itemsize
    else:
        span = int(np.prod(shape, dtype=np.int64)) * bits.itemsize
    memory = (ctypes.c_char * span).from_address(tensor.data + tensor.byte_offset)
    memory.capsule = capsule  # lives as long as the array does
    return np.ndarray(shape, bits, memory, 0, strides)

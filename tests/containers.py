"""Bytes of tensor files, right ones and wrong ones, made by hand so that every field can lie."""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from gradcheck_cli.errors import InputError
from gradcheck_cli.reading import CONTENT, Reading
from gradcheck_cli.tensors import Rows, Tensor, open_tensor

Array = np.ndarray[Any, Any]


def npy(descr: Any, shape: Any, data: bytes, *, fortran: Any = False) -> bytes:
    """Return an NPY 1.0 file with this header, whatever it says."""
    return raw_npy(f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n", data)


def raw_npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """Return an NPY file with this text for a header."""
    text = header.encode("latin-1")
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def npy_of(array: Array) -> bytes:
    """Return a right NPY file of an array."""
    return npy(array.dtype.str, array.shape, array.tobytes())


@dataclass(frozen=True)
class Member:
    """One member of a zip file; what is not None is said of it although it is not so."""

    name: str
    data: bytes
    method: int = 0
    flags: int = 0
    size: int | None = None
    packed: bytes | None = None
    crc: int | None = None
    offset: int | None = None
    local_name: str | None = None
    local_size: int | None = None
    after: bytes = b""

    @property
    def body(self) -> bytes:
        """The bytes between the headers."""
        if self.packed is not None:
            return self.packed
        if self.method != 8:
            return self.data
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(self.data) + packer.flush()

    @property
    def fields(self) -> tuple[int, int, int]:
        """CRC, packed size and size as the directory tells them."""
        crc = zlib.crc32(self.data) if self.crc is None else self.crc
        return crc, len(self.body), len(self.data) if self.size is None else self.size


def zipped(*members: Member, before: bytes = b"", entries: int | None = None, comment: bytes = b"") -> bytes:
    """Return a zip file of the members."""
    out, central = before, b""
    for member in members:
        offset, name = len(out), member.name.encode()
        crc, packed, size = member.fields
        local = (member.local_name or member.name).encode()
        told = (crc, packed, size if member.local_size is None else member.local_size)
        out += struct.pack(
            "<4s5H3L2H", b"PK\x03\x04", 20, member.flags, member.method, 0, 33, *told, len(local), 0
        )
        out += local + member.body + member.after
        offset = offset if member.offset is None else member.offset
        head = (b"PK\x01\x02", 20, 20, member.flags, member.method, 0, 33, crc, packed, size)
        central += struct.pack("<4s6H3L5H2L", *head, len(name), 0, 0, 0, 0, 0, offset) + name
    count = len(members) if entries is None else entries
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(central), len(out), len(comment))
    return out + central + end + comment


def safetensors(header: Any, data: bytes = b"") -> bytes:
    """Return a safetensors file; a header that is no bytes is written as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    """Return what a safetensors header tells of one tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def refused(path: str, role: str = "logits", reading: Reading = CONTENT) -> str:
    """Return the one line that a file is refused with; nothing else may come out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            open_tensor(path, role=role, reading=reading)
    message = str(caught.value)
    assert "\n" not in message
    assert "allow_pickle" not in message
    return message


def rows_of(tensor: Tensor, dtype: Any = np.float64) -> Array:
    """Return all values in the tensor's own shape."""
    view = Rows(tensor, None)
    out = np.empty(view.count, dtype)
    view.read(0, view.count, out)
    return out.reshape(tensor.shape)

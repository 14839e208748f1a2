"""Valid tensor files of every container, and what damage, haste and malice make of them."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from tests.containers import Member, entry, npy, npy_of, raw_npy, safetensors, zipped

ROWS, CLASSES = 6, 4
_RNG = np.random.default_rng(11)
LOGITS = _RNG.normal(size=(ROWS, CLASSES))
LABELS = _RNG.integers(0, CLASSES, ROWS)
_E = np.exp(LOGITS)
GRAD = (_E / _E.sum(axis=1, keepdims=True) - np.eye(CLASSES)[LABELS]) / ROWS
ARRAYS = {"logits": LOGITS, "labels": LABELS, "grad": GRAD}

_SIZES = (0, 1, -1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1)
_WORDS = (
    b"nan",
    b"inf",
    b"-",
    b"\n",
    b"\n\n",
    b",",
    b"PK\x01\x02",
    b"\x93NUMPY",
    b"'shape'",
    b'"',
    b"{",
    b"\0",
    b"9",
)


@dataclass(frozen=True)
class Seed:
    """A valid file, and the role its tensor plays; None for a bundle."""

    name: str
    role: str | None
    data: bytes


def seeds() -> list[Seed]:
    """Return valid files of every container and role."""
    found = []
    for role, array in ARRAYS.items():
        members = Member(f"{role}.npy", npy_of(array)), Member("other.npy", npy_of(LABELS), 8)
        tensors = {role: entry("I64" if role == "labels" else "F64", list(array.shape), 0, array.nbytes)}
        data = {
            "npy": npy_of(array),
            "npy-fortran": npy(array.dtype.str, array.shape, array.tobytes("F"), fortran=True),
            "npy-big": npy_of(array.astype(array.dtype.newbyteorder(">"))),
            "npy-3": raw_npy(f"{{'descr':'{array.dtype.str}','fortran_order':False,'shape':{array.shape}}}",
                             array.tobytes(), (3, 0)),
            "npz": zipped(*members),
            "safetensors": safetensors(tensors, array.tobytes()),
            "text": _text(array, ","),
            "tsv": b"\xef\xbb\xbfa\tb\tc\td\r\n" + _text(array, "\t").replace(b"\n", b"\r\n"),
            "gz": gzip.compress(_text(array, " ")),
        }  # fmt: skip
        found += [Seed(f"{role}-{name}", role, each) for name, each in data.items()]
    grad = GRAD.astype(ml_dtypes.bfloat16)
    found.append(Seed("grad-bfloat16", "grad", npy("<V2", grad.shape, grad.tobytes())))
    bundle = io.BytesIO()
    np.savez_compressed(bundle, **ARRAYS)
    found.append(Seed("bundle", None, bundle.getvalue()))
    return found


def _text(array: Any, separator: str) -> bytes:
    lines = np.atleast_2d(array.T).T.tolist()
    return "".join(separator.join(map(repr, line)) + "\n" for line in lines).encode()


def mutants(rng: np.random.Generator, count: int) -> Iterator[tuple[Seed, bytes]]:
    """Yield seeds with one to three mutations."""
    files = seeds()
    for _ in range(count):
        seed = files[rng.integers(len(files))]
        data = seed.data
        for _ in range(rng.choice((1, 1, 2, 3))):
            data = _mutated(rng, data, files[rng.integers(len(files))].data)
        yield seed, data


def _mutated(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Return the data with one thing wrong; headers and ends are hit more often than the middle."""
    size = max(len(data), 1)
    near = int(rng.integers(size)) if rng.random() < 0.5 else int(rng.integers(min(size, 150)))
    place = near if rng.random() < 0.8 else max(size - 1 - near, 0)
    length = int(rng.integers(1, 24))
    number = struct.pack("<q", _SIZES[rng.integers(len(_SIZES))])[: (2, 4, 8)[rng.integers(3)]]
    word = _WORDS[rng.integers(len(_WORDS))]
    kinds = (
        data[:place] + bytes([int(rng.integers(256))]) + data[place + 1 :],
        data[:place]
        + bytes([(*data[place : place + 1], 0)[0] ^ (1 << int(rng.integers(8)))])
        + data[place + 1 :],
        data[:place],
        data[place:],
        data[:place] + data[place + length :],
        data[:place] + data[place : place + length] * 2 + data[place + length :],
        data[:place] + number + data[place + len(number) :],
        data[:place] + word + data[place:],
        data[:place] + other[int(rng.integers(max(len(other), 1))) :],
        data + other[:length],
    )
    return kinds[max(int(rng.integers(-4, len(kinds))), 0)] if rng.random() < 0.7 else kinds[1]

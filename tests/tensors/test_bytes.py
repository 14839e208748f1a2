"""Every byte of an accepted file is accounted for: none missing, none left over, none changed unseen."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gradcheck_cli.errors import InputError
from gradcheck_cli.tensors import open_tensor
from tests.containers import Member, npy_of, refused, rows_of, zipped
from tests.mutants import LOGITS, Seed, seeds

FILES = [seed for seed in seeds() if seed.role == "logits" or seed.name == "grad-bfloat16"]
BINARY = [seed for seed in FILES if not seed.name.endswith(("-text", "-tsv"))]
by_name = pytest.mark.parametrize("seed", BINARY, ids=lambda seed: seed.name)


def put(folder: Path, data: bytes) -> str:
    path = folder / "x"
    path.write_bytes(data)
    return f"{path}:logits" if data.startswith(b"PK") else str(path)


@by_name
@pytest.mark.parametrize("extra", [b"\0", b"x", b"\n", b"\x93NUMPY"])
def test_a_byte_too_many_is_refused(tmp_path: Path, seed: Seed, extra: bytes) -> None:
    if seed.name.endswith("gz") and extra == b"\0":
        pytest.skip("gzip allows padding with zeros (RFC 1952, 2.3.1.2; tapes have it)")
    refused(put(tmp_path, seed.data + extra))


@by_name
def test_a_byte_too_few_is_refused(tmp_path: Path, seed: Seed) -> None:
    for size in range(len(seed.data)):
        refused(put(tmp_path, seed.data[:size]))


def _wide_zip(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return an archive with 64-bit records throughout."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 0)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, archive.open("logits.npy", "w", force_zip64=True) as member:
        member.write(npy_of(LOGITS))
    return stream.getvalue()


@pytest.mark.parametrize("method", [0, 8, None], ids=["stored", "deflated", "zip64"])
def test_Z08_no_flipped_bit_of_an_archive_changes_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: int | None
) -> None:
    """What can be flipped unseen is nothing that matters: dates, versions, attributes."""
    data = _wide_zip(monkeypatch) if method is None else zipped(Member("logits.npy", npy_of(LOGITS), method))
    taken = 0
    for place in range(len(data)):
        for bit in range(8):
            damaged = data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]
            path = tmp_path / "x"
            path.write_bytes(damaged)
            try:
                with open_tensor(str(path), role="logits") as tensor:
                    np.testing.assert_array_equal(rows_of(tensor), LOGITS)
                    taken += 1
            except InputError:
                pass
    assert taken < len(data)  # of 8 bits a byte


def test_G01_no_flipped_bit_of_a_packed_text_changes_a_number(tmp_path: Path) -> None:
    data = gzip.compress(b"1.25,2.5\n-3,4\n", mtime=0)
    path = tmp_path / "x"
    for place in range(len(data)):
        for bit in range(8):
            path.write_bytes(data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
            try:
                with open_tensor(str(path), role="logits") as tensor:
                    assert rows_of(tensor).tolist() == [[1.25, 2.5], [-3.0, 4.0]]
            except InputError:
                pass

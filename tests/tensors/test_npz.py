"""NPZ archives: what is refused and why, and that what is read is what numpy reads."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck_cli.errors import InputError
from gradcheck_cli.reading import Reading
from gradcheck_cli.tensors import locate, npz, open_container, open_tensor, spool
from gradcheck_cli.tensors.directory import MEMBER_LIMIT
from tests.containers import Member, npy, npy_of, refused, rows_of, zipped
from tests.tensors.conftest import Put

A = np.arange(6.0).reshape(2, 3)
B = np.array([2, 0])
NPY = npy_of(A)
DEFLATED, STORED = 8, 0


def one(name: str = "logits.npy", data: bytes = NPY, **fields: Any) -> bytes:
    return zipped(Member(name, data, **fields))


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_a_member_is_read_by_its_name(put: Put, method: int) -> None:
    data = zipped(Member("a.npy", NPY, method), Member("b", npy_of(B), method), comment=b"made by hand")
    for member, wanted in (("a", A), ("a.npy", A), ("b", B)):
        with open_tensor(f"{put(data)}:{member}", role="labels") as tensor:
            assert (tensor.member, tensor.name[-2:]) == (member[:1], f":{member[:1]}")
            np.testing.assert_array_equal(rows_of(tensor), wanted)
            tensor.check_unchanged()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(one(data=npy("<f8", "(1000000000000,)", bytes(48))), "cut off", id="Z02"),
        pytest.param(
            one(data=npy("<f8", "(1000000000,)", bytes(48)), method=DEFLATED), "cut off", id="Z02-deflated"
        ),
        pytest.param(
            zipped(Member("a.npy", NPY), Member("b.npy", NPY, offset=0, local_name="b.npy")),
            "contradict",
            id="Z03",
        ),
        pytest.param(
            zipped(Member("a.npy", NPY), Member("a.npy", NPY, offset=0), Member("b.npy", NPY)),
            "overlap",
            id="Z03-same",
        ),
        pytest.param(zipped(Member("a.npy", NPY), Member("a.npy", NPY)), "2 members named a", id="Z04"),
        pytest.param(
            zipped(Member("logits", NPY), Member("logits.npy", NPY)), "2 members named logits", id="Z05"
        ),
        pytest.param(one(data=npy("<f8", "(1,)", bytes(16))), "8 bytes after its data", id="Z08"),
        pytest.param(one(crc=1), "checksum (CRC-32) is wrong", id="Z08-stored"),
        pytest.param(one(crc=1, method=DEFLATED), "checksum (CRC-32) is wrong", id="Z08-deflated"),
        pytest.param(one()[:-1], "no zip directory", id="Z09-cut"),
        pytest.param(one()[:-30], "no zip directory", id="Z09-no-end"),
        pytest.param(one() + b"x", "no zip directory", id="Z09-followed"),
        pytest.param(one("a.npy", after=b"four"), "4 bytes after the member a.npy", id="Z09-between"),
        pytest.param(
            zipped(Member("a.npy", NPY), before=b"PK\x03\x04" + bytes(20)),
            "24 bytes before its first",
            id="Z09-before",
        ),
        pytest.param(one(flags=1), "encrypted", id="Z10-encrypted"),
        pytest.param(one(method=99), "packed by method 99", id="Z10"),
        pytest.param(one(size=len(NPY) + 8), "does not unpack to", id="Z12"),
        pytest.param(one(size=len(NPY) - 8, method=DEFLATED), "does not unpack to", id="Z12-deflated"),
        pytest.param(one(local_size=7), "contradict each other", id="Z12-local"),
        pytest.param(one(local_name="labels.npy"), "contradict each other", id="Z12-name"),
        pytest.param(one(offset=5), "that is not there", id="Z12-offset"),
        pytest.param(zipped(Member("a.npy", NPY), entries=2), "cut off", id="Z12-entries"),
        pytest.param(zipped(Member("a.npy", NPY), entries=0), "after its last entry", id="Z12-fewer"),
        pytest.param(zipped(), "empty archive", id="Z13"),
        pytest.param(one(data=npy("|O", "(1,)", b"cos\nsystem\n.")), "Python objects", id="Z15"),
        pytest.param(one("a/data.pkl", b"\x80\x02."), "torch.load", id="Z15-torch"),
        pytest.param(one("a.txt", b"1,2"), "without an NPY member", id="Z07-none"),
        pytest.param(one(packed=b"\xff\xff", method=DEFLATED), "not valid", id="Z09-packed"),
    ],
)
def test_refused(put: Put, data: bytes, words: str) -> None:
    path = put(data, "x.npz")
    message = refused(path)
    assert words in message
    assert message.startswith(path)


@pytest.mark.parametrize(("cut", "words"), [(-3, "cut off"), (None, "follow")])
def test_Z09_packed_data_that_end_elsewhere(put: Put, cut: int | None, words: str) -> None:
    body = Member("a", NPY, DEFLATED).body
    assert words in refused(put(one(packed=body[:cut] if cut else body + b"xx", method=DEFLATED)))


@pytest.mark.parametrize("limit", [None, 1 << 20])
def test_Z01_a_bomb_stops_at_the_limit(put: Put, limit: int | None) -> None:
    """4 GiB of zeros in 4 MB are refused by what the directory tells, and a lie about that by counting."""
    bomb = bytes(1 << 21)
    packed = Member("a", bomb, DEFLATED).body
    told = one(packed=packed, method=DEFLATED, size=(4 << 30) - 2)
    lied = one(packed=packed, method=DEFLATED, size=1 << 10)
    began = time.perf_counter()
    assert "--max-bytes 4294967294" in refused(put(told), reading=Reading(max_bytes=limit))
    assert "does not unpack to the 1024 bytes" in refused(put(lied), reading=Reading(max_bytes=limit))
    assert time.perf_counter() - began < 1.0


def test_Z01_a_tensor_of_zeros_is_no_bomb(put: Put) -> None:
    zeros = np.zeros((1000, 100))
    with open_tensor(put(one(data=npy_of(zeros), method=DEFLATED)), role="grad") as tensor:
        assert tensor.shape == zeros.shape


def test_Z02_and_Z14_memory_is_a_block_whatever_the_member(put: Put) -> None:
    path = put(one(data=npy_of(np.ones(8 << 20, np.float32)), method=DEFLATED))
    tracemalloc.start()
    try:
        with open_tensor(path, role="labels") as tensor:
            assert rows_of(tensor.__class__(**vars(tensor) | {"shape": (4,)})).tolist() == [1.0] * 4
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_Z06_names_are_shown_escaped_and_nothing_is_written(put: Put, tmp_path: Path) -> None:
    names = ("../../evil.npy", "/abs.npy", "\x1b[2J.npy", "a\nb.npy")
    path = put(zipped(*(Member(name, NPY) for name in names)), "x.npz")
    assert r"../../evil, /abs, \x1b[2J, a\x0ab" in refused(path)
    with open_tensor(f"{path}:../../evil", role="logits") as tensor:
        assert tensor.shape == (2, 3)
    assert [each.name for each in tmp_path.iterdir()] == ["x.npz"]


def test_Z07_members_that_are_no_tensors_are_told_apart(put: Put) -> None:
    path = put(zipped(Member("a.npy", NPY), Member("notes.txt", b"1,2"), Member("deep/", b"")))
    with open_container(locate(path), Reading()) as container:
        assert (container.members, container.others) == (("a",), ("notes.txt", "deep/"))
    assert "'notes.txt' is no tensor" in refused(f"{path}:notes.txt")
    assert "has no member 'b' (a)" in refused(f"{path}:b")


def test_Z11_too_many_members(put: Put) -> None:
    began = time.perf_counter()
    many = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, MEMBER_LIMIT + 1, MEMBER_LIMIT + 1, 0, 4, 0)
    assert f"more than {MEMBER_LIMIT}" in refused(put(b"PK\x03\x04" + many))
    assert time.perf_counter() - began < 0.1


def test_a_file_that_changes_while_it_is_unpacked(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = put(one(method=DEFLATED)), spool.write_bytes

    def touched(*arguments: Any) -> int:
        Path(path).write_bytes(Path(path).read_bytes() + b"!")
        return write(*arguments)

    monkeypatch.setattr(npz, "write_bytes", touched)
    with pytest.raises(InputError, match="changed while it was read"):
        open_tensor(path, role="logits")


class _Pipe(io.RawIOBase):
    """A stream that cannot seek: zipfile then writes the sizes after the data."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data)
        return len(data)


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("pipe", [False, True])
def test_what_zipfile_writes_is_read(
    put: Put, monkeypatch: pytest.MonkeyPatch, zip64: bool, method: int, pipe: bool
) -> None:
    if zip64:  # 64-bit records from the first byte on
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 0)
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 0)
    stream: Any = _Pipe() if pipe else io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, array in (("a.npy", A), ("b.npy", B), ("日本.npy", A)):
            with archive.open(name, "w", force_zip64=zip64) as member:
                member.write(npy_of(array))
    path = put(stream.data if pipe else stream.getvalue())
    for name, array in (("a", A), ("b", B), ("日本", A)):
        with open_tensor(f"{path}:{name}", role="labels") as tensor:
            np.testing.assert_array_equal(rows_of(tensor), array)


DTYPES = ("<f2", ">f4", "<f8", "|i1", ">i4", "<i8", "|u1", "<u4", "bfloat16", "float8_e5m2")


@given(st.data())
def test_Z_round_trip_agrees_with_numpy(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("round") / "x.npz"
    arrays: dict[str, Any] = {}
    for name in data.draw(st.lists(st.sampled_from("abcde"), min_size=1, unique=True)):
        code = data.draw(st.sampled_from(DTYPES))
        dtype = np.dtype(getattr(ml_dtypes, code, code))
        shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
        values = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 100, shape)
        arrays[name] = np.asarray(values.astype(dtype), order=data.draw(st.sampled_from("CF")))
    (np.savez_compressed if data.draw(st.booleans()) else np.savez)(path, **arrays)
    for name, array in arrays.items():
        with open_tensor(f"{path}:{name}", role="loss") as tensor:
            np.testing.assert_array_equal(rows_of(tensor), array.astype(np.float64))
            tensor.check_unchanged()

"""NPY files: what is refused and why (the rows of faults.md), and that what is read is exact."""

from __future__ import annotations

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck_cli.errors import InputError
from gradcheck_cli.reading import Reading
from gradcheck_cli.tensors import Rows, Tensor, open_tensor, rows, spool
from tests.containers import npy, raw_npy, refused
from tests.tensors.conftest import Put


def read_all(tensor: Tensor, axis: int | None, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    view = Rows(tensor, axis)
    out = np.empty((view.count,) if axis is None else (view.count, view.classes), dtype)
    view.read(0, view.count, out)
    return out


def expected_rows(array: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(npy("<f8", "(1000000, 1000000)", bytes(48)), "needs 8000000000000 bytes", id="N01"),
        pytest.param(npy("<f8", "(1500000000,)", bytes(48)), "cut off", id="N02"),
        pytest.param(npy("<f8", f"({2**40}, {2**40})", bytes(48)), "overflows", id="N03"),
        pytest.param(npy("<f8", "(-1, 3)", bytes(48)), "-1 in the shape", id="N04"),
        pytest.param(npy("<f8", "(-2, -3)", bytes(48)), "-2 in the shape", id="N04-product-positive"),
        pytest.param(npy("<f8", f"({'9' * 400},)", bytes(48)), "more than 64 bits", id="N05"),
        pytest.param(npy("<f8", f"(0x{'f' * 9000},)", bytes(48)), "more than 64 bits", id="N05-hex"),
        pytest.param(npy("<f8", "(True, 6)", bytes(48)), "True in the shape", id="N06"),
        pytest.param(npy("<f8", "(0, 5)", b""), "nothing to verify", id="N07"),
        pytest.param(npy("<f8", f"(0, {2**40})", b""), "nothing to verify", id="N07-huge"),
        pytest.param(npy("<f8", "()", bytes(8)), "single number", id="N08-0d"),
        pytest.param(npy("<f8", "(2, 3)", bytes(47)), "needs 48 bytes of data, 47 are there", id="N09"),
        pytest.param(b"\x93N", "not an NPY file (2 bytes)", id="N10"),
        pytest.param(b"", "is empty (0 bytes)", id="N11"),
        pytest.param(npy("<f8", "(2, 3)", bytes(51)), "3 bytes after its data", id="N12"),
        pytest.param(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "claims 4294967295 bytes", id="N13"),
        pytest.param(b"\x93NUMPY\x01\x00\xff\xff{}", "claims 65535 bytes, but", id="N13-short"),
        pytest.param(raw_npy("(" * 8000), "not valid", id="N15-parentheses"),
        pytest.param(raw_npy("-" * 8000 + "1"), "not valid", id="N15-minus"),
        pytest.param(raw_npy("+".join(["1"] * 8000)), "not valid", id="N15-plus"),
        pytest.param(raw_npy("{[]: 1}"), "keys 'None'", id="N15-unhashable"),
        pytest.param(raw_npy("{'descr': '\xff"), "not valid", id="N15-token"),
        pytest.param(raw_npy("{'descr': '\\d', 1if 1else 2: 3}"), "", id="N15-warning"),
        pytest.param(raw_npy("\xff\xfe", version=(3, 0)), "not valid", id="N15-utf8"),
        pytest.param(
            raw_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'shape': (2,)}", bytes(16)),
            "once",
            id="N16",
        ),
        pytest.param(
            raw_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'x': 1}", bytes(8)),
            "keys",
            id="N17",
        ),
        pytest.param(npy("<f8", "[2, 3]", bytes(48)), "not a tuple", id="N17-list"),
        pytest.param(npy("<f8", "(2.0,)", bytes(16)), "2.0 in the shape", id="N17-float"),
        pytest.param(npy("<f8", "(2,)", bytes(16), fortran="1"), "fortran_order is 1", id="N17-fortran"),
        pytest.param(raw_npy("{}", version=(9, 9)), "version 9.9", id="N17-version"),
        pytest.param(npy("<f8", "(print(1),)", bytes(8)), "not valid", id="N18"),
        pytest.param(npy("|O", "(1,)", bytes(8)), "Python objects", id="N19"),
        pytest.param(npy([("a", "<f8"), ("b", "<i4")], "(1,)", bytes(12)), "structured", id="N20"),
        pytest.param(npy("|V0", "(1,)", b""), "raw bytes", id="N20-void"),
        pytest.param(npy("<U3", "(1,)", bytes(12)), "strings", id="N20-text"),
        pytest.param(npy("<M8[s]", "(1,)", bytes(8)), "dates", id="N20-dates"),
        pytest.param(npy("|b1", "(1,)", bytes(1)), "booleans", id="N20-bool"),
        pytest.param(npy("nonsense!", "(1,)", bytes(1)), "not known", id="N20-unknown"),
        pytest.param(npy(("<f8", (2,)), "(2,)", bytes(32)), "sub-array", id="N21"),
        pytest.param(npy("|V1", "(4,)", bytes(4)), "--dtype logits=float8_e4m3fn", id="N22-float8"),
        pytest.param(npy("<u2", "(4,)", bytes(8)), "--dtype logits=bfloat16", id="N23"),
        pytest.param(npy("<i2", "(4,)", bytes(8)), "--dtype logits=bfloat16", id="N23-signed"),
        pytest.param(npy("<c16", "(1,)", bytes(16)), "complex", id="N24"),
        pytest.param(npy("<f16", "(1,)", bytes(16)), "long doubles", id="N25"),
        pytest.param(npy("<f3", "(1,)", bytes(3)), "a type that is not known", id="N25-odd"),
        pytest.param(b"hello", "not an NPY file (5 bytes)", id="N30-text"),
    ],
)
def test_refused(put: Put, data: bytes, words: str) -> None:
    assert words in refused(put(data))


def test_N14_sparse_header_claim_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 3_000_000_000))
    os.truncate(path, 3_000_000_012)
    assert "3000000000 bytes" in refused(str(path))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04" + bytes(22) + b"\x0a\x00\x00\x00logits.npy", "no zip directory at its end"),
        (b"PK\x05\x06" + bytes(18), "empty archive"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j", "torch.load"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"PAR1....", "Parquet"),
        (struct.pack("<Q", 12) + b'{"a":      }', "safetensors header is not valid"),
        (b"BZh9", "bzip2"),
    ],
)
def test_N30_other_containers_are_named_whatever_the_suffix(put: Put, data: bytes, words: str) -> None:
    assert words in refused(put(data))


def test_F01_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe" in refused(str(tmp_path / "pipe"))
    assert "is a device" in refused("/dev/zero")


def test_a_mistyped_name_is_answered_with_the_one_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "logits.npy", np.zeros((2, 3)))
    (tmp_path / "dlogits\x1b.npy").touch()
    assert refused(str(tmp_path / "logit.npy")).endswith(
        f"no such file (did you mean {tmp_path}/logits.npy?)"
    )
    assert "\\x1b" in refused(str(tmp_path / "dlogits_.npy"))
    assert refused(str(tmp_path / "other.npy")).endswith("other.npy: no such file")
    assert refused(str(tmp_path / "no" / "x.npy")).endswith(f"(there is no folder {tmp_path}/no)")


def test_F04_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "is a folder" in refused(str(tmp_path))
    assert "no such file" in refused(str(tmp_path / "missing.npy"))
    assert "no such file" in refused(str(tmp_path / "missing" / "x.npy"))
    assert "circle" in refused(str(tmp_path / "loop"))
    with pytest.raises(InputError, match="not a possible file name"):
        open_tensor("a\0b", role="logits")


def test_F05_truncated_after_opening(put: Put) -> None:
    path = put(npy("<f4", "(4, 8)", bytes(128)))
    with open_tensor(path, role="logits") as tensor:
        os.truncate(path, 150)
        with pytest.raises(InputError, match="truncated while it was read"):
            read_all(tensor, 1)
        with pytest.raises(InputError, match="changed while it was read"):
            tensor.check_unchanged()


def test_F06_rewritten_in_place_is_refused_and_replaced_is_not(put: Put, tmp_path: Path) -> None:
    path = put(npy("<f4", "(2,)", bytes(8)))
    with open_tensor(path, role="logits") as tensor:
        (tmp_path / "new").write_bytes(b"new")
        (tmp_path / "new").rename(path)
        tensor.check_unchanged()
        assert (read_all(tensor, 0) == 0).all()
    path = put(npy("<f4", "(2,)", bytes(8)))
    with open_tensor(path, role="logits") as tensor:
        Path(path).write_bytes(Path(path).read_bytes())
        os.utime(path, ns=(1, 1))
        with pytest.raises(InputError, match="changed while it was read"):
            tensor.check_unchanged()


def test_scalar_loss_and_labels_of_two_bytes(put: Put) -> None:
    with open_tensor(put(npy("<f4", "()", struct.pack("<f", 2.5))), role="loss") as tensor:
        assert tensor.shape == ()
        assert read_all(tensor, None).tolist() == [2.5]
        assert Rows(tensor, None).index_of(0) == ()
    with open_tensor(put(npy("<u2", "(2,)", struct.pack("<2H", 1, 65535))), role="labels") as tensor:
        assert read_all(tensor, None, np.int64).tolist() == [1, 65535]


def test_version_3_and_python_2_headers(put: Put) -> None:
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2L,)}"
    for version in ((1, 0), (2, 0), (3, 0)):
        with open_tensor(put(raw_npy(header, bytes(16), version)), role="logits") as tensor:
            assert tensor.shape == (2,)


def test_N26_integers_that_no_double_holds_name_their_index(put: Put) -> None:
    values = [[1, 2**53 + 2], [2**53, 2**53 + 1]]
    with open_tensor(put(npy("<i8", "(2, 2)", np.array(values).tobytes())), role="logits") as tensor:
        assert "int64" in tensor.notes[0]
        out = np.empty((1, 2))
        Rows(tensor, 1).read(0, 1, out)
        assert out.tolist() == [[1.0, 2.0**53 + 2]]
        with pytest.raises(InputError, match=r"9007199254740993 at \[1, 1\] is not exactly"):
            Rows(tensor, 1).read(1, 2, out)
        with pytest.raises(InputError, match=r"9007199254740993 at \[1, 1\] is not exactly"):
            read_all(tensor, 0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param(np.array([1, 2**63 + 1], np.uint64), "9223372036854775809 in row 1 is more", id="L01"),
        pytest.param(np.array([0.0, 1.5]), "label 1.5 in row 1 is not a whole number", id="L02"),
        pytest.param(np.array([0.0, np.nan]), "label nan in row 1 is not a whole number", id="L03-nan"),
        pytest.param(np.array([0.0, -np.inf], np.float16), "label -inf in row 1 is not", id="L03-inf"),
        pytest.param(np.array([0.0, 1e300]), "label 1e+300 in row 1 is more", id="L03-large"),
    ],
)
def test_labels_that_are_no_int64(tmp_path: Path, values: Any, words: str) -> None:
    np.save(tmp_path / "y.npy", values)
    with open_tensor(str(tmp_path / "y.npy"), role="labels") as tensor:
        view = Rows(tensor, None)
        out = np.empty(1, np.int64)
        view.read(0, 1, out)
        with pytest.raises(InputError) as caught:
            view.read(1, 2, out)
    assert words in str(caught.value)


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 4)])
def test_N22_bfloat16_against_ml_dtypes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).standard_normal(shape).astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "x.npy", array)
    with open_tensor(str(tmp_path / "x.npy"), role="logits") as tensor:
        assert tensor.dtype == "bfloat16"
        assert tensor.notes == ("2-byte void values (V2) read as bfloat16",)
        wanted = expected_rows(array, 1)
        np.testing.assert_array_equal(read_all(tensor, 1), wanted.astype(np.float64))
        stored = Rows(tensor, 1).read_stored(0, len(wanted))
        assert stored.dtype == np.uint16
        np.testing.assert_array_equal(stored.view(ml_dtypes.bfloat16), wanted)


DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")


@given(st.data())
def test_round_trip_of_every_type_order_axis_and_range(tmp_path_factory: Any, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    dtype = np.dtype(data.draw(st.sampled_from("<>")) + data.draw(st.sampled_from(DTYPES)))
    bits = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 100, shape)
    array = np.asarray(bits - (0 if dtype.kind == "u" else 50), dtype, order=data.draw(st.sampled_from("CF")))
    path = tmp_path_factory.mktemp("round") / "x.npy"
    np.save(path, array)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    asked = (f"logits={dtype.name}",) if dtype.itemsize == 2 else ()  # they could be the bits of bfloat16
    with open_tensor(str(path), role="logits", reading=Reading(dtype=asked)) as tensor:
        view, wanted = Rows(tensor, axis), expected_rows(array, axis)
        start = data.draw(st.integers(0, view.count))
        stop = data.draw(st.integers(start, view.count))
        out = np.empty((stop - start, view.classes))
        view.read(start, stop, out)
        np.testing.assert_array_equal(out, wanted[start:stop].astype(np.float64))
        stored = view.read_stored(start, stop)
        assert stored.dtype == dtype.newbyteorder("=")
        np.testing.assert_array_equal(stored, wanted[start:stop])
        for row in range(start, stop):
            assert array[view.index_of(row, 0)] == wanted[row, 0]
        flat = Rows(tensor, None)
        one = np.empty(stop - start, np.int64)
        flat.read(start, stop, one)
        np.testing.assert_array_equal(one, array.reshape(-1)[start:stop])
        for element in range(start, stop):
            assert array[flat.index_of(element)] == array.reshape(-1)[element]
        tensor.check_unchanged()


def test_floats_keep_every_bit_of_special_values(tmp_path: Path) -> None:
    array = np.array([np.inf, -np.inf, -0.0, 5e-324, 1e308])
    np.save(tmp_path / "x.npy", array)
    with open_tensor(str(tmp_path / "x.npy"), role="logits") as tensor:
        assert read_all(tensor, 0).tobytes() == array.tobytes()
    signalling = np.array([0x7F800001], np.uint32).view(np.float32)
    np.save(tmp_path / "x.npy", signalling)
    with open_tensor(str(tmp_path / "x.npy"), role="logits") as tensor:
        assert np.isnan(read_all(tensor, 0)).all()


@pytest.mark.parametrize("span", [1, 100, 1 << 20])
@pytest.mark.parametrize("gap", [0, 1 << 20])
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_channels_first_partial_slabs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axis: int, gap: int, span: int
) -> None:
    monkeypatch.setattr(rows, "GAP_BYTES", gap)
    monkeypatch.setattr(rows, "SPAN_BYTES", span)
    array = np.random.default_rng(1).standard_normal((2, 5, 3, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", array)
    wanted = expected_rows(array, axis)
    with open_tensor(str(tmp_path / "x.npy"), role="logits") as tensor:
        view = Rows(tensor, axis)
        for start in range(view.count):
            for stop in range(start + 1, view.count + 1):
                out = np.empty((stop - start, view.classes))
                view.read(start, stop, out)
                np.testing.assert_array_equal(out, wanted[start:stop])


@pytest.mark.parametrize("tile", [16, 256, 1 << 20])
def test_N28_fortran_order_of_many_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    monkeypatch.setattr(spool, "TILE_BYTES", tile)
    array = np.asfortranarray(np.arange(2 * 3 * 4 * 5, dtype=">f4").reshape(2, 3, 4, 5))
    np.save(tmp_path / "x.npy", array)
    with open_tensor(str(tmp_path / "x.npy"), role="logits") as tensor:
        assert tensor.order == "F"
        for axis in range(4):
            np.testing.assert_array_equal(read_all(tensor, axis), expected_rows(array, axis))


@pytest.mark.parametrize("axis", [0, 1])
def test_threads_read_the_same_rows_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axis: int
) -> None:
    monkeypatch.setattr(rows, "SPAN_BYTES", 1 << 11)
    array = np.random.default_rng(2).standard_normal((400, 33)).astype(np.float16)
    np.save(tmp_path / "x.npy", array if axis else np.ascontiguousarray(array.T))
    with open_tensor(str(tmp_path / "x.npy"), role="logits") as tensor, ThreadPoolExecutor(8) as pool:
        view = Rows(tensor, axis)

        def read(start: int) -> np.ndarray[Any, Any]:
            out = np.empty((10, 33))
            view.read(start, start + 10, out)
            return out

        for start, out in zip(range(0, 390, 3), pool.map(read, range(0, 390, 3)), strict=True):
            np.testing.assert_array_equal(out, array[start : start + 10])


def test_a_short_read_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(100, dtype=">f4").reshape(10, 10)
    np.save(tmp_path / "x.npy", array)
    whole = os.preadv

    def in_sevens(fd: int, buffers: list[memoryview], offset: int) -> int:
        part = bytearray(7)
        done = min(whole(fd, [part], offset), buffers[0].nbytes)
        np.frombuffer(buffers[0], np.uint8)[:done] = np.frombuffer(part, np.uint8)[:done]
        return done

    monkeypatch.setattr(os, "preadv", in_sevens)
    with open_tensor(str(tmp_path / "x.npy"), role="logits") as tensor:
        np.testing.assert_array_equal(read_all(tensor, 1), array)

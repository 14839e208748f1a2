"""safetensors files: what is refused and why, and that what is read is what the reference package reads."""

from __future__ import annotations

import json
import os
import struct
import time
from typing import Any

import numpy as np
import pytest
import safetensors as reference
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from gradcheck_cli.errors import InputError
from gradcheck_cli.reading import CONTENT
from gradcheck_cli.tensors import Rows, locate, open_container, open_tensor
from tests.containers import entry, refused, rows_of, safetensors
from tests.tensors.conftest import Put

A = {"a": entry("F32", [2], 0, 8)}
DATA = struct.pack("<2f", 1.5, -2.0)


def text(header: str) -> bytes:
    return safetensors(header.encode(), DATA)


def one(dtype: str, shape: list[int], start: int = 0, stop: int = 8) -> bytes:
    return safetensors({"a": entry(dtype, shape, start, stop)}, DATA[: max(stop, 0)])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(struct.pack("<Q", 1 << 63) + b"{}", "claims 9223372036854775808 bytes", id="S01"),
        pytest.param(struct.pack("<Q", 100 << 20) + b"{}", "more than 16777216 is not read", id="S01-cap"),
        pytest.param(struct.pack("<Q", 99) + b"{}", "but the file has 10 in all", id="S01-file"),
        pytest.param(safetensors(A, DATA[:-1]), "needs 8 bytes of data, 7 are there", id="S02"),
        pytest.param(safetensors(A, DATA + b"x"), "1 bytes after its data", id="S02-trailing"),
        pytest.param(safetensors(A | {"b": entry("F32", [1], 4, 8)}, DATA), "overlaps", id="S03-overlap"),
        pytest.param(one("F32", [1], 4, 8), "leaves 4 bytes before", id="S03-hole"),
        pytest.param(one("F32", [2], -8, 0), "no sizes", id="S03-negative"),
        pytest.param(one("F32", [-2]), "no sizes", id="S03-shape"),
        pytest.param(text('{"a":{"shape":[2],"data_offsets":[0,8.0]}}'), "not valid", id="S03-float"),
        pytest.param(one("F32", [True, 2]), "no sizes", id="S03-bool"),
        pytest.param(one("F64", [2]), "does not fill", id="S03-bytes"),
        pytest.param(one("F32", [2**40, 2**40]), "does not fill", id="S03-product"),
        pytest.param(one("F32", [2], 8, 0), "no sizes", id="S03-order"),
        pytest.param(one("F32", [2**49]), "no sizes", id="S03-dim"),
        pytest.param(
            text('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],'
                 '"data_offsets":[0,8]}}'), "names 'a' twice", id="S04"),
        pytest.param(
            text('{"a":{"dtype":"F32","dtype":"F32","shape":[2]}}'), "'dtype' twice", id="S05"
        ),
        pytest.param(safetensors({"a": A["a"] | {"x": 1}}, DATA), "other things", id="S05-extra"),
        pytest.param(one("F4", [4], 0, 2), "holds F4", id="S07-F4"),
        pytest.param(one("F6_E2M3", [4], 0, 3), "holds F6", id="S07-F6"),
        pytest.param(one("F32X", [2]), "not known", id="S07-unknown"),
        pytest.param(text('{"a":' + "[" * 200_000), "nested more than 3 deep", id="S09"),
        pytest.param(text('{"a":' * 200_000), "nested more than 3 deep", id="S09-objects"),
        pytest.param(text('{"a":{"dtype":"F32","shape":[' + "9" * 5000 + ']}}'), "not valid", id="S10"),
        pytest.param(text('{"a":{"dtype":"F32","shape":[NaN]}}'), "not valid", id="S10-nan"),
        pytest.param(text('{"a":{"dtype":"F32","shape":[Infinity]}}'), "not valid", id="S10-inf"),
        pytest.param(text('{"a":{"dtype":"F32","shape":[1E400]}}'), "not valid", id="S10-float"),
        pytest.param(safetensors({"a": entry("F32", [0, 2**40], 0, 0)}), "is empty", id="S11"),
        pytest.param(safetensors({"z": entry("F32", [0], 0, 0)} | A, DATA), "say which", id="S12"),
        pytest.param(safetensors({}), "holds no tensors", id="S-nothing"),
        pytest.param(safetensors(b'{"a":\xff}'), "not valid", id="S-utf8"),
        pytest.param(safetensors({"__metadata__": {"a": 1}} | A, DATA), "metadata", id="S-metadata"),
        pytest.param(safetensors({"a": [1]}, DATA), "other things", id="S-list"),
        pytest.param(one("F32", [], 0, 4), "single number", id="S-scalar"),
        pytest.param(one("I16", [4]), "--dtype logits=bfloat16", id="S14"),
    ],
)  # fmt: skip
def test_refused(put: Put, data: bytes, words: str) -> None:
    path, began = put(data, "x.safetensors"), time.perf_counter()
    message = refused(path)
    assert words in message
    assert message.startswith(path)
    assert time.perf_counter() - began < 0.5


def test_S01_less_than_a_length(put: Put) -> None:
    with pytest.raises(InputError, match=r"not a safetensors file \(3 bytes\)"):
        open_tensor(put(b"abc"), role="logits", reading=CONTENT.__class__(input_format="safetensors"))


def test_S06_names_are_shown_escaped(put: Put) -> None:
    names = ["a\0b", "\x1b[31m", "[red]", "../x", "a\nb", "\ud800"]
    header = {name: entry("F32", [1], 4 * i, 4 * i + 4) for i, name in enumerate(names)}
    path = put(safetensors(header, bytes(4 * len(names))))
    message = refused(path)
    assert r"a\x00b, \x1b[31m, [red], ../x, a\x0ab, \ud800" in message
    message.encode()
    with open_tensor(f"{path}:../x", role="logits") as tensor:
        assert tensor.shape == (1,)


def test_S08_booleans_are_labels_and_only_0_and_1(put: Put) -> None:
    path = put(safetensors({"y": entry("BOOL", [4], 0, 4)}, bytes([0, 1, 1, 0])))
    assert "booleans" in refused(path)
    with open_tensor(path, role="labels") as tensor:
        assert tensor.notes == ("labels are booleans, read as 0 and 1",)
        assert rows_of(tensor, np.int64).tolist() == [0, 1, 1, 0]
    path = put(safetensors({"y": entry("BOOL", [3], 0, 3)}, bytes([0, 1, 255])))
    with open_tensor(path, role="labels") as tensor:
        out = np.empty(3, np.int64)
        with pytest.raises(InputError, match="label 255 in row 2 is neither true"):
            Rows(tensor, None).read(0, 3, out)


def test_S12_an_empty_tensor_beside_a_full_one_does_no_harm(put: Put) -> None:
    path = put(safetensors({"z": entry("F32", [0], 0, 0), "e": entry("F32", [0, 3], 8, 8)} | A, DATA))
    with open_tensor(f"{path}:a", role="logits") as tensor:
        assert rows_of(tensor).tolist() == [1.5, -2.0]
    assert "is empty (shape (0,)): nothing to verify" in refused(f"{path}:z")


def test_S13_truncated_while_open(put: Put) -> None:
    path = put(safetensors(A, DATA))
    with open_tensor(path, role="logits") as tensor:
        os.truncate(path, os.path.getsize(path) - 4)  # noqa: PTH202 - the counterpart of truncate
        with pytest.raises(InputError, match="truncated while it was read"):
            rows_of(tensor)
        with pytest.raises(InputError, match="changed while it was read"):
            tensor.check_unchanged()


NAMES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U8": "|u1",
}  # fmt: skip


@given(st.data())
def test_S_round_trip_agrees_with_the_reference_package(tmp_path_factory: Any, data: st.DataObject) -> None:
    arrays = {}
    for name in data.draw(
        st.lists(st.text(max_size=5).filter(lambda t: t != "__metadata__"), max_size=4, unique=True)
    ):
        dtype = np.dtype(data.draw(st.sampled_from(sorted(NAMES.values()))))
        shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=4)))
        values = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 100, shape)
        arrays[name] = np.asarray(values).astype(dtype)
    path = tmp_path_factory.mktemp("round") / "x.safetensors"
    path.write_bytes(save(arrays, data.draw(st.none() | st.just({"made": "by hand"}))))
    if not arrays:
        assert "holds no tensors" in refused(str(path))
        return
    with open_container(locate(str(path)), CONTENT) as container:
        assert set(container.members) == set(arrays)
        for name, array in load(path.read_bytes()).items():
            if array.size == 0:
                with pytest.raises(InputError, match="is empty"):
                    container.tensor(name, "loss", CONTENT)
                continue
            with container.tensor(name, "loss", CONTENT) as tensor:
                assert (tensor.shape, tensor.stored) == (array.shape, array.dtype)
                np.testing.assert_array_equal(rows_of(tensor), arrays[name].astype(np.float64))


HEADERS = st.dictionaries(
    st.sampled_from(("a", "b", "__metadata__")),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(("F32", "F64", "U8", "BF16", "F16", "nothing")),
            "shape": st.lists(st.integers(-1, 3), max_size=3),
            "data_offsets": st.lists(st.integers(-1, 24), min_size=1, max_size=3),
        }
    )
    | st.sampled_from(({}, {"x": "y"}, None, [1])),
    max_size=3,
)


@given(HEADERS, st.integers(0, 24))
@example({"__metadata__": None}, 0)
def test_what_the_reference_refuses_is_refused(tmp_path_factory: Any, header: Any, size: int) -> None:
    path = tmp_path_factory.mktemp("header") / "x.safetensors"
    path.write_bytes(safetensors(json.dumps(header).encode(), bytes(size)))
    try:
        with reference.safe_open(path, "np") as file:
            names = set(file.keys())
        taken = True
    except reference.SafetensorError:
        taken = False
    try:
        with open_container(locate(str(path)), CONTENT) as container:
            assert taken
            assert set(container.members) == names
    except InputError as error:
        if "holds no tensors" not in str(error):
            assert not taken

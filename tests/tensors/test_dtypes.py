"""Types that files cannot tell: float8, bits in integers, and what --dtype makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.errors import UsageError
from gradcheck_cli.reading import DTYPES, Reading
from gradcheck_cli.tensors import open_tensor
from gradcheck_cli.tensors.dtypes import BITS, float8_values
from tests.containers import entry, npy, refused, rows_of, safetensors
from tests.tensors.conftest import Put

FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
CODES = bytes(range(256))


@pytest.mark.parametrize("name", FLOAT8)
def test_every_code_of_float8_is_what_ml_dtypes_says(name: str) -> None:
    wanted = np.frombuffer(CODES, getattr(ml_dtypes, name)).astype(np.float32)
    np.testing.assert_array_equal(float8_values(name), wanted)
    np.testing.assert_array_equal(
        np.signbit(float8_values(name))[wanted == 0], np.signbit(wanted[wanted == 0])
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_float16_is_the_number_that_numpy_says(tmp_path: Path, order: str) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    finite = bits[(bits & 0x7C00) != 0x7C00].view(np.float16).reshape(-1, 256)
    np.save(tmp_path / "x.npy", finite.astype(f"{order}f2"))
    with open_tensor(str(tmp_path / "x.npy"), role="grad") as tensor:
        found = rows_of(tensor)
    assert found.tobytes() == finite.astype(np.float64).tobytes()  # the sign of zero, too


@pytest.mark.parametrize("name", FLOAT8)
def test_N22_float8_in_npy_needs_its_name(tmp_path: Path, name: str) -> None:
    array = np.frombuffer(CODES, getattr(ml_dtypes, name)).reshape(16, 16)
    path = str(tmp_path / "x.npy")
    np.save(path, array)
    with open_tensor(path, role="grad", reading=Reading(dtype=(f"grad={name}",))) as tensor:
        assert (tensor.dtype, tensor.notes) == (name, (f"bits taken as {name} (--dtype)",))
        np.testing.assert_array_equal(rows_of(tensor), array.astype(np.float64))
    if name != "float8_e5m2":
        assert "pass --dtype grad=float8_e4m3fn (or float8_e5m2)" in refused(path, "grad")
        return
    with open_tensor(path, role="grad") as tensor:
        assert tensor.notes == ("1-byte floats (f1) read as float8_e5m2",)


@pytest.mark.parametrize("name", [*FLOAT8, "bfloat16"])
def test_S07_float8_and_bfloat16_in_safetensors(put: Put, name: str) -> None:
    code = "BF16" if name == "bfloat16" else "F8_" + name.removeprefix("float8_").removesuffix("fn").upper()
    data = np.frombuffer(CODES, getattr(ml_dtypes, name))
    path = put(safetensors({"x": entry(code, [len(data)], 0, 256)}, CODES))
    with open_tensor(path, role="grad") as tensor:
        assert (tensor.dtype, tensor.notes) == (name, ())
        np.testing.assert_array_equal(rows_of(tensor), data.astype(np.float64))


@pytest.mark.parametrize("descr", ["<u2", "<i2", "<V2", "<f2", ">u2"])
def test_N23_bits_of_bfloat16_in_any_type_of_two_bytes(put: Put, descr: str) -> None:
    bits = np.array([0x3F80, 0xC020, 0x7F80], f"{descr[0]}u2")
    path = put(npy(descr, "(3,)", bits.tobytes()))
    with open_tensor(path, role="logits", reading=Reading(dtype=("logits=bfloat16",))) as tensor:
        assert rows_of(tensor).tolist() == [1.0, -2.5, np.inf]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", DTYPES)
def test_every_type_can_be_asked_for(put: Put, name: str, order: str) -> None:
    width = np.dtype(BITS[name]).itemsize
    path = put(npy(f"{order}u{width}", "(2,)", bytes(2 * width)))
    with open_tensor(path, role="loss", reading=Reading(dtype=(f"loss={name}",))) as tensor:
        assert tensor.dtype == name
        assert rows_of(tensor).tolist() == [0.0, 0.0]
    other = "float64" if width != 8 else "float32"
    assert f"--dtype loss={other} needs" in refused(path, "loss", Reading(dtype=(f"loss={other}",)))


@pytest.mark.parametrize("descr", ["|b1", "?"])
def test_booleans_can_be_taken_as_bytes(put: Put, descr: str) -> None:
    path = put(npy(descr, "(3,)", bytes([0, 1, 7])))
    with open_tensor(path, role="labels", reading=Reading(dtype=("labels=uint8",))) as tensor:
        assert rows_of(tensor, np.int64).tolist() == [0, 1, 7]
    assert "booleans" in refused(path, "grad")


def test_text_has_no_bits(put: Put) -> None:
    asked = Reading(dtype=("logits=bfloat16",))
    assert "--dtype logits=bfloat16: a text has no bits" in refused(put(b"1,2\n", "x.csv"), "logits", asked)


def test_a_member_is_known_by_its_name_too(put: Put) -> None:
    path = put(safetensors({"x": entry("U16", [1], 0, 2)}, b"\x80\x3f"))
    with open_tensor(path, role="logits", reading=Reading(dtype=("x=bfloat16",))) as tensor:
        assert rows_of(tensor).tolist() == [1.0]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"dtype": ("logits",)}, "write NAME=DTYPE"),
        ({"dtype": ("=float32",)}, "write NAME=DTYPE"),
        ({"dtype": ("logits=float7",)}, "with one of float64, float32"),
        ({"dtype": ("a=int8", "a=int8")}, "given 2 times"),
        ({"max_bytes": 0}, "--max-bytes 0: must be at least 1"),
        ({"input_format": "hdf5"}, "choose one of npy, npz"),
    ],
)
def test_what_cannot_be_meant_is_refused(typed: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        Reading(**typed)
    assert says in str(caught.value)


@pytest.mark.parametrize("header", [True, False])
def test_a_header_without_a_text_is_refused(header: bool) -> None:
    Reading(header=header).refuse_idle({"logits"}, text=True)
    with pytest.raises(UsageError, match="header has no effect: no input is a text"):
        Reading(header=header).refuse_idle({"logits"}, text=False)


def test_a_type_for_no_input_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no input has that name \(there are grad, logits\)"):
        Reading(dtype=("logit=int8",)).refuse_idle({"logits", "grad", None}, text=False)

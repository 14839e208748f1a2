"""Rows as numbers: in the processor's own formats where the file has them, else widened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from gradcheck_cli.tensors import Rows, open_tensor

Array = np.ndarray[Any, Any]

NUMBERS = np.random.default_rng(0).normal(size=(7, 40))


def _rows(path: Path) -> Rows:
    return Rows(open_tensor(str(path), role="logits"), -1)


def _saved(folder: Path, array: Array) -> Path:
    np.save(folder / "x.npy", array)
    return folder / "x.npy"


def test_float32_comes_as_it_is(tmp_path: Path) -> None:
    rows, out = _rows(_saved(tmp_path, NUMBERS.astype("<f4"))), np.full((3, 40), -1.0)
    found = rows.read_floats(2, 5, out)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, NUMBERS[2:5].astype(np.float32))
    assert (out == -1.0).all(), "the room was not needed"


def test_bfloat16_comes_as_float32(tmp_path: Path) -> None:
    halves = NUMBERS.astype(ml_dtypes.bfloat16)
    save_file({"x": halves}, tmp_path / "x.safetensors")
    found = _rows(tmp_path / "x.safetensors").read_floats(2, 5, np.empty((3, 40)))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, halves[2:5].astype(np.float32))


@pytest.mark.parametrize("dtype", ["<f8", "<f2", ">f4", "<i4"])
def test_what_the_processor_has_not_fills_the_room(tmp_path: Path, dtype: str) -> None:
    array, out = (100.0 * NUMBERS).astype(dtype), np.empty((3, 40))
    assert _rows(_saved(tmp_path, array)).read_floats(2, 5, out) is out
    np.testing.assert_array_equal(out, array[2:5].astype(np.float64))


@pytest.mark.parametrize(("order", "axis"), [("F", 1), ("C", 0)])
def test_classes_that_are_apart_fill_the_room(tmp_path: Path, order: Any, axis: int) -> None:
    rows = NUMBERS.astype("<f4")
    path, out = _saved(tmp_path, np.array(rows if axis else rows.T, order=order)), np.empty((3, 40))
    assert Rows(open_tensor(str(path), role="logits"), axis).read_floats(2, 5, out) is out
    np.testing.assert_array_equal(out, rows[2:5].astype(np.float64))

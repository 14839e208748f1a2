"""Small files read whole: the same numbers as the usual way, or nothing."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.errors import InputError
from gradcheck_cli.reading import CONTENT
from gradcheck_cli.tensors import Rows, open_tensor
from gradcheck_cli.tensors.pile import LARGEST, first_of, form_of, numbers_of, whole
from gradcheck_cli.tensors.source import Source


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i8", ">i4", "|u1"])
@pytest.mark.parametrize("shape", [(7,), (4, 3), (2, 3, 2)])
def test_files_of_one_form_hold_what_each_holds(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.npy" for number in range(3)]
    for path in paths:
        np.save(path, rng.integers(0, 100, shape).astype(dtype))
    files = [whole(str(path)) or b"" for path in paths]
    assert len({form_of(data) for data in files}) == 1
    with first_of(files[0], "a", "labels", CONTENT) as first:
        found = numbers_of(first, files)
    assert found is not None
    for path, numbers in zip(paths, found, strict=True):
        with open_tensor(str(path), role="labels") as tensor:
            assert (tensor.dtype, tensor.shape) == (first.dtype, first.shape)
            alone = np.empty(numbers.size)
            Rows(tensor, None).read(0, numbers.size, alone)
        assert numbers.reshape(-1).tolist() == alone.tolist()


def test_what_is_no_small_npy_file_is_left_to_the_usual_way(tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.zeros(LARGEST, np.uint8))
    (tmp_path / "text.csv").write_text("1,2\n")
    (tmp_path / "empty.npy").touch()
    os.mkfifo(tmp_path / "pipe.npy")
    names = ["large.npy", "text.csv", "empty.npy", "pipe.npy", "none.npy", "", "a\0b"]
    assert [whole(str(tmp_path / name)) for name in names] == [None] * len(names)
    assert whole("-") is None


def test_a_file_that_changes_while_it_is_read_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(5))
    real = Source.head

    def slow(self: Source, size: int, offset: int = 0) -> bytes:
        data = real(self, size, offset)
        np.save(path, np.zeros(6))
        return data

    monkeypatch.setattr(Source, "head", slow)
    assert whole(str(path)) is None


@pytest.mark.parametrize(
    "array",
    [np.asfortranarray(np.ones((3, 4))), np.ones(3, ml_dtypes.bfloat16), np.ones(3, dtype=bool)],
    ids=["fortran", "bfloat16", "bool"],
)
def test_numbers_that_are_not_stored_as_they_are_are_not_stacked(array: Any) -> None:
    data = _saved(array)
    with first_of(data, "a", "labels", CONTENT) as first:
        assert numbers_of(first, [data, data]) is None


def test_a_file_that_is_refused_is_refused_here_too() -> None:
    for data in (_saved(np.ones(3))[:-1], b"\x93NUMPY\x01", b"\x93NUMPY\x09" + bytes(20)):
        with pytest.raises(InputError):
            first_of(data, "a", "grad", CONTENT)


def _saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()

"""What files hold: counts, bounds and roles, against numpy on the whole array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck_cli import inspection
from gradcheck_cli.inspection import Holding, inspect
from gradcheck_cli.reading import CONTENT, Reading

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(40, 7))
P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
G = P - np.eye(7)[RNG.integers(0, 7, 40)]


def held(array: Any, folder: Path, name: str = "x.npy") -> Holding:
    np.save(folder / name, array)
    (found,) = inspect(str(folder / name), CONTENT).tensors
    assert found.error is None
    return found


@given(st.data())
def test_counts_and_bounds_are_those_of_numpy(tmp_path_factory: Any, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(("<f8", ">f4", "<f2", "bfloat16", "<i8", ">u4", "|i1")))
    shape = tuple(data.draw(st.lists(st.integers(1, 5), max_size=3)))
    special = (0.0, -0.0, 1.0, -3.5, np.nan, np.inf, -np.inf) if dtype[-2] in "f1" else (0, 1, 100)
    values = np.array([data.draw(st.sampled_from(special)) for _ in range(int(np.prod(shape)))])
    array = np.asarray(
        values.reshape(shape).astype(getattr(ml_dtypes, dtype, dtype)), order=data.draw(st.sampled_from("CF"))
    )
    found = held(array, tmp_path_factory.mktemp("held"))
    wide = array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    assert (found.shape, found.entries, found.finite) == (shape, wide.size, finite.size)
    assert found.nan == np.isnan(wide).sum()
    assert (found.positive_infinite, found.negative_infinite) == (
        (wide == np.inf).sum(),
        (wide == -np.inf).sum(),
    )
    assert found.least == (finite.min() if finite.size else None)
    assert found.greatest == (finite.max() if finite.size else None)


@pytest.mark.parametrize("step", [1, 3, 1 << 17])
def test_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole = held(G, tmp_path)
    monkeypatch.setattr(inspection, "_ENTRIES", step)
    assert held(G, tmp_path) == whole


@pytest.mark.parametrize(
    ("array", "name", "role", "because"),
    [
        (G, "step1_logits.npy", "logits", "its name"),
        (Z, "x.npy", "logits", "nothing else fits"),
        (G, "x.npy", "grad", "its rows sum to 0"),
        (G.astype(np.float16), "x.npy", "grad", "its rows sum to 0"),
        (P, "x.npy", "probs", "its rows sum to 1"),
        (P.astype(ml_dtypes.bfloat16), "x.npy", "probs", "its rows sum to 1"),
        (np.log(P), "x.npy", "log-probs", "the exponentials of its rows sum to 1"),
        (np.array([1, 2]), "x.npy", "labels", "integers"),
        (np.array([1, 2], np.uint16), "x.npy", "labels", "integers, if not the bits of bfloat16"),
        (np.array([1.0, 2.0]), "x.npy", "labels", "whole numbers"),
        (np.array([1.5, 2.0]), "x.npy", None, None),
        (np.array(2.5), "x.npy", "loss", "a single number"),
        (np.array(3), "x.npy", None, "a single number"),
        (np.zeros((4, 5)), "x.npy", None, None),
        (np.full((4, 5), np.nan), "x.npy", None, None),
        (np.where(np.eye(40, 7) > 0, np.nan, G), "x.npy", "logits", "nothing else fits"),
    ],
)
def test_the_role_is_guessed_and_the_reason_told(
    tmp_path: Path, array: Any, name: str, role: str | None, because: str | None
) -> None:
    found = held(array, tmp_path, name)
    assert (found.role, found.because) == (role, because)


def test_large_integers_are_exact(tmp_path: Path) -> None:
    found = held(np.array([2**64 - 1, 2**63 + 1], np.uint64), tmp_path)
    assert (found.least, found.greatest) == (2**63 + 1, 2**64 - 1)


def test_members_and_what_is_no_tensor(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, logits=Z, objects=np.array([{}], dtype=object), void=np.array([b"\x38"], "V1"))
    found = inspect(str(path), CONTENT)
    assert [each.member for each in found.tensors] == ["logits", "objects", "void"]
    assert found.tensors[0].error is None
    assert "never loaded" in (found.tensors[1].error or "")
    assert "--dtype void=float8_e4m3fn" in (found.tensors[2].error or "")
    assert len(found.errors) == 2
    named = inspect(f"{path}:void", Reading(dtype=("void=float8_e4m3fn",)))
    assert [(each.member, each.least) for each in named.tensors] == [("void", 1.0)]
    assert "has no member 'nothing'" in (inspect(f"{path}:nothing", CONTENT).error or "")


def test_text_is_inspected(tmp_path: Path) -> None:
    (tmp_path / "dlogits.csv").write_text("a,b\n1.5,-1.5\n")
    (found,) = inspect(str(tmp_path / "dlogits.csv"), CONTENT).tensors
    assert (found.role, found.shape, found.least) == ("grad", (1, 2), -1.5)
    assert found.notes == ("first line taken as a header",)

"""Bugs planted in the right gradient of given data: caught, named, written, and next to other rules."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

from gradcheck_cli.cli import softgrad
from gradcheck_cli.errors import UsageError
from gradcheck_cli.mutate import Fate, Mutation, Wish, mutate
from gradcheck_cli.report.mutation import render
from gradcheck_cli.rules import refused
from gradcheck_cli.settings import RULES, Settings
from gradcheck_cli.tensors import open_tensor
from tests.diagnosis import plants
from tests.diagnosis.plants import Data


def _mutated(folder: Path, data: Data, wish: Wish, settings: dict[str, Any] | None = None) -> Mutation:
    np.save(folder / "logits.npy", data.z)
    np.save(folder / "labels.npy", data.stored)
    with contextlib.ExitStack() as opened:
        tensors = {
            role: opened.enter_context(open_tensor(str(folder / f"{role}.npy"), role=role))
            for role in ("logits", "labels")
        }
        return mutate(tensors, {}, Settings(**(settings or {})), wish)


def _by_code(found: Mutation) -> dict[str, Fate]:
    return {each.code: each for each in found.fates}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_friendly_data_shows_nearly_every_bug_under_its_name(tmp_path: Path, dtype: str) -> None:
    fates = _by_code(_mutated(tmp_path, plants.friendly(), Wish(dtype)))
    assert len(fates) > 40
    missed = {code for code, each in fates.items() if not each.caught}
    assert missed <= {"no-max-subtraction", "clamped-probability", "fused-lse"}
    other = {code: each.named for code, each in fates.items() if each.named and code not in each.named}
    assert other == {}


def test_what_is_missed_has_a_reason(tmp_path: Path) -> None:
    fates = _by_code(_mutated(tmp_path, plants.weak(), Wish("float32")))
    assert "ignored-rows-not-zeroed" not in fates  # no row is ignored
    assert all(each.note for each in fates.values() if not each.caught)
    assert fates["no-max-subtraction"].note == "changes nothing in this data"


def test_settings_reach_the_mutants(tmp_path: Path) -> None:
    wish = Wish("float32", ("mean-for-sum", "smoothing-missing"))
    fates = _mutated(tmp_path, plants.friendly(), wish, {"reduction": "sum", "label_smoothing": 0.1}).fates
    assert [(each.code, each.named) for each in fates] == [
        ("mean-for-sum", ("mean-for-sum",)),
        ("smoothing-missing", ("smoothing-missing",)),
    ]


def test_a_tolerance_that_is_too_wide_catches_less(tmp_path: Path) -> None:
    wish = Wish("float32", ("zloss-applied",))
    (strict,) = _mutated(tmp_path, plants.friendly(), wish).fates
    (lax,) = _mutated(tmp_path, plants.friendly(), wish, {"rtol": 0.1, "atol": 0.1}).fates
    assert (strict.caught, lax.caught) == (True, False)


def test_a_bug_that_cannot_be_planted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be planted in this data"):
        _mutated(tmp_path, plants.weak(), Wish("float32", ("weights-missing",)))


@pytest.mark.parametrize("axis", [0, 1])
def test_mutants_are_written_in_the_layout_of_the_logits(tmp_path: Path, axis: int) -> None:
    d = plants.friendly()
    rows = Data(d.z.T if axis == 0 else d.z, d.labels, d.ignored, d.upstream, d.weights)
    wish = Wish("bfloat16", ("sum-for-mean",), folder=str(tmp_path / "out"))
    (fate,) = _mutated(tmp_path, rows, wish, {"axis": axis}).fates
    assert fate.path is not None
    stored = np.load(fate.path).view(ml_dtypes.bfloat16).astype(float)
    expected = (d.right * d.n).astype(ml_dtypes.bfloat16).astype(float)
    assert np.array_equal(stored, expected.T if axis == 0 else expected)


def test_the_rules_are_those_of_their_makers() -> None:
    """Against numpy itself; the other two differ in their numbers only."""
    right = np.array([1.0, 1e-9, 0.0, -3.0])
    for error in (1e-9, 9e-9, 1.1e-8, 1e-5, 2e-5):
        got = right + error
        assert refused("allclose", "float32", got, right) == (not np.allclose(got, right))  # noqa: TID251 - the oracle
    assert refused("assert_close", "bfloat16", right * 1.017, right)
    assert not refused("assert_close", "bfloat16", right * 1.015, right)
    assert refused("gradcheck", "float64", right + 2e-2, right)
    assert not refused("gradcheck", "float64", right + 9e-6, right)


def test_a_rule_that_misses_what_softgrad_catches(tmp_path: Path) -> None:
    """Lost label entries of confident rows are below the absolute tolerances of a gradient this small."""
    d = plants.friendly()
    z, labels, ignored, upstream = (np.concatenate([e] * 30) for e in (d.z, d.labels, d.ignored, d.upstream))
    large = Data(z, labels, ignored, upstream, d.weights)
    wish = Wish("bfloat16", ("low-precision-rmw",), RULES)
    (fate,) = _mutated(tmp_path, large, wish).fates
    assert fate.caught
    assert not fate.refused_by["gradcheck"]


def test_the_command_writes_json(tmp_path: Path) -> None:
    d = plants.friendly()
    np.save(tmp_path / "z.npy", d.z)
    np.save(tmp_path / "y.npy", d.stored)
    words = [
        "mutate",
        str(tmp_path / "z.npy"),
        str(tmp_path / "y.npy"),
        "--bug",
        "sign-flipped",
        "-f",
        "json",
    ]
    done = CliRunner().invoke(softgrad, [*words, "--also", "allclose"])
    told = json.loads(done.output)
    assert (told["command"], told["dtype"]) == ("mutate", "float32")
    (mutant,) = told["mutants"]
    assert mutant["named"] == ["sign-flipped"]
    assert mutant["refused_by"] == {"allclose": True}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits(tmp_path: Path, width: int) -> None:
    wish = Wish("float32", ("sign-flipped", "no-max-subtraction"), RULES)
    text = str(render(_mutated(tmp_path, plants.friendly(), wish), width=width))
    assert text.startswith("1 of 2 bugs planted in float32 ")
    assert max(map(len, text.splitlines())) <= width

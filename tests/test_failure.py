"""A failure made small: the saved rows fail by themselves, under the same diagnosis where they show it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner, Result

from gradcheck_cli.cli import softgrad
from tests.diagnosis import plants
from tests.diagnosis.plants import Array


def _run(monkeypatch: pytest.MonkeyPatch, folder: Path, words: list[str]) -> Result:
    monkeypatch.chdir(folder)
    return CliRunner().invoke(softgrad, words, standalone_mode=False)


def _saved(
    monkeypatch: pytest.MonkeyPatch, folder: Path, arrays: dict[str, Array], *options: str
) -> tuple[Result, Result, str]:
    """Check files with --save-failure, run what it wrote, and return both results and the command."""
    words = ["check", "logits.npy", "labels.npy"]
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        words += [] if name in ("logits", "labels") else [f"--{name}", f"{name}.npy"]
    first = _run(monkeypatch, folder, [*words, *options, "--save-failure", "small"])
    command = (folder / "small" / "command").read_text(encoding="utf-8").strip()
    return first, _run(monkeypatch, folder / "small", shlex.split(command)[1:]), command


SETTINGS: dict[str, tuple[str, ...]] = {
    "mean": (),
    "sum": ("--reduction", "sum"),
    "full": ("--reduction", "full"),
    "smoothing": ("--label-smoothing", "0.1", "--smoothing-over", "others"),
    "link": ("--softcap", "20.0", "--temperature", "2.0"),
    "tolerance": ("--rtol", "1e-5", "--atol", "1e-8"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_saved_rows_fail_as_they_did(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    d = plants.friendly()
    wrong = np.zeros_like(d.right)
    first, again, command = _saved(
        monkeypatch, tmp_path, {"logits": d.z, "labels": d.stored, "grad": wrong}, *SETTINGS[name]
    )
    assert (first.return_value, again.return_value) == (1, 1)
    assert "all-zero" in again.output
    assert "reduction" not in command
    worst = [line for line in first.output.splitlines() if line.startswith("[")]
    margins = {line.split()[-1] for line in worst}
    assert margins <= {word for line in again.output.splitlines() for word in line.split()[-1:]}


def test_the_right_rows_pass_under_the_saved_divisor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One wrong row among right ones: only its entries fail in the small file too."""
    d = plants.friendly()
    wrong = d.right.copy()
    wrong[3, 4] += 0.01
    _, again, command = _saved(monkeypatch, tmp_path, {"logits": d.z, "labels": d.stored, "grad": wrong})
    assert again.return_value == 1
    assert "--normalizer 37.0" in command
    assert "1 of 12 entries" in again.output
    assert np.load(tmp_path / "small" / "logits.npy").shape == (1, 12)


def test_everything_a_row_needs_is_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    d = plants.friendly()
    arrays = {
        "logits": d.z.astype(np.float32),
        "labels": d.stored,
        "grad": (d.right * 2).astype(ml_dtypes.bfloat16),
        "upstream": d.upstream,
        "class-weights": d.weights,
    }
    first, again, _ = _saved(monkeypatch, tmp_path, arrays)
    assert (first.return_value, again.return_value) == (1, 1)
    assert {each.name for each in (tmp_path / "small").iterdir()} == {
        "logits.npy", "labels.npy", "grad.npy", "upstream.npy", "class-weights.npy", "command",
    }  # fmt: skip
    assert np.load(tmp_path / "small" / "grad.npy").dtype == np.dtype("V2")


def test_ignored_rows_are_saved_beside_one_that_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    d = plants.friendly()
    wrong = (d.a - d.y) / d.n
    _, again, _ = _saved(monkeypatch, tmp_path, {"logits": d.z, "labels": d.stored, "grad": wrong})
    assert again.return_value == 1
    assert "ignored rows" in again.output


def test_logits_of_three_axes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(3, 5, 7)), rng.integers(0, 5, (3, 7))
    wrong: Any = np.moveaxis(plants.softmax(np.moveaxis(z, 1, -1)), -1, 1)
    _, again, _ = _saved(monkeypatch, tmp_path, {"logits": z, "labels": labels, "grad": wrong})
    assert again.return_value == 1


def test_nothing_is_saved_of_a_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    d = plants.friendly()
    for name, array in (("logits", d.z), ("labels", d.stored), ("grad", d.right)):
        np.save(tmp_path / f"{name}.npy", array)
    words = ["check", "logits.npy", "labels.npy", "--grad", "grad.npy", "--save-failure", "small"]
    assert _run(monkeypatch, tmp_path, words).return_value == 0
    assert not (tmp_path / "small").exists()


def test_a_folder_that_cannot_be_made_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    d = plants.friendly()
    for name, array in (("logits", d.z), ("labels", d.stored), ("grad", -d.right)):
        np.save(tmp_path / f"{name}.npy", array)
    words = ["check", "logits.npy", "labels.npy", "--grad", "grad.npy", "--save-failure", "logits.npy"]
    error = _run(monkeypatch, tmp_path, words).exception
    assert error is not None
    assert "cannot be saved" in str(error)


@pytest.mark.parametrize(
    "options", [(), ("--log",), ("--temperature", "2.5"), ("--rtol", "1e-4", "--atol", "0")]
)
def test_rows_of_a_layer_fail_as_they_did(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(2, 40, 6, 5))
    z[7, :, 2] = -np.inf
    wrong = np.zeros_like(z)
    for name, array in {"z": z, "t": t, "g": wrong.astype(ml_dtypes.bfloat16)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    words = ["vjp", "z.npy", "t.npy", "--grad", "g.npy", "--axis", "1", *options]
    first = _run(monkeypatch, tmp_path, [*words, "--masked-rows", "zero", "--save-failure", "small"])
    command = (tmp_path / "small" / "command").read_text(encoding="utf-8").strip()
    again = _run(monkeypatch, tmp_path / "small", shlex.split(command)[1:])
    assert (first.return_value, again.return_value) == (1, 1)
    kept = np.load(tmp_path / "small" / "logits.npy").shape
    assert (1 <= kept[0] <= 8, kept[1]) == (True, 6)
    assert "all-zero" in again.output
    margins = {line.split()[-1] for line in first.output.splitlines() if line.startswith("[")}
    assert margins <= {word for line in again.output.splitlines() for word in line.split()[-1:]}


def test_a_right_layer_saves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    z = np.random.default_rng(1).normal(size=(5, 4))
    for name, array in {"z": z, "t": np.ones_like(z), "g": np.zeros_like(z)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    words = ["vjp", "z.npy", "t.npy", "--grad", "g.npy", "--save-failure", "small"]
    assert _run(monkeypatch, tmp_path, words).return_value == 0
    assert not (tmp_path / "small").exists()


def test_logits_in_8_bits_are_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their codes are saved, which a file of bytes does not tell from numbers."""
    d = plants.friendly()
    codes = d.z.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    _, again, command = _saved(
        monkeypatch,
        tmp_path,
        {"logits": codes, "labels": d.stored, "grad": np.zeros_like(d.right)},
        "--dtype",
        "logits=float8_e4m3fn",
    )
    assert "--dtype logits=float8_e4m3fn" in command
    assert again.return_value == 1

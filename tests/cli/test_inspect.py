"""``softgrad inspect``, run as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run


def test_every_file_is_shown_and_what_cannot_be_read_is_told(softgrad: Run, files: Path) -> None:
    np.savez(files / "x.npz", logits=np.ones((2, 3)), step=np.int64(7))
    done = softgrad("inspect", "x.npz", "nowhere.npy", "labels.npy", cwd=files)
    assert done.returncode == 2
    assert done.stderr == "softgrad: error: nowhere.npy: no such file\n"
    heading, *rows = (line.split() for line in done.stdout.splitlines())
    assert heading[:4] == ["tensor", "format", "dtype", "shape"]
    assert [row[0] for row in rows] == ["x.npz:logits", "x.npz:step", "labels.npy"]


def test_json_is_strict_and_whole(softgrad: Run, files: Path) -> None:
    done = softgrad("inspect", "logits.npy", "nowhere.npy", "--format", "json", cwd=files)
    told = json.loads(done.stdout, parse_constant=pytest.fail)
    assert (told["schema"], told["command"], done.returncode) == (1, "inspect", 2)
    first, second = told["files"]
    assert (first["format"], first["error"], first["tensors"][0]["shape"]) == ("npy", None, [12, 5])
    assert (second["error"], second["tensors"]) == ("nowhere.npy: no such file", [])


def test_a_type_for_no_tensor_is_a_mistake(softgrad: Run, files: Path) -> None:
    done = softgrad("inspect", "logits.npy", "--dtype", "logit=int32", cwd=files)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no input has that name (there are logits)" in done.stderr


def test_all_well_is_0(softgrad: Run, files: Path) -> None:
    done = softgrad("inspect", "logits.npy", "labels.npy", "grad.npy", cwd=files)
    assert (done.returncode, done.stderr) == (0, "")
    assert "grad (its name)" in done.stdout


def test_standard_input(softgrad: Run, files: Path) -> None:
    with (files / "logits.npy").open("rb") as file:
        done = softgrad("inspect", "-", cwd=files, stdin=file)
    assert (done.returncode, done.stdout.splitlines()[1].split()[:3]) == (0, ["-", "npy", "float32"])

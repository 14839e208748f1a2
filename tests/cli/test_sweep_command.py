"""``softgrad sweep`` as a user runs it: its formats, its picture, and one line for what cannot be checked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from gradcheck_cli.curves import NAMES, STEPS
from tests.cli.conftest import SAMPLES, Run

BOTH = (SAMPLES / "logits.npy", SAMPLES / "labels.npy")


def test_csv_has_every_method_at_every_step(softgrad: Run) -> None:
    done = softgrad("sweep", *BOTH, "--format", "csv")
    heading, *lines = done.stdout.splitlines()
    assert heading == "method,step,max_error,median_error,predicted,best,plateau"
    told = [line.split(",") for line in lines]
    assert [(each[0], float(each[1])) for each in told] == [(name, step) for name in NAMES for step in STEPS]
    assert all(float(each[2]) <= float(each[4]) for each in told)
    assert all(float(each[3]) <= float(each[2]) for each in told)
    assert sum(int(each[5]) for each in told) == len(NAMES)
    assert all(each[6] == "1" for each in told if each[5] == "1")


def test_json_holds_the_curves(softgrad: Run) -> None:
    told = json.loads(softgrad("sweep", *BOTH, "-f", "json").stdout, parse_constant=pytest.fail)
    assert (told["command"], told["verdict"]) == ("sweep", "pass")
    assert [each["name"] for each in told["curves"]] == list(NAMES)
    for each in told["curves"]:
        assert len(each["steps"]) == len(each["max_error"]) == len(each["bound"]) == len(STEPS)
        assert each["max_error"][each["best"]] == min(each["max_error"])


def test_the_plot_is_written_beside_the_report(softgrad: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = softgrad("sweep", *BOTH, "--plot", "steps.SVG", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("PASS")
    assert (tmp_path / "steps.SVG").read_bytes().startswith(b"<?xml")


def test_without_matplotlib_it_says_what_to_install(softgrad: Run, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n")
    done = softgrad("sweep", *BOTH, "--plot", "steps.png", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "softgrad: error: --plot needs matplotlib: pip install 'softgrad[plot]'\n"
    assert not (tmp_path / "steps.png").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["z.npy", "nowhere.npy"], "nowhere.npy: no such file"),
        (["z.npy", ""], "LABELS '': the file name is empty"),
        (["z.npy", "bad.npy"], "bad.npy, row 2: class 4 is outside 0 .. 3"),
        (["nan.npy", "y.npy"], "nan.npy, entry [1, 2]: logit nan"),
        (["z.npy", "y.npy", "--plot", "steps.pdf"], "--plot steps.pdf: the name must end in .png or .svg"),
        (
            ["z.npy", "y.npy", "--plot", "no/steps.png"],
            "--plot no/steps.png: cannot be written: No such file",
        ),
        (["z.npy", "y.npy", "--softcap", "0"], "--softcap 0.0: must be at least 1e-30"),
        (["z.npy", "y.npy", "-q", "-f", "csv"], "-q and --format csv contradict"),
        (["z.npy"], "z.npy: no LABELS are given; write softgrad sweep LOGITS LABELS"),
    ],
)
def test_what_cannot_be_swept_is_one_line_and_exit_2(
    in_process: Run, tmp_path: Path, words: list[str], says: str
) -> None:
    if "no/steps.png" in words:
        pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3, 4))
    nan = z.copy()
    nan[1] = np.nan
    nan[1, :2] = 0.0
    arrays = {"z": z, "nan": nan, "y": np.arange(3), "bad": np.array([0, 1, 4])}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    done = in_process("sweep", *words)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("softgrad: error: ")
    assert says in done.stderr

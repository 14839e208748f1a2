"""Reports of the commands on one problem: every command has every format, on standard output and in files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from gradcheck_cli.cli.destinations import FORMATS
from tests.batch.conftest import gradient
from tests.cli.conftest import Run

WRONG = {
    "check": ("z.npy", "y.npy", "--grad", "z.npy"),
    "vjp": ("z.npy", "t.npy", "--grad", "z.npy"),
    "linear": ("x.npy", "y.npy", "--weight", "w.npy", "--grad", "z.npy"),
    "jacobian": ("z.npy", "--row", "1", "--jacobian", "j.npy"),
}
"""What each command is given that is wrong."""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    z, x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((6, 20), (6, 3), (3, 20)))
    y = rng.integers(0, 20, 6)
    arrays = {"z": z, "t": z[::-1], "x": x, "w": w, "y": y, "j": np.eye(20), "g": gradient(z, y)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


@pytest.mark.parametrize("name", WRONG)
def test_every_command_writes_every_report(in_process: Run, files: Path, name: str) -> None:
    words = [word for form in FORMATS for word in ("--report", f"{form}=out.{form}")]
    done = in_process(name, *WRONG[name], *words, "-q")
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL ")
    told = {form: (files / f"out.{form}").read_text() for form in FORMATS}
    assert json.loads(told["json"])["command"] == json.loads(told["jsonl"])["command"] == name
    assert '<failure type="fail"' in told["junit"]
    assert told["github"].startswith("::error title=softgrad%3A ")
    assert told["markdown"].startswith("### softgrad: FAIL")
    assert told["html"].startswith("<!DOCTYPE html>")
    assert len(list(csv.DictReader(told["csv"].splitlines()))) == (400 if name == "jacobian" else 1)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("form", ["json", "csv", "junit"])
def test_a_format_is_the_same_on_standard_output(in_process: Run, files: Path, name: str, form: str) -> None:
    shown = in_process(name, *WRONG[name], "--format", form, "--report", f"{form}=out").stdout
    assert shown == (files / "out").read_bytes().decode()
    assert shown.strip()


@pytest.mark.parametrize("name", WRONG)
def test_a_report_says_so_where_nothing_could_be_checked(in_process: Run, files: Path, name: str) -> None:
    (files / "out").write_text("of last week")
    done = in_process(name, "none.npy", *WRONG[name][1:], "--report", "junit=out")
    assert done.returncode == 2
    assert '<error type="error" message="none.npy: no such file"' in (files / "out").read_text()
    (case,) = [line for line in (files / "out").read_text().splitlines() if "<testcase" in line]
    assert f'name="none.npy" classname="softgrad.{name}"' in case


def test_a_report_has_the_whole_matrix_and_the_table_what_is_read(in_process: Run, files: Path) -> None:
    bare = in_process("jacobian", "z.npy", "--row", "1").stdout
    done = in_process("jacobian", "z.npy", "--row", "1", "--report", "json=out").stdout
    assert _untimed(done) == _untimed(bare)
    assert len(json.loads((files / "out").read_text())["matrix"]["classes"]) == 20
    assert in_process("jacobian", "z.npy", "--row", "1", "--jacobian", "j.npy", "-v").returncode == 1


def _untimed(text: str) -> str:
    return text.rpartition(" in ")[0]

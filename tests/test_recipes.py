"""The recipes of the README: the commands in them are run, on right cases and on a wrong one."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.batch.conftest import make_case
from tests.cli.conftest import command

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"^```\w+ recipe\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for recipe in RECIPES for line in re.findall(r"softgrad (?:batch|merge) [^'\n]*", recipe)]


def run(line: str, cwd: Path, part: int) -> int:
    """Run a line as a CI server's shell would, and return its exit code."""
    env = {
        **os.environ,
        "PATH": f"{Path(command()).parent}:{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(cwd / "summary.md"),
        "SLURM_ARRAY_TASK_ID": str(part),
    }
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode


def test_each_recipe_has_a_command() -> None:
    assert len(RECIPES) == 6
    assert len(COMMANDS) == 6
    assert all("softgrad batch" in recipe or "softgrad merge" in recipe for recipe in RECIPES)


@pytest.mark.parametrize("line", [line for line in COMMANDS if "SLURM" not in line and "merge" not in line])
def test_a_recipe_passes_what_is_right_and_fails_what_is_wrong(line: str, tmp_path: Path) -> None:
    make_case(tmp_path / "dumps", "a_", 1)
    assert run(line, tmp_path, 1) == 0
    make_case(tmp_path / "dumps", "b_", 2, wrong=True)
    assert run(line, tmp_path, 1) == 1
    for name in re.findall(r"--report \w+=(\S+)", line):
        assert (tmp_path / name.replace("$GITHUB_STEP_SUMMARY", "summary.md")).stat().st_size


def test_the_array_of_jobs_and_the_one_after_them(tmp_path: Path) -> None:
    array, merge = (line for line in COMMANDS if "SLURM" in line or "merge" in line)
    for number in range(7):
        make_case(tmp_path / "dumps", f"{number}_", number, wrong=number == 4)
    assert [run(array, tmp_path, part) for part in (1, 2, 3)] == [0, 1, 0]
    assert run(array, tmp_path, 2) == 1  # once more: it goes on, and has nothing left to do
    assert run(merge, tmp_path, 0) == 1
    assert "dumps/4" in (tmp_path / "softgrad.html").read_text()

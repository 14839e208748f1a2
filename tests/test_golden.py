"""Golden runs: each folder of tests/golden holds a command and what it prints, standard error included.

`command` is run by a shell in samples/; its last output line is the exit code. Write new expectations with
`python -m tests.test_golden` and read the difference before committing it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import SAMPLES, command
from tests.transcript import comparable

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir())


def _printed(name: str) -> str:
    """Return what the case's command prints, and its exit code."""
    line = (GOLDEN / name / "command").read_text(encoding="utf-8").strip()
    env = dict(os.environ, PATH=f"{Path(command()).parent}:{os.environ['PATH']}")
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=SAMPLES, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return f"{comparable(done.stdout)}\nexit {done.returncode}\n"


def test_there_are_golden_cases() -> None:
    assert len(CASES) >= 10


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    expected = (GOLDEN / name / "output").read_text(encoding="utf-8")
    assert "…" not in expected
    assert _printed(name) == expected


if __name__ == "__main__":
    for each in CASES:
        (GOLDEN / each / "output").write_text(_printed(each), encoding="utf-8")

"""The README's transcripts are real: each command is run in samples/ and must print what stands there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import SAMPLES, command
from tests.transcript import comparable

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _transcripts() -> list[tuple[str, str]]:
    """Return pairs of command and output."""
    pairs = []
    for block in BLOCKS:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            pairs.append((line, output))
    return pairs


def test_there_are_transcripts() -> None:
    assert len(_transcripts()) >= 3


@pytest.mark.parametrize(("line", "output"), _transcripts(), ids=lambda text: str(text)[:60])
def test_the_transcript_is_what_the_command_prints(line: str, output: str) -> None:
    name, *words = line.split()
    assert name == "softgrad"
    done = subprocess.run([command(), *words], cwd=SAMPLES, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert comparable(done.stdout) == comparable(output)

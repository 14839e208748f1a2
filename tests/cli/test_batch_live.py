"""A batch as it runs: on a terminal, under signals, and with names that are meant to do harm."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.batch.conftest import make_case
from tests.cli.conftest import Run, command


def on_a_terminal(words: list[str], cwd: Path) -> tuple[int, str]:
    """Run a command whose standard error is a terminal; return its exit code and what was drawn there."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        [command(), *words], cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=theirs
    ) as running:
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # the terminal is gone with its last user
            while part := os.read(ours, 65536):
                drawn += part
        code = running.wait(60)
    os.close(ours)
    return code, drawn.decode(errors="replace")


def test_a_terminal_sees_a_bar_and_the_failures_as_they_come(tmp_path: Path) -> None:
    for number in range(60):
        make_case(tmp_path / "d", f"{number}_", number, wrong=number == 5)
    code, drawn = on_a_terminal(["batch", "d"], tmp_path)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    assert code == 1
    assert re.search(r"FAIL  d/5: [a-z-]+: grad: all 40 entries are outside", shown)
    assert re.search(r"\d+/60", shown)
    assert re.search(r"[\d,]+ cases/s", shown)
    assert "1 failed" in shown
    assert on_a_terminal(["batch", "d", "-q"], tmp_path)[1] == ""


EVIL = "a\x1b[2J[red]x[link=z]\n::error::z\u202e_"
"""A stem that clears a screen, opens markup, forges a line and turns text around."""


def test_a_hostile_name_reaches_a_terminal_as_visible_signs(tmp_path: Path) -> None:
    make_case(tmp_path / "d", EVIL, 1, wrong=True)
    code, drawn = on_a_terminal(["batch", "d"], tmp_path)
    assert code == 1
    assert r"a\x1b[2J[red]x[link=z]\x0a::error::z" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    assert "\x1b[2J" not in drawn


@pytest.mark.parametrize("form", ["table", "github", "markdown", "csv", "junit", "jsonl"])
def test_R05_a_hostile_name_forges_nothing(softgrad: Run, tmp_path: Path, form: str) -> None:
    make_case(tmp_path / "d", EVIL, 1, wrong=True)
    (tmp_path / "d" / os.fsdecode(b"\xff_logits.npy")).touch()
    for words in (("--format", form), ("--dry-run",)):
        done = softgrad("batch", "d", *words)
        assert done.returncode == (1 if words[0] == "--format" else 2)
        assert not re.search("^::error::z", done.stdout, re.MULTILINE)
        assert not re.search("[\x1b\u202e\udcff]", done.stdout)
        assert done.stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_batch_and_its_workers_and_the_journal_is_whole(
    softgrad: Run, tmp_path: Path, number: int, code: int
) -> None:
    for case in range(16):
        make_case(tmp_path / "d", f"{case}_", case, rows=20_000)
    words = ["batch", "d", "--jobs", "2", "--journal", "j", "--report", "csv=out.csv"]
    with subprocess.Popen(
        [command(), *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        end = time.monotonic() + 30
        while time.monotonic() < end and len(_lines(tmp_path / "j")) < 4:
            time.sleep(0.01)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        running.send_signal(number)
        out, err = running.communicate(timeout=20)
    assert running.returncode in (-number, code)
    assert (out, err.strip()) == ("", "")
    assert not (tmp_path / "out.csv").exists()
    assert not list(tmp_path.glob(".softgrad-*"))
    assert all(not Path(f"/proc/{child}").exists() for child in children)
    done = softgrad("batch", "d", "--journal", "j", "--resume", "-q")
    assert (done.returncode, done.stdout) == (0, "PASS all 16 cases are right\n")


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []

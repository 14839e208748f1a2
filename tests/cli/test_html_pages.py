"""Pages for a browser, wherever they are asked for: on standard output, in a file, of a pipe, of an error."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.cli.conftest import SAMPLES, Run, command

WRONG = ("check", "logits.npy", "labels.npy", "--grad", "wrong_grad.npy")


def test_html_on_standard_output_is_the_file(in_process: Run, tmp_path: Path) -> None:
    path = tmp_path / "wrong.html"
    done = in_process(*WRONG, "--format", "html", "--report", f"html={path}", cwd=SAMPLES)
    assert done.returncode == 1
    assert done.stdout == path.read_text()
    assert done.stdout.count("<figure>") == 2


def test_what_comes_through_a_pipe_is_drawn_too(tmp_path: Path) -> None:
    path = tmp_path / "wrong.html"
    words = [command(), "check", "-", *WRONG[2:], "--report", f"html={path}", "-q"]
    with (SAMPLES / "logits.npy").open("rb") as file:
        done = subprocess.run(words, stdin=file, cwd=SAMPLES, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    assert path.read_text().count("<figure>") == 2


def test_a_page_about_what_could_not_be_checked_says_why(in_process: Run, tmp_path: Path) -> None:
    path = tmp_path / "none.html"
    done = in_process("check", "none.npy", "labels.npy", "--report", f"html={path}", cwd=SAMPLES)
    assert done.returncode == 2
    assert '<h1><span class="error">ERROR</span> none.npy: no such file' in path.read_text()


def test_a_batch_on_standard_output_has_pictures(in_process: Run) -> None:
    done = in_process("batch", "cases.toml", "--format", "html", cwd=SAMPLES)
    assert done.returncode == 1
    assert done.stdout.count("<figure>") == 4

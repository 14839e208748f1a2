"""Options set once: flag over environment over file over default, and who said what."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Run, command

WORDS = ("check", "logits.npy", "labels.npy", "--format", "json")


def smoothing(softgrad: Run, *words: str, **variables: str) -> float:
    """Return the label smoothing in force."""
    done = softgrad(*WORDS, *words, env={**os.environ, **variables})
    assert done.stderr == ""
    value: float = json.loads(done.stdout)["settings"]["label_smoothing"]
    return value


def test_flag_over_environment_over_file_over_default(softgrad: Run, files: Path) -> None:
    assert smoothing(softgrad) == 0.0
    (files / "softgrad.toml").write_text("label-smoothing = 0.1\n")
    assert smoothing(softgrad) == 0.1
    assert smoothing(softgrad, SOFTGRAD_LABEL_SMOOTHING="0.2") == 0.2
    assert smoothing(softgrad, "--label-smoothing", "0.3", SOFTGRAD_LABEL_SMOOTHING="0.2") == 0.3
    assert smoothing(softgrad, SOFTGRAD_CONFIG="") == 0.0


def test_a_table_of_a_command_wins_and_holds_for_it_alone(softgrad: Run, files: Path) -> None:
    (files / "softgrad.toml").write_text("label_smoothing = 0.1\n[check]\nlabel_smoothing = 0.2\n")
    assert smoothing(softgrad) == 0.2
    (files / "softgrad.toml").write_text("[batch]\nlabel_smoothing = 0.2\n")
    assert smoothing(softgrad) == 0.0


def test_pyproject_is_looked_for_up_to_the_top_of_the_repository(softgrad: Run, files: Path) -> None:
    (files / "pyproject.toml").write_text("[project]\nname = 'x'\n[tool.softgrad]\nlabel-smoothing = 0.1\n")
    below = files / "sub" / "deep"
    below.mkdir(parents=True)
    for name in ("logits.npy", "labels.npy"):
        shutil.copy(files / name, below)
    words = [*WORDS]

    def found() -> float:
        done = softgrad(*words, cwd=below)
        value: float = json.loads(done.stdout)["settings"]["label_smoothing"]
        return value

    assert found() == 0.1
    (files / "sub" / "pyproject.toml").write_text("[project]\nname = 'softgrad'\n")  # has nothing to say
    assert found() == 0.1
    (files / "sub" / ".git").mkdir()
    assert found() == 0.0


def test_a_file_can_be_named(softgrad: Run, files: Path) -> None:
    (files / "other.toml").write_text("label-smoothing = 0.4\n")
    assert smoothing(softgrad, SOFTGRAD_CONFIG="other.toml") == 0.4
    done = softgrad(*WORDS, env={**os.environ, "SOFTGRAD_CONFIG": "none.toml"})
    assert done.returncode == 2
    assert "none.toml: cannot be read: No such file" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reducton = 'sum'", "'reducton' is no option that can be set in a file"),
        ("grad = 'g.npy'", "'grad' is no option"),
        ("reduction = 'average'", "reduction: 'average' is not one of"),
        ("top = 1.5", "top: '1.5' is not a valid integer"),
        ("top = true", "top: must be one value"),
        ("verbose = 1", "verbose: must be true or false"),
        ("top = [1]", "top: must be one value, no list"),
        ("[check]\njobs = 2", "jobs is no option of softgrad check"),
        ("check = 3", "check must be a table"),
        ("top =", "not valid TOML"),
        ("a = '\udcff'", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_file_is_named(softgrad: Run, files: Path, text: str, said: str) -> None:
    (files / "softgrad.toml").write_bytes(text.encode(errors="surrogateescape"))
    done = softgrad(*WORDS)
    assert (done.returncode, done.stdout) == (2, "")
    assert "softgrad.toml: " in done.stderr
    assert said in done.stderr


def test_a_mistake_in_the_environment_is_a_mistake(softgrad: Run, files: Path) -> None:
    done = softgrad(*WORDS, cwd=files, env={**os.environ, "SOFTGRAD_REDUCTION": "average"})
    assert done.returncode == 2
    assert "SOFTGRAD_REDUCTION" in done.stderr


def test_show_settings_says_what_holds_and_who_said_so(softgrad: Run, files: Path) -> None:
    (files / "softgrad.toml").write_text("reduction = 'sum'\n[batch]\njobs = 3\n")
    done = softgrad("batch", "--show-settings", "--seed", "4", env={**os.environ, "SOFTGRAD_TOP": "7"})
    assert (done.returncode, done.stderr) == (0, "")
    told = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stdout.splitlines()}
    assert told["--reduction"] == ["sum", str(files / "softgrad.toml")]
    assert told["--jobs"] == ["3", str(files / "softgrad.toml")]
    assert told["--seed"] == ["4", "command line"]
    assert told["--top"] == ["7", "SOFTGRAD_TOP"]
    assert told["--color"] == ["auto", "default"]
    assert "--dry-run" not in told
    assert softgrad("check", "--show-settings").returncode == 0
    assert softgrad("check").returncode == 2


# Completion.


def completed(line: str, cwd: Path) -> str:
    """Return what a bash that has sourced the completion offers for a line."""
    script = (
        'eval "$(_SOFTGRAD_COMPLETE=bash_source softgrad)"\n'
        f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        'COMPREPLY=(); _softgrad_completion softgrad; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = {**os.environ, "PATH": f"{Path(command()).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=env, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("softgrad ba", "batch"),
        ("softgrad check --red", "--reduction"),
        ("softgrad check --reduction s", "sum"),
        ("softgrad batch --format ju", "junit"),
    ],
)
def test_bash_completes_commands_options_and_choices(line: str, offered: str, tmp_path: Path) -> None:
    assert completed(line, tmp_path).split() == [offered]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script_and_files_are_offered(shell: str, softgrad: Run) -> None:
    script = softgrad(env={**os.environ, "_SOFTGRAD_COMPLETE": f"{shell}_source"})
    assert script.returncode == 0
    assert "_SOFTGRAD_COMPLETE=" in script.stdout
    variables = {"COMP_WORDS": "softgrad check lo", "COMP_CWORD": "2" if shell != "fish" else "lo"}
    offered = softgrad(env={**os.environ, **variables, "_SOFTGRAD_COMPLETE": f"{shell}_complete"})
    assert offered.stdout.startswith("file")

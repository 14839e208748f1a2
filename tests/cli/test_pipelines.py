"""The command among other programs: signals, locales, other processors, little memory, odd streams."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__ as DISPATCHED
from numpy._core._multiarray_umath import __cpu_features__ as FEATURES
from safetensors.numpy import save_file

from tests.cli.conftest import Run, command

BOTH = ("logits.npy", "labels.npy", "--grad", "grad.npy")


def test_O02_an_interrupt_while_starting_is_quiet() -> None:
    """Python would print a traceback until our own handler is there: click alone takes 0.05 s to import."""
    code = (
        "import gradcheck_cli.__main__, os, signal\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "raise SystemExit('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_O02_the_command_begins_where_that_is_set() -> None:
    assert "from gradcheck_cli.__main__ import main" in Path(command()).read_text(encoding="utf-8")


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.2, 0.4])
def test_O02_an_interrupt_at_any_time_is_quiet(files: Path, delay: float) -> None:
    process = subprocess.Popen(
        [command(), "check", "-", "labels.npy"],
        cwd=files, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert out == b""
    assert b"gradcheck_cli/cli" not in err
    if err == b"":  # else it was Python's own start that was interrupted, before ours
        assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_O15_a_signal_that_was_ignored_stays_ignored(files: Path, name: str) -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'trap "" {name}; exec "$@"', "sh", command(), "check", "-", "labels.npy", "-q"],
        cwd=files, stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(reading)
    time.sleep(0.5)
    process.send_signal(signal.Signals[f"SIG{name}"])
    os.write(writing, (files / "logits.npy").read_bytes())
    os.close(writing)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"PASS -:")


def test_F07_a_name_that_is_no_unicode(softgrad: Run, files: Path) -> None:
    name = os.fsdecode(b"caf\xe9.npy")
    (files / name).write_bytes((files / "logits.npy").read_bytes())
    strict = os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:strict"}
    for words in (
        ["check", name, "labels.npy"],
        ["inspect", name],
        ["check", name, "labels.npy", "-f", "json"],
    ):
        done = softgrad(*words, cwd=files, env=strict)
        assert (done.returncode, done.stderr) == (0, "")
        assert r"caf\xe9.npy" in done.stdout.replace("\\\\", "\\")
    assert r"caf\xe9.np" in softgrad("check", name[:-1], "labels.npy", cwd=files, env=strict).stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("check logits.npy labels.npy -q <&-", 0),
        ("check - labels.npy <&-", 2),
        ("check nowhere.npy labels.npy 2>&-", 2),
        ("check logits.npy labels.npy 2>&- >&-", 2),
        ("check logits.npy labels.npy --grad wrong.npy -q 2>&-", 1),
        ("inspect logits.npy >&-", 2),
        ("inspect logits.npy > /dev/full", 2),
        ("check logits.npy labels.npy --grad wrong.npy -qq >&-", 2),
    ],
)
def test_O05_closed_and_full_streams(files: Path, line: str, code: int) -> None:
    np.save(files / "wrong.npy", 2 * np.load(files / "grad.npy"))
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command()} {line}"], cwd=files, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_no_variable_puts_escapes_into_a_pipe(softgrad: Run, files: Path, variable: str) -> None:
    done = softgrad("check", *BOTH, cwd=files, env=os.environ | {variable: "1", "TERM": "xterm-256color"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "\x1b[" in softgrad("check", *BOTH, "--color", "always", cwd=files).stdout


CONDITIONS: dict[str, tuple[dict[str, str], list[str]]] = {
    "plain": ({}, []),
    "F08": ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, []),
    "turkish": ({"LC_ALL": "tr_TR.UTF-8"}, []),
    "developer": ({}, ["-X", "dev", "-W", "error"]),
    "old-processor": (
        {"NPY_DISABLE_CPU_FEATURES": " ".join(name for name in DISPATCHED if FEATURES[name])},
        [],
    ),
    "no-loops": ({"SOFTGRAD_COMPILED": "0"}, []),
    "no-hashes": ({"PYTHONHASHSEED": "7"}, []),
    "optimised": ({}, ["-OO"]),
}


def _told(folder: Path, condition: str, words: list[str]) -> tuple[Any, ...]:
    """Return what is left of a run when digits in the last place do not count."""
    environment, flags = CONDITIONS[condition]
    done = subprocess.run(
        [sys.executable, *flags, "-m", "gradcheck_cli", "check", *words, "--format", "json"],
        cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    told = json.loads(done.stdout)
    checks = [(each["name"], each["verdict"], each["entries"], each["failing"]) for each in told["checks"]]
    return done.returncode, told["verdict"], checks


@pytest.fixture
def many(files: Path) -> list[list[str]]:
    """Return what to check: the same case in every container, a wrong gradient, and text."""
    arrays = {name: np.load(files / f"{name}.npy") for name in ("logits", "labels", "grad")}
    np.savez_compressed(files / "x.npz", **arrays)
    name = os.fsdecode("é.safetensors".encode())
    save_file(arrays, files / name)
    np.savetxt(files / "grad.csv", arrays["grad"], delimiter=",", fmt="%.9g")
    arrays["grad"][3, 2] *= 1.01
    np.save(files / "wrong.npy", arrays["grad"])
    return [
        ["x.npz"],
        [name],
        ["logits.npy", "labels.npy", "--grad", "grad.csv"],
        ["logits.npy", "labels.npy", "--grad", "wrong.npy", "--threads", "1"],
    ]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_verdict_is_the_same_everywhere(files: Path, many: list[list[str]], condition: str) -> None:
    told = [_told(files, condition, words) for words in many]
    assert [each[:2] for each in told] == [(0, "pass")] * 3 + [(1, "fail")]
    assert told[0] == told[1] == told[2]
    assert told[3][2][-1] == ("grad", "fail", 60, 1)


def _little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))


def test_N02_what_a_file_claims_is_not_allocated(softgrad: Run, files: Path) -> None:
    """Under 400 MB of address space, claims of 8 TB and of 12 GB are refused like any other fault."""
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    for shape, said in (("(1000000, 1000000)", "cut off"), ("(1500000000,)", "cut off")):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        (files / "x.npy").write_bytes(
            b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(48)
        )
        done = softgrad("check", "x.npy", "labels.npy", cwd=files, env=env, preexec_fn=_little_memory)
        assert done.returncode == 2
        assert said in done.stderr


def test_a_large_file_is_checked_in_little_memory(softgrad: Run, tmp_path: Path) -> None:
    """Half a gigabyte of logits, in a file that takes no space, under 400 MB of address space."""
    shape = (1 << 12, 1 << 15)
    with (tmp_path / "logits.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + 4 * shape[0] * shape[1])
    done = softgrad(
        "inspect", "logits.npy", env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, preexec_fn=_little_memory
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "134,217,728" in done.stdout

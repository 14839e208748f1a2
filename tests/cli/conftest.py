"""The installed command, run as a user runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcheck_cli.cli import exits
from gradcheck_cli.cli import softgrad as group

SAMPLES = Path(__file__).parent.parent.parent / "samples"

Run = Callable[..., subprocess.CompletedProcess[str]]


def command() -> str:
    """Return the installed command of this interpreter's environment."""
    return str(Path(sys.executable).parent / "softgrad")


@pytest.fixture
def softgrad(tmp_path: Path) -> Run:
    """Return what runs ``softgrad`` in a folder of its own."""

    def run(*words: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        settings: dict[str, Any] = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 60}
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [command(), *map(str, words)], check=False, **(settings | options)
        )
        return done

    return run


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs ``softgrad`` in this process, exit code and all: for what needs no fresh one."""

    def run(*words: Any, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["softgrad", *map(str, words)])
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                exits.run(group)
        finally:
            signal.signal(signal.SIGTERM, before)
        shown = capsys.readouterr()
        code = ended.value.code
        return subprocess.CompletedProcess(
            sys.argv, code if isinstance(code, int) else 0, shown.out, shown.err
        )

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with logits.npy, labels.npy and a right grad.npy, float32."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(12, 5)).astype(np.float32)
    labels = rng.integers(0, 5, 12)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    grad = e / e.sum(axis=1, keepdims=True)
    grad[np.arange(12), labels] -= 1
    for name, array in {"logits": logits, "labels": labels, "grad": grad / np.float32(12)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path

"""What the benchmarks of speed share: the files they check, and how commands are timed.

A module of the benchmarks, not a program.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

SOFTGRAD = str(Path(sys.executable).parent / "softgrad")
THREADS = 2
_REST = 0.25  # seconds


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    case: str
    what: str
    seconds: float
    partials: int | None = None
    against: str = ""  # what the ratio is to
    ratio: float | None = None
    bar: str = ""  # what the ratio should be: "<= 0.8", ">= 1000"

    @property
    def met(self) -> bool | None:
        """Whether the ratio is what it should be, if anything is asked of it."""
        if self.ratio is None or not self.bar:
            return None
        sign, number = self.bar.split()
        return self.ratio <= float(number) if sign == "<=" else self.ratio >= float(number)


def best(run: Callable[[], Any], repeats: int) -> float:
    """Return the shortest of several runs, in seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def run(words: list[str]) -> None:
    """Run a command, which must pass."""
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def process(words: list[str], repeats: int) -> float:
    """Return the time of a whole process; it must pass."""
    return best(lambda: run(words), repeats)


def in_turn(steps: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the shortest of several runs of each step, in seconds.

    They take turns, so that a machine that is slow for a while is slow for all; threads that one has left
    spinning come to rest before the next.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            time.sleep(_REST)
            times[name].append(best(step, 1))
    return {name: min(each) for name, each in times.items()}


@dataclass(frozen=True)
class Case:
    """Logits of some shape and dtype, with labels or distributions, and their right gradient in files."""

    shape: tuple[int, ...]
    axis: int = -1  # of the classes
    dtype: str = "float32"
    soft: bool = False

    @property
    def words(self) -> str:
        """Return what the case is called."""
        shape = "x".join(f"{size:,}" for size in self.shape)
        more = "" if self.axis == -1 else f", classes on axis {self.axis}"
        return f"{shape} {self.dtype}{more}{', soft' if self.soft else ''}"

    @property
    def size(self) -> int:
        """Return the number of entries."""
        return math.prod(self.shape)

    def write(self, folder: Path) -> tuple[Any, Any]:
        """Write the files; return logits and labels."""
        rng = np.random.default_rng(0)
        logits = rng.standard_normal(size=self.shape, dtype=np.float32).astype(self.dtype)
        classes = self.shape[self.axis]
        rows = self.size // classes
        e = np.moveaxis(np.exp(logits.astype(np.float32)), self.axis, -1)
        p = e / e.sum(axis=-1, keepdims=True)
        labels: Any = rng.integers(0, classes, p.shape[:-1])
        if self.soft:
            labels = np.roll(p, 1, axis=-1)
            p = p - labels
            labels = np.moveaxis(labels, -1, self.axis)
        else:
            np.put_along_axis(p, labels[..., None], np.take_along_axis(p, labels[..., None], -1) - 1, -1)
        grad = np.ascontiguousarray(np.moveaxis(p / np.float32(rows), -1, self.axis)).astype(self.dtype)
        for name, array in {"logits": logits, "labels": labels, "grad": grad}.items():
            np.save(folder / f"{name}.npy", array)
        return logits, labels

    def command(self, folder: Path, *words: str, grad: bool = False) -> list[str]:
        """Return the command that checks the files."""
        both = [str(folder / "logits.npy"), str(folder / "labels.npy")]
        exported = ["--grad", str(folder / "grad.npy")] if grad else []
        axis = [] if self.axis == -1 else ["--axis", str(self.axis)]
        return [SOFTGRAD, "check", *both, *exported, *axis, "-qq", "--threads", str(THREADS), *words]


def beyond_start_up(
    commands: Mapping[str, list[str]], rounds: int, **others: Callable[[], Any]
) -> dict[str, float]:
    """Return the time of whole processes less that of a check of two rows, and of other steps, in turn."""
    with tempfile.TemporaryDirectory() as name:
        tiny, folder = Case((2, 3)), Path(name)
        tiny.write(folder)
        steps = {name: partial(run, words) for name, words in commands.items()}
        times = in_turn({"": partial(run, tiny.command(folder)), **steps, **others}, rounds)
    least = times.pop("")
    return {name: seconds - (least if name in commands else 0.0) for name, seconds in times.items()}


def floor(entries: int) -> float:
    """Return the time of one exp and two log1p an entry, in cache, on as many processes, in seconds."""
    x = np.linspace(-20.0, -1.0, 1 << 15)
    w, out = np.exp(x) * 2.0**-26, np.empty_like(x)

    def step() -> None:
        for _ in range(50):
            np.exp(x, out=out)
            np.log1p(w, out=out)
            np.log1p(w, out=out)

    return best(step, 9) / (50 * x.size) * entries / THREADS


def peak(words: list[str]) -> tuple[float, int]:
    """Return seconds and peak resident KiB of a process, measured in a process of its own."""
    code = (
        "import resource, subprocess, sys, time; b = time.perf_counter();"
        "subprocess.run(sys.argv[1:], check=True);"
        "print(time.perf_counter() - b, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    told = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    seconds, kibibytes = told.stdout.split()
    return float(seconds), int(kibibytes)


def sparse(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    """Write an NPY file of zeros that takes no space."""
    with path.open("wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + math.prod(shape) * np.dtype(dtype).itemsize)

"""What naming a bug costs next to the check that found it, and what looking for weak data costs on a pass.

    python -m tests.benchmarks.diagnosis [--quick] [--command check|vjp|linear] [--json FILE]

One process, one thread, CPU time, the best of a few runs. The check and what comes after it are timed in the
same run, and every file holds another bug; the first row of a size passes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from gradcheck_cli.choices import LayerSettings, LinearSettings
from gradcheck_cli.outcome import Outcome
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import Tensor, open_tensor
from tests.diagnosis.plants import softmax, vjp

FEW = 1 << 17  # entries up to which a run is repeated more often

Array = np.ndarray[Any, Any]
Files = dict[str, Array]
"""By role."""


@dataclass(frozen=True)
class Row:
    """One line of the table; milliseconds of CPU time."""

    command: str
    size: tuple[int, ...]
    bug: str
    check: float
    after: float  # diagnosis and warnings
    named: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Return what comes after the check over the check itself."""
        return self.after / self.check


@dataclass(frozen=True)
class Kind:
    """A command: what it is given, and what of it comes after the check."""

    name: str
    after: tuple[str, ...]  # functions of its module
    settings: Any
    sizes: tuple[tuple[int, ...], ...]
    planted: Callable[..., Iterator[tuple[str, Files]]]  # of a size: bugs, and all files

    @property
    def module(self) -> Any:
        """Return its module."""
        return importlib.import_module(f"gradcheck_cli.{self.name}")

    def outcome(self, tensors: dict[str, Tensor]) -> Outcome:
        """Return what it says of files."""
        run = getattr(self.module, self.name)
        given = (tensors,) if self.name == "vjp" else (tensors, {})
        outcome: Outcome = run(*given, self.settings)
        return outcome


def of_check(n: int, classes: int) -> Iterator[tuple[str, Files]]:
    """Yield gradients of the mean loss: the right one, named bugs, and damage that has no name."""
    rng = np.random.default_rng(0)
    stored = rng.normal(size=(n, classes)).astype(np.float32)
    y = rng.integers(0, classes, n)
    for bug, grad in planted(stored.astype(np.float64), y):
        yield bug, {"logits": stored, "labels": y, "grad": grad.astype(np.float32)}


def planted(z: Array, y: Array) -> Iterator[tuple[str, Array]]:
    """Yield them, given logits and labels."""
    n, classes = z.shape
    rng = np.random.default_rng(1)
    a, hot = softmax(z), np.eye(classes, dtype=bool)[y]
    right = (a - hot) / n
    one = right.copy()
    one[n // 2, 2] *= 1.01
    yield "none", right
    yield "sum for mean", right * n
    yield "no one-hot", a / n
    yield "label off by one", (a - np.roll(hot, 1, axis=1)) / n
    yield "sum and no one-hot", a
    yield "temperature 2", (softmax(z / 2.0) - hot) / n / 2.0
    yield "wrong axis", (softmax(z, 0) - hot) / n
    yield "padded lanes", (a / (1.0 + 24.0 / np.exp(z).sum(axis=1, keepdims=True)) - hot) / n
    yield "rough by 0.1 %", right * (1.0 + 1e-3 * rng.normal(size=z.shape))
    yield "label entries x 1.001", np.where(hot, right * 1.001, right)
    yield "one entry", one
    yield "noise", rng.normal(size=z.shape) * 1e-3


def of_layer(n: int, classes: int) -> Iterator[tuple[str, Files]]:
    """Yield the same of the backward of a softmax layer."""
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(2, n, classes)).astype(np.float32)
    a, right = softmax(z.astype(np.float64)), vjp(softmax(z.astype(np.float64)), t)
    one = right.copy()
    one[n // 2, 2] *= 1.01
    for bug, grad in (
        ("none", right),
        ("sign", -right),
        ("missing dot", t * a),
        ("log-softmax", t - a * t.sum(axis=1, keepdims=True)),
        ("wrong axis", vjp(softmax(z.astype(np.float64), 0).T, t.T).T),
        ("rough by 0.1 %", right * (1.0 + 1e-3 * rng.normal(size=z.shape))),
        ("one entry", one),
        ("noise", rng.normal(size=z.shape) * 1e-3),
    ):
        yield bug, {"logits": z, "upstream": t, "grad": grad.astype(np.float32)}


def of_linear(n: int, features: int, classes: int) -> Iterator[tuple[str, Files]]:
    """Yield the same of a linear layer's gradients, all three at once."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, features)).astype(np.float32)
    w = (rng.normal(size=(features, classes)) / np.sqrt(features)).astype(np.float32)
    y = rng.integers(0, classes, n)
    a, hot = softmax(x.astype(np.float64) @ w), np.eye(classes, dtype=bool)[y]
    right = (a - hot) / n

    def led(g: Array) -> Files:
        return {"grad-weight": x.T @ g, "grad-bias": g.sum(axis=0), "grad-inputs": g @ w.T}

    decayed = led(right)
    decayed["grad-weight"] = decayed["grad-weight"] + 1e-3 * w
    for bug, grads in (
        ("none", led(right)),
        ("sum for mean", led(right * n)),
        ("no one-hot", led(a / n)),
        ("weight decay", decayed),
        ("noise", {role: rng.normal(size=each.shape) * 1e-3 for role, each in led(right).items()}),
    ):
        given = {role: each.astype(np.float32) for role, each in grads.items()}
        yield bug, {"inputs": x, "weight": w, "labels": y, **given}


KINDS = (
    Kind(
        "check", ("diagnosed", "unseen"), Settings(threads=1),
        ((32, 10), (128, 1000), (4096, 1000), (256, 32_000)), of_check,
    ),
    Kind("vjp", ("_diagnosed",), LayerSettings(threads=1), ((32, 10), (128, 1000), (2048, 1000)), of_layer),
    Kind(
        "linear", ("_diagnosed",), LinearSettings(threads=1),
        ((32, 16, 10), (256, 64, 1000), (2048, 128, 1000)), of_linear,
    ),
)  # fmt: skip
QUICK = 2
"""Sizes of each that are measured in a hurry."""


@contextlib.contextmanager
def timed(module: Any, name: str, spent: dict[str, float]) -> Iterator[None]:
    """Time one of the things that a command does at its end."""
    real: Callable[..., Any] = getattr(module, name)

    def watched(*words: Any) -> Any:
        began = time.process_time()
        try:
            return real(*words)
        finally:
            spent[name] = time.process_time() - began

    with mock.patch.object(module, name, watched):
        yield


def run(kind: Kind, folder: Path, roles: Iterable[str]) -> tuple[float, float, Outcome]:
    """Check a folder's files; return the CPU seconds of the check and of what comes after it."""
    spent: dict[str, float] = {}
    with contextlib.ExitStack() as opened:
        tensors = {
            role: opened.enter_context(open_tensor(str(folder / f"{role}.npy"), role=role)) for role in roles
        }
        for name in kind.after:
            opened.enter_context(timed(kind.module, name, spent))
        began = time.process_time()
        outcome = kind.outcome(tensors)
        whole = time.process_time() - began
    after = sum(spent.values())
    return whole - after, after, outcome


def measured(kind: Kind, size: tuple[int, ...]) -> Iterator[Row]:
    """Yield the lines of one size."""
    repeats = 7 if math.prod(size) <= FEW else 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for bug, files in kind.planted(*size):
            for role, array in files.items():
                np.save(folder / f"{role}.npy", array)
            runs = [run(kind, folder, files) for _ in range(repeats)]
            check, after = (1e3 * min(each[place] for each in runs) for place in (0, 1))
            named = tuple(dict.fromkeys(each.code for each in runs[0][2].diagnosis))
            yield Row(kind.name, size, bug, check, after, named)


def main() -> None:
    """Measure, print a table, and write it as JSON where that is asked for."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="the small sizes only")
    options.add_argument("--command", choices=[each.name for each in KINDS], help="one command only")
    options.add_argument("--json", metavar="FILE")
    asked = options.parse_args()
    print(f"{'':>6} {'size':>17}  {'bug':<22} {'check ms':>9} {'after ms':>9} {'ratio':>6}  named")
    table = []
    for kind in (each for each in KINDS if asked.command in (None, each.name)):
        for size in kind.sizes[:QUICK] if asked.quick else kind.sizes:
            for row in measured(kind, size):
                table.append(row)
                shape = " x ".join(str(each) for each in row.size)
                print(
                    f"{row.command:>6} {shape:>17}  {row.bug:<22} {row.check:9.1f} {row.after:9.2f} "
                    f"{row.ratio:6.2f}  {', '.join(row.named)}",
                    flush=True,
                )
    if asked.json:
        lines = [{**asdict(row), "ratio": row.ratio} for row in table]
        Path(asked.json).write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

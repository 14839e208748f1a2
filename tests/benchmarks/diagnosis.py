"""What naming a bug costs next to the check that found it, and what looking for weak data costs on a pass.

    python -m tests.benchmarks.diagnosis [--quick] [--json FILE]

One process, one thread, CPU time, the best of a few runs. The check and what comes after it are timed in the
same run, and every file holds another bug; the first row of a size passes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from gradcheck_cli.outcome import Outcome
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import open_tensor
from tests.diagnosis.plants import softmax

CHECK = importlib.import_module("gradcheck_cli.check")
SIZES = ((32, 10), (128, 1000), (4096, 1000), (256, 32_000))
QUICK = SIZES[:2]
FEW = 1 << 17  # entries up to which a run is repeated more often

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Row:
    """One line of the table; milliseconds of CPU time."""

    rows: int
    classes: int
    bug: str
    check: float
    after: float  # diagnosis and warnings
    named: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Return what comes after the check over the check itself."""
        return self.after / self.check


def planted(z: Array, y: Array) -> Iterator[tuple[str, Array]]:
    """Yield gradients of the mean loss: the right one, named bugs, and damage that has no name."""
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


@contextlib.contextmanager
def timed(name: str, spent: dict[str, float]) -> Iterator[None]:
    """Time one of the things that the check does at its end."""
    real: Callable[..., Any] = getattr(CHECK, name)

    def watched(*words: Any) -> Any:
        began = time.process_time()
        try:
            return real(*words)
        finally:
            spent[name] = time.process_time() - began

    with mock.patch.object(CHECK, name, watched):
        yield


def run(folder: Path) -> tuple[float, float, Outcome]:
    """Check a folder's files; return the CPU seconds of the check and of what comes after it."""
    spent: dict[str, float] = {}
    with contextlib.ExitStack() as opened:
        tensors = {
            role: opened.enter_context(open_tensor(str(folder / f"{role}.npy"), role=role))
            for role in ("logits", "labels", "grad")
        }
        for name in ("diagnosed", "unseen"):
            opened.enter_context(timed(name, spent))
        began = time.process_time()
        outcome = CHECK.check(tensors, {}, Settings(threads=1))
        whole = time.process_time() - began
    after = sum(spent.values())
    return whole - after, after, outcome


def measured(rows: int, classes: int) -> Iterator[Row]:
    """Yield the lines of one size."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(rows, classes)).astype(np.float32)
    y = rng.integers(0, classes, rows)
    repeats = 7 if rows * classes <= FEW else 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "logits.npy", z)
        np.save(folder / "labels.npy", y)
        for bug, grad in planted(z.astype(np.float64), y):
            np.save(folder / "grad.npy", grad.astype(np.float32))
            runs = [run(folder) for _ in range(repeats)]
            check, after = (1e3 * min(each[place] for each in runs) for place in (0, 1))
            named = tuple(each.code for each in runs[0][2].diagnosis)
            yield Row(rows, classes, bug, check, after, named)


def main() -> None:
    """Measure, print a table, and write it as JSON where that is asked for."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="the small sizes only")
    options.add_argument("--json", metavar="FILE")
    asked = options.parse_args()
    print(f"{'size':>12}  {'bug':<22} {'check ms':>9} {'after ms':>9} {'ratio':>6}  named")
    table = []
    for size in QUICK if asked.quick else SIZES:
        for row in measured(*size):
            table.append(row)
            shape = f"{row.rows} x {row.classes}"
            print(
                f"{shape:>12}  {row.bug:<22} {row.check:9.1f} {row.after:9.2f} {row.ratio:6.2f}  "
                f"{', '.join(row.named)}",
                flush=True,
            )
    if asked.json:
        lines = [{**asdict(row), "ratio": row.ratio} for row in table]
        Path(asked.json).write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""softgrad and its peers side by side, in one run on one machine.

    python tests/benchmarks/peers.py [--quick] [--large] [--json FILE]

softgrad is timed as a whole process, less the time of the same command on two rows; peers in process, best of
a few runs. Needs the installed `softgrad`; torch, scipy and numdifftools are used where they are installed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SOFTGRAD = str(Path(sys.executable).parent / "softgrad")
THREADS = 2


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    case: str
    what: str
    seconds: float
    partials: int | None = None
    against: str = ""  # what the ratio is to
    ratio: float | None = None


def best(run: Callable[[], Any], repeats: int) -> float:
    """Return the shortest of several runs, in seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def files(folder: Path, rows: int, classes: int, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Write logits, labels and a right gradient; return logits and labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows, classes)).astype(dtype)
    labels = rng.integers(0, classes, rows)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    grad = e / e.sum(axis=1, keepdims=True)
    grad[np.arange(rows), labels] -= 1
    for name, array in {"logits": logits, "labels": labels, "grad": grad / logits.dtype.type(rows)}.items():
        np.save(folder / f"{name}.npy", array)
    return logits, labels


def command(folder: Path, *words: str) -> list[str]:
    """Return the command that checks a folder."""
    both = [str(folder / "logits.npy"), str(folder / "labels.npy")]
    return [SOFTGRAD, "check", *both, "-qq", "--threads", str(THREADS), *words]


def process(words: list[str], repeats: int) -> float:
    """Return the time of a whole process; it must pass."""
    return best(lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL), repeats)


def softgrad(folder: Path, start_up: float, repeats: int, *, grad: bool) -> float:
    """Return softgrad's time on a folder, less start-up."""
    words = ["--grad", str(folder / "grad.npy")] if grad else []
    return process(command(folder, *words), repeats) - start_up


def start_up_time() -> float:
    """Return the time of a check of two rows."""
    with tempfile.TemporaryDirectory() as folder:
        files(Path(folder), 2, 3)
        return process(command(Path(folder)), 7)


def torch_backward(logits: np.ndarray, labels: np.ndarray, repeats: int) -> float | None:
    """Return the time of torch's cross-entropy forward and backward in float32."""
    torch = _module("torch")
    if torch is None:
        return None
    torch.set_num_threads(THREADS)
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)

    def step() -> None:
        x = z.clone().requires_grad_(True)
        torch.nn.functional.cross_entropy(x, y).backward()

    return best(step, repeats)


def torch_gradcheck(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the time of torch.autograd.gradcheck on every partial derivative, float64."""
    torch = _module("torch")
    if torch is None:
        return None
    x = torch.from_numpy(logits.astype(np.float64)).requires_grad_(True)
    y = torch.from_numpy(labels)
    loss = torch.nn.functional.cross_entropy
    warm = x[:1, :3].detach().requires_grad_(True)
    torch.autograd.gradcheck(lambda z: loss(z, y[:1] % 3), (warm,))
    return best(lambda: torch.autograd.gradcheck(lambda z: loss(z, y), (x,)), 1)


def _plain(labels: np.ndarray, shape: tuple[int, int]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return loss and gradient of flat logits, as a user would write them with NumPy."""

    def loss(flat: np.ndarray) -> float:
        z = flat.reshape(shape)
        d = z - z.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(d).sum(axis=1)) - d[np.arange(shape[0]), labels]))

    def gradient(flat: np.ndarray) -> np.ndarray:
        e = np.exp(flat.reshape(shape) - flat.reshape(shape).max(axis=1, keepdims=True))
        a = e / e.sum(axis=1, keepdims=True)
        a[np.arange(shape[0]), labels] -= 1
        return (a / shape[0]).ravel()

    return loss, gradient


def scipy_check(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the time of scipy.optimize.check_grad on every partial derivative."""
    optimize = _module("scipy.optimize")
    if optimize is None:
        return None
    loss, gradient = _plain(labels, logits.shape)  # type: ignore[arg-type]
    return best(lambda: optimize.check_grad(loss, gradient, logits.astype(np.float64).ravel()), 1)


def numdifftools_gradient(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the time of numdifftools.Gradient, its own step extrapolation included."""
    numdifftools = _module("numdifftools")
    if numdifftools is None:
        return None
    loss, _ = _plain(labels, logits.shape)  # type: ignore[arg-type]
    return best(lambda: numdifftools.Gradient(loss)(logits.astype(np.float64).ravel()), 1)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def against_training(rows: int, classes: int, start_up: float) -> list[Row]:
    """Return softgrad next to torch forward + backward."""
    case, size = f"{rows:,}x{classes:,} float32", rows * classes
    with tempfile.TemporaryDirectory() as folder:
        logits, labels = files(Path(folder), rows, classes)
        torch = torch_backward(logits, labels, 9)
        own = {grad: softgrad(Path(folder), start_up, 7, grad=grad) for grad in (False, True)}
    table = [] if torch is None else [Row(case, "torch forward + backward", torch, size)]
    for grad, seconds in own.items():
        ratio = None if torch is None else seconds / torch
        name = "softgrad --grad" if grad else "softgrad self-check"
        table.append(Row(case, name, seconds, size, "torch" if ratio else "", ratio))
    return table


def against_checkers(rows: int, classes: int, start_up: float, *, slowest: bool) -> list[Row]:
    """Return softgrad next to checkers that move every logit."""
    case, size = f"{rows:,}x{classes:,} float32", rows * classes
    with tempfile.TemporaryDirectory() as folder:
        logits, labels = files(Path(folder), rows, classes)
        own = max(softgrad(Path(folder), start_up, 9, grad=True), 1e-3)
    peers = {
        "torch.autograd.gradcheck": torch_gradcheck(logits, labels),
        "scipy check_grad": scipy_check(logits, labels),
        "numdifftools Gradient": numdifftools_gradient(logits, labels) if slowest else None,
    }
    table = [Row(case, "softgrad --grad", own, size)]
    for name, seconds in peers.items():
        if seconds is not None:
            table.append(Row(case, name, seconds, size, "softgrad", seconds / own))
    return table


def start_up_rows() -> list[Row]:
    """Return start-up next to the imports it cannot do without."""
    table = []
    with tempfile.TemporaryDirectory() as name:
        files(Path(name), 100, 10)
        pairs = (
            ("softgrad --help", [SOFTGRAD, "--help"], "import click"),
            ("softgrad check, 100x10", command(Path(name))[:4], "import click, numpy, rich.table"),
        )
        for what, words, imports in pairs:
            floor = process([sys.executable, "-c", imports], 15)
            seconds = process(words, 15)
            table.append(Row("start-up", what, seconds, None, f'python -c "{imports}"', seconds / floor))
    return table


def memory_rows(gibibytes: int) -> list[Row]:
    """Return the peak memory of a check of a large (sparse) file over that of an empty one."""
    classes = 32_000
    rows = gibibytes * 2**30 // (4 * classes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sparse(folder / "logits.npy", (rows, classes), np.float32)
        sparse(folder / "labels.npy", (rows,), np.int64)
        seconds, large = _peak(command(folder))
        files(folder, 2, 3)
        _, small = _peak(command(folder))
    what = f"peak memory over a tiny run: {(large - small) / 1024:.0f} MiB"
    return [Row(f"{gibibytes} GiB file", what, seconds, rows * classes)]


def _peak(words: list[str]) -> tuple[float, int]:
    """Return seconds and peak resident KiB of a process, measured in a process of its own."""
    code = (
        "import resource, subprocess, sys, time; b = time.perf_counter();"
        "subprocess.run(sys.argv[1:], check=True);"
        "print(time.perf_counter() - b, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    told = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    seconds, peak = told.stdout.split()
    return float(seconds), int(peak)


def sparse(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    """Write an NPY file of zeros that takes no space."""
    with path.open("wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + math.prod(shape) * np.dtype(dtype).itemsize)


def text_rows(rows: int, classes: int, start_up: float) -> list[Row]:
    """Return a check of logits in CSV next to np.loadtxt alone."""
    case = f"CSV {rows:,}x{classes:,}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        logits, _ = files(folder, rows, classes)
        np.savetxt(folder / "logits.csv", logits, delimiter=",")
        words = command(folder)
        words[2] = str(folder / "logits.csv")
        seconds = process(words, 3) - start_up
        floor = best(lambda: np.loadtxt(folder / "logits.csv", delimiter=","), 3)
    return [
        Row(case, "np.loadtxt", floor, rows * classes),
        Row(case, "softgrad, reading and checking", seconds, rows * classes, "np.loadtxt", seconds / floor),
    ]


def show(rows: list[Row]) -> None:
    """Print the table."""
    print(f"{'case':24} {'what':44} {'seconds':>9} {'ns/partial':>11}  ratio")
    for row in rows:
        each = "" if row.partials is None else f"{row.seconds / row.partials * 1e9:.2f}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g} x {row.against}"
        print(f"{row.case:24} {row.what:44} {row.seconds:9.4f} {each:>11}  {ratio}")


def main() -> None:
    """Run the cases and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small cases only")
    parser.add_argument("--large", action="store_true", help="1 and 4 GiB files and CSV as well")
    parser.add_argument("--json", type=Path, help="write the rows for comparing commits")
    asked = parser.parse_args()
    start_up = start_up_time()
    rows = start_up_rows()
    rows += against_checkers(8, 50, start_up, slowest=True)
    if not asked.quick:
        rows += against_checkers(128, 1000, start_up, slowest=False)
        for shape in ((128, 32_000), (512, 32_000), (4_000, 1_000), (400_000, 10)):
            rows += against_training(*shape, start_up)
    if asked.large:
        rows += [*memory_rows(1), *memory_rows(4)]
        rows += [*text_rows(500, 50_257, start_up), *text_rows(100_000, 100, start_up)]
    show(rows)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    print(f"peak memory of this script: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()

"""Ten thousand small cases: time a case, memory by the number of cases, and what a cluster costs.

    python -m tests.benchmarks.batch [CASES]

Everything is measured in one run: the same files in one process, for the verdicts alone and for a report, in
all processes, and, where distributed is installed, on two workers of a Dask cluster on this machine.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.batch.conftest import gradient

ROWS, CLASSES = 32, 10
COMMAND = str(Path(sys.executable).parent / "softgrad")


def write(folder: Path, cases: int) -> None:
    """Write the files of so many cases."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(cases):
        logits = rng.normal(size=(ROWS, CLASSES)).astype(np.float32)
        labels = rng.integers(0, CLASSES, ROWS)
        arrays = {"logits": logits, "labels": labels, "grad": gradient(logits, labels)}
        for name, array in arrays.items():
            np.save(folder / f"{number:05}_{name}.npy", array)


@dataclass(frozen=True)
class Cost:
    """What a run of a command took."""

    seconds: float
    processor: float  # seconds of processor time, which other people's work does not lengthen
    memory: float  # peak of all runs so far, in MiB

    def each(self, cases: int, processes: int = 1) -> str:
        """Say what a case took."""
        wall, own = (1e3 * processes * seconds / cases for seconds in (self.seconds, self.processor))
        return f"{wall:.2f} ms a case ({own / processes:.2f} ms of processor time)"


def run(*words: str) -> Cost:
    """Run a command; return what it took."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([COMMAND, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - began, own, after.ru_maxrss / 1024)


@contextmanager
def cluster(folder: Path) -> Iterator[str | None]:
    """Yield the address of a scheduler with two workers, or None where there is none."""
    dask, file = Path(COMMAND).parent / "dask", folder / "scheduler.json"
    if not dask.exists():
        yield None
        return
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen([dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                                 "--scheduler-file", file], **quiet)]  # type: ignore[call-overload]  # fmt: skip
    try:
        while not file.exists():
            time.sleep(0.1)
        time.sleep(0.5)
        address = json.loads(file.read_text())["address"]
        words = [dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        started += [subprocess.Popen(words, **quiet) for _ in range(2)]  # type: ignore[call-overload]
        time.sleep(5)
        yield address
    finally:
        for each in started:
            each.kill()
            each.wait()


def main(cases: int) -> None:
    """Measure, and print a line for each."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        write(top / "few", max(1, cases // 10))
        write(top / "many", cases)
        few = run("batch", str(top / "few"), "--jobs", "1", "-qq")
        many = run("batch", str(top / "many"), "--jobs", "1", "-qq")
        print(f"one process: {many.each(cases)}")
        print(
            f"peak memory: {few.memory:.0f} MiB with {cases // 10:,} cases, {many.memory:.0f} with {cases:,}"
        )
        told = run("batch", str(top / "many"), "--jobs", "1", "-qq", "--report", f"jsonl={top / 'report'}")
        print(f"one process, with all about each case in a report: {told.each(cases)}")
        both = run("batch", str(top / "many"), "--jobs", "2", "-qq")
        print(f"two processes: {both.each(cases, 2)}")
        with cluster(top) as address:
            if address is not None:
                far = run("batch", str(top / "many"), "--scheduler", address, "-qq")
                print(f"two workers of a cluster: {far.seconds / both.seconds:.2f} times the two processes")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)

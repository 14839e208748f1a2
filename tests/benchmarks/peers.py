"""softgrad and its peers side by side, in one run on one machine, with the bars that softgrad is held to.

    python tests/benchmarks/peers.py [--quick] [--large] [--json FILE]

softgrad is timed as a whole process, less the time of the same command on two rows; peers in process, best of
a few runs. Needs the installed `softgrad`; torch, scipy and numdifftools are used where they are installed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.benchmarks import checkers
from tests.benchmarks.timing import (
    SOFTGRAD,
    Case,
    Row,
    best,
    beyond_start_up,
    floor,
    in_turn,
    peak,
    process,
    run,
    sparse,
)

PLAIN = Case((512, 32_000))
SMALL = Case((128, 32_000))
CASES = (
    SMALL,
    PLAIN,
    Case((4_000, 1_000)),
    Case((400_000, 10)),
    Case((1_000_000, 10)),
    Case((16, 1_000_000)),
    Case((8, 64, 32_000)),
    Case((4, 1_000, 64, 64), axis=1),
    Case((512, 32_000), dtype="float16"),
    Case((512, 32_000), soft=True),
)
"""What is measured against torch: the two bars are those of `PLAIN`."""

WITHOUT_LOOPS = ("env", "SOFTGRAD_COMPILED=0")


def against_training(case: Case) -> list[Row]:
    """Return softgrad next to torch forward + backward."""
    bars = {"softgrad self-check": "<= 0.8", "softgrad --grad": "<= 1.2"} if case == PLAIN else {}
    with tempfile.TemporaryDirectory() as folder:
        logits, labels = case.write(Path(folder))
        step = checkers.torch_backward(case, logits, labels)
        commands = {
            "softgrad self-check": case.command(Path(folder)),
            "softgrad --grad": case.command(Path(folder), grad=True),
        }
        if case == PLAIN:
            commands |= {f"{name}, NumPy alone": [*WITHOUT_LOOPS, *words] for name, words in commands.items()}
        own = beyond_start_up(commands, 9, **({} if step is None else {"torch": step}))
    torch, least = own.pop("torch", None), floor(case.size)
    table = [Row(case.words, "one exp and two log1p an entry", least, case.size)]
    table += [] if torch is None else [Row(case.words, "torch forward + backward", torch, case.size)]
    for name, seconds in own.items():
        if torch is not None:
            bar = bars.get(name, "")
            table.append(Row(case.words, name, seconds, case.size, "torch", seconds / torch, bar))
        table.append(Row(case.words, name, seconds, case.size, "the floor", seconds / least))
    return table


def growth(table: list[Row]) -> list[Row]:
    """Return how the time grows from `SMALL` to `PLAIN`, which has four times as many entries."""
    times = {
        row.case: row.seconds for row in table if row.what == "softgrad --grad" and row.against == "the floor"
    }
    ratio = times[PLAIN.words] / times[SMALL.words]
    return [Row(PLAIN.words, "softgrad --grad", times[PLAIN.words], PLAIN.size, SMALL.words, ratio, "<= 4.4")]


def against_checkers(case: Case, *, slowest: bool) -> list[Row]:
    """Return softgrad next to checkers that move every logit."""
    with tempfile.TemporaryDirectory() as folder:
        logits, labels = case.write(Path(folder))
        own = max(beyond_start_up({"own": case.command(Path(folder), grad=True)}, 9)["own"], 1e-3)
    peers = {
        "torch.autograd.gradcheck": checkers.torch_gradcheck(logits, labels),
        "scipy check_grad": checkers.scipy_check(logits, labels),
        "numdifftools Gradient": checkers.numdifftools_gradient(logits, labels) if slowest else None,
    }
    table = [Row(case.words, "softgrad --grad", own, case.size)]
    for name, seconds in peers.items():
        if seconds is not None:
            bar = ">= 1000" if name.startswith("torch") and case.shape == (128, 1000) else ""
            table.append(Row(case.words, name, seconds, case.size, "softgrad", seconds / own, bar))
    return table


def start_up_rows() -> list[Row]:
    """Return start-up next to the imports it cannot do without."""
    table = []
    with tempfile.TemporaryDirectory() as folder:
        case = Case((100, 10))
        case.write(Path(folder))
        pairs = (
            ("softgrad --help", [SOFTGRAD, "--help"], "import click", "<= 1.6"),
            (
                "softgrad check, 100x10",
                case.command(Path(folder))[:4],
                "import click, numpy, rich.table",
                "<= 1.5",
            ),
        )
        for what, words, imports, bar in pairs:
            times = in_turn(
                {"least": partial(run, [sys.executable, "-c", imports]), "own": partial(run, words)}, 15
            )
            least, seconds = times["least"], times["own"]
            against = f'python -c "{imports}"'
            table.append(Row("start-up", what, seconds, None, against, seconds / least, bar))
    return table


def memory_rows(gibibytes: int) -> list[Row]:
    """Return the peak memory of a check of a large (sparse) file over that of a tiny one, in MiB."""
    classes = 32_000
    rows = gibibytes * 2**30 // (4 * classes)
    with tempfile.TemporaryDirectory() as name:
        folder, tiny = Path(name), Case((2, 3))
        sparse(folder / "logits.npy", (rows, classes), np.float32)
        sparse(folder / "labels.npy", (rows,), np.int64)
        seconds, large = peak(tiny.command(folder))
        tiny.write(folder)
        _, small = peak(tiny.command(folder))
    more = (large - small) / 1024
    what = "softgrad self-check, MiB at the peak over a tiny run"
    return [Row(f"{gibibytes} GiB file", what, seconds, rows * classes, "MiB", more, "<= 64")]


def text_rows(shape: tuple[int, int]) -> list[Row]:
    """Return a check of logits in CSV next to np.loadtxt alone, and packed next to gunzip and that."""
    case = Case(shape)
    words = f"CSV {case.words}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        logits, _ = case.write(folder)
        text, packed = folder / "logits.csv", folder / "logits.csv.gz"
        np.savetxt(text, logits, delimiter=",")
        with text.open("rb") as plain, gzip.open(packed, "wb", compresslevel=6) as file:
            shutil.copyfileobj(plain, file)
        command = case.command(folder)
        commands = {each.name: [*command[:2], str(each), *command[3:]] for each in (text, packed)}
        times = list(beyond_start_up(commands, 3).values())
        load = best(lambda: np.loadtxt(text, delimiter=","), 3)
        unpack = process(["gunzip", "--stdout", str(packed)], 3)
    return [
        Row(words, "np.loadtxt", load, case.size),
        Row(
            words,
            "softgrad, reading and checking",
            times[0],
            case.size,
            "np.loadtxt",
            times[0] / load,
            "<= 1.3",
        ),
        Row(words, "gunzip and np.loadtxt", unpack + load, case.size),
        Row(words, "softgrad, .gz", times[1], case.size, "both", times[1] / (unpack + load), "<= 1.5"),
    ]


def show(rows: list[Row]) -> list[Row]:
    """Print lines of the table; return them."""
    for row in rows:
        each = "" if row.partials is None else f"{row.seconds / row.partials * 1e9:.2f}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g} x {row.against}"
        bar = "" if row.met is None else f" (bar {row.bar}: {'met' if row.met else 'MISSED'})"
        print(f"{row.case:42} {row.what:42} {row.seconds:9.4f} {each:>9}  {ratio}{bar}", flush=True)
    return rows


def measured(*, quick: bool, large: bool) -> list[Row]:
    """Measure the cases, and print each as it comes."""
    rows = show(start_up_rows())
    rows += show(against_checkers(Case((8, 50)), slowest=True))
    if not quick:
        rows += show(against_checkers(Case((128, 1000)), slowest=False))
        trained = [row for case in CASES for row in show(against_training(case))]
        rows += [*trained, *show(growth(trained))]
    if large:
        for gibibytes in (1, 4):
            rows += show(memory_rows(gibibytes))
        for shape in ((500, 50_257), (100_000, 100)):
            rows += show(text_rows(shape))
    return rows


def main() -> None:
    """Run the cases and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small cases only")
    parser.add_argument("--large", action="store_true", help="1 and 4 GiB files and CSV as well")
    parser.add_argument("--json", type=Path, help="write the rows for comparing commits")
    asked = parser.parse_args()
    print(f"{'case':42} {'what':42} {'seconds':>9} {'ns/entry':>9}  ratio")
    subprocess.run([SOFTGRAD, "--version"], check=True)
    rows = measured(quick=asked.quick, large=asked.large)
    if asked.json:
        asked.json.write_text(
            json.dumps([{**asdict(row), "met": row.met} for row in rows], indent=1), encoding="utf-8"
        )
    print(f"peak memory of this script: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()

"""The exit code is a contract: 0 right, 1 wrong, 2 could not be checked, 3 our bug, and real signals."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import SAMPLES, Run, command

BOTH = ("logits.npy", "labels.npy")


def _spoil(folder: Path, by: float = 1.01) -> None:
    grad = np.load(folder / "grad.npy")
    grad[3, 2] *= by
    np.save(folder / "grad.npy", grad)


def test_a_self_check_passes(softgrad: Run, files: Path) -> None:
    done = softgrad("check", *BOTH, cwd=files)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("PASS")


def test_a_right_gradient_passes(softgrad: Run, files: Path) -> None:
    assert softgrad("check", *BOTH, "--grad", "grad.npy", cwd=files).returncode == 0


def test_a_wrong_gradient_fails_and_is_shown(softgrad: Run, files: Path) -> None:
    _spoil(files)
    done = softgrad("check", *BOTH, "--grad", "grad.npy", cwd=files)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("FAIL")
    assert "[3, 2]" in done.stdout


@pytest.mark.parametrize(("quiet", "lines"), [("-q", 1), ("-qq", 0)])
def test_quiet(softgrad: Run, files: Path, quiet: str, lines: int) -> None:
    _spoil(files)
    done = softgrad("check", *BOTH, "--grad", "grad.npy", quiet, cwd=files)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (1, "", lines)


def test_json_holds_the_contract(softgrad: Run, files: Path) -> None:
    _spoil(files)
    done = softgrad("check", *BOTH, "--grad", "grad.npy", "--format", "json", "--upstream", "1", cwd=files)
    told = json.loads(done.stdout, parse_constant=pytest.fail)
    assert (told["schema"], told["command"], told["verdict"]) == (1, "check", "fail")
    assert told["data"] == {
        "rows": 12, "classes": 5, "axis": 1, "ignored_rows": 0, "divisor": 12.0, "targets": "class labels"
    }  # fmt: skip
    assert [each["name"] for each in told["checks"]] == [
        "forward", "difference", "audit", "chain", "invariants", "grad"
    ]  # fmt: skip
    grad = told["checks"][-1]
    assert (grad["verdict"], grad["failing"], grad["worst"][0]["index"]) == ("fail", 1, [3, 2])
    assert grad["required_atol"] == grad["max_abs_error"] > 0
    assert told["settings"]["upstream"] == 1.0
    assert told["inputs"]["grad"]["dtype"] == "float32"


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_tolerance_that_would_have_passed_passes(softgrad: Run, files: Path, share: float) -> None:
    _spoil(files)
    shown = json.loads(softgrad("check", *BOTH, "--grad", "grad.npy", "-f", "json", cwd=files).stdout)
    atol = shown["checks"][-1]["required_atol"] * share
    again = softgrad("check", *BOTH, "--grad", "grad.npy", "--atol", atol, "--rtol", 0, cwd=files)
    assert again.returncode == (0 if share == 1.0 else 1)


def _cannot(name: str) -> list[Any]:
    return {
        "missing file": ["nowhere.npy", "labels.npy"],
        "not a tensor": ["noise.npy", "labels.npy"],
        "ragged text": ["ragged.csv", "labels.npy"],
        "label out of range": ["logits.npy", "one_based.npy"],
        "misfit": ["logits.npy", "short.npy"],
        "misfit of an export": ["logits.npy", "labels.npy", "--grad", "labels.npy"],
        "nan": ["nan.npy", "labels.npy"],
        "empty": ["empty.npy", "labels.npy"],
        "one tolerance": ["logits.npy", "labels.npy", "--grad", "grad.npy", "--rtol", "1e-3"],
        "idle tolerance": ["logits.npy", "labels.npy", "--rtol", "1e-3", "--atol", "0"],
        "twice": ["logits.npy", "labels.npy", "--grad", "grad.npy", "--grad", "grad.npy"],
        "empty name": ["logits.npy", "labels.npy", "--grad", ""],
        "no number": ["logits.npy", "labels.npy", "--loss", "abc"],
        "no finite number": ["logits.npy", "labels.npy", "--upstream", "nan"],
        "swapped": ["labels.npy", "logits.npy"],
        "quiet json": ["logits.npy", "labels.npy", "-q", "--format", "json"],
        "idle smoothing": ["logits.npy", "labels.npy", "--smoothing-over", "others"],
        "no labels": ["logits.npy"],
        "bad option": ["logits.npy", "labels.npy", "--nonsense"],
        "bad choice": ["logits.npy", "labels.npy", "--reduction", "max"],
        "two divisors": ["logits.npy", "labels.npy", "--reduction", "sum", "--normalizer", "3"],
        "negative smoothing": ["logits.npy", "labels.npy", "--label-smoothing", "-0.1"],
        "nan option": ["logits.npy", "labels.npy", "--temperature", "nan"],
    }[name]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing file", "nowhere.npy"),
        ("not a tensor", "noise.npy"),
        ("ragged text", "ragged.csv, line 2"),
        (
            "label out of range",
            "one_based.npy, row 4: class 5 is outside 0 .. 4 (1-based labels? subtract 1)",
        ),
        ("misfit", "short.npy has shape (7,), but logits.npy has shape (12, 5)"),
        ("misfit of an export", "labels.npy has shape (12,), but logits.npy has shape (12, 5)"),
        ("nan", "nan.npy, entry [7, 1]: logit nan"),
        ("empty", "nothing to verify"),
        ("one tolerance", "--rtol and --atol go together"),
        ("idle tolerance", "--rtol has no effect without an exported tensor"),
        ("twice", "--grad is given 2 times"),
        ("empty name", "--grad '': the file name is empty"),
        ("no number", "--loss abc: neither a number nor a file"),
        ("no finite number", "nan: --loss and --upstream need a finite number"),
        ("swapped", "the LABELS second (are they swapped?)"),
        ("quiet json", "-q and --format json contradict each other"),
        ("idle smoothing", "--smoothing-over others has no effect"),
        ("no labels", "logits.npy: no LABELS are given; write softgrad check LOGITS LABELS"),
        ("bad option", "--nonsense"),
        ("bad choice", "max"),
        ("two divisors", "--normalizer replaces --reduction"),
        ("negative smoothing", "--label-smoothing -0.1: must be at least 0"),
        ("nan option", "--temperature nan: a finite number is needed"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_2(
    softgrad: Run, files: Path, name: str, says: str
) -> None:
    logits = np.load(files / "logits.npy")
    (files / "noise.npy").write_bytes(b"\x93NUMPX" + bytes(100))
    (files / "ragged.csv").write_text("1,2,3\n4,5\n")
    labels = np.load(files / "labels.npy")
    np.save(files / "one_based.npy", np.where(np.arange(12) == 4, 5, labels % 4))
    np.save(files / "short.npy", labels[:7])
    np.save(files / "empty.npy", logits[:0])
    logits[7, 1] = np.nan
    np.save(files / "nan.npy", logits)
    done = softgrad("check", *_cannot(name), cwd=files)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("softgrad: error: ")
    assert says in done.stderr


def test_an_ignored_label_may_lie_outside(softgrad: Run, files: Path) -> None:
    labels = np.load(files / "labels.npy")
    labels[3] = -1
    np.save(files / "labels.npy", labels)
    refused = softgrad("check", *BOTH, cwd=files)
    assert refused.returncode == 2
    assert "--ignore-index -1" in refused.stderr
    assert softgrad("check", *BOTH, "--ignore-index", "-1", cwd=files).returncode == 0


def test_a_bug_of_ours_is_exit_3_with_a_traceback() -> None:
    code = (
        "import sys, click; from gradcheck_cli.cli.exits import run\n"
        "@click.command()\ndef broken(): raise ZeroDivisionError('planted')\n"
        "sys.argv = ['softgrad']; run(broken)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert "please report it" in done.stderr.splitlines()[-1]


def _sparse(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    """Write an NPY file of zeros that takes no space: far more work than the test waits for."""
    with path.open("wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + math.prod(shape) * np.dtype(dtype).itemsize)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_O02_and_O03_signals_end_it_by_the_signal(tmp_path: Path, number: int, code: int) -> None:
    _sparse(tmp_path / "logits.npy", (10_000_000, 50), np.float32)
    _sparse(tmp_path / "labels.npy", (10_000_000,), np.int64)
    process = subprocess.Popen(
        [command(), "check", "logits.npy", "labels.npy", "--threads", "1"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    time.sleep(1.0)
    assert process.poll() is None, "the work was over before the signal"
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert process.returncode in (-number, code)
    assert (out, err.strip()) == (b"", b"")


@pytest.mark.parametrize(("form", "code"), [("table", 1), ("json", 141)])
def test_O01_a_reader_that_leaves(files: Path, form: str, code: int) -> None:
    """A person's view keeps the verdict; a machine's report ends by SIGPIPE."""
    _spoil(files)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [command(), "check", *BOTH, "--grad", "grad.npy", "--format", form],
            cwd=files, stdout=gone, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert done.returncode in ((code, -signal.SIGPIPE) if form == "json" else (code,))
    assert done.stderr == b""


def test_O04_a_full_disk_is_exit_2_and_the_verdict_is_told(softgrad: Run, files: Path) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = softgrad("check", *BOTH, cwd=files, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert "cannot write the report" in done.stderr
    assert done.stderr.endswith("No space left on device; the verdict is PASS\n")


def test_O05_closed_standard_output_is_exit_2(files: Path) -> None:
    line = f"{command()} check logits.npy labels.npy >&-"
    done = subprocess.run(line, shell=True, cwd=files, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "standard output is closed" in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["logits.npy", "labels.npy", "--grad", "grad.npy"], 0),
        (["logits.npy", "labels.npy", "--grad", "grad_bf16.npy"], 0),
        (["logits.npy", "labels.npy", "--grad", "wrong_grad.npy"], 1),
        (["small_logits.csv", "small_labels.csv", "--grad", "small_grad.csv"], 0),
        (["small_logits.csv", "small_labels.csv", "--grad", "small_sum_grad.csv"], 1),
        (["small_logits.csv", "small_labels.csv", "--grad", "small_sum_grad.csv", "--reduction", "sum"], 0),
    ],
)
def test_the_samples_tell_their_story(softgrad: Run, words: list[str], code: int) -> None:
    assert softgrad("check", *words, cwd=SAMPLES).returncode == code


def test_allclose_is_content_with_the_wrong_sample() -> None:
    right = np.load(SAMPLES / "grad.npy").astype(np.float64)
    bits = np.load(SAMPLES / "wrong_grad.npy").view(np.uint16).astype(np.uint32) << 16
    assert np.abs(bits.view(np.float32) - right).max() < 1e-5


@pytest.mark.parametrize(("wanted", "told"), [("1", r"compiled loops|NumPy alone"), ("0", "NumPy alone")])
def test_the_version_tells_whether_the_loops_are_compiled(softgrad: Run, wanted: str, told: str) -> None:
    done = softgrad("--version", env=os.environ | {"SOFTGRAD_COMPILED": wanted})
    assert re.fullmatch(rf"softgrad \d+\.\d+\.\d+ \(({told})\)\n", done.stdout)
    assert (done.returncode, done.stderr) == (0, "")

"""``softgrad jacobian`` as a user runs it: its formats, and one line for what cannot be checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import SAMPLES, Run, command


def _softmax_jacobian(
    z: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    a = np.exp(z - z.max())
    a /= a.sum()
    return np.diag(a) - np.outer(a, a)


def test_csv_has_every_entry(softgrad: Run, tmp_path: Path) -> None:
    z = np.random.default_rng(0).normal(size=(3, 20))
    np.save(tmp_path / "z.npy", z)
    lines = softgrad("jacobian", "z.npy", "--row", 2, "--format", "csv").stdout.splitlines()
    assert lines[0] == "k,j,analytic,difference,error,allowed"
    told = np.array([line.split(",") for line in lines[1:]], dtype=float)
    assert told.shape == (400, 6)
    found = np.zeros((20, 20))
    found[told[:, 0].astype(int), told[:, 1].astype(int)] = told[:, 2]
    assert np.abs(found - _softmax_jacobian(z[2])).max() < 1e-15
    assert (told[:, 4] <= told[:, 5]).all()


def test_csv_has_the_exported_beside_the_right(softgrad: Run, tmp_path: Path) -> None:
    z = np.random.default_rng(0).normal(size=(1, 4))
    np.save(tmp_path / "z.npy", z)
    np.save(tmp_path / "J.npy", _softmax_jacobian(z[0]) * 2)
    done = softgrad("jacobian", "z.npy", "--jacobian", "J.npy", "--format", "csv")
    assert done.returncode == 1
    rows = [line.split(",") for line in done.stdout.splitlines()]
    assert rows[0][-2:] == ["exported", "exported_allowed"]
    assert all(float(row[6]) == pytest.approx(2 * float(row[2])) for row in rows[1:])


def test_json_holds_the_matrix(softgrad: Run) -> None:
    done = softgrad("jacobian", "logits.npy", "--row", 5, "-f", "json", cwd=SAMPLES)
    told = json.loads(done.stdout, parse_constant=pytest.fail)
    assert (told["command"], told["verdict"], told["matrix"]["row"]) == ("jacobian", "pass", [5])
    z = np.load(SAMPLES / "logits.npy").astype(np.float64)[5]
    assert np.abs(np.array(told["matrix"]["analytic"]) - _softmax_jacobian(z)).max() < 1e-15
    assert [each["name"] for each in told["checks"]] == [
        "forward", "difference", "audit", "columns", "symmetry", "hessian", "invariants"
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_holds_what_is_no_number_in_an_exported_matrix(softgrad: Run, tmp_path: Path, form: str) -> None:
    z = np.random.default_rng(0).normal(size=(1, 14))
    exported = _softmax_jacobian(z[0])
    exported[3, 5], exported[4, 6] = np.nan, -np.inf
    np.save(tmp_path / "z.npy", z)
    np.save(tmp_path / "J.npy", exported)
    done = softgrad("jacobian", "z.npy", "--jacobian", "J.npy", "-f", form)
    assert (done.returncode, done.stderr) == (1, "")
    matrix = json.loads(done.stdout, parse_constant=pytest.fail)["matrix"]
    assert (matrix["exported"][3][5], matrix["exported"][4][6]) == ("NaN", "-Infinity")
    assert [len(matrix[name]) for name in ("analytic", "difference", "error", "allowed")] == [14] * 4
    assert np.abs(np.array(matrix["analytic"]) - _softmax_jacobian(z[0])).max() < 1e-15
    assert len(done.stdout.splitlines()) == 1 or form == "json"


def _peak(folder: Path, classes: int, form: str) -> int:
    """Return the peak memory of the command, in bytes; what it prints goes to a file of the form's name."""
    z = np.random.default_rng(0).normal(size=classes)
    np.save(folder / "z.npy", z)
    np.save(folder / "J.npy", _softmax_jacobian(z))
    source = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], 'wb'), "
        "check=True); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
    )
    words = [form, command(), "jacobian", "z.npy", "--jacobian", "J.npy", "-f", form]
    told = subprocess.run(
        [sys.executable, "-c", source, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return int(told.stdout)


@pytest.mark.parametrize(("form", "classes"), [("csv", 1030), ("jsonl", 500)])
def test_a_matrix_of_many_classes_is_streamed(tmp_path: Path, form: str, classes: int) -> None:
    """All planes are 51 and 12 MB as numbers, and more as text; their rows are thrown away once written."""
    few = _peak(tmp_path, 13, form)
    assert _peak(tmp_path, classes, form) - few < classes**2 * 8 * 3
    right = _softmax_jacobian(np.load(tmp_path / "z.npy"))
    written = (tmp_path / form).read_text(encoding="ascii")
    if form == "jsonl":
        found = np.array(json.loads(written)["matrix"]["analytic"])
    else:
        lines = written.splitlines()
        found = np.array([line.split(",", 3)[2] for line in lines[1:]], dtype=float).reshape(right.shape)
        assert (lines[-1].split(",")[:2], len(lines)) == (["1029", "1029"], 1030**2 + 1)
    assert np.abs(found - right).max() < 1e-15


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_reader_that_leaves_ends_a_machine_report(tmp_path: Path, form: str) -> None:
    np.save(tmp_path / "z.npy", np.random.default_rng(0).normal(size=600))
    line = f"'{command()}' jacobian z.npy -f {form} | head -c 100 > /dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["/bin/bash", "-c", line], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_narrow_table_is_cut_into_several() -> None:
    """Columns are moved below each other, never left out, and no line is wider than the terminal."""
    from gradcheck_cli.choices import MatrixSettings  # noqa: PLC0415
    from gradcheck_cli.jacobian import jacobian  # noqa: PLC0415 - heavy
    from gradcheck_cli.report.table import render  # noqa: PLC0415
    from gradcheck_cli.tensors import open_tensor  # noqa: PLC0415

    with open_tensor(str(SAMPLES / "logits.npy"), role="logits") as tensor:
        outcome = jacobian({"logits": tensor}, MatrixSettings())
    wide, narrow = (render(outcome, width=width).plain for width in (None, 60))
    start = narrow.index("softmax a of row")
    shown = narrow[start : narrow.index("check  ")]
    assert max(map(len, shown.splitlines())) <= 60
    assert set(wide[wide.index("Jacobian da_k") :].split("check ")[0].split()) <= set(narrow.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere.npy"], "nowhere.npy: no such file"),
        ([""], "LOGITS '': the file name is empty"),
        (["z.npy", "--row", "3"], "--row 3: z.npy has 3 rows, 0 .. 2"),
        (["z.npy", "--row", "-1"], "--row -1: must be at least 0"),
        (["z.npy", "--axis", "2"], "--axis 2: z.npy has shape (3, 5)"),
        (["nan.npy", "--row", "1"], "nan.npy, entry [1, 2]: logit nan"),
        (["z.npy", "--jacobian", "z.npy"], "the Jacobian of one row has shape (5, 5), of all rows (3, 5, 5)"),
        (["z.npy", "--jacobian", "int.npy"], "jacobian is stored as int64; floating point is needed"),
        (["z.npy", "--rtol", "0", "--atol", "0"], "--rtol has no effect without an exported tensor"),
        (["z.npy", "-q", "-f", "csv"], "-q and --format csv contradict"),
        ([], "Missing argument 'LOGITS'"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_2(
    in_process: Run, tmp_path: Path, words: list[str], says: str
) -> None:
    z = np.random.default_rng(0).normal(size=(3, 5))
    nan = z.copy()
    nan[1, 2] = np.nan
    arrays = {"z": z, "nan": nan, "int": np.zeros((5, 5), dtype=np.int64)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    done = in_process("jacobian", *words)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("softgrad: error: ")
    assert says in done.stderr

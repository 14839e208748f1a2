"""A bundle alone is enough for every command: what it holds by usual names is paired, and shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from gradcheck_cli.api import check
from tests.cli.conftest import Run

Array = np.ndarray[Any, Any]
ROWS, FEATURES, CLASSES = 6, 3, 5


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    a: Array = e / e.sum(axis=-1, keepdims=True)
    return a


def _tensors() -> dict[str, dict[str, Array]]:
    """Return, by command, everything that its bundle may hold, right."""
    rng = np.random.default_rng(6)
    x, w, b = (rng.normal(size=shape) for shape in ((ROWS, FEATURES), (FEATURES, CLASSES), (CLASSES,)))
    labels = rng.integers(0, CLASSES, ROWS)
    z = x @ w + b
    a, t = _softmax(z), rng.normal(size=z.shape)
    g = (a - np.eye(CLASSES)[labels]) / ROWS
    layer = {"inputs": x, "labels": labels, "weight": w, "bias": b, "logits": z, "grad": g}
    layer |= {"grad_weight": x.T @ g, "dbias": g.sum(axis=0), "grad-inputs": g @ w.T}
    pulled = (t - (t * a).sum(axis=1, keepdims=True)) * a
    return {
        "vjp": {"logits": z, "upstream": t, "grad": pulled, "probs": a, "log_probs": np.log(a)},
        "linear": layer,
        "jacobian": {"logits": z, "Jacobian": np.diag(a[0]) - np.outer(a[0], a[0])},
        "sweep": {"logits": z, "targets": labels},
    }


def _saved(path: Path, arrays: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file({name: np.ascontiguousarray(each) for name, each in arrays.items()}, path)
    return path


JUDGED: dict[str, tuple[str, ...]] = {
    "vjp": ("grad", "probs"),
    "linear": ("grad-weight", "grad-bias", "grad-inputs", "grad", "logits"),
    "jacobian": ("jacobian",),
    "sweep": (),
}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("command", JUDGED)
def test_what_it_holds_is_paired_and_judged(
    in_process: Run, tmp_path: Path, command: str, suffix: str
) -> None:
    path = _saved(tmp_path / f"dump{suffix}", _tensors()[command])
    done = in_process(command, path.name, "-f", "json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert {each["path"] for each in told["inputs"].values()} == {path.name}
    members = {role: each["member"] for role, each in told["inputs"].items()}
    named = {name.lower().replace("_", "-"): name for name in _tensors()[command]}
    named |= {"grad-bias": "dbias", "labels": "targets" if command == "sweep" else "labels"}
    assert members == {role: named[role] for role in members}
    checks = {each["name"] for each in told["checks"]}
    assert checks.issuperset(JUDGED[command])


@pytest.mark.parametrize(
    ("command", "member"),
    [(command, member) for command, names in JUDGED.items() for member in names],
)
def test_what_is_wrong_in_it_fails(in_process: Run, tmp_path: Path, command: str, member: str) -> None:
    arrays = _tensors()[command]
    name = next(
        each for each in arrays if each.lower().replace("_", "-").replace("dbias", "grad-bias") == member
    )
    _saved(tmp_path / "dump.npz", arrays | {name: arrays[name] * 1.5})
    done = in_process(command, "dump.npz", "-q")
    assert (done.returncode, done.stdout[:4]) == (1, "FAIL")
    assert member in done.stdout


def test_a_table_shows_what_was_paired_and_what_was_not(in_process: Run, tmp_path: Path) -> None:
    _saved(tmp_path / "dump.npz", _tensors()["vjp"] | {"step": np.arange(1)})
    shown = in_process("vjp", "dump.npz").stdout
    assert "dump.npz:upstream" in shown
    assert "the file also holds log_probs, step: not used" in shown  # a softmax has no such output
    logged = in_process("vjp", "dump.npz", "--log").stdout
    assert "the file also holds probs, step: not used" in logged


def test_what_a_flag_names_comes_from_there(in_process: Run, tmp_path: Path) -> None:
    arrays = _tensors()["linear"]
    _saved(tmp_path / "dump.npz", {k: v for k, v in arrays.items() if k != "weight"})
    np.save(tmp_path / "w.npy", arrays["weight"])
    assert in_process("linear", "dump.npz", "--weight", "w.npy", "-qq").returncode == 0
    np.save(tmp_path / "wrong.npy", -arrays["grad_weight"])
    done = in_process("linear", "dump.npz", "--weight", "w.npy", "--grad-weight", "wrong.npy", "-qq")
    assert done.returncode == 1
    scaled = in_process("linear", "dump.npz", "--weight", "w.npy", "--upstream", "2", "-q")
    assert scaled.returncode == 1


@pytest.mark.parametrize(
    ("command", "names", "says"),
    [
        ("vjp", ("logits",), "no upstream by a usual name (upstream), but logits: name both, as FILE:MEMBER"),
        (
            "linear",
            ("inputs", "labels"),
            "has no weight by a usual name (weight), but inputs, labels: name each",
        ),
        ("linear", ("logits", "labels", "weight"), "has no inputs by a usual name (inputs)"),
        ("sweep", ("logits", "labels", "y"), "labels, y are all usual names of the labels; name one"),
    ],
)
def test_what_cannot_be_paired_is_said(
    in_process: Run, tmp_path: Path, command: str, names: tuple[str, ...], says: str
) -> None:
    _saved(tmp_path / "dump.npz", dict.fromkeys(names, np.ones((2, 2))))
    done = in_process(command, "dump.npz")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert says in done.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("vjp", "no UPSTREAM is given; write softgrad vjp LOGITS UPSTREAM (only a bundle"),
        ("linear", "no LABELS are given; write softgrad linear INPUTS LABELS --weight FILE (only a bundle"),
        ("sweep", "no LABELS are given; write softgrad sweep LOGITS LABELS (only a bundle"),
    ],
)
@pytest.mark.parametrize("text", ["x.npy", "x.npz:logits"])
def test_one_tensor_is_no_bundle(in_process: Run, tmp_path: Path, command: str, says: str, text: str) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    _saved(tmp_path / "x.npz", {"logits": np.ones((2, 2))})
    done = in_process(command, text)
    assert done.returncode == 2
    assert f"{text}: {says}" in done.stderr


def test_a_jacobian_of_logits_alone_is_none_to_judge(in_process: Run, tmp_path: Path) -> None:
    arrays = _tensors()["jacobian"]
    _saved(tmp_path / "dump.npz", arrays)
    _saved(tmp_path / "plain.npz", {"logits": arrays["logits"], "labels": np.arange(ROWS)})
    assert "no exported tensor" in in_process("jacobian", "plain.npz", "-q").stdout
    assert "no exported tensor" in in_process("jacobian", "dump.npz:logits", "-q").stdout
    done = in_process("jacobian", "plain.npz", "--rtol", "1", "--atol", "1")
    assert "--rtol has no effect without an exported tensor to judge" in done.stderr


def test_check_takes_nothing_that_belongs_to_other_commands(tmp_path: Path) -> None:
    path = _saved(tmp_path / "dump.npz", _tensors()["linear"] | {"jacobian": np.ones((5, 5))})
    assert {each.role for each in check(path).inputs} == {"logits", "labels", "grad"}

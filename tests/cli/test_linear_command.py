"""``softgrad linear`` as a user runs it: exit codes, JSON, and one line for what cannot be checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import SAMPLES, Run

LAYER = (
    "linear_inputs.npy", "linear_labels.npy", "--weight", "linear_weight.npy", "--bias", "linear_bias.npy"
)  # fmt: skip


@pytest.mark.parametrize(
    ("grad", "code"), [("linear_grad_weight.npy", 0), ("wrong_linear_grad_weight.npy", 1)]
)
def test_the_samples_tell_their_story(softgrad: Run, grad: str, code: int) -> None:
    assert softgrad("linear", *LAYER, "--grad-weight", grad, cwd=SAMPLES).returncode == code


def test_the_wrong_sample_is_right_where_all_micro_batches_count_the_same() -> None:
    right, wrong = (np.load(SAMPLES / f"{each}linear_grad_weight.npy") for each in ("", "wrong_"))
    assert 0 < np.abs(wrong - right).max() < 0.2 * np.abs(right).max()


def test_json_holds_the_contract(softgrad: Run) -> None:
    words = ("--grad-weight", "wrong_linear_grad_weight.npy", "--upstream", 1, "-f", "json")
    told = json.loads(softgrad("linear", *LAYER, *words, cwd=SAMPLES).stdout, parse_constant=pytest.fail)
    assert (told["schema"], told["command"], told["verdict"]) == (1, "linear", "fail")
    assert told["data"] == {
        "rows": 96, "classes": 10, "axis": 1, "ignored_rows": 12, "divisor": 84.0, "targets": "class labels"
    }  # fmt: skip
    assert [each["name"] for each in told["checks"]] == [
        "forward", "difference", "audit", "chain", "invariants",
        "weight-difference", "weight-audit", "bias-difference", "inputs-difference", "grad-weight",
    ]  # fmt: skip
    assert told["checks"][5]["entries"] == told["checks"][-1]["entries"] == 240
    assert told["settings"]["upstream"] == 1.0
    assert told["settings"]["weight_layout"] is None
    assert set(told["inputs"]) == {"inputs", "labels", "weight", "bias", "grad-weight"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x.npy", "y.npy"], "--weight is missing"),
        (["x.npy", "y.npy", "--weight", "nowhere.npy"], "nowhere.npy: no such file"),
        (["x.npy", "y.npy", "--weight", ""], "--weight '': the file name is empty"),
        (["x.npy", "y.npy", "--weight", "y.npy"], "y.npy has shape (6,): a weight has two axes"),
        (["x.npy", "y.npy", "--weight", "square.npy"], "pass --weight-layout io for z = x W"),
        (
            ["x.npy", "y.npy", "--weight", "w.npy", "--weight-layout", "oi"],
            "--weight-layout oi: w.npy has shape",
        ),
        (["nan.npy", "y.npy", "--weight", "w.npy"], "nan.npy, entry [2, 1]: input nan is not finite"),
        (["x.npy", "y.npy", "--weight", "w.npy", "--bias", "x.npy"], "a bias has one number for each"),
        (["x.npy", "y.npy", "--weight", "w.npy", "--grad", "x.npy"], "grad must have shape (6, 4) here"),
        (["x.npy", "x.npy", "--weight", "w.npy"], "x.npy has shape (6, 3)"),
        (["x.npy", "y.npy", "--weight", "w.npy", "--upstream", "abc"], "--upstream abc: neither"),
        (["x.npy", "y.npy", "--weight", "w.npy", "--rtol", "0", "--atol", "0"], "--rtol has no effect"),
        (["x.npy", "y.npy", "--weight", "w.npy", "--smoothing-over", "others"], "has no effect without"),
        (["x.npy", "y.npy", "--weight", "w.npy", "--weight", "w.npy"], "--weight is given 2 times"),
        (["x.npy", "bad.npy", "--weight", "w.npy"], "bad.npy, row 5: class 4 is outside 0 .. 3"),
        (["x.npy", "y.npy", "--weight", "w.npy", "--softcap", "-1"], "--softcap -1.0: must be at least"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_2(
    in_process: Run, tmp_path: Path, words: list[str], says: str
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3))
    nan = x.copy()
    nan[2, 1] = np.nan
    arrays = {
        "x": x, "nan": nan, "w": rng.normal(size=(3, 4)), "square": np.eye(3), "y": np.arange(6) % 3,
        "bad": np.minimum(np.arange(6), 4) * (np.arange(6) == 5),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    done = in_process("linear", *words)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("softgrad: error: ")
    assert says in done.stderr

"""``softgrad vjp`` as a user runs it: exit codes, one line for what cannot be checked, the JSON contract."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import SAMPLES, Run

BOTH = ("attention_scores.npy", "attention_upstream.npy")


@pytest.mark.parametrize(("grad", "code"), [("attention_grad.npy", 0), ("wrong_attention_grad.npy", 1)])
def test_the_samples_tell_their_story(softgrad: Run, grad: str, code: int) -> None:
    assert softgrad("vjp", *BOTH, "--grad", grad, cwd=SAMPLES).returncode == code


def test_json_holds_the_contract(softgrad: Run) -> None:
    done = softgrad("vjp", *BOTH, "--grad", "wrong_attention_grad.npy", "-f", "json", cwd=SAMPLES)
    told = json.loads(done.stdout, parse_constant=pytest.fail)
    assert (told["schema"], told["command"], told["verdict"]) == (1, "vjp", "fail")
    assert told["data"] == {
        "rows": 32, "classes": 16, "axis": 3, "ignored_rows": 0, "divisor": None, "targets": "softmax layer"
    }  # fmt: skip
    names = [each["name"] for each in told["checks"]]
    assert names == ["forward", "difference", "audit", "invariants", "grad"]
    assert told["checks"][-1]["worst"][0]["index"] == [0, 0, 12, 5]
    assert (told["settings"]["masked_rows"], told["settings"]["log"]) == ("refuse", False)
    assert set(told["inputs"]) == {"logits", "upstream", "grad"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["z.npy", "nowhere.npy"], "nowhere.npy: no such file"),
        (["z.npy", "short.npy"], "short.npy has shape (3, 4), but z.npy has shape (3, 5)"),
        (["z.npy", "labels.npy"], "(class labels? softgrad check takes those)"),
        (["z.npy", "nan.npy"], "nan.npy, entry [1, 2]: the upstream gradient nan"),
        (["nan.npy", "t.npy"], "nan.npy, entry [1, 2]: logit nan"),
        (["gone.npy", "t.npy"], "gone.npy, row [2]: every class is masked (-inf)"),
        (["z.npy", "t.npy", "--grad", "labels.npy"], "the grad must have the same shape"),
        (["z.npy", "t.npy", "--grad", "t.npy", "--grad", "t.npy"], "--grad is given 2 times"),
        (["z.npy", "t.npy", "--grad", ""], "--grad '': the file name is empty"),
        (["", "t.npy"], "LOGITS '': the file name is empty"),
        (["z.npy", "t.npy", "--grad", "t.npy", "--rtol", "1"], "--rtol and --atol go together"),
        (["z.npy", "t.npy", "--rtol", "1", "--atol", "0"], "--rtol has no effect without an exported tensor"),
        (["z.npy", "t.npy", "--log", "--probs", "t.npy"], "--probs with --log"),
        (["z.npy", "t.npy", "--axis", "2"], "--axis 2: z.npy has shape (3, 5)"),
        (["z.npy", "t.npy", "--temperature", "0"], "--temperature 0.0: must be at least 1e-30"),
        (["z.npy", "t.npy", "--masked-rows", "drop"], "drop"),
        (["z.npy", "t.npy", "-q", "-f", "json"], "-q and --format json contradict"),
        (["z.npy"], "z.npy: no UPSTREAM is given; write softgrad vjp LOGITS UPSTREAM"),
        ([], "Missing argument 'LOGITS'"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_2(
    in_process: Run, tmp_path: Path, words: list[str], says: str
) -> None:
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    nan, gone = t.copy(), z.copy()
    nan[1, 2], gone[2] = np.nan, -np.inf
    arrays = {"z": z, "t": t, "nan": nan, "gone": gone, "short": t[:, :4], "labels": np.arange(3)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    done = in_process("vjp", *words)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("softgrad: error: ")
    assert says in done.stderr

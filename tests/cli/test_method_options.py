"""``--method`` and ``--step`` as a user types them."""

from __future__ import annotations

import pytest

from gradcheck_cli.settings import METHODS
from tests.cli.conftest import SAMPLES, Run

BOTH = ("logits.npy", "labels.npy")


DATA = {
    "check": ("check", *BOTH),
    "vjp": ("vjp", "attention_scores.npy", "attention_upstream.npy"),
    "log": ("vjp", "small_logits.csv", "small_top_diff.csv", "--log"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", DATA)
def test_the_command_takes_them(in_process: Run, method: str, data: str) -> None:
    for step in ("auto", "0.01"):
        done = in_process(*DATA[data], "--method", method, "--step", step, "-v", cwd=SAMPLES)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"--method {method}" in done.stdout
        assert f"--step {step}" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--step", "big"), "--step big: a number, or auto"),
        (("--step", "0"), "--step 0: must be from 1e-60 to 0.125"),
        (("--step", "1"), "--step 1: must be from 1e-60 to 0.125"),
        (("--step", "nan"), "--step nan: must be from 1e-60 to 0.125"),
        (("--method", "secant"), "secant"),
    ],
)
def test_what_is_no_step_or_method_is_refused(in_process: Run, words: tuple[str, ...], says: str) -> None:
    for command in (("check", *BOTH), ("vjp", "attention_scores.npy", "attention_upstream.npy")):
        done = in_process(*command, *words, cwd=SAMPLES)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert says in done.stderr

"""Numbers in text are judged by the digits they show."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcheck_cli.check import check
from gradcheck_cli.exports import Scalar
from gradcheck_cli.outcome import Outcome, Verdict
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import open_tensor


def _examined(folder: Path, grad: Any, fmt: str, upstream: float = 1.0) -> Outcome:
    np.savetxt(folder / "z.csv", [[0, 20, 1], [1, 2, -30]], delimiter=",", fmt="%d")
    (folder / "y.csv").write_text("1\n1\n")
    np.savetxt(folder / "g.csv", grad, delimiter=",", fmt=fmt)
    scalars = {"upstream": Scalar.parse(repr(upstream), None)}
    with contextlib.ExitStack() as opened:
        tensors = {
            role: opened.enter_context(open_tensor(str(folder / f"{name}.csv"), role=role))
            for role, name in (("logits", "z"), ("labels", "y"), ("grad", "g"))
        }
        return check(tensors, scalars, Settings(reduction="sum"))


def _truth() -> Any:
    z = np.array([[0, 20, 1], [1, 2, -30]], dtype=np.float64)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    a = e / e.sum(axis=1, keepdims=True)
    a[:, 1] = -(a[:, 0] + a[:, 2])
    return a


@pytest.mark.parametrize("fmt", ["%.4f", "%.6f", "%.18f", "%.25f", "%.6g", "%.9g", "%.17g", "%.18e", "%.1f"])
def test_a_right_gradient_passes_in_every_format(tmp_path: Path, fmt: str) -> None:
    assert _examined(tmp_path, _truth(), fmt).verdict is Verdict.PASS


@pytest.mark.parametrize("fmt", ["%.4f", "%.6f", "%.18f", "%.6g", "%.9g", "%.17g", "%.18e"])
def test_a_wrong_gradient_fails_in_every_format(tmp_path: Path, fmt: str) -> None:
    assert _examined(tmp_path, _truth() * 1.01, fmt).verdict is Verdict.FAIL


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_gradient_that_rounds_to_zeros_passes_with_either_sign(tmp_path: Path, sign: float) -> None:
    assert _examined(tmp_path, sign * 1e-6 * _truth(), "%.4f", upstream=1e-6).verdict is Verdict.PASS


@pytest.mark.parametrize("upstream", [1e-60, 1e-40, 1e60])
@pytest.mark.parametrize("fmt", ["%.5g", "%.8e"])
def test_beyond_the_range_of_float32(tmp_path: Path, upstream: float, fmt: str) -> None:
    assert _examined(tmp_path, upstream * _truth(), fmt, upstream).verdict is Verdict.PASS
    assert _examined(tmp_path, -upstream * _truth(), fmt, upstream).verdict is Verdict.FAIL
    assert _examined(tmp_path, 1.02 * upstream * _truth(), fmt, upstream).verdict is Verdict.FAIL


@pytest.mark.parametrize("text", ["0e400", "0e999999999999", "1e-9999"])
def test_a_number_with_a_wild_exponent_is_a_number(text: str) -> None:
    number = Scalar.parse(text, None)
    assert number.value == 0.0
    assert number.rounding <= 0.5

"""Gradients stored in 8 bits: right ones pass on their own grid, wrong ones fail."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.bundles import open_inputs
from gradcheck_cli.check import check
from gradcheck_cli.exports import Scalar
from gradcheck_cli.outcome import Outcome
from gradcheck_cli.reading import Reading
from gradcheck_cli.settings import Settings
from tests.containers import entry, safetensors

CODES = {
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip
SCALE = 64.0
every_name = pytest.mark.parametrize("name", CODES)


def _case() -> tuple[Any, Any, Any]:
    """Return float32 logits, labels, and the summed loss's gradient times a loss scale."""
    rng = np.random.default_rng(2)
    z = rng.normal(size=(40, 9)).astype(np.float32)
    y = rng.integers(0, 9, 40)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    g = e / e.sum(axis=1, keepdims=True)
    g[np.arange(40), y] -= np.float32(1)
    return z, y, g * np.float32(SCALE)


def _checked(folder: Path, name: str, gradient: Any, suffix: str) -> Outcome:
    z, y, _ = _case()
    np.save(folder / "z.npy", z)
    np.save(folder / "y.npy", y)
    stored = gradient.astype(getattr(ml_dtypes, name))
    asked: tuple[str, ...] = ()
    if suffix == "safetensors":
        header = {"g": entry(CODES[name], list(stored.shape), 0, stored.nbytes)}
        (folder / "g.safetensors").write_bytes(safetensors(header, stored.tobytes()))
    else:
        np.save(folder / "g.npy", stored.view(np.uint8))
        asked = (f"grad={name}",)
    files = {"logits": "z.npy", "labels": "y.npy", "grad": f"g.{suffix}"}
    with ExitStack() as opened:
        paths = {role: str(folder / each) for role, each in files.items()}
        tensors = open_inputs(paths, Reading(dtype=asked), opened)
        return check(tensors, {"upstream": Scalar.parse(str(SCALE), None)}, Settings(reduction="sum"))


@every_name
@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_a_right_gradient_passes_on_its_own_grid(tmp_path: Path, name: str, suffix: str) -> None:
    outcome = _checked(tmp_path, name, _case()[2], suffix)
    assert outcome.verdict.value == "pass"
    assert (outcome.inputs[2].dtype, outcome.inputs[2].grid) == (name, name)


@every_name
@pytest.mark.parametrize(
    "bug", ["sum for mean", "label not subtracted", "a few codes off", "transposed labels"]
)
def test_a_wrong_gradient_fails(tmp_path: Path, name: str, bug: str) -> None:
    _, y, right = _case()
    wrong = right.copy()
    if bug == "sum for mean":
        wrong /= 40
    elif bug == "label not subtracted":
        wrong[7, y[7]] += np.float32(SCALE)
    elif bug == "a few codes off":
        digits = 4 if "e4m3" in name else 3
        wrong[5, 3] *= np.float32(1 + 2.0 ** (3 - digits))
    else:
        wrong[[3, 4]] = wrong[[4, 3]]
    outcome = _checked(tmp_path, name, wrong, "npy")
    assert outcome.verdict.value == "fail"

"""Folders of cases, and the batch run on them in process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcheck_cli.batch.discover import Told, discover
from gradcheck_cli.batch.result import How
from gradcheck_cli.batch.run import Plan
from tests.cli.conftest import softgrad

__all__ = ["softgrad"]

Make = Callable[..., Path]


def gradient(logits: Any, labels: Any) -> Any:
    """Return the gradient of the mean cross-entropy, in float32 as a kernel would."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    grad = e / e.sum(axis=1, keepdims=True)
    grad[np.arange(len(labels)), labels] -= 1
    return grad / np.float32(len(labels))


def make_case(folder: Path, stem: str, seed: int, *, wrong: bool = False, rows: int = 8) -> None:
    """Write logits, labels and gradient of one case; a wrong one has the gradient of the sum."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 5)).astype(np.float32)
    labels = rng.integers(0, 5, rows)
    grad = gradient(logits, labels) * np.float32(rows if wrong else 1)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in {"logits": logits, "labels": labels, "grad": grad}.items():
        np.save(folder / f"{stem}{name}.npy", array)


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Return a folder of nine cases: c3_ is wrong, d has a torn file, the others are right."""
    top = tmp_path / "dumps"
    for number in range(8):
        make_case(top / "a", f"c{number}_", number, wrong=number == 3)
    make_case(top / "d", "", 9)
    (top / "d" / "labels.npy").write_bytes((top / "d" / "labels.npy").read_bytes()[:90])
    return top


@pytest.fixture
def plan(cases: Path) -> Plan:
    """Return the plan of these cases, in two processes."""
    return Plan(discover([str(cases)], Told({}, {})).cases, How(), jobs=2)

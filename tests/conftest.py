"""What most tests need: exported tensors in files, checked in process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

from gradcheck_cli.check import check
from gradcheck_cli.exports import Scalar
from gradcheck_cli.outcome import Outcome
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import open_tensor

# A shell starts what runs in its background with interrupts ignored, and every process started here would
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "patient")


@pytest.fixture(autouse=True)
def _strict_arithmetic() -> Any:
    """Make a numeric surprise an error; underflow is none: softmax of a far class is 0 by design."""
    with np.errstate(over="raise", divide="raise", invalid="raise", under="ignore"):
        yield


Examine = Callable[..., Outcome]


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """Return what checks arrays as if they came from files: exported tensors by keyword, then settings."""

    def run(
        logits: Any, labels: Any, settings: Mapping[str, Any] | None = None, /, **exported: Any
    ) -> Outcome:
        arrays = {"logits": logits, "labels": labels} | {k.replace("_", "-"): v for k, v in exported.items()}
        scalars = {
            role: Scalar.parse(repr(value), (settings or {}).get("compute_dtype"))
            for role, value in arrays.items()
            if isinstance(value, float)
        }
        with contextlib.ExitStack() as opened:
            tensors = {}
            for role, array in arrays.items():
                if role not in scalars:
                    np.save(tmp_path / f"{role}.npy", array)
                    tensors[role] = opened.enter_context(
                        open_tensor(str(tmp_path / f"{role}.npy"), role=role)
                    )
            return check(tensors, scalars, Settings(**(settings or {})))

    return run


def named(outcome: Outcome, name: str) -> Any:
    """Return the check of this name."""
    (found,) = [each for each in outcome.checks if each.name == name]
    return found

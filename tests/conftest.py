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
from gradcheck_cli.choices import LinearSettings
from gradcheck_cli.engine import Examiner
from gradcheck_cli.engine import examine as examine_rows
from gradcheck_cli.exports import Scalar
from gradcheck_cli.linear import linear
from gradcheck_cli.numeric import compiled
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


@pytest.fixture(params=["compiled", "numpy"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a test run with the compiled loops, where there are any, and without."""
    if request.param == "numpy":
        monkeypatch.setattr(compiled, "loops", lambda: None)
    elif compiled.loops() is None:
        pytest.skip("no compiled loops, or none wanted")
    return str(request.param)


Examine = Callable[..., Outcome]


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """Return what checks arrays as if they came from files: exported tensors by keyword, then settings."""

    def run(
        logits: Any,
        labels: Any,
        settings: Mapping[str, Any] | None = None,
        /,
        examiner: Examiner = examine_rows,
        **exported: Any,
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
            return check(tensors, scalars, Settings(**(settings or {})), examiner=examiner)

    return run


@pytest.fixture
def examine_linear(tmp_path: Path) -> Examine:
    """Return what checks a linear layer's arrays as if they came from files: settings, then tensors."""

    def run(x: Any, labels: Any, settings: dict[str, Any] | None = None, /, **given: Any) -> Outcome:
        arrays = {"inputs": x, "labels": labels} | {k.replace("_", "-"): v for k, v in given.items()}
        scalars = {k: Scalar.parse(repr(v), None) for k, v in arrays.items() if isinstance(v, float)}
        with contextlib.ExitStack() as opened:
            tensors = {}
            for role, array in arrays.items():
                if role not in scalars:
                    path = str(tmp_path / f"{role}.npy")
                    np.save(path, array)
                    tensors[role] = opened.enter_context(open_tensor(path, role=role))
            return linear(tensors, scalars, LinearSettings(**(settings or {})))

    return run


def named(outcome: Outcome, name: str) -> Any:
    """Return the check of this name."""
    (found,) = [each for each in outcome.checks if each.name == name]
    return found

"""Outcomes built by hand: what the engine would hand over, without an engine."""

from __future__ import annotations

from typing import Any

import pytest

from gradcheck_cli import outcome as records
from gradcheck_cli.outcome import Check, Data, Input, Outcome, Verdict, Worst
from gradcheck_cli.settings import Settings

INF, NAN = float("inf"), float("nan")

DIFFERENCE = Check(
    "difference",
    Verdict.PASS,
    5120,
    0,
    1.2e-14,
    3e-12,
    None,
    0.31,
    1.2e-14,
    3e-12,
    None,
    "truncation and rounding of the central difference",
    "every entry",
    (Worst((1, 2), 4, 0.1, 0.1 + 1.2e-14, 1.2e-14, 3.87e-14, 0.31),),
)
AUDIT = Check(
    "audit",
    Verdict.PASS,
    256,
    0,
    3e-11,
    1e-9,
    None,
    0.02,
    3e-11,
    1e-9,
    None,
    "truncation and rounding of the central difference",
    "256 of 5,120 entries, drawn with seed 0",
)
GRAD = Check(
    "grad",
    Verdict.PASS,
    5120,
    0,
    3e-08,
    2e-07,
    1.5,
    0.31,
    3e-08,
    2e-07,
    "tree",
    "float32: rounding of the forward pass, any order of summation",
    "every entry",
    (Worst((5, 1), 7, 0.01234567, 0.0123457, 3e-08, 9.7e-08, 0.31),),
)
BAD_GRAD = Check(
    "grad",
    Verdict.FAIL,
    5120,
    128,
    0.2514,
    1.7,
    4.2e6,
    3.21e5,
    0.2514,
    1.7,
    None,
    "float32: rounding of the forward pass, any order of summation",
    "every entry",
    (
        Worst((3, 7), 7, 0.2512345, -0.0001655, 0.2514, 7.8e-07, 3.21e5),
        Worst((4, 7), 7, 0.25, 0.12, 0.13, 7.8e-07, 1.7e5),
        Worst((511, 9), 9, 0.0019531250001, 0.0019531250000, 1e-13, 9.99e-14, 1.000002),
    ),
)
INPUTS = (
    Input("logits", "dump/step12/logits.npy", "float32", (512, 10)),
    Input("labels", "dump/step12/labels.npy", "int64", (512,)),
    Input(
        "grad", "dump/step12/dlogits.npy", "float32", (512, 10), grid="bfloat16", notes=("read big-endian",)
    ),
)
DATA = Data(512, 10, 1, 3, 509.0, "class labels")


def outcome(*checks: Check, inputs: tuple[Input, ...] = INPUTS, **settings: Any) -> Outcome:
    """Return an outcome with these checks."""
    return Outcome(
        "check",
        inputs,
        Settings(**settings).in_force(),
        DATA,
        checks,
        0.1234,
        (
            records.Warning(
                "no-confident-row",
                "no row has a label with probability above 0.99: a gradient clamped near 1 would not show",
            ),
        ),
    )


@pytest.fixture
def failed() -> Outcome:
    return outcome(DIFFERENCE, AUDIT, BAD_GRAD, reduction="sum", label_smoothing=0.1)


@pytest.fixture
def passed() -> Outcome:
    return outcome(DIFFERENCE, AUDIT, GRAD)


@pytest.fixture
def verified() -> Outcome:
    return outcome(DIFFERENCE, AUDIT, inputs=INPUTS[:2])

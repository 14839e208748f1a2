"""The error of finite differences against their step on one screen: logits and labels in, curves out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from gradcheck_cli.account import inputs
from gradcheck_cli.check import data_of
from gradcheck_cli.choices import SweepSettings
from gradcheck_cli.curves import NAMES, STEPS, curves, sampled
from gradcheck_cli.findings import Entry
from gradcheck_cli.outcome import Outcome
from gradcheck_cli.problem import pose
from gradcheck_cli.tensors import Tensor
from gradcheck_cli.verdict import judged

_TOP = 1


def sweep(tensors: Mapping[str, Tensor], settings: SweepSettings) -> Outcome:
    """Return how the error of each method of finite differences depends on its step.

    Parameters
    ----------
    tensors
        By role: logits and labels, perhaps class-weights.
    settings
        The loss of a row, and the seed of the sample.

    Raises
    ------
    InputError, UsageError
        If the tensors pose no problem that can be checked.
    """
    began = time.perf_counter()
    problem = pose(tensors, {}, settings.of_check())
    rows = sampled(problem, settings.seed)
    shown, found = curves(rows, settings.seed, _TOP)
    entries = sum(len(row.columns) for row in rows)
    for tensor in problem.tensors:
        tensor.check_unchanged()

    def place(entry: Entry) -> tuple[tuple[int, ...], int | None]:
        return problem.logits.index_of(entry.row, entry.column), None

    sample = f"{entries} entries of {len(rows)} rows (seed {settings.seed}), each at {len(STEPS)} steps"
    along = f"8 directions of {len(rows)} rows (seed {settings.seed}), each at {len(STEPS)} steps"
    checks = tuple(
        judged(
            name, found[name], place, tolerance="the predicted bound: truncation and rounding",
            coverage=along if name == "directional" else sample,
        )
        for name in NAMES
    )  # fmt: skip
    return Outcome(
        command="sweep",
        inputs=inputs(problem.tensors, ()),
        settings=settings.in_force(),
        data=replace(data_of(problem), divisor=1.0),
        checks=checks,
        seconds=time.perf_counter() - began,
        curves=shown,
    )

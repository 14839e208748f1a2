"""A failed check made small: a few failing rows as files, and the command line that fails on them alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck_cli.choices import LayerSettings
from gradcheck_cli.errors import OutputError, UsageError
from gradcheck_cli.layer.problem import LayerProblem
from gradcheck_cli.outcome import Saved
from gradcheck_cli.problem import Problem
from gradcheck_cli.settings import LOSS, Settings, flag_of, words_of
from gradcheck_cli.tensors import Rows

ROWS = 8
"""Rows that are saved at most, beside one that counts."""

_KEPT = ("compute_dtype", "logits_rounded", "rtol", "atol")  # of how it was judged
_OF_LAYER = ("log", "temperature", "masked_rows")
_LEFT_OUT = ("reduction", "normalizer", "axis")  # told by the files, or by --normalizer


def save(problem: Problem, settings: Settings, rows: Sequence[int], folder: str) -> Saved:
    """Write some rows of a problem to a folder, and return the command that checks them.

    Raises
    ------
    UsageError
        If no command line states the divisors of the rows alone.
    OutputError
        If the folder or a file cannot be written.
    """
    if problem.z_divisor != problem.divisor and problem.loss.z_loss:
        raise UsageError(
            "--save-failure: with --z-loss and --class-weights a mean has two divisors, which no options can "
            "state for some of the rows; give --normalizer"
        )
    chosen = _with_one_that_counts(problem, sorted(set(rows[:ROWS])))
    words = ["softgrad", "check", "logits.npy", "labels.npy"]
    planes = {"logits": problem.logits, "labels": problem.targets}
    for export in problem.exports:
        planes[export.name] = export.rows
        words += [f"--{export.name}", f"{export.name}.npy"]
    if isinstance(problem.upstream, Rows):
        planes["upstream"] = problem.upstream
        words += ["--upstream", "upstream.npy"]
    words += _formats(planes)
    arrays = {name: _picked(each, chosen) for name, each in planes.items()}
    if not isinstance(problem.upstream, Rows) and problem.upstream != 1.0:
        words += ["--upstream", repr(problem.upstream)]
    if problem.loss.class_weights is not None:
        arrays["class-weights"] = problem.loss.class_weights
        words += ["--class-weights", "class-weights.npy"]
    command = shlex.join([*words, *_flags(problem, settings)])
    _write(folder, arrays, command)
    return Saved(folder, len(chosen), command)


def save_layer(problem: LayerProblem, settings: LayerSettings, rows: Sequence[int], folder: str) -> Saved:
    """Write some rows of a softmax layer to a folder, and return the command that checks them.

    Raises
    ------
    OutputError
        If the folder or a file cannot be written.
    """
    chosen = sorted(set(rows[:ROWS]))
    words = ["softgrad", "vjp", "logits.npy", "upstream.npy"]
    planes = {"logits": problem.logits, "upstream": problem.upstream}
    for export in problem.exports:
        planes[export.name] = export.rows
        words += [f"--{export.name}", f"{export.name}.npy"]
    words += _formats(planes)
    for option in fields(settings):
        value = getattr(settings, option.name)
        if option.name in (*_OF_LAYER, *_KEPT) and value is not None and value != option.default:
            words += [flag_of(option.name)]
            words += [] if value is True else [str(value) if isinstance(value, str) else repr(value)]
    command = shlex.join(words)
    _write(folder, {name: _picked(each, chosen) for name, each in planes.items()}, command)
    return Saved(folder, len(chosen), command)


def _formats(planes: Mapping[str, Rows]) -> list[str]:
    """Return the options that say what 8-bit codes stand for."""
    named = {name: each.tensor.dtype for name, each in planes.items()}
    codes = [f"{name}={dtype}" for name, dtype in named.items() if dtype.startswith("float8")]
    return [word for each in codes for word in ("--dtype", each)]


def _with_one_that_counts(problem: Problem, rows: list[int]) -> list[int]:
    """Return the rows, and one that is not ignored if all of them are: a check of none is refused."""
    if problem.soft:
        return rows
    label = np.empty(1, dtype=np.int64)
    for row in rows:
        problem.targets.read(row, row + 1, label)
        if label[0] != problem.ignore_index:
            return rows
    return sorted({*rows, problem.first_counted})


def _picked(rows: Rows, chosen: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return some rows as they are stored: (n, K), or (n,) of one value for each row."""
    picked = np.concatenate([rows.read_stored(row, row + 1) for row in chosen])
    if rows.tensor.dtype.startswith(("bfloat16", "float8")):
        return picked.view(f"V{picked.dtype.itemsize}")
    return picked


def _flags(problem: Problem, settings: Settings) -> list[str]:
    """Return the options under which the rows alone are judged as they were among all of them."""
    words = []
    if settings.reduction == "none":
        words += ["--reduction", "none"]
    else:
        words += ["--normalizer", repr(float(problem.divisor))]
    for each in fields(Settings):
        value = getattr(settings, each.name)
        told = words_of(each).group == LOSS and each.name not in _LEFT_OUT
        if (told or each.name in _KEPT) and value is not None and value != each.default:
            words += [flag_of(each.name), str(value) if isinstance(value, str) else repr(value)]
    return words


def _write(folder: str, arrays: dict[str, np.ndarray[Any, Any]], command: str) -> None:
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            np.save(place / f"{name}.npy", array)
        (place / "command").write_text(command + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: the failure cannot be saved: {error.strerror}") from error

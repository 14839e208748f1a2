"""Means of micro-batches of any lengths, over more rows than a sample holds, are named, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli import grid
from gradcheck_cli.diagnosis import every, stepwise
from gradcheck_cli.outcome import Outcome, Verdict
from tests.conftest import Examine
from tests.diagnosis.plants import IGNORED, Array, softmax

ROWS = 2400
CUTS = {
    "two": [700],
    "unequal": [500, 1200, 1350],
    "many": [37 * k for k in range(1, 60)],
    "short ones": [3, 8, 9, 1500],
}


def data(kind: str, rows: int = ROWS, seed: int = 0) -> tuple[Array, Array]:
    """Return logits and labels: some ignored; saturated, and ignored at the ends; or two classes."""
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=(rows, 8 if kind != "weak" else 2)), rng.integers(0, 2, rows)
    ignored = rng.random(rows) < 0.2
    if kind == "adversarial":
        z[rng.random(rows) < 0.3] *= 60.0
        for edge in (0, 700, 1500, rows - 3):
            ignored[edge : edge + 3] = True
    return z.astype(np.float32).astype(np.float64), np.where(ignored, IGNORED, y)


def bare(z: Array, y: Array) -> Array:
    hot = np.eye(z.shape[1])[np.maximum(y, 0)]
    found: Array = (softmax(z) - hot) * (y != IGNORED)[:, None]
    return found


def means(z: Array, y: Array, parts: Sequence[Array], *, mean: bool) -> Array:
    """Return each part divided by its own count, and by the number of parts."""
    out = bare(z, y)
    for rows in parts:
        count = int(np.count_nonzero(y[rows] != IGNORED))
        out[rows] /= max(1, count) * (len(parts) if mean else 1)
    return out


def codes(outcome: Outcome) -> list[str]:
    assert outcome.verdict is Verdict.FAIL
    return [each.code for each in outcome.diagnosis]


@pytest.mark.parametrize("kind", ["friendly", "adversarial", "weak"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("cuts", CUTS)
def test_micro_batches_of_any_length(
    examine: Examine, cuts: str, dtype: Any, kind: str, *, mean: bool
) -> None:
    z, y = data(kind)
    parts = np.split(np.arange(ROWS), CUTS[cuts])
    outcome = examine(z, y, {}, grad=means(z, y, parts, mean=mean).astype(dtype))
    assert codes(outcome) == ["mean-of-means" if mean else "sum-of-means"]
    counts = [np.count_nonzero(y[rows] != IGNORED) for rows in parts]
    found = outcome.diagnosis[0].parameters
    if mean or min(counts):
        assert (found["parts"], found["fewest"], found["most"]) == (len(parts), min(counts), max(counts))


@pytest.mark.parametrize("ranks", [2, 8, 64])
@pytest.mark.parametrize("mean", [True, False])
def test_rows_dealt_to_ranks_in_turn(examine: Examine, ranks: int, *, mean: bool) -> None:
    z, y = data("friendly")
    parts = [np.arange(rank, ROWS, ranks) for rank in range(ranks)]
    outcome = examine(z, y, {}, grad=means(z, y, parts, mean=mean).astype(np.float32))
    assert codes(outcome) == ["mean-of-means" if mean else "sum-of-means"]
    assert "interleaved" in outcome.diagnosis[0].message


def test_distributions_dealt_to_ranks_that_do_not_divide_the_rows(examine: Examine) -> None:
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(2, 30, 5))
    t = softmax(t)
    wrong = softmax(z) - t
    for rank in range(4):
        wrong[rank::4] /= len(wrong[rank::4]) * 4
    assert codes(examine(z, t, {}, grad=wrong)) == ["mean-of-means"]


def test_16_bits_leave_long_micro_batches_open(examine: Examine) -> None:
    """A size that rounding does not tell from the next one is not named."""
    z, y = data("friendly")
    wrong = means(z, y, np.split(np.arange(ROWS), CUTS["unequal"]), mean=False)
    outcome = examine(z, y, {}, grad=wrong.astype(ml_dtypes.bfloat16))
    assert codes(outcome) in ([], ["sum-of-means"])


@pytest.mark.parametrize("seed", range(3))
def test_other_steps_get_no_name(examine: Examine, seed: int) -> None:
    z, y = data("friendly", seed=seed)
    rng = np.random.default_rng(seed)
    right = bare(z, y) / np.count_nonzero(y != IGNORED)
    parts = np.split(np.arange(ROWS), CUTS["unequal"])
    steps, one = right.copy(), means(z, y, parts, mean=True)
    for rows in parts:
        steps[rows] *= rng.uniform(0.5, 2.0)
    one[900] *= 1.01
    late = right.copy()
    late[2000:] *= 1.5
    for wrong in (steps, one, late, right * rng.uniform(0.5, 2.0, (ROWS, 1))):
        assert codes(examine(z, y, {}, grad=wrong.astype(np.float32))) == []


@pytest.mark.parametrize("threads", [2, 5])
def test_processes_share_the_rows(examine: Examine, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(every, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(grid, "TILE_ENTRIES", 1000)
    z, y = data("friendly")
    grad = means(z, y, np.split(np.arange(ROWS), [500, 1200, 1350]), mean=True)
    assert codes(examine(z, y, {"threads": threads}, grad=grad)) == ["mean-of-means"]


def test_a_process_that_came_too_late_has_nothing_to_say() -> None:
    nothing: Any = None
    assert stepwise._Gathering(nothing).record() == {}

"""Known wrong gradients, planted in float32, bfloat16 and float16: each must fail, and the right one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.outcome import Verdict
from tests.conftest import Examine, named

Array = np.ndarray[Any, Any]
ROWS, CLASSES, IGNORED = 48, 12, -100


class Case:
    """A problem and the ingredients that wrong kernels mix up, in float64."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.z = (2 * rng.normal(size=(ROWS, CLASSES))).astype(np.float16).astype(np.float64)
        self.labels = rng.integers(0, CLASSES, ROWS)
        self.z[::6, :] += 14 * np.eye(CLASSES)[self.labels[::6]]  # confident rows
        self.ignored = np.arange(ROWS) % 4 == 1
        self.y = np.eye(CLASSES)[self.labels]
        self.a = self.softmax(self.z)
        self.v = ~self.ignored[:, None]
        self.n = int(self.v.sum())
        self.upstream = rng.uniform(0.5, 2.0, ROWS)
        self.right = self.v * (self.a - self.y) / self.n

    @staticmethod
    def softmax(z: Array) -> Array:
        """Return softmax along the last axis."""
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        a: Array = e / e.sum(axis=-1, keepdims=True)
        return a

    def vjp(self, a: Array, t: Array) -> Array:
        """Return the softmax layer's backward."""
        bottom: Array = (t - (t * a).sum(axis=1, keepdims=True)) * a
        return bottom


def _micro(case: Case, *, of_means: bool) -> Array:
    out: Array = np.zeros_like(case.right)
    for block in np.split(np.arange(ROWS), [10, 25, 40]):
        counted = case.v[block].sum()
        out[block] = (case.v * (case.a - case.y))[block] / counted / (4 if of_means else 1)
    return out


def _stale(case: Case) -> Array:
    out: Array = case.right.copy()
    out[40:] = out[32:40]
    return out


def _tail(case: Case) -> Array:
    out: Array = case.right.copy()
    out[:, 8:] = 0
    return out


def _padded(case: Case) -> Array:
    e = np.exp(case.z - case.z.max(axis=1, keepdims=True))
    a = e / (e.sum(axis=1, keepdims=True) + 4 * np.exp(-case.z.max(axis=1, keepdims=True)))
    wrong: Array = case.v * (a - case.y) / case.n
    return wrong


BUGS: dict[str, Callable[[Case], Array]] = {
    "A1 sum for mean": lambda c: c.right * c.n,
    "A3 mean over all rows": lambda c: c.right * c.n / ROWS,
    "A4 averaged twice": lambda c: c.right / c.n,
    "A5 mean over elements": lambda c: c.right / CLASSES,
    "A6 mean of means": lambda c: _micro(c, of_means=True),
    "A7 sum of means": lambda c: _micro(c, of_means=False),
    "A12 loss scale": lambda c: c.right * 1024,
    "A13 clipped": lambda c: c.right * min(1.0, 0.1 / np.linalg.norm(c.right)),
    "B1 foreign upstream": lambda c: c.right * c.upstream[:, None],
    "B6 all zero": lambda c: np.zeros_like(c.right),
    "C1 ignored rows not zeroed": lambda c: (c.a - c.y) / c.n,
    "C2 ignored rows hold a": lambda c: np.where(c.v, c.right, c.a / c.n),
    "C3 a class ignored": lambda c: c.right * (c.labels != 0)[:, None],
    "C4 label off by one": lambda c: c.v * (c.a - np.roll(c.y, 1, axis=1)) / c.n,
    "C4 labels shifted": lambda c: c.v * (c.a - np.roll(c.y, 1, axis=0)) / c.n,
    "C6 one-hot not subtracted": lambda c: c.v * c.a / c.n,
    "C7 sign": lambda c: -c.right,
    "D1 diagonal Jacobian": lambda c: c.v * (-c.y / c.a) * c.a * (1 - c.a) / c.n,
    "D2 missing dot": lambda c: c.v * (-c.y / c.a) * c.a / c.n,
    "D5 double softmax": lambda c: c.v * c.vjp(c.a, c.softmax(c.a) - c.y) / c.n,
    "D6 Jacobian twice": lambda c: c.v * c.vjp(c.a, c.a - c.y) / c.n,
    "D7 gradient at probabilities": lambda c: c.v * (-c.y / c.a) / c.n,
    "D8 wrong axis": lambda c: c.v * (c.softmax(c.z.T).T - c.y) / c.n,
    "D9 sigmoid": lambda c: c.v * (1 / (1 + np.exp(-c.z)) - c.y) / c.n,
    "D12 padded lanes": _padded,
    "D14 local denominator": lambda c: c.v * (c.a / 4 - c.y) / c.n,
    "E1 smoothing uncalled for": lambda c: c.v * (c.a - 0.9 * c.y - 0.1 / CLASSES) / c.n,
    "E7 temperature": lambda c: c.v * (c.softmax(c.z / 2) - c.y) / c.n,
    "F6 stale rows": _stale,
    "F7 tail columns": _tail,
    "F8 small entries filtered": lambda c: np.where(np.abs(c.right) < 2e-4, 0, c.right),
    "F9 transposed blocks": lambda c: c.right.reshape(4, 12, 12).transpose(0, 2, 1).reshape(ROWS, 12),
    "D10 NaN": lambda c: np.where(c.z > 9, np.nan, c.right),
    "D10 infinity": lambda c: np.where(c.z > 9, np.inf, c.right),
    "one entry 1 % off": lambda c: (
        c.right * np.where((np.arange(ROWS)[:, None] == 7) & (c.a == c.a[7].max()), 1.01, 1)
    ),
}
STORED = {"float64": np.float64, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def _outcome(examine: Examine, case: Case, grad: Array, dtype: str, **settings: Any) -> Any:
    labels = np.where(case.ignored, IGNORED, case.labels)
    return examine(case.z, labels, settings, grad=grad.astype(STORED[dtype]))


@pytest.mark.parametrize("dtype", STORED)
def test_the_right_gradient_passes(examine: Examine, dtype: str) -> None:
    case = Case()
    assert _outcome(examine, case, case.right, dtype).verdict is Verdict.PASS


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_fails(examine: Examine, bug: str, dtype: str) -> None:
    case = Case()
    if dtype in ("bfloat16", "float16") and bug == "one entry 1 % off":
        pytest.skip("1 % is within what native 16-bit arithmetic may cost")
    with np.errstate(over="ignore", invalid="ignore"):
        outcome = _outcome(examine, case, BUGS[bug](case), dtype)
    assert outcome.exit_code == 1
    assert named(outcome, "grad").failing > 0


@pytest.mark.parametrize("bug", ["B1 ignored", "B2 first row", "B5 twice"])
def test_a_mistaken_upstream_fails(examine: Examine, bug: str) -> None:
    case = Case()
    rows = case.v * (case.a - case.y)
    g = case.upstream[:, None]
    wrong = {"B1 ignored": rows, "B2 first row": rows * case.upstream[0], "B5 twice": rows * g * g}[bug]
    labels = np.where(case.ignored, IGNORED, case.labels)
    settings = {"reduction": "none"}
    right = examine(case.z, labels, settings, upstream=case.upstream, grad=rows * g)
    assert right.verdict is Verdict.PASS
    assert examine(case.z, labels, settings, upstream=case.upstream, grad=wrong).exit_code == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_read_modify_write_of_the_label_entry_fails(examine: Examine, dtype: str) -> None:
    """F1: round(round(a/N) - 1/N) loses the label entry of confident rows."""
    case = Case()
    kind = STORED[dtype]
    twice = (case.a / case.n).astype(kind).astype(np.float64) - case.y / case.n
    outcome = _outcome(examine, case, case.v * twice, dtype)
    assert outcome.exit_code == 1
    failing = [entry.index for entry in named(outcome, "grad").worst if entry.margin > 1]
    assert all(case.labels[row] == column for row, column in failing)


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 1e-9}], ids=["glance", "closely"])
def test_a_wrong_ruler_is_inconclusive_and_judges_nothing(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """If analytic gradient and finite difference disagree, softgrad must not judge by either."""
    from gradcheck_cli.numeric import difference  # noqa: PLC0415 - patched here

    right = difference._log_ratio

    def broken(w: Array, move: Any, out: Array, inverse: Any = 1.0) -> None:
        right(w, move, out, inverse)
        out *= 1 + 1e-9

    monkeypatch.setattr(difference, "_log_ratio", broken)
    case = Case()
    outcome = _outcome(examine, case, case.right, "float32", **settings)
    assert (outcome.verdict, outcome.exit_code) == (Verdict.INCONCLUSIVE, 2)
    assert named(outcome, "difference").verdict is Verdict.FAIL

"""The softmax layer as a whole: right exports pass, planted bugs fail, in every layout and precision."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli import engine, grid
from gradcheck_cli.choices import LayerSettings
from gradcheck_cli.errors import InputError, UsageError
from gradcheck_cli.numeric import layer
from gradcheck_cli.outcome import Outcome, Verdict
from gradcheck_cli.tensors import open_tensor
from gradcheck_cli.vjp import vjp
from tests import layer_oracle, oracle
from tests.conftest import named

Array = np.ndarray[Any, Any]
Examine = Callable[..., Outcome]
STORED = {"float64": np.float64, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """Return what checks arrays as if they came from files: exported tensors by keyword, then settings."""

    def run(z: Any, t: Any, settings: dict[str, Any] | None = None, /, **exported: Any) -> Outcome:
        arrays = {"logits": z, "upstream": t} | {k.replace("_", "-"): v for k, v in exported.items()}
        with contextlib.ExitStack() as opened:
            tensors = {}
            for role, array in arrays.items():
                np.save(tmp_path / f"{role}.npy", array)
                tensors[role] = opened.enter_context(open_tensor(str(tmp_path / f"{role}.npy"), role=role))
            return vjp(tensors, LayerSettings(**(settings or {})))

    return run


def _softmax(z: Array, axis: int = -1) -> Array:
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    a: Array = e / e.sum(axis=axis, keepdims=True)
    return a


def _attention() -> tuple[Array, Array, Array, Array]:
    """Return causal scores (B, H, T, T), their upstream, probabilities and right gradient."""
    rng = np.random.default_rng(4)
    z = (2 * rng.normal(size=(2, 3, 12, 12))).astype(np.float16).astype(np.float64)
    z[..., np.triu(np.ones((12, 12), dtype=bool), 1)] = -np.inf
    t = rng.normal(size=z.shape).astype(np.float16).astype(np.float64)
    a = _softmax(z)
    return z, t, a, (t - (t * a).sum(axis=-1, keepdims=True)) * a


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_the_oracle_passes_and_a_part_in_10_12_fails(
    examine: Examine, scale: float, temperature: float, log: bool
) -> None:
    rng = np.random.default_rng(1)
    z, t = scale * rng.normal(size=(5, 6)), rng.normal(size=(5, 6))
    z[1, 3] += 40.0
    z[2, 4], t[2, 4] = -np.inf, 0.0
    truth = oracle.as_float64(layer_oracle.gradient(z, t, temperature, log=log))
    settings = {"log": log, "temperature": temperature}
    right = examine(z, t, settings, grad=truth)
    assert right.verdict is Verdict.PASS, [(c.name, c.max_margin) for c in right.checks]
    wrong = truth.copy()
    wrong[np.unravel_index(np.abs(truth).argmax(), truth.shape)] *= 1 + 3e-12
    assert examine(z, t, settings, grad=wrong).exit_code == 1


@pytest.mark.parametrize("log", [False, True])
def test_the_output_is_judged(examine: Examine, log: bool) -> None:
    rng = np.random.default_rng(2)
    z, t = 3 * rng.normal(size=(4, 7)), rng.normal(size=(4, 7))
    exact = layer_oracle.probabilities(z)
    name = "log_probs" if log else "probs"
    if log:
        exact = np.array([[layer_oracle.WIDE.log(p) for p in row] for row in exact], dtype=object)
    truth = oracle.as_float64(exact)
    assert examine(z, t, {"log": log}, **{name: truth}).verdict is Verdict.PASS
    truth[3, 2] *= 1 + 3e-12
    outcome = examine(z, t, {"log": log}, **{name: truth})
    assert named(outcome, name.replace("_", "-")).worst[0].index == (3, 2)
    assert outcome.exit_code == 1


class Case(NamedTuple):
    """Logits, upstream, probabilities, right gradient."""

    z: Array
    t: Array
    a: Array
    g: Array


BUGS: dict[str, Callable[[Case], Array]] = {
    "dot left out": lambda c: c.t * c.a,
    "diagonal Jacobian": lambda c: c.t * c.a * (1 - c.a),
    "not multiplied by a": lambda c: np.where(c.a > 0, c.t - (c.t * c.a).sum(axis=-1, keepdims=True), 0),
    "sum for dot": lambda c: (c.t - c.t.sum(axis=-1, keepdims=True)) * c.a,
    "mean for dot": lambda c: (c.t - c.t.mean(axis=-1, keepdims=True)) * c.a,
    "dot with the logits": lambda c: (
        (c.t - (c.t * np.where(c.a > 0, c.z, 0)).sum(axis=-1, keepdims=True)) * c.a
    ),
    "dot over the wrong axis": lambda c: (c.t - (c.t * c.a).sum(axis=-2, keepdims=True)) * c.a,
    "softmax over the wrong axis": lambda c: (
        _softmax(np.maximum(c.z, -1e4), -2)
        * (c.t - (c.t * _softmax(np.maximum(c.z, -1e4), -2)).sum(axis=-2, keepdims=True))
    ),
    "sign": lambda c: -c.g,
    "scaled by 1/sqrt(d) once more": lambda c: c.g / 8,
    "log-softmax": lambda c: c.t - c.a * c.t.sum(axis=-1, keepdims=True),
    "Jacobian twice": lambda c: (c.g - (c.g * c.a).sum(axis=-1, keepdims=True)) * c.a,
    "dot of the first half": lambda c: (c.t - (c.t * c.a)[..., :6].sum(axis=-1, keepdims=True)) * c.a,
    "mask leaks": lambda c: np.where(c.a == 0, 1e-3, c.g),
    "stale rows": lambda c: np.concatenate([c.g[..., :6, :], c.g[..., :6, :]], axis=-2),
    "transposed": lambda c: np.swapaxes(c.g, -1, -2),
    "NaN": lambda c: np.where(c.z == c.z[0, 0, 3, 1], np.nan, c.g),
    "one entry 1 % off": lambda c: np.where(c.g == np.abs(c.g).max(), 1.01 * c.g, c.g)
    + np.where(c.g == -np.abs(c.g).max(), 0.01 * c.g, 0),
}  # fmt: skip


@pytest.mark.parametrize("dtype", STORED)
def test_the_right_gradient_passes(examine: Examine, dtype: str) -> None:
    z, t, a, g = _attention()
    exported = {"grad": g.astype(STORED[dtype]), "probs": a.astype(STORED[dtype])}
    outcome = examine(z, t, **exported)
    assert outcome.verdict is Verdict.PASS, [(c.name, c.max_margin) for c in outcome.checks]
    assert outcome.data.axis == 3
    assert outcome.data.rows == 72


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_fails(examine: Examine, bug: str, dtype: str) -> None:
    if dtype in ("bfloat16", "float16") and bug == "one entry 1 % off":
        pytest.skip("1 % is within what 16-bit arithmetic may cost")
    z, t, a, g = _attention()
    outcome = examine(z, t, grad=BUGS[bug](Case(z, t, a, g)).astype(STORED[dtype]))
    assert outcome.exit_code == 1, bug


@pytest.mark.parametrize("dtype", STORED)
def test_bugs_of_a_log_softmax_fail(examine: Examine, dtype: str) -> None:
    rng = np.random.default_rng(6)
    z, t = rng.normal(size=(9, 8)), rng.normal(size=(9, 8))
    z, t = (each.astype(np.float16).astype(np.float64) for each in (z, t))
    a, total = _softmax(z), t.sum(axis=1, keepdims=True)
    right = t - a * total
    settings = {"log": True}
    assert examine(z, t, settings, grad=right.astype(STORED[dtype])).verdict is Verdict.PASS
    wrong = {
        "softmax": (t - (t * a).sum(axis=1, keepdims=True)) * a,
        "sum left out": t - a,
        "no subtraction": t,
        "dot for sum": t - a * (t * a).sum(axis=1, keepdims=True),
        "logits for probabilities": t - z * total,
        "temperature": t - _softmax(z / 2) * total,
    }
    for bug, grad in wrong.items():
        assert examine(z, t, settings, grad=grad.astype(STORED[dtype])).exit_code == 1, bug


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_axis_and_order(examine: Examine, axis: int, order: Any) -> None:
    rng = np.random.default_rng(7)
    z, t = rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 4, 5))
    a = _softmax(z, axis)
    g = (t - (t * a).sum(axis=axis, keepdims=True)) * a
    wrong = g.copy()
    wrong[1, 2, 3] += 1e-9
    settings = {"axis": axis}
    laid = np.asarray(z, order=order)
    assert examine(laid, t, settings, grad=g, probs=a).verdict is Verdict.PASS
    assert named(examine(laid, t, settings, grad=wrong), "grad").worst[0].index == (1, 2, 3)


def _padded() -> tuple[Array, Array, Array, Array]:
    z, t, a, g = _attention()
    z[1, :, 5] = -np.inf
    for each in (a, g):
        each[1, :, 5] = 0.0
    return z, t, a, g


def test_a_wholly_masked_row_is_refused_with_the_ways_out(examine: Examine) -> None:
    z, t, _, g = _padded()
    with pytest.raises(InputError, match=r"row \[1, 0, 5\]: every class is masked .*--masked-rows zero"):
        examine(z, t, grad=g)


@pytest.mark.parametrize(("held", "zero", "ignore"), [(0.0, 0, 0), (np.nan, 1, 0), (1 / 12, 1, 0)])
def test_what_a_wholly_masked_row_may_hold(examine: Examine, held: float, zero: int, ignore: int) -> None:
    z, t, a, g = _padded()
    a[1, :, 5] = g[1, :, 5] = held
    expected = {"zero": zero, "ignore": ignore}
    for mode, code in expected.items():
        outcome = examine(z, t, {"masked_rows": mode}, grad=g, probs=a)
        assert outcome.exit_code == code
        assert outcome.data.ignored_rows == 3
        entries = 72 * 12 - (3 * 12 if mode == "ignore" else 0)
        assert named(outcome, "grad").entries == named(outcome, "probs").entries == entries
        assert named(outcome, "difference").entries == 69 * 12


@pytest.mark.parametrize("mode", ["zero", "ignore"])
def test_a_wholly_masked_row_of_a_log_softmax(examine: Examine, mode: str) -> None:
    z, t, a, _ = _padded()
    t = np.where(np.isneginf(z), 0.0, t)
    g = t - a * t.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        logs = np.log(a)
    settings = {"masked_rows": mode, "log": True}
    assert examine(z, t, settings, grad=g, log_probs=logs).verdict is Verdict.PASS
    logs[1, :, 5] = np.nan
    assert examine(z, t, settings, grad=g, log_probs=logs).exit_code == (mode == "zero")


def test_an_upstream_at_a_masked_class_of_a_log_softmax_is_refused(examine: Examine) -> None:
    z, t = np.array([[1.0, -np.inf, 0.0]]), np.array([[0.5, 0.25, 0.0]])
    assert examine(z, t).verdict is Verdict.PASS
    with pytest.raises(InputError, match=r"upstream.npy, entry \[0, 1\]: the upstream gradient 0.25 stands"):
        examine(z, t, {"log": True})


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_an_upstream_that_is_no_number_is_refused(examine: Examine, bad: float) -> None:
    z, t = np.zeros((3, 4)), np.ones((3, 4))
    t[2, 1] = bad
    with pytest.raises(InputError, match=r"upstream.npy, entry \[2, 1\]: the upstream gradient"):
        examine(z, t)


@pytest.mark.parametrize(
    ("settings", "exported", "says"),
    [
        ({}, {"grad": np.zeros((4, 3))}, "grad.npy has shape .4, 3., but"),
        ({"axis": 2}, {}, "--axis 2: .* has no such axis"),
        ({"log": True}, {"probs": np.zeros((3, 4))}, "--probs with --log"),
        ({}, {"log_probs": np.zeros((3, 4))}, "--log-probs needs --log"),
    ],
)
def test_what_does_not_fit_is_refused(
    examine: Examine, settings: dict[str, Any], exported: dict[str, Any], says: str
) -> None:
    with pytest.raises((InputError, UsageError), match=says):
        examine(np.zeros((3, 4)), np.ones((3, 4)), settings, **exported)


def test_class_labels_as_upstream_are_refused_with_a_hint(examine: Examine) -> None:
    with pytest.raises(InputError, match="class labels"):
        examine(np.zeros((3, 4)), np.ones(3))


@pytest.mark.parametrize("entries", [1, 40, 300, 1 << 20])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("settings", [{"masked_rows": "zero"}, {"log": True, "masked_rows": "ignore"}])
def test_block_size_and_threads_change_nothing(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, entries: int, threads: int, settings: dict[str, Any]
) -> None:
    z, t, a, g = _padded()
    t = np.where(np.isneginf(z), 0.0, t)
    log_a = np.log(a, out=np.full_like(a, -np.inf), where=a > 0)
    output = {"log_probs": log_a} if "log" in settings else {"probs": a * np.float64(1 + 1e-9)}
    exported = {"grad": g.astype(np.float32)} | output
    usual = examine(z, t, settings | {"threads": 1}, **exported)
    monkeypatch.setattr(grid, "TILE_ENTRIES", entries)
    monkeypatch.setattr(engine, "_WORTH_A_PROCESS", 1)
    again = examine(z, t, settings | {"threads": threads}, **exported)
    assert (again.checks, again.data, again.verdict) == (usual.checks, usual.data, usual.verdict)


@pytest.mark.parametrize(
    ("make", "model"),
    [
        (lambda c: c.g.astype(np.float32), "correctly rounded"),
        (lambda c: (c.g * (1 + 4e-7)).astype(np.float32), "tree"),
        (lambda c: (c.t - (c.t * c.a).sum(axis=-1, keepdims=True)) * c.a.astype(ml_dtypes.bfloat16), None),
    ],
)
def test_the_model_that_explains_a_gradient_is_named(examine: Examine, make: Any, model: str | None) -> None:
    case = Case(*_attention())
    check = named(examine(case.z, case.t, grad=make(case)), "grad")
    assert (check.explained_by, check.verdict is Verdict.PASS) == (model, model is not None)


def test_logits_that_were_rounded_afterwards(examine: Examine) -> None:
    rng = np.random.default_rng(12)
    z, t = (3 * rng.normal(size=(20, 9))).astype(np.float32), rng.normal(size=(20, 9)).astype(np.float32)
    a = _softmax(z)
    for log in (False, True):
        g = t - a * t.sum(axis=1, keepdims=True) if log else (t - (t * a).sum(axis=1, keepdims=True)) * a
        stored = z.astype(ml_dtypes.bfloat16)
        assert examine(stored, t, {"log": log}, grad=g).exit_code == 1
        told = examine(stored, t, {"log": log, "logits_rounded": "bfloat16"}, grad=g)
        assert told.verdict is Verdict.PASS
        assert [each.code for each in told.warnings if each.lacks is None] == ["logits-rounded"]
        assert examine(stored, t, {"log": log, "logits_rounded": "bfloat16"}, grad=-g).exit_code == 1


def test_a_wrong_ruler_is_inconclusive_and_judges_nothing(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = layer.backward

    def broken(*args: Any) -> Any:
        out = right(*args)
        out *= 1 + 1e-9
        return out

    monkeypatch.setattr(layer, "backward", broken)
    z, t, _, g = _attention()
    outcome = examine(z, t, grad=g)
    assert (outcome.verdict, outcome.exit_code) == (Verdict.INCONCLUSIVE, 2)
    assert named(outcome, "difference").verdict is Verdict.FAIL


def test_a_wrong_closed_form_is_found_by_the_audit(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Formula and shortcut wrong in the same way: only whole rows, moved by brute force, can tell."""
    right_backward, right_change = layer.backward, layer.change

    def broken(*args: Any) -> Any:
        out = right_backward(*args)
        out *= 1 + 1e-7
        return out

    def broken_too(*args: Any) -> Any:
        moved = right_change(*args)
        return lambda tau: moved(tau) * (1 + 1e-7)

    monkeypatch.setattr(layer, "backward", broken)
    monkeypatch.setattr(layer, "change", broken_too)
    z, t, _, _ = _attention()
    outcome = examine(z, t)
    assert named(outcome, "difference").verdict is Verdict.PASS
    assert named(outcome, "audit").verdict is Verdict.FAIL
    assert outcome.exit_code == 2


def test_float32_logits_far_off_under_a_temperature_are_inconclusive(examine: Examine) -> None:
    rng = np.random.default_rng(8)
    z = (3e8 + 64 * rng.integers(0, 4, (6, 5))).astype(np.float32)
    t = rng.normal(size=(6, 5)).astype(np.float32)
    a = _softmax(z.astype(np.float64) / 64)
    g = ((t - (t * a).sum(axis=1, keepdims=True)) * a / 64).astype(np.float32)
    outcome = examine(z, t, {"temperature": 64.0}, grad=g)
    assert outcome.exit_code == 2
    assert [each.code for each in outcome.warnings if each.lacks is None] == ["nothing-sure"]

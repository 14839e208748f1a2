"""Every known bug of the softmax layer, planted by a formula written down a second time, and named."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from gradcheck_cli.choices import LayerSettings
from gradcheck_cli.diagnosis.bug import CONVENTION, DEFECT, ROUNDING
from gradcheck_cli.diagnosis.pulled import catalogue, lanes
from gradcheck_cli.outcome import Outcome, Verdict
from gradcheck_cli.tensors import open_tensor
from gradcheck_cli.vjp import vjp

Array = npt.NDArray[Any]
NAMES = (*catalogue.NAMES, *lanes.NAMES)
MAN = Path(__file__).parent.parent.parent / "man" / "softgrad-vjp.1"


def probs(v: Array, axis: int = -1) -> Array:
    w = np.exp(v - v.max(axis=axis, keepdims=True))
    found: Array = w / w.sum(axis=axis, keepdims=True)
    return found


def back(a: Array, t: Array, axis: int = -1) -> Array:
    found: Array = a * (t - (a * t).sum(axis=axis, keepdims=True))
    return found


def log_back(a: Array, t: Array) -> Array:
    found: Array = t - a * t.sum(axis=-1, keepdims=True)
    return found


def tiled(a: Array, t: Array, *, own: bool) -> Array:
    inner = (a * t).reshape(*a.shape[:-1], -1, 4).sum(axis=-1)
    inner = np.repeat(inner if own else inner[..., :1].repeat(a.shape[-1] // 4, -1), 4, axis=-1)
    found: Array = a * (t - inner)
    return found


def sigmoid(z: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-z))
    return found


def padded(z: Array, lanes: int) -> Array:
    found: Array = np.exp(z) / (np.exp(z).sum(axis=-1, keepdims=True) + lanes)
    return found


def sharded(z: Array, shards: int) -> Array:
    return np.concatenate([probs(each) for each in np.split(z, shards, axis=-1)], axis=-1)


def locally(z: Array, t: Array, shards: int) -> Array:
    parts = zip(np.split(z, shards, axis=-1), np.split(t, shards, axis=-1), strict=True)
    return np.concatenate([back(probs(each), its) for each, its in parts], axis=-1)


Plant = Callable[[Array, Array], Array]

SOFT: dict[str, tuple[str, Plant]] = {
    "diagonal": ("diagonal-jacobian", lambda z, t: t * probs(z) * (1 - probs(z))),
    "no dot": ("missing-dot-term", lambda z, t: t * probs(z)),
    "bare dot": ("dot-without-probs", lambda z, t: probs(z) * (t - t.sum(-1, keepdims=True))),
    "first tile": ("dot-over-tile", lambda z, t: tiled(probs(z), t, own=False)),
    "tiles": ("dot-over-tile", lambda z, t: tiled(probs(z), t, own=True)),
    "batch": ("dot-over-batch", lambda z, t: probs(z) * (t - (t * probs(z)).sum())),
    "columns": ("dot-over-wrong-axis", lambda z, t: probs(z) * (t - (t * probs(z)).sum(axis=0))),
    "log": ("log-softmax-confused", lambda z, t: log_back(probs(z), t)),
    "axis": ("wrong-axis", lambda z, t: back(probs(z, 0), t, 0)),
    "ignored": ("upstream-ignored", lambda z, t: probs(z) * (1 - probs(z))),  # noqa: ARG005
    "first row": ("upstream-first-row-only", lambda z, t: back(probs(z), np.broadcast_to(t[:1], t.shape))),
    "squared": ("upstream-applied-twice", lambda z, t: back(probs(z), t * t)),
    "again": ("upstream-applied-twice", lambda z, t: t * back(probs(z), t)),
    "double": ("double-softmax", lambda z, t: back(probs(z), back(probs(probs(z)), t))),
    "short": ("double-softmax", lambda z, t: back(probs(probs(z)), t)),
    "jacobian": ("jacobian-applied-twice", lambda z, t: back(probs(z), back(probs(z), t))),
    "sigmoid": ("sigmoid-for-softmax", lambda z, t: t * sigmoid(z) * (1 - sigmoid(z))),
    "lanes": ("padded-lanes", lambda z, t: back(padded(z, 64 - z.shape[-1]), t)),
    "shards": ("local-denominator", lambda z, t: back(sharded(z, 2), t)),
    "shards throughout": ("local-denominator", lambda z, t: locally(z, t, 4)),
    "upstream": ("upstream-exported", lambda z, t: t),  # noqa: ARG005
    "probs": ("probs-exported", lambda z, t: probs(z)),  # noqa: ARG005
    "logits": ("logits-exported", lambda z, t: z),  # noqa: ARG005
    "sign": ("sign-flipped", lambda z, t: -back(probs(z), t)),
    "twice": ("accumulated", lambda z, t: 2 * back(probs(z), t)),
    "rows": ("divided-by-parts", lambda z, t: back(probs(z), t) / len(z)),
    "scale": ("loss-scale-not-removed", lambda z, t: 2.0**16 * back(probs(z), t)),
    "stale": ("stale-rows", lambda z, t: back(probs(z), t) * (np.arange(len(z)) % 3 > 0)[:, None]),
    "zero": ("all-zero", lambda z, t: np.zeros_like(t)),  # noqa: ARG005
    "transposed": (
        "transposed",
        lambda z, t: np.ascontiguousarray(back(probs(z), t).T).reshape(z.shape),
    ),
}
LOG: dict[str, tuple[str, Plant]] = {
    "soft": ("log-softmax-confused", lambda z, t: back(probs(z), t)),
    "no dot": ("missing-dot-term", lambda z, t: t),  # noqa: ARG005
    "bare dot": ("dot-without-probs", lambda z, t: t - t.sum(-1, keepdims=True)),  # noqa: ARG005
    "mean": ("dot-without-probs", lambda z, t: t - t.mean(-1, keepdims=True)),  # noqa: ARG005
    "ignored": ("upstream-ignored", lambda z, t: log_back(probs(z), np.ones_like(t))),
    "first row": ("upstream-first-row-only", lambda z, t: log_back(probs(z), np.tile(t[0], (len(t), 1)))),
    "squared": ("upstream-applied-twice", lambda z, t: log_back(probs(z), t * t)),
    "diagonal": ("diagonal-jacobian", lambda z, t: t * (1 - probs(z))),
    "lanes": ("padded-lanes", lambda z, t: log_back(padded(z, 64 - z.shape[-1]), t)),
    "shards": ("local-denominator", lambda z, t: log_back(sharded(z, 2), t)),
    "sign": ("sign-flipped", lambda z, t: -log_back(probs(z), t)),
}
SIZES = {"friendly": (24, 12, 1.0), "adversarial": (40, 32, 8.0), "small": (5, 8, 1.0)}


def data(size: str, seed: int = 3) -> tuple[Array, Array]:
    rows, classes, spread = SIZES[size]
    rng = np.random.default_rng(seed)
    return spread * rng.standard_normal((rows, classes)), rng.standard_normal((rows, classes))


def examined(folder: Path, z: Array, t: Array, grad: Array, dtype: Any = np.float32, **terms: Any) -> Outcome:
    """Return the outcome of an exported gradient, all three stored as they are."""
    np.save(folder / "z.npy", z)
    np.save(folder / "t.npy", t)
    np.save(folder / "g.npy", grad.astype(dtype))
    names = {"logits": "z", "upstream": "t", "grad": "g"}
    with contextlib.ExitStack() as opened:
        tensors = {
            role: opened.enter_context(open_tensor(str(folder / f"{name}.npy"), role=role))
            for role, name in names.items()
        }
        return vjp(tensors, LayerSettings(threads=1, **terms))


def named(outcome: Outcome) -> tuple[str, ...]:
    return tuple(each.code for each in outcome.diagnosis if each.tied_with is None)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("plant", SOFT)
def test_a_planted_bug_is_named(tmp_path: Path, plant: str, size: str) -> None:
    code, planted = SOFT[plant]
    z, t = (each.astype(np.float32).astype(float) for each in data(size))
    outcome = examined(tmp_path, z, t, planted(z, t))
    assert outcome.verdict is Verdict.FAIL
    assert code in [each.code for each in outcome.diagnosis], outcome.facts
    assert all(each.of == "grad" and each.explained == 1.0 for each in outcome.diagnosis)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("plant", LOG)
def test_a_planted_bug_of_the_logarithm_is_named(tmp_path: Path, plant: str, size: str) -> None:
    code, planted = LOG[plant]
    z, t = data(size)
    outcome = examined(tmp_path, z, t, planted(z, t), log=True)
    assert outcome.verdict is Verdict.FAIL
    assert code in [each.code for each in outcome.diagnosis]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("classes", [12, 20, 130])
def test_a_tail_that_is_not_written_is_named(tmp_path: Path, classes: int, *, log: bool) -> None:
    z, t = np.random.default_rng(1).normal(size=(2, 9, classes))
    grad = log_back(probs(z), t) if log else back(probs(z), t)
    grad[:, classes - classes % 8 :] = 0.0
    outcome = examined(tmp_path, z, t, grad, log=log)
    assert named(outcome) == ("tail-columns",)
    assert outcome.diagnosis[0].parameters["count"] == classes % 8
    grad[3, -1] = 0.5
    assert not examined(tmp_path, z, t, grad, log=log).diagnosis


@pytest.mark.parametrize("plant", SOFT)
def test_bugs_are_named_in_16_bits_and_in_64(tmp_path: Path, plant: str) -> None:
    code, planted = SOFT[plant]
    z, t = data("friendly", 5)
    for dtype in (np.float64, ml_dtypes.bfloat16, np.float16):
        if plant == "scale" and dtype is np.float16:
            continue
        stored = planted(z, t).astype(dtype).astype(np.float64)
        outcome = examined(tmp_path, z, t, stored, np.float64)
        assert outcome.verdict is Verdict.FAIL
        assert code in [each.code for each in outcome.diagnosis], dtype


@pytest.mark.parametrize(
    ("code", "factor"), [("temperature-chain-missing", 2.5), ("temperature-chain-twice", 1 / 2.5)]
)
def test_a_temperature_in_the_wrong_power_is_named(tmp_path: Path, code: str, factor: float) -> None:
    z, t = data("friendly")
    grad = factor * back(probs(z / 2.5), t) / 2.5
    assert named(examined(tmp_path, z, t, grad, temperature=2.5)) == (code,)


def test_a_convention_shows_the_flags_under_which_the_file_is_right(tmp_path: Path) -> None:
    z, t = data("friendly")
    outcome = examined(tmp_path, z, t, back(probs(z), t), temperature=2.5)
    (found,) = outcome.diagnosis
    assert (found.code, found.kind, found.flags) == (
        "temperature-missing",
        CONVENTION,
        ("--temperature", "1"),
    )
    (found,) = examined(tmp_path, z, t, log_back(probs(z), t)).diagnosis
    assert (found.code, found.flags) == ("log-softmax-confused", ("--log",))
    (found,) = examined(tmp_path, z, t, back(probs(z, 0), t, 0)).diagnosis
    assert (found.kind, found.flags) == (CONVENTION, ("--axis", "0"))


def test_two_bugs_of_which_one_is_a_factor_are_both_named(tmp_path: Path) -> None:
    z, t = data("friendly")
    found = examined(tmp_path, z, t, -t * probs(z)).diagnosis
    assert [each.code for each in found] == ["sign-flipped", "missing-dot-term"]
    assert [each.together_with for each in found] == [("missing-dot-term",), ("sign-flipped",)]


def test_masked_rows_and_overflow_are_named(tmp_path: Path) -> None:
    z, t = data("friendly")
    z[4] = -np.inf
    with np.errstate(all="ignore"):
        right = back(probs(z), t)
    assert named(examined(tmp_path, z, t, right, masked_rows="zero")) == ("masked-row",)
    z, t = data("friendly")
    z[7] += 200.0
    right = back(probs(z), t)
    right[7] = np.nan
    assert named(examined(tmp_path, z, t, right)) == ("no-max-subtraction",)


def test_rounding_is_named_as_rounding(tmp_path: Path) -> None:
    z, t = data("friendly")
    rough = probs(z).astype(np.float16).astype(np.float64)
    outcome = examined(tmp_path, z, t, back(rough, t))
    assert {each.code for each in outcome.diagnosis} == {"low-precision"}
    assert outcome.diagnosis[0].kind == ROUNDING


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("log", [False, True])
def test_damage_without_a_formula_gets_no_name(tmp_path: Path, size: str, seed: int, *, log: bool) -> None:
    z, t = data(size, seed)
    rng = np.random.default_rng(seed)
    right = log_back(probs(z), t) if log else back(probs(z), t)
    broken = right * (1 + 0.5 * rng.random(right.shape))
    broken[0] = right[0]
    one = right.copy()
    one[2, 1] += 0.25
    swapped = right[rng.permutation(len(right))]
    rows = right * rng.uniform(0.5, 2.0, (len(right), 1))
    for grad in (broken, one, swapped, rows, rng.standard_normal(right.shape)):
        outcome = examined(tmp_path, z, t, grad, log=log)
        assert outcome.verdict is Verdict.FAIL
        assert not outcome.diagnosis, outcome.diagnosis


@pytest.mark.parametrize("seed", range(6))
def test_a_factor_that_16_bits_leave_open_is_not_named(tmp_path: Path, seed: int) -> None:
    """Probabilities that are nearly even make of many formulas a multiple of the right one, but for a bit."""
    rng = np.random.default_rng(seed)
    z, t = 0.15 * rng.normal(size=(30, 58)), rng.normal(size=(30, 58))
    grad = rng.uniform(0.2, 0.9) * back(probs(z), t)
    stored = grad.astype(ml_dtypes.bfloat16).astype(np.float64)
    assert not examined(tmp_path, z, t, stored, np.float64).diagnosis


@pytest.mark.parametrize("seed", range(4))
def test_errors_that_pull_one_way_are_no_rounding(tmp_path: Path, seed: int) -> None:
    z, t = np.random.default_rng(seed).normal(size=(2, 55, 62))
    right = back(probs(z), t)
    offset, power = right + 0.003 * np.abs(right).max(), np.sign(right) * np.abs(right) ** 1.001
    for grad in (offset, power):
        outcome = examined(tmp_path, z, t, grad)
        assert outcome.verdict is Verdict.FAIL
        assert not outcome.diagnosis


@pytest.mark.parametrize("size", SIZES)
def test_a_bug_in_all_entries_but_one_gets_no_name(tmp_path: Path, size: str) -> None:
    z, t = data(size)
    for _, planted in SOFT.values():
        grad = planted(z, t).copy()
        if not grad.any():
            continue
        grad[3, 2] = 1.5 * grad[3, 2] + 0.01 * np.abs(grad).max()
        assert not examined(tmp_path, z, t, grad).diagnosis


def test_a_right_gradient_gets_no_name_and_no_facts(tmp_path: Path) -> None:
    z, t = data("friendly")
    outcome = examined(tmp_path, z, t, back(probs(z), t))
    assert (outcome.verdict, outcome.diagnosis, outcome.facts) == (Verdict.PASS, (), ())


def test_facts_say_where_it_fails(tmp_path: Path) -> None:
    z, t = data("adversarial")
    grad = back(probs(z), t)
    grad[5:9, 28:] = 0.125
    facts = {each.code: each.message for each in examined(tmp_path, z, t, grad).facts}
    assert facts["in-rows"] == "4 of 40 rows fail: 5 .. 8"
    assert facts["in-columns"].startswith("4 of 32 columns fail: all from 28 on")


def test_the_man_page_names_every_bug_and_no_other() -> None:
    section = MAN.read_text(encoding="utf-8").partition(".Sh WHICH BUG IT IS\n")[2].partition(".Sh ")[0]
    described = {
        line.split()[1].replace("\\-", "-") for line in section.splitlines() if line.endswith((" ,", " ."))
    }
    assert described == {each.code for each in NAMES} | {"all-zero"}


def test_every_name_says_what_it_is_and_what_to_do() -> None:
    for each in NAMES:
        assert each.kind in (DEFECT, CONVENTION, ROUNDING)
        assert each.formula
        assert len(each.advice) > 20
        assert not each.happened.endswith(".")

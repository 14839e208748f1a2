"""Bugs of a linear layer, planted by other formulas, and named from dW, db or dx alone."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from gradcheck_cli.choices import LinearSettings
from gradcheck_cli.diagnosis.scale import SCALES
from gradcheck_cli.diagnosis.summed.catalogue import NAMES
from gradcheck_cli.diagnosis.summed.suspects import PASSED_ON
from gradcheck_cli.linear import linear
from gradcheck_cli.outcome import Outcome, Verdict
from gradcheck_cli.tensors import open_tensor

Array = npt.NDArray[Any]
MAN = Path(__file__).parent.parent.parent / "man" / "softgrad-linear.1"
IGNORED = -100


class Case(NamedTuple):
    """Inputs, weight, bias, labels and upstream of a summed loss."""

    x: Array
    w: Array
    b: Array
    y: Array
    u: Array

    @property
    def a(self) -> Array:
        """Return the probabilities."""
        z = self.x @ self.w + self.b
        w = np.exp(z - z.max(axis=1, keepdims=True))
        found: Array = w / w.sum(axis=1, keepdims=True)
        return found

    @property
    def hot(self) -> Array:
        """Return the targets, 0 in ignored rows."""
        found: Array = np.eye(len(self.b))[np.maximum(self.y, 0)] * (self.y >= 0)[:, None]
        return found

    @property
    def bare(self) -> Array:
        """Return the gradient at the logits without upstream, ignored rows zero."""
        found: Array = (self.a - self.hot) * (self.y >= 0)[:, None]
        return found

    def led(self, of: str, g: Array) -> Array:
        """Return the gradient of the weight, the bias or the inputs."""
        found: Array = {"weight": self.x.T @ g, "bias": g.sum(axis=0), "inputs": g @ self.w.T}[of]
        return found


def case(rows: int = 30, features: int = 9, classes: int = 6, seed: int = 1) -> Case:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    y[[3, rows - 2]] = IGNORED
    x, w = rng.standard_normal((rows, features)), 0.5 * rng.standard_normal((features, classes))
    return Case(x, w, 0.3 * rng.standard_normal(classes), y, rng.uniform(0.5, 2.0, rows))


def examined(
    folder: Path, of: Case, dtype: Any = np.float32, given: dict[str, Array] | None = None, **terms: Any
) -> Outcome:
    arrays = {"inputs": of.x, "labels": of.y, "weight": of.w, "bias": of.b, "upstream": of.u}
    arrays |= {role: each.astype(dtype) for role, each in (given or {}).items()}
    with contextlib.ExitStack() as opened:
        tensors = {}
        for role, array in arrays.items():
            np.save(folder / f"{role}.npy", array)
            tensors[role] = opened.enter_context(open_tensor(str(folder / f"{role}.npy"), role=role))
        settings: dict[str, Any] = {"reduction": "sum", "threads": 1} | terms
        return linear(tensors, {}, LinearSettings(**settings))


def codes(outcome: Outcome, of: str) -> list[str]:
    return [each.code for each in outcome.diagnosis if each.of == of]


def planted(c: Case) -> dict[str, tuple[str, Array]]:
    """Return bugs by name: their code, and the gradient at the logits that they make."""
    g = c.u[:, None] * c.bare
    every = c.u[:, None] * (c.a - c.hot)
    return {
        "sign": ("sign-flipped", -g),
        "mean": ("mean-for-sum", g / np.count_nonzero(c.y >= 0)),
        "twice": ("accumulated", 2 * g),
        "thrice": ("accumulated", 3 * g),
        "scale": ("loss-scale-not-removed", 2.0**10 * g),
        "unweighted": ("upstream-ignored", c.bare),
        "squared": ("upstream-applied-twice", c.u[:, None] ** 2 * c.bare),
        "first": ("upstream-first-row-only", c.u[0] * c.bare),
        "after": ("upstream-after-sum", c.u.mean() * c.bare),
        "no target": ("onehot-not-subtracted", c.u[:, None] * c.a * (c.y >= 0)[:, None]),
        "ignored": ("ignored-rows-not-zeroed", every),
        "off": (
            "label-off-by-one",
            c.u[:, None] * (c.a - np.roll(c.hot, 1, axis=1)) * (c.y >= 0)[:, None],
        ),
    }


@pytest.mark.parametrize("of", ["weight", "bias", "inputs"])
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, ml_dtypes.bfloat16], ids=lambda each: each.__name__
)
def test_bugs_of_the_loss_are_named_from_each_gradient_alone(tmp_path: Path, of: str, dtype: Any) -> None:
    c = case()
    c = c._replace(y=np.where((c.y == 5) | (c.y == 0), 2, c.y))  # so that one more and one less are classes
    for plant, (code, g) in planted(c).items():
        outcome = examined(tmp_path, c, dtype, {f"grad-{of}": c.led(of, g)})
        assert outcome.verdict is Verdict.FAIL
        assert code in codes(outcome, f"grad-{of}"), (plant, outcome.diagnosis)


def test_the_layers_own_bugs_are_named(tmp_path: Path) -> None:
    c = case(features=6)
    g = c.u[:, None] * c.bare
    dw, db, dx = (c.led(each, g) for each in ("weight", "bias", "inputs"))
    for role, wrong, code in (
        ("grad-weight", dw.T, "weight-transposed"),
        ("grad-weight", dw + 0.01 * c.w, "weight-decay-folded-in"),
        ("grad-bias", db + 0.25 * c.b, "weight-decay-folded-in"),
        ("grad-bias", g[-1], "bias-not-reduced"),
        ("grad-bias", g[0], "bias-not-reduced"),
        ("grad-bias", np.full_like(db, g.sum()), "bias-summed-over-everything"),
        ("grad-bias", dw.sum(axis=0), "bias-multiplied-by-inputs"),
        ("grad-bias", dw.mean(axis=0), "bias-multiplied-by-inputs"),
        ("grad-bias", np.zeros_like(db), "all-zero"),
        ("grad-inputs", g @ c.w, "weight-transposed"),
        ("grad-weight", np.zeros_like(dw), "all-zero"),
    ):
        outcome = examined(tmp_path, c, np.float32, {role: wrong}, weight_layout="io")
        assert codes(outcome, role) == [code], (role, outcome.diagnosis)
    outcome = examined(tmp_path, c, given={"grad-weight": dw + 0.01 * c.w}, weight_layout="io")
    assert outcome.diagnosis[0].parameters["decay"] == pytest.approx(0.01, rel=1e-4)
    assert dx.shape == c.x.shape


@pytest.mark.parametrize("kind", ["friendly", "adversarial", "weak"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_a_bias_led_through_the_inputs_is_named(tmp_path: Path, kind: str, dtype: Any) -> None:
    c = case(200, 40, 50) if kind != "weak" else case(8, 3, 8)
    if kind == "adversarial":
        c = c._replace(x=c.x * 10.0 ** np.arange(-20, 20), w=c.w / 10.0 ** np.arange(-20, 20)[:, None])
    wrong = c.led("weight", c.u[:, None] * c.bare).sum(axis=0)
    outcome = examined(tmp_path, c, dtype, {"grad-bias": wrong})
    assert codes(outcome, "grad-bias") == ["bias-multiplied-by-inputs"]
    if dtype is not ml_dtypes.bfloat16:  # whose sums leave the factor open
        both = examined(tmp_path, c, dtype, {"grad-bias": -wrong})
        assert codes(both, "grad-bias") == ["sign-flipped", "bias-multiplied-by-inputs"]
    wrong[1] += np.abs(wrong).max()
    assert not examined(tmp_path, c, dtype, {"grad-bias": wrong}).diagnosis


def test_inputs_that_sum_to_one_hide_a_bias_led_through_them(tmp_path: Path) -> None:
    c = case()
    c = c._replace(x=np.abs(c.x) / np.abs(c.x).sum(axis=1, keepdims=True))
    wrong = c.led("weight", c.u[:, None] * c.bare).sum(axis=0)
    assert examined(tmp_path, c, given={"grad-bias": wrong}).verdict is Verdict.PASS


def test_the_gradient_at_the_logits_is_diagnosed_as_check_does_it(tmp_path: Path) -> None:
    c = case()
    for plant, (code, g) in planted(c).items():
        if plant not in ("after", "off"):
            assert code in codes(examined(tmp_path, c, given={"grad": g}), "grad"), plant


def test_each_failed_gradient_has_its_own_diagnosis(tmp_path: Path) -> None:
    c = case()
    g = c.u[:, None] * c.bare
    wrong = {"grad-weight": c.led("weight", 2 * g), "grad-bias": c.led("bias", g), "grad-inputs": -g @ c.w.T}
    outcome = examined(tmp_path, c, given=wrong)
    assert [(each.of, each.code) for each in outcome.diagnosis] == [
        ("grad-inputs", "sign-flipped"), ("grad-weight", "accumulated")
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_damage_without_a_formula_gets_no_name(tmp_path: Path, seed: int) -> None:
    rng, c = np.random.default_rng(seed), case(seed=seed)
    g = c.u[:, None] * c.bare
    for of in ("weight", "bias", "inputs"):
        right = c.led(of, g)
        one = right.copy()
        one.flat[2] += 0.25
        for wrong in (right * rng.uniform(0.5, 1.5, right.shape), one, right + rng.normal(size=right.shape)):
            outcome = examined(tmp_path, c, given={f"grad-{of}": wrong})
            assert outcome.verdict is Verdict.FAIL
            assert not outcome.diagnosis, outcome.diagnosis


def test_a_bug_in_all_entries_but_one_gets_no_name(tmp_path: Path) -> None:
    c = case()
    for _, g in planted(c).values():
        for of in ("weight", "inputs"):
            wrong = c.led(of, g)
            wrong[4, 2] += 0.03 * np.abs(wrong).max()
            assert not examined(tmp_path, c, given={f"grad-{of}": wrong}).diagnosis


def test_right_gradients_get_no_name(tmp_path: Path) -> None:
    c = case()
    g = c.u[:, None] * c.bare
    given = {f"grad-{of}": c.led(of, g) for of in ("weight", "bias", "inputs")}
    outcome = examined(tmp_path, c, given=given)
    assert (outcome.verdict, outcome.diagnosis, outcome.facts) == (Verdict.PASS, (), ())


def test_the_man_page_names_every_bug_and_no_other() -> None:
    section = MAN.read_text(encoding="utf-8").partition(".Sh WHICH BUG IT IS\n")[2].partition(".Sh ")[0]
    lines = section.partition(".Bl ")[2].splitlines()
    described = {line.split()[1].replace("\\-", "-") for line in lines if line.startswith(".Cm ")}
    assert described == {each.code for each in (*NAMES, *SCALES)} | PASSED_ON | {"all-zero"}

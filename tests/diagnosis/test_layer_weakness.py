"""What data of the layers could not have shown is said on a pass too, and does hide what it is said to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcheck_cli.diagnosis.pulled.catalogue import NAMES as OF_LAYER
from gradcheck_cli.diagnosis.scale import SCALES
from gradcheck_cli.diagnosis.summed.catalogue import NAMES as OF_LINEAR
from gradcheck_cli.diagnosis.summed.suspects import PASSED_ON
from gradcheck_cli.outcome import Outcome, Verdict
from gradcheck_cli.report.table import render
from tests.diagnosis.test_layer_bugs import Array, back, log_back, probs
from tests.diagnosis.test_layer_bugs import examined as layer
from tests.diagnosis.test_linear_bugs import Case, case
from tests.diagnosis.test_linear_bugs import examined as linear


def lacking(outcome: Outcome) -> dict[str, str]:
    assert outcome.verdict is Verdict.PASS
    return {each.code: each.message for each in outcome.warnings if each.lacks is not None}


def of_layer(folder: Path, z: Array, t: Array, *, log: bool = False, **terms: Any) -> Outcome:
    grad = log_back(probs(z), t) if log else back(probs(z), t)
    return layer(folder, z, t, grad, np.float64, log=log, **terms)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def test_a_layer_that_lacks_nothing(tmp_path: Path) -> None:
    z = normal(6, 200)
    z[2, 5] = 800.0
    assert lacking(of_layer(tmp_path, z, normal(6, 200, seed=1))) == {}


def test_a_layer_that_lacks_what_every_small_one_does(tmp_path: Path) -> None:
    assert set(lacking(of_layer(tmp_path, normal(6, 5), normal(6, 5, seed=1)))) == {
        "small-logits",
        "one-tile",
    }
    assert set(lacking(of_layer(tmp_path, normal(6, 5), normal(6, 5, seed=1), log=True))) == {"small-logits"}


def test_one_upstream_for_every_row_hides_the_first_rows(tmp_path: Path) -> None:
    z, t = normal(6, 5), np.tile(normal(1, 5, seed=1), (6, 1))
    told = lacking(of_layer(tmp_path, z, t))
    assert "looked at" not in told["uniform-upstream"]
    assert "upstream-first-row-only" in told["uniform-upstream"]
    wrong = back(probs(z), np.broadcast_to(t[:1], t.shape))
    assert layer(tmp_path, z, t, wrong).verdict is Verdict.PASS


def test_one_row_hides_what_other_rows_would_show(tmp_path: Path) -> None:
    z, t = normal(1, 5), normal(1, 5, seed=1)
    told = lacking(of_layer(tmp_path, z, t))["one-row"]
    a = probs(z)
    for code, wrong in (
        ("upstream-first-row-only", back(a, t[:1])),
        ("dot-over-batch", a * (t - (t * a).sum())),
    ):
        assert code in told
        assert layer(tmp_path, z, t, wrong).verdict is Verdict.PASS


def test_an_upstream_of_one_number_leaves_nothing_to_see(tmp_path: Path) -> None:
    z, t = normal(6, 5), np.repeat(normal(6, 1, seed=1), 5, axis=1)
    told = lacking(of_layer(tmp_path, z, t))["flat-upstream"]
    for code, wrong in (
        ("sign-flipped", -back(probs(z), t)),
        ("upstream-applied-twice", back(probs(z), t * t)),
        ("accumulated", 2 * back(probs(z), t)),
    ):
        assert code in told
        assert layer(tmp_path, z, t, wrong, np.float64).verdict is Verdict.PASS
    assert "flat-upstream" not in lacking(of_layer(tmp_path, z, t, log=True))


@pytest.mark.parametrize("log", [False, True])
def test_an_inner_product_of_0_hides_that_it_is_missing(tmp_path: Path, *, log: bool) -> None:
    z, t = normal(6, 5), normal(6, 5, seed=1)
    a = probs(z)
    t = t - (t.mean(axis=1, keepdims=True) if log else (t * a).sum(axis=1, keepdims=True))
    told = lacking(of_layer(tmp_path, z, t, log=log))["no-inner-product"]
    assert "missing-dot-term" in told
    assert layer(tmp_path, z, t, t if log else t * a, np.float64, log=log).verdict is Verdict.PASS
    other = "dot-without-probs" if log else "dot-over-batch"
    assert other in told
    wrong = t - t.sum(axis=1, keepdims=True) if log else a * (t - (t * a).sum())
    assert layer(tmp_path, z, t, wrong, np.float64, log=log).verdict is Verdict.PASS


def test_ones_are_their_own_squares_and_even_logits_their_own_softmax(tmp_path: Path) -> None:
    z, t = normal(6, 5), (normal(6, 5, seed=1) > 0).astype(float)
    assert "upstream-applied-twice" in lacking(of_layer(tmp_path, z, t))["upstream-of-ones"]
    assert layer(tmp_path, z, t, back(probs(z), t * t)).verdict is Verdict.PASS
    z = np.repeat(normal(6, 1), 5, axis=1)
    assert "double-softmax" in lacking(of_layer(tmp_path, z, t))["even-logits"]
    assert layer(tmp_path, z, t, back(probs(probs(z)), t)).verdict is Verdict.PASS
    assert "even-logits" not in lacking(of_layer(tmp_path, z, t, log=True))


def test_a_file_of_many_rows_says_how_many_were_looked_at(tmp_path: Path) -> None:
    z, t = normal(9000, 4), np.ones((9000, 4)) * [0.5, 1.0, 2.0, 3.0]
    assert "2,048 rows looked at" in lacking(of_layer(tmp_path, z, t))["uniform-upstream"]


def of_linear(folder: Path, c: Case, *names: str) -> dict[str, str]:
    g = c.u[:, None] * c.bare
    given = {f"grad-{name}": c.led(name, g) for name in names}
    return lacking(linear(folder, c, np.float64, given, weight_layout="io"))


def test_a_linear_layer_says_what_sums_could_not_show(tmp_path: Path) -> None:
    told = of_linear(tmp_path, case(), "weight")
    assert set(told) <= {"no-label-at-the-ends"}
    few = case(4, 3, 2)._replace(y=np.array([0, 1, 1, 0]), u=np.ones(4))
    told = of_linear(tmp_path, few, "weight")
    assert {"no-ignored-row", "uniform-upstream"} <= set(told)
    assert "small-logits" not in told
    assert "class-ignored" not in " ".join(told.values())


def test_a_gradient_at_the_logits_says_all_of_it(tmp_path: Path) -> None:
    c = case()
    outcome = linear(tmp_path, c, np.float64, {"grad": c.u[:, None] * c.bare})
    assert "small-logits" in lacking(outcome)


def test_inputs_that_make_one_hide_a_bias_led_through_them(tmp_path: Path) -> None:
    c = case()
    size = np.abs(c.x)
    for of, x in (("sum", size / size.sum(axis=1, keepdims=True)), ("mean", np.ones_like(c.x))):
        told = of_linear(tmp_path, c._replace(x=x), "bias")["inputs-make-one"]
        assert told.startswith(f"the {of} of the inputs is 1")
        assert "bias-multiplied-by-inputs" in told
    assert "inputs-make-one" not in of_linear(tmp_path, c, "bias")


def test_one_example_hides_a_bias_that_is_not_reduced(tmp_path: Path) -> None:
    c = case(5)
    one = Case(c.x[:1], c.w, c.b, np.array([1]), c.u[:1])
    assert "bias-not-reduced" in of_linear(tmp_path, one, "bias")["one-example"]


def test_what_a_weight_of_zeros_or_a_symmetric_one_hides(tmp_path: Path) -> None:
    c = case(features=6)
    even = c._replace(w=c.w + c.w.T)
    assert "weight-transposed" in of_linear(tmp_path, even, "inputs")["symmetric-weight"]
    wrong = even.u[:, None] * even.bare @ even.w
    assert linear(tmp_path, even, given={"grad-inputs": wrong}, weight_layout="io").verdict is Verdict.PASS
    nothing = c._replace(w=np.zeros_like(c.w), b=np.zeros_like(c.b))
    told = of_linear(tmp_path, nothing, "weight", "bias", "inputs")
    assert {"zero-weight", "no-bias"} <= set(told)


def test_without_a_gradient_nothing_is_said(tmp_path: Path) -> None:
    c = case()
    assert lacking(linear(tmp_path, c, np.float64, {"logits": c.x @ c.w + c.b})) == {}


def test_a_report_says_it_on_one_line(tmp_path: Path) -> None:
    outcome = of_layer(tmp_path, normal(6, 5), normal(6, 5, seed=1))
    short, long = str(render(outcome)), str(render(outcome, verbose=True))
    assert short.count("\nunseen ") == 1
    assert "would not show" not in short
    assert long.count("would not show") == len(lacking(outcome))


def test_what_is_hidden_of_sums_is_a_bug_that_linear_knows(tmp_path: Path) -> None:
    known = {each.code for each in (*OF_LINEAR, *SCALES)} | PASSED_ON
    one = case(4, 4, 4)._replace(y=np.array([1, -100, -100, -100]), u=np.ones(4))
    for c in (one, case(4, 128, 128), case(4, 4, 4)._replace(u=np.ones(4))):
        for message in of_linear(tmp_path, c, "weight", "bias", "inputs").values():
            hidden = message.rpartition(": ")[2].removesuffix(" would not show").split(", ")
            assert {each.split(" ")[0] for each in hidden} <= known, message


def test_what_is_hidden_of_a_layer_is_a_bug_that_vjp_knows(tmp_path: Path) -> None:
    known = {each.code for each in OF_LAYER}
    for z, t in ((normal(1, 5), normal(1, 5)), (np.zeros((3, 4)), np.ones((3, 4)))):
        for message in lacking(of_layer(tmp_path, z, t)).values():
            hidden = message.rpartition(": ")[2].removesuffix(" would not show").split(", ")
            assert {each.split(" ")[0] for each in hidden} <= known, message

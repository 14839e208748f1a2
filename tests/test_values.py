"""Labels and values that other tools take for something else: each is refused, or judged as what it is."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.errors import InputError
from gradcheck_cli.outcome import Outcome, Verdict
from tests.conftest import Examine, named

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(7)
Z = RNG.normal(size=(6, 4))
Y = np.array([0, 3, 1, 2, 0, 1])


def softmax(z: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp(z - z.max(axis=1, keepdims=True))
    probabilities: Array = e / e.sum(axis=1, keepdims=True)
    return probabilities


def gradient(z: Array, y: Array) -> Array:
    """Return the gradient of the summed loss."""
    g = softmax(z)
    g[np.arange(len(y)), y] -= 1.0
    return g


def refused(examine: Examine, *arguments: Any, **exported: Any) -> str:
    with pytest.raises(InputError) as caught:
        examine(*arguments, **exported)
    return str(caught.value)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        pytest.param([0, 3, -1, 2, 0, 1], "row 2: class -1 is outside 0 .. 3 (rows to ignore?", id="L04"),
        pytest.param([0, 3, -5, 2, 0, 1], "row 2: class -5 is outside", id="L05-other"),
        pytest.param([1, 4, 2, 3, 1, 2], "row 1: class 4 is outside 0 .. 3 (1-based labels?", id="L06"),
        pytest.param([0, 3, 9, 2, 0, 1], "row 2: class 9 is outside 0 .. 3", id="L06-far"),
        pytest.param([-100] * 6, "every row has the ignored label -100: nothing to verify", id="L12"),
    ],
)
def test_labels_that_are_no_classes(examine: Examine, labels: list[int], words: str) -> None:
    assert words in refused(examine, Z, np.array(labels))


def test_L05_the_default_ignored_label_is_counted_and_indexes_nothing(examine: Examine) -> None:
    z, y = RNG.normal(size=(5, 128)), np.array([3, -100, 5, -100, 7])
    g = gradient(z, y)  # -100 is class 28 here
    outcome = examine(z, y, {"reduction": "sum"}, grad=g)
    assert outcome.data.ignored_rows == 2
    assert named(outcome, "grad").verdict is Verdict.FAIL
    g[[1, 3]] = 0.0
    assert examine(z, y, {"reduction": "sum"}, grad=g).verdict is Verdict.PASS


@pytest.mark.parametrize("classes", [2, 3])
def test_L07_booleans_are_the_labels_of_two_classes(examine: Examine, classes: int) -> None:
    z, y = RNG.normal(size=(4, classes)), np.array([True, False, True, True])
    if classes == 3:
        assert "booleans can be the labels of 2 classes, but there are 3" in refused(examine, z, y)
        return
    outcome = examine(z, y, {"reduction": "sum"}, grad=gradient(z, y.astype(int)))
    assert outcome.verdict is Verdict.PASS
    assert outcome.inputs[1].notes == ("labels are booleans, read as 0 and 1",)


@pytest.mark.parametrize("shape", [(6, 1), (1, 6)])
def test_L08_labels_with_an_axis_of_one_are_not_broadcast(examine: Examine, shape: tuple[int, int]) -> None:
    assert examine(Z, Y.reshape(shape), {"reduction": "sum"}, grad=gradient(Z, Y)).verdict is Verdict.PASS


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.uint8])
def test_L09_one_hot_labels_are_distributions(examine: Examine, dtype: Any) -> None:
    outcome = examine(Z, np.eye(4, dtype=dtype)[Y], {"reduction": "sum"}, grad=gradient(Z, Y))
    assert (outcome.verdict, outcome.data.targets) == (Verdict.PASS, "distributions")


@pytest.mark.parametrize(
    ("dtype", "classes", "fits"),
    [
        (np.int8, 128, True),
        (np.int8, 129, False),
        (np.uint8, 256, True),
        (np.uint8, 257, False),
        (np.int16, 32769, False),
        (np.float16, 2049, True),
        (np.float16, 2050, False),
        (ml_dtypes.bfloat16, 257, True),
        (ml_dtypes.bfloat16, 258, False),
    ],
)
def test_L10_a_type_that_cannot_hold_every_label(
    examine: Examine, dtype: Any, classes: int, fits: bool
) -> None:
    """Label 156 in int8 is -100: its row would be ignored without a sign of it."""
    z = np.zeros((2, classes), np.float32)
    if fits:
        assert examine(z, np.array([1, 2]).astype(dtype)).verdict is Verdict.PASS
    else:
        assert f"but there are {classes} classes" in refused(examine, z, np.array([1, 2]).astype(dtype))


@pytest.mark.parametrize("wrong", ["labels", "grad"])
def test_L11_another_number_of_rows(examine: Examine, wrong: str) -> None:
    arrays = {"labels": Y, "grad": gradient(Z, Y)}
    arrays[wrong] = arrays[wrong][:5]
    assert "has shape (5," in refused(examine, Z, arrays["labels"], grad=arrays["grad"])


@pytest.mark.parametrize(
    ("z", "words"),
    [
        pytest.param([0.0, np.inf, 1.0, 2.0], "entry [2, 1]: logit inf", id="X01-inf"),
        pytest.param([0.0, np.nan, 1.0, 2.0], "entry [2, 1]: logit nan", id="X01-nan"),
        pytest.param([-np.inf] * 4, "row [2]: every class is masked", id="X01-masked"),
        pytest.param([1.0, -np.inf, 1.0, 2.0], "row [2]: its label is a masked class", id="X02-label"),
    ],
)
def test_rows_without_an_answer(examine: Examine, z: list[float], words: str) -> None:
    logits = Z.copy()
    logits[2] = z
    assert words in refused(examine, logits, Y)


def test_X02_masked_classes_have_gradient_zero(examine: Examine) -> None:
    logits = Z.copy()
    logits[:, 3] = -np.inf
    y = np.array([0, 1, 2, 0, 1, 2])
    g = gradient(logits, y)
    assert (g[:, 3] == 0.0).all()
    assert examine(logits, y, {"reduction": "sum"}, grad=g).verdict is Verdict.PASS
    g[4, 3] = 1e-30
    assert examine(logits, y, {"reduction": "sum"}, grad=g).verdict is Verdict.FAIL


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_X03_what_is_not_finite_in_a_gradient_fails_with_its_place(examine: Examine, bad: float) -> None:
    g = gradient(Z, Y)
    g[3, 1] = g[4, 2] = bad
    grad = named(examine(Z, Y, {"reduction": "sum"}, grad=g), "grad")
    assert (grad.verdict, grad.failing, grad.worst[0].index) == (Verdict.FAIL, 2, (3, 1))
    everything = named(examine(Z, Y, {"reduction": "sum"}, grad=np.full_like(g, bad)), "grad")
    assert everything.failing == g.size


def test_X04_an_infinity_expected_nowhere_is_no_match(examine: Examine) -> None:
    """Even a tolerance of everything does not make an infinity right."""
    g = gradient(Z, Y)
    g[0, 0] = np.inf
    outcome = examine(Z, Y, {"reduction": "sum", "rtol": 1e300, "atol": 1e300}, grad=g)
    assert outcome.verdict is Verdict.FAIL


def test_X05_logits_at_both_ends_of_the_range(examine: Examine) -> None:
    """Up to 1e300 they are judged, without a warning; beyond it the row is named."""
    z = np.array([[4e299, -4e299, 0.0], [0.0, 1.0, 2.0]])
    y = np.array([0, 2])
    assert examine(z, y, {"reduction": "sum"}, grad=gradient(z, y)).verdict is Verdict.PASS
    assert "row [0]: the logits" in refused(examine, z * 2.5e8, y)


@pytest.mark.parametrize(
    "z",
    [np.zeros((3, 5)), np.zeros((3, 1)), np.full((2, 3), 5e-324), np.array([[0.0, -744.0], [0.0, -700.0]])],
    ids=["X06-ties", "X06-one-class", "X06-subnormal", "X06-deep"],
)
def test_odd_but_right(examine: Examine, z: Array) -> None:
    y = np.zeros(len(z), np.int64)
    assert examine(z, y, {"reduction": "sum"}, grad=gradient(z, y)).verdict is Verdict.PASS


def test_X07_a_gradient_that_underflows_in_float16_is_rounded_and_no_bug(examine: Examine) -> None:
    n = 4_000_000
    settings = {"normalizer": float(n)}
    small = (gradient(Z, Y) / n).astype(np.float16)
    assert (small == 0).any()
    assert examine(Z, Y, settings, grad=small).verdict is Verdict.PASS
    small[2, 2] += np.float16(1e-6)
    assert examine(Z, Y, settings, grad=small).verdict is Verdict.FAIL


@pytest.mark.parametrize("factor", [65536.0, 1 / 6], ids=["X08-scaled", "X08-mean"])
def test_a_constant_factor_fails_everywhere(examine: Examine, factor: float) -> None:
    outcome: Outcome = examine(Z, Y, {"reduction": "sum"}, grad=gradient(Z, Y) * factor)
    assert named(outcome, "grad").failing == Z.size


def test_L12_ignored_rows_have_gradient_zero_exactly(examine: Examine) -> None:
    y = Y.copy()
    y[2] = -100
    g = gradient(Z, Y)
    g[2] = 0.0
    assert examine(Z, y, {"reduction": "sum"}, grad=g).verdict is Verdict.PASS
    g[2, 1] = 1e-300
    assert examine(Z, y, {"reduction": "sum"}, grad=g).verdict is Verdict.FAIL

"""Right exports at the edges of the formats pass, wrong ones fail, and what has no answer is refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.errors import InputError
from gradcheck_cli.outcome import Verdict
from gradcheck_cli.report.sentence import sentence
from tests.conftest import Examine, named

Array = np.ndarray[Any, Any]


def test_a_loss_beyond_float64_is_refused(examine: Examine) -> None:
    """lse^2 overflows: an early sum made a negative allowance of it, and any loss passed."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 4))
    logits[77, 1] = 1e160
    with pytest.raises(InputError, match="row 77: its loss is too large"):
        examine(logits, rng.integers(0, 4, 200), {"z_loss": 1.0}, loss=-5.0)


@pytest.mark.parametrize(
    ("depth", "dtype", "factor", "passes"),
    [
        (9.0, np.float16, 1.0, True),
        (9.0, np.float16, -3.0, False),
        (9.0, np.float16, 1.5, False),
        (60.0, np.float32, 1.001, False),
        (90.0, np.float32, 1.0, True),
        (90.0, np.float32, -1.0, False),
        (90.0, np.float32, 1e-3, False),
        (90.0, np.float32, np.inf, True),
    ],
)
def test_a_gradient_at_tiny_probabilities(
    examine: Examine, depth: float, dtype: Any, factor: float, passes: bool
) -> None:
    logits = np.array([[0.0, -depth], [0.0, 1.0]])
    truth = np.array([[0.0, -(1 + np.exp(-depth)) / np.exp(-depth)], [0.0, -(1 + np.exp(-1))]])
    with np.errstate(over="ignore", invalid="ignore"):
        told = (truth * np.array([[1.0, factor], [1.0, 1.0]])).astype(dtype)
    told[np.isnan(told)] = 0.0
    outcome = examine(logits, np.array([1, 1]), {"reduction": "sum"}, grad_probs=told)
    assert outcome.verdict is (Verdict.PASS if passes else Verdict.FAIL)


@pytest.mark.parametrize("temperature", [1.0, 0.03, 1e-3, 50.0])
@pytest.mark.parametrize("softcap", [0.3, 30.0])
@pytest.mark.parametrize("soft", [False, True])
def test_the_ruler_holds_under_softcap_and_temperature(
    examine: Examine, temperature: float, softcap: float, soft: bool
) -> None:
    rng = np.random.default_rng(1)
    logits = 20 * rng.normal(size=(30, 12))
    targets: Array = rng.dirichlet(np.ones(12), size=30) if soft else rng.integers(0, 12, 30)
    outcome = examine(logits, targets, {"softcap": softcap, "temperature": temperature, "z_loss": 0.01})
    assert outcome.verdict is Verdict.PASS


@pytest.mark.parametrize("z_loss", [0.1, 5.0])
def test_a_float32_kernel_with_softcap_and_z_loss_passes(examine: Examine, z_loss: float) -> None:
    """The slope as 1 - tanh^2 is off by 12u of the whole bracket, z-loss included."""
    rng = np.random.default_rng(2)
    c, one = np.float32(20), np.float32(1)
    z = (60 * rng.normal(size=(40, 9))).astype(np.float32)
    labels = rng.integers(0, 9, 40)
    t = np.tanh(z / c)
    v = c * t
    top = v.max(axis=1, keepdims=True)
    e = np.exp(v - top)
    total = e.sum(axis=1, keepdims=True)
    lse = top + np.log(total)
    bracket = e / total * (one + np.float32(2 * z_loss) * lse)
    bracket[np.arange(40), labels] -= one
    settings = {"softcap": 20.0, "z_loss": z_loss, "reduction": "sum"}
    grad = bracket * (one - t * t)
    assert examine(z, labels, settings, grad=grad).verdict is Verdict.PASS
    wrong = np.where(np.abs(grad) == np.abs(grad).max(), grad * np.float32(1.001), grad)
    assert examine(z, labels, settings, grad=wrong).verdict is Verdict.FAIL


def test_a_gradient_of_zeros_passes_where_it_is_right(examine: Examine) -> None:
    """Logits of 1e6 under a temperature, every row saturated."""
    logits = 1e6 * np.eye(4)
    zeros = np.zeros((4, 4), dtype=np.float32)
    assert examine(logits, np.arange(4), {"temperature": 2.0}, grad=zeros).verdict is Verdict.PASS
    vague = examine(1e5 * logits, np.arange(4), {"temperature": 2.0}, grad=zeros)
    assert vague.verdict is Verdict.INCONCLUSIVE
    zeros[1, 2] = 1e-3
    assert examine(logits, np.arange(4), grad=zeros).verdict is Verdict.FAIL


@pytest.mark.parametrize(("logit", "temperature"), [(1e300, 1e-10), (1.5e300, 1.0), (1.7e308, 1.0)])
def test_logits_beyond_the_range_are_refused(examine: Examine, logit: float, temperature: float) -> None:
    logits = np.array([[0.0, 1.0], [logit, -logit]])
    with pytest.raises(InputError, match=r"row \[1\]: the logits over the temperature leave the range"):
        examine(logits, np.array([0, 1]), {"temperature": temperature})


def _native(z: Array, labels: Array, dtype: Any) -> Array:
    """Return the mean gradient with every elementwise operation rounded to a 16-bit format."""

    def rounded(x: Array) -> Array:
        return x.astype(dtype).astype(np.float32)

    d = rounded(z - z.max(axis=1, keepdims=True))
    log_total = rounded(np.log(rounded(np.exp(d)).sum(axis=1, keepdims=True)))
    grad = rounded(np.exp(rounded(d - log_total)))
    grad[np.arange(len(z)), labels] = rounded(grad[np.arange(len(z)), labels] - 1)
    return rounded(grad / len(z)).astype(dtype)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_native_half_arithmetic_passes(examine: Examine, dtype: Any, scale: float) -> None:
    rng = np.random.default_rng(3)
    z = (scale * rng.normal(size=(32, 20))).astype(dtype).astype(np.float32)
    labels = rng.integers(0, 20, 32)
    grad = _native(z, labels, dtype)
    assert examine(z, labels, grad=grad).verdict is Verdict.PASS
    strict = examine(z, labels, {"compute_dtype": "float32"}, grad=grad)
    assert strict.verdict is Verdict.FAIL, "float32 arithmetic rounded once cannot explain it"
    assert named(strict, "grad").failing > 10


def test_a_signalling_nan_fails_without_a_word_on_stderr(
    examine: Examine, recwarn: pytest.WarningsRecorder
) -> None:
    grad = np.zeros((4, 3))
    grad.view(np.uint64)[1, 1] = 0x7FF0000000000001
    outcome = examine(np.zeros((4, 3)), np.zeros(4, dtype=int), grad=grad)
    assert outcome.verdict is Verdict.FAIL
    assert not recwarn.list


def _right(logits: Array, labels: Array) -> Array:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    grad: Array = e / e.sum(axis=1, keepdims=True)
    grad[np.arange(len(logits)), labels] -= 1
    return grad


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("mask", [-1e4, -1e9, -np.inf])
def test_a_mask_and_a_loss_scale_in_half_pass(examine: Examine, dtype: Any, mask: float) -> None:
    """An early allowance was infinity times a probability of 0 here."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(64, 40))
    logits[:, 30:] = mask
    labels = rng.integers(0, 30, 64)
    grad = (_right(logits, labels) * 1024).astype(dtype)
    settings = {"reduction": "sum"}
    assert examine(logits, labels, settings, grad=grad, upstream=1024.0).verdict is Verdict.PASS
    grad[3, 35] = 1
    assert examine(logits, labels, settings, grad=grad, upstream=1024.0).verdict is Verdict.FAIL


@pytest.mark.parametrize("upstream", [1e16, 1e24, 1e100])
def test_masked_classes_under_a_huge_upstream_pass(examine: Examine, upstream: float) -> None:
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(50, 40))
    logits[:, 33:] = -np.inf
    labels = rng.integers(0, 33, 50)
    grad = _right(logits, labels) * upstream
    assert examine(logits, labels, {"reduction": "sum"}, grad=grad, upstream=upstream).verdict is Verdict.PASS
    grad[4, 35] = 1e-3 * upstream
    wrong = examine(logits, labels, {"reduction": "sum"}, grad=grad, upstream=upstream)
    assert named(wrong, "grad").failing == 1


@pytest.mark.parametrize(
    ("settings", "offset"),
    [
        ({"temperature": 2.0}, 1e8),
        ({"temperature": 0.7}, 1e10),
        ({"z_loss": 1e-4}, 1e9),
        ({"softcap": 1e8}, 5e7),
    ],
)
@pytest.mark.parametrize("factor", [1.0, -1.0, 0.0])
def test_where_arithmetic_may_lose_everything_nothing_passes(
    examine: Examine, settings: dict[str, float], offset: float, factor: float
) -> None:
    rng = np.random.default_rng(7)
    logits = (offset + rng.normal(size=(6, 5)) * 8).astype(np.float32)
    labels = rng.integers(0, 5, 6)
    grad = (_right(logits.astype(np.float64), labels) * factor / 6).astype(np.float32)
    outcome = examine(logits, labels, settings, grad=grad)
    assert outcome.verdict is not Verdict.PASS
    if outcome.verdict is Verdict.INCONCLUSIVE:
        assert "nothing-sure" in [each.code for each in outcome.warnings]


@pytest.mark.parametrize(("offset", "passes"), [(0.0, True), (30.0, True), (1e5, False)])
def test_a_fused_lse_passes_as_far_as_it_costs_a_thousandth(
    examine: Examine, offset: float, passes: bool
) -> None:
    rng = np.random.default_rng(8)
    logits = (offset + rng.normal(size=(30, 10))).astype(np.float32)
    labels = rng.integers(0, 10, 30)
    top = logits.max(axis=1, keepdims=True)
    lse = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    grad = np.exp(logits - lse)
    grad[np.arange(30), labels] -= 1
    outcome = examine(logits, labels, {"reduction": "sum"}, grad=grad)
    assert outcome.verdict is (Verdict.PASS if passes else Verdict.FAIL)


def test_the_headline_of_what_nothing_can_be_said_of_gives_the_reason(examine: Examine) -> None:
    logits = 1e11 * np.eye(4)
    zeros = np.zeros((4, 4), dtype=np.float32)
    outcome = examine(logits, np.arange(4), {"temperature": 2.0}, grad=zeros)
    assert sentence(outcome) == (
        "grad could not be decided: rounding alone may cost most of it (see the warning)"
    )

"""Right exports at the edges of the formats pass, wrong ones fail, and what has no answer is refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.errors import InputError
from gradcheck_cli.outcome import Verdict
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
    """Logits of 1e11 under a temperature: an early bound was infinity times 0 here."""
    logits = 1e11 * np.eye(4)
    zeros = np.zeros((4, 4), dtype=np.float32)
    assert examine(logits, np.arange(4), {"temperature": 2.0}, grad=zeros).verdict is Verdict.PASS
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

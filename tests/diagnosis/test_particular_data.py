"""Bugs that need data of their own to show: layouts, formats, masks, distributions, micro-batch sizes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.outcome import Outcome, Verdict
from tests.conftest import Examine
from tests.diagnosis import plants
from tests.diagnosis.plants import Array, softmax


def codes(outcome: Outcome) -> list[str]:
    """Return the codes of what is named, ties left out."""
    return [each.code for each in outcome.diagnosis if each.tied_with is None]


def facts(outcome: Outcome) -> list[str]:
    """Return the codes of the facts."""
    return [each.code for each in outcome.facts]


def test_the_batch_for_the_rows(examine: Examine) -> None:
    """A9: (B, T, K) divided by B and not by B T."""
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(3, 7, 5)), rng.integers(0, 5, (3, 7))
    wrong = (softmax(z) - np.eye(5)[labels]) / 3
    outcome = examine(z, labels, {}, grad=wrong)
    assert codes(outcome) == ["mean-over-batch"]
    assert outcome.diagnosis[0].flags == ("--reduction", "batch")
    assert examine(z, labels, {"reduction": "batch"}, grad=wrong).verdict is Verdict.PASS


def test_targets_that_do_not_sum_to_one(examine: Examine) -> None:
    """C9: a - q in place of a sum(q) - q."""
    rng = np.random.default_rng(1)
    z, t = rng.normal(size=(9, 6)), rng.uniform(0, 0.4, (9, 6))
    assert codes(examine(z, t, {}, grad=(softmax(z) - t) / 9)) == ["soft-target-sum-ignored"]


@pytest.mark.parametrize("how", ["bare", "label"])
def test_a_smoothing_term_with_other_weights(examine: Examine, how: str) -> None:
    """E5: the smoothing term unweighted, or weighted by the label."""
    d, e = plants.friendly(), 0.2
    classes = d.z.shape[1]
    even = np.full_like(d.y, e / classes)
    q = (1 - e) * d.w * d.y + even * (1.0 if how == "bare" else d.w)
    wrong = d.v * (d.a * q.sum(axis=1, keepdims=True) - q) / (d.v * d.w).sum()
    outcome = examine(d.z, d.stored, {"label_smoothing": e}, grad=wrong, class_weights=d.weights)
    assert codes(outcome) == ["smoothing-weighted-otherwise"]


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("rounded_target", [False, True])
def test_a_read_modify_write_of_the_label(examine: Examine, kind: type, *, rounded_target: bool) -> None:
    """F1: round(round(a/N) - 1/N) loses the label's entry where the model is confident."""
    d = plants.friendly()
    target = d.y / d.n
    taken = target.astype(kind).astype(float) if rounded_target else target
    wrong = d.v * ((d.a / d.n).astype(kind).astype(float) - taken)
    outcome = examine(d.z, d.stored, {}, grad=wrong.astype(kind))
    assert codes(outcome) == ["low-precision-rmw"]
    assert outcome.diagnosis[0].kind == "rounding"
    assert "at-label" in facts(outcome)


def test_noise_at_the_label_is_no_read_modify_write(examine: Examine) -> None:
    d = plants.friendly()
    noise = np.random.default_rng(2).uniform(-0.002, 0.002, d.z.shape) * d.y / d.n
    outcome = examine(d.z, d.stored, {}, grad=(d.v * (d.right + noise)).astype(ml_dtypes.bfloat16))
    assert outcome.verdict is Verdict.FAIL
    assert codes(outcome) == []
    assert "at-label" in facts(outcome)


def test_a_rounded_logsumexp(examine: Examine) -> None:
    """D15: exp(z - lse) in float32 with logits far from 0."""
    rng = np.random.default_rng(3)
    z = (rng.normal(size=(20, 9)) + 60000.0).astype(np.float32)
    labels = rng.integers(0, 9, 20)
    m = z.max(axis=1, keepdims=True)
    lse = (m + np.log(np.exp(z - m).sum(axis=1, keepdims=True))).astype(np.float32)
    wrong = (np.exp(z - lse) - np.eye(9, dtype=np.float32)[labels]) / np.float32(20)
    outcome = examine(z, labels, {}, grad=wrong.astype(np.float32))
    assert codes(outcome) == ["fused-lse"]


def _in_half_precision(z: Array, labels: Array) -> Array:
    kind = ml_dtypes.bfloat16
    e = np.exp((z - z.max(axis=1, keepdims=True)).astype(kind).astype(np.float32)).astype(kind)
    total = e.astype(np.float32).sum(axis=1, keepdims=True).astype(kind)
    a = (e.astype(np.float32) / total.astype(np.float32)).astype(kind).astype(np.float32)
    out: Array = (a - np.eye(z.shape[1], dtype=np.float32)[labels]) / np.float32(len(z))
    return out.astype(np.float32)


def test_bfloat16_arithmetic_behind_a_float32_file(examine: Examine) -> None:
    rng = np.random.default_rng(4)
    z = rng.normal(size=(39, 11)).astype(ml_dtypes.bfloat16).astype(np.float32)
    labels = rng.integers(0, 11, 39)
    outcome = examine(z, labels, {}, grad=_in_half_precision(z, labels))
    assert codes(outcome) == ["low-precision"]
    assert outcome.diagnosis[0].flags == ("--compute-dtype", "bfloat16")


def test_values_below_the_normal_numbers_of_a_half(examine: Examine) -> None:
    """Flushed on the way through float16, and stored as float32."""
    rng = np.random.default_rng(5)
    z = 4.0 * rng.normal(size=(40, 12))
    labels = rng.integers(0, 12, 40)
    right = (softmax(z) - np.eye(12)[labels]) / 40
    wrong = np.where(np.abs(right) < 2.0**-14, 0.0, right).astype(np.float32)
    outcome = examine(z, labels, {}, grad=wrong)
    assert codes(outcome) == ["underflow"]


def test_a_loss_that_is_clamped(examine: Examine) -> None:
    """D16: p >= 1e-7, and no gradient where that holds the loss fast."""
    rng = np.random.default_rng(6)
    z = rng.normal(size=(30, 8))
    labels = rng.integers(0, 8, 30)
    z[::5] += 30.0 * np.eye(8)[(labels[::5] + 1) % 8]
    a, y = softmax(z), np.eye(8)[labels]
    own = (a * y).sum(axis=1, keepdims=True)
    outcome = examine(z, labels, {}, grad=np.where(own < 1e-7, 0.0, a - y) / 30)
    assert codes(outcome) == ["clamped-probability"]


@pytest.mark.parametrize("whole", [False, True])
def test_nan_where_classes_are_masked(examine: Examine, *, whole: bool) -> None:
    """D11: 0 times infinity."""
    rng = np.random.default_rng(7)
    z = rng.normal(size=(12, 6))
    z[3:6, 4] = -np.inf
    labels = rng.integers(0, 4, 12)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    right = (e / e.sum(axis=1, keepdims=True) - np.eye(6)[labels]) / 12
    lost = np.isneginf(z).any(axis=1, keepdims=True) if whole else np.isneginf(z)
    assert codes(examine(z, labels, {}, grad=np.where(lost, np.nan, right))) == ["masked-row"]


def test_factors_of_rows_are_said_without_a_name(examine: Examine) -> None:
    d = plants.friendly()
    outcome = examine(d.z, d.stored, {}, grad=d.right * d.upstream[:, None])
    assert codes(outcome) == []
    assert "row-factors" in facts(outcome)


def test_a_factor_without_a_reason_is_a_fact_and_no_name(examine: Examine) -> None:
    d = plants.friendly()
    outcome = examine(d.z, d.stored, {}, grad=d.right * 0.30517)
    assert codes(outcome) == []
    assert [each.message for each in outcome.facts] == ["got = 0.30517 x expected in every entry"]


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_transposed_export(examine: Examine, order: str) -> None:
    """F9: the strides of another layout, in a square tensor and in one that is not."""
    d = plants.friendly()
    wrong = d.right.T.reshape(d.z.shape, order="C")
    stored = np.asfortranarray(wrong) if order == "F" else np.ascontiguousarray(wrong)
    outcome = examine(d.z, d.stored, {}, grad=stored)
    assert codes(outcome) == (["transposed"] if order == "C" else [])


def test_channels_first_and_last(examine: Examine) -> None:
    """F9 with three axes: (B, T, K) written as (B, K, T)."""
    rng = np.random.default_rng(8)
    z, labels = rng.normal(size=(3, 7, 5)), rng.integers(0, 5, (3, 7))
    right = (softmax(z) - np.eye(5)[labels]) / 21
    wrong = np.ascontiguousarray(right.transpose(0, 2, 1)).reshape(right.shape)
    assert codes(examine(z, labels, {}, grad=wrong)) == ["transposed"]


def test_an_upstream_of_zero_in_the_first_row(examine: Examine) -> None:
    """B2 with g_0 = 0: the whole gradient vanishes."""
    d = plants.friendly()
    upstream = d.upstream.copy()
    upstream[0] = 0.0
    outcome = examine(d.z, d.stored, {"reduction": "none"}, grad=np.zeros_like(d.z), upstream=upstream)
    assert [each.code for each in outcome.diagnosis] == ["all-zero", "upstream-first-row-only"]


@pytest.mark.parametrize("convention", ["sum-for-mean", "mean-over-all-rows", "smoothing-applied"])
def test_the_flags_of_a_convention_make_the_file_pass(examine: Examine, convention: str) -> None:
    d = plants.friendly()
    (plant,) = [each for each in plants.PLANTS if each.codes == (convention,)]
    outcome = examine(d.z, d.stored, plant.settings, grad=plant.make(d))
    flags = outcome.diagnosis[0].flags
    told = {
        flag.removeprefix("--").replace("-", "_"): float(value) if value[0].isdigit() else value
        for flag, value in zip(flags[::2], flags[1::2], strict=True)
    }
    assert examine(d.z, d.stored, told, grad=plant.make(d)).verdict is Verdict.PASS


def test_a_tie_names_both(examine: Examine) -> None:
    """256 rows: a sum, or a loss scale of 2^8."""
    rng = np.random.default_rng(9)
    z, labels = rng.normal(size=(256, 3)), rng.integers(0, 3, 256)
    outcome = examine(z, labels, {}, grad=softmax(z) - np.eye(3)[labels])
    assert [(each.code, each.tied_with) for each in outcome.diagnosis] == [
        ("sum-for-mean", None),
        ("loss-scale-not-removed", "sum-for-mean"),
    ]
    assert outcome.diagnosis[1].tied_because == "both are a factor of 256 here"


def test_a_tie_says_what_the_data_lacks(examine: Examine) -> None:
    """Weights that are all 2, applied twice, or a wrong divisor."""
    d = plants.weak()
    outcome = examine(d.z, d.stored, {}, grad=d.right * 2, class_weights=np.full(d.z.shape[1], 2.0))
    told = {each.code: each.tied_because for each in outcome.diagnosis}
    assert told["weights-not-normalised"] == "both are a factor of 2 here"
    assert told["weights-applied-twice"] is not None


def test_one_row_of_zeros_may_be_of_an_ignored_class_or_not(examine: Examine) -> None:
    """Its label need not be why: two rows of a class, and of no other, say more."""
    rng = np.random.default_rng(8)
    z, labels = rng.normal(size=(20, 40)), np.arange(20)
    wrong = (softmax(z) - np.eye(40)[labels]) / 20
    wrong[13] = 0.0
    outcome = examine(z, labels, {}, grad=wrong.astype(np.float32))
    assert [each.code for each in outcome.diagnosis] == ["class-ignored", "stale-rows"]
    assert outcome.diagnosis[1].tied_with == "class-ignored"

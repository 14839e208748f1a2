"""Which tensors fit each other, along which axis, and what is said when they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcheck_cli.errors import InputError, SoftgradError, UsageError
from gradcheck_cli.numeric.precision import BY_NAME
from gradcheck_cli.outcome import Verdict
from gradcheck_cli.settings import COMPUTE_DTYPES, ROUNDED_DTYPES
from tests import oracle
from tests.conftest import Examine, named

RNG = np.random.default_rng(0)


def _labels(shape: tuple[int, ...], classes: int) -> Any:
    return RNG.integers(0, classes, shape)


def _logits(*shape: int) -> Any:
    return RNG.normal(size=shape)


@pytest.mark.parametrize(
    ("logits", "labels", "axis", "rows"),
    [
        ((4,), (), 0, 1),
        ((4,), (1,), 0, 1),
        ((6, 4), (6,), 1, 6),
        ((6, 4), (6, 1), 1, 6),
        ((6, 4), (1, 6), 1, 6),
        ((2, 3, 4), (2, 3), 2, 6),
        ((2, 5, 3, 4), (2, 3, 4), 1, 24),
        ((5, 2, 3), (2, 3), 0, 6),
    ],
)
def test_the_axis_is_what_the_labels_leave_over(
    examine: Examine, logits: tuple[int, ...], labels: tuple[int, ...], axis: int, rows: int
) -> None:
    z = _logits(*logits)
    data = examine(z, _labels(labels, logits[axis])).data
    assert (data.axis, data.rows, data.classes) == (axis, rows, logits[axis])


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_strided_class_axis_is_judged_in_its_own_layout(examine: Examine, order: Any) -> None:
    z, y = _logits(2, 5, 3, 4), _labels((2, 3, 4), 5)
    rows = np.moveaxis(z, 1, -1).reshape(-1, 5)
    truth = oracle.as_float64(oracle.gradient(rows, y.reshape(-1), oracle.Convention()))
    grad = np.moveaxis(truth.reshape(2, 3, 4, 5), -1, 1)
    stored = (np.asarray(z, order=order), y, np.asarray(grad, order=order))
    assert examine(stored[0], stored[1], grad=stored[2]).verdict is Verdict.PASS
    grad[1, 4, 2, 0] += 1e-6
    outcome = examine(stored[0], stored[1], grad=np.asarray(grad, order=order))
    assert named(outcome, "grad").worst[0].index == (1, 4, 2, 0)


@pytest.mark.parametrize(
    ("logits", "labels", "settings", "says"),
    [
        ((3, 3, 3), (3, 3), {}, "could be --axis 0 or --axis 1 or --axis 2"),
        ((2, 3, 4), (2, 3, 4), {}, "which axis holds the classes"),
        ((2, 3, 4), (5,), {}, "must leave out the class axis"),
        ((6, 4), (4,), {}, "pass --axis 0"),
        ((6, 4), (7,), {}, "one class index for each row, shape (6,)"),
        ((6, 4), (6,), {"axis": 2}, "--axis 2"),
        ((6, 4), (6,), {"axis": 0}, "shape (4,)"),
    ],
)
def test_what_does_not_fit_is_said(
    examine: Examine,
    logits: tuple[int, ...],
    labels: tuple[int, ...],
    settings: dict[str, Any],
    says: str,
) -> None:
    with pytest.raises(SoftgradError) as raised:
        examine(_logits(*logits), np.zeros(labels, dtype=np.int64), settings)
    assert says in str(raised.value)


@pytest.mark.parametrize("axis", [0, -2])
def test_an_axis_can_be_told(examine: Examine, axis: int) -> None:
    data = examine(_logits(5, 5), _labels((5,), 5), {"axis": axis}).data
    assert data.axis == 0


def test_batch_divides_by_the_first_axis_that_is_no_class(examine: Examine) -> None:
    settings = {"reduction": "batch"}
    assert examine(_logits(2, 3, 4), _labels((2, 3), 4), settings).data.divisor == 2
    assert examine(_logits(4, 2, 3), _labels((2, 3), 4), settings).data.divisor == 2
    assert examine(_logits(4), np.array(1), settings).data.divisor == 1


@pytest.mark.parametrize(
    ("tensors", "settings", "error", "says"),
    [
        ({"upstream": np.ones(5)}, {}, InputError, "one value for each row"),
        ({"upstream": np.full(6, np.nan)}, {}, InputError, "entry [0]: the upstream gradient nan"),
        ({"upstream": np.array([np.inf])}, {}, InputError, "is not finite"),
        ({"class_weights": np.ones(3)}, {}, InputError, "one weight for each is needed"),
        ({"class_weights": np.array([1.0, -1, 1, 1])}, {}, InputError, "class 1: weight -1"),
        ({"class_weights": np.zeros(4)}, {}, InputError, "the mean loss is 0/0"),
        ({"grad": np.ones((6, 4), dtype=np.int32)}, {}, InputError, "floating point is needed"),
        ({"grad_probs": np.ones((6, 4))}, {"z_loss": 0.1}, UsageError, "no function of the probabilities"),
        ({"loss": np.ones(5)}, {"reduction": "none"}, InputError, "one value for each row"),
        ({"loss": 0.5}, {"reduction": "none"}, UsageError, "one loss for each row"),
    ],
)
def test_what_cannot_be_judged_is_said(
    examine: Examine, tensors: dict[str, Any], settings: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as raised:
        examine(_logits(6, 4), np.arange(6) % 4, settings, **tensors)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    "settings", [{"ignore_index": 2}, {"label_smoothing": 0.1, "smoothing_over": "others"}]
)
def test_options_of_class_labels_are_refused_with_distributions(
    examine: Examine, settings: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="needs class labels"):
        examine(_logits(6, 4), np.full((6, 4), 0.25), settings)


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_a_target_that_is_no_weight_is_named(examine: Examine, bad: float) -> None:
    targets = np.full((6, 4), 0.25)
    targets[3, 1] = bad
    with pytest.raises(InputError, match=r"entry \[3, 1\]: target"):
        examine(_logits(6, 4), targets)


def test_every_row_ignored_is_nothing_to_verify(examine: Examine) -> None:
    with pytest.raises(InputError, match="every row has the ignored label -100"):
        examine(_logits(3, 4), np.full(3, -100))


@pytest.mark.parametrize("dtype", [*COMPUTE_DTYPES, *ROUNDED_DTYPES])
def test_every_precision_that_can_be_named_is_known(dtype: str) -> None:
    assert BY_NAME[dtype].name == dtype


def test_the_audit_finds_the_only_row_that_counts(examine: Examine) -> None:
    labels = np.full(2000, -100)
    labels[1234] = 2
    outcome = examine(_logits(2000, 4), labels)
    assert outcome.verdict is Verdict.PASS
    assert named(outcome, "audit").entries > 0


def test_the_bound_of_a_long_sum_is_warned_of(examine: Examine) -> None:
    z = np.zeros((1, 20_000), dtype=np.float32)
    z[0, 0] = 0.1
    outcome = examine(z, np.array([0]), probs=np.full((1, 20_000), 1 / 3, dtype=np.float32))
    assert [each.code for each in outcome.warnings] == ["wide-bound"]
    assert not examine(z[:, :50], np.array([0]), probs=np.full((1, 50), 1 / 3, dtype=np.float32)).warnings


@pytest.mark.parametrize(
    ("values", "dtype", "grid"),
    [
        ("float32", np.float32, "float32"),
        ("float32", np.float64, "float32"),
        ("float64", np.float64, "float64"),
        ("float16", np.float16, "float16"),
        ("float16", np.float32, "float16"),
        ("bfloat16", np.float32, "bfloat16"),
        ("bfloat16", np.float64, "bfloat16"),
    ],
)
def test_the_grid_counts_not_the_container(examine: Examine, values: str, dtype: Any, grid: str) -> None:
    z, y = _logits(20, 7), _labels((20,), 7)
    truth = oracle.as_float64(oracle.gradient(z[:2], y[:2], oracle.Convention(reduction="sum")))
    if values == "bfloat16":
        bits = truth.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
        truth = bits.view(np.float32)
    else:
        truth = truth.astype(values)
    outcome = examine(z[:2], y[:2], {"reduction": "sum"}, grad=truth.astype(dtype))
    assert {each.role: each.grid for each in outcome.inputs}["grad"] == grid

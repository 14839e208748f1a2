"""The tester tested: the oracle against cases worked by hand, against itself, and with a fault planted."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import mpmath  # type: ignore[import-untyped,unused-ignore]
import numpy as np
import numpy.typing as npt
import pytest

from tests import oracle
from tests.oracle import DIGITS_50, Convention, Difference, Real, Reals

INF = float("inf")
LN2 = DIGITS_50.log(2)
TINY = DIGITS_50.mpf(10) ** -50


def distance(got: Any, expected: Any) -> Real:
    """Return the greatest absolute difference; NaN and a misfitting shape are infinitely far."""
    a, b = np.asarray(got, dtype=object), np.asarray(expected, dtype=object)
    if a.shape != b.shape or a.size == 0:
        return DIGITS_50.inf
    # In mpf: a difference of Python floats would be rounded before it is seen.
    pairs = [(DIGITS_50.convert(x), DIGITS_50.convert(y)) for x, y in zip(a.flat, b.flat, strict=True)]
    differences = [abs(x - y) for x, y in pairs]
    return max(d if d >= 0 else DIGITS_50.inf for d in differences)


def relative_distance(got: Reals, expected: Reals) -> Real:
    """Return the greatest difference in units of the expected entry; a zero must be met exactly."""
    units = [DIGITS_50.mpf(1) if value == 0 else abs(value) for value in expected.flat]
    zeros_met = all(g == 0 for g, e in zip(got.flat, expected.flat, strict=True) if e == 0)
    return distance(got.ravel() / units, expected.ravel() / units) if zeros_met else DIGITS_50.inf


def test_distance_sees_a_wrong_digit_a_nan_and_a_wrong_shape() -> None:
    """A comparison that cannot fail would bless any oracle."""
    third = DIGITS_50.mpf(1) / 3
    assert distance([third], [third]) == 0
    assert distance([third + TINY], [third]) > TINY / 2
    assert distance([1 / 3], [third]) > TINY
    assert distance([float("nan")], [third]) == INF
    assert distance([third], [[third]]) == INF
    assert distance([], []) == INF


# ---- worked by hand ---------------------------------------------------------------------------------------
# Every logit is 0 unless said, so a_k = 1/K and log a_k = -log K; then the gradient is (Q/K - q) / divisor.

ZEROS_2 = [[0.0, 0.0]]
ZEROS_3 = [[0.0, 0.0, 0.0]]
ZEROS_4 = [[0.0, 0.0, 0.0, 0.0]]
HALF = [[-1 / 2, 1 / 2]]

BY_HAND: dict[str, tuple[Any, Any, Convention, Any, Any]] = {
    # name: logits, targets, convention, gradient, loss in units of log K
    "plain": (ZEROS_2, [0], Convention(), HALF, 1),
    "four classes": (ZEROS_4, [2], Convention(), [[1 / 4, 1 / 4, -3 / 4, 1 / 4]], 1),
    # q = 1/2 + 1/8 on the label, 1/8 on the rest; a = 1/4
    "smoothing": (ZEROS_4, [0], Convention(label_smoothing=0.5), [[-3 / 8, 1 / 8, 1 / 8, 1 / 8]], 1),
    # E = 3/16 over three others: q = 13/16, then 1/16 each; a = 4/16
    "smoothing over others": (
        ZEROS_4,
        [0],
        Convention(label_smoothing=0.1875, smoothing_over="others"),
        [[-9 / 16, 3 / 16, 3 / 16, 3 / 16]],
        1,
    ),
    # w = (1, 3), divisor 1 + 3 = 4: w_y (a - y) / 4
    "weights": (
        ZEROS_2 * 2,
        [0, 1],
        Convention(class_weights=[1, 3]),
        [[-1 / 8, 1 / 8], [3 / 8, -3 / 8]],
        1,
    ),
    # E = 1/2, w = (1, 2): q = (1/2 + 1/4, 1/4 · 2) = (3/4, 1/2), Q/2 = 5/8, divisor w_y = 1
    "weights and smoothing": (
        ZEROS_2,
        [0],
        Convention(class_weights=[1, 2], label_smoothing=0.5),
        [[-1 / 8, 1 / 8]],
        5 / 4,
    ),
    # over the others: q = (1/2 · 1, 1/2 · 2), Q/2 = 3/4
    "weights and smoothing over others": (
        ZEROS_2,
        [0],
        Convention(class_weights=[1, 2], label_smoothing=0.5, smoothing_over="others"),
        [[1 / 4, -1 / 4]],
        3 / 2,
    ),
    # a is still 1/2; dv/dz = 1/T
    "temperature": (ZEROS_2, [0], Convention(temperature=4.0), [[-1 / 8, 1 / 8]], 1),
    # dv/dz = 1 - tanh²(0) = 1, then 1/T
    "softcap at zero": (ZEROS_2, [0], Convention(softcap=30.0, temperature=0.5), [[-1, 1]], 1),
    # t = (1, 1/2): Q/2 = 3/4
    "soft target above one": (ZEROS_2, [[1.0, 0.5]], Convention(), [[-1 / 4, 1 / 4]], 3 / 2),
    # t' = t/2 + 1/4 = (3/4, 1/2), w t' = (3/4, 1), Q/2 = 7/8, divided by 2 rows, not by weights
    "soft target, weights and smoothing": (
        ZEROS_2 * 2,
        [[1.0, 0.5]] * 2,
        Convention(class_weights=[1, 2], label_smoothing=0.5),
        [[1 / 16, -1 / 16]] * 2,
        7 / 4,
    ),
    # the masked class has no probability: the others are as if alone
    "masked": ([[0.0, -INF, 0.0]], [0], Convention(), [[-1 / 2, 0, 1 / 2]], None),
    # q = 1/2 + 1/8 and 1/8 twice; the 1/8 on the masked class is dropped. Log 1/2 has only two classes, so
    # K = 4 with two masked: a = 1/2, Q = 3/4
    "masked and smoothed": (
        [[0.0, -INF, 0.0, -INF]],
        [0],
        Convention(label_smoothing=0.5),
        [[3 / 8 - 5 / 8, 0, 3 / 8 - 1 / 8, 0]],
        None,
    ),
    "an ignored label inside the classes": (
        ZEROS_2 * 2,
        [0, 1],
        Convention(ignore_index=1),
        [[-1 / 2, 1 / 2], [0, 0]],
        1,
    ),
}


@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize("name", BY_HAND)
def test_gradient_worked_by_hand(name: str, incremental: bool) -> None:
    """Both ways of differencing give the fraction in the comment, to 50 digits."""
    logits, targets, convention, expected, _ = BY_HAND[name]
    got = oracle.gradient(logits, targets, convention, difference=Difference(incremental=incremental))
    assert distance(got, expected) < TINY


@pytest.mark.parametrize("name", [name for name, case in BY_HAND.items() if case[4] is not None])
def test_loss_worked_by_hand(name: str) -> None:
    """Every log-probability is -log K, so the loss is Q log K / divisor."""
    logits, targets, convention, _, expected = BY_HAND[name]
    got = oracle.loss(logits, targets, convention) / DIGITS_50.log(len(logits[0]))
    assert distance([got], [expected]) < TINY


@pytest.mark.parametrize(
    ("convention", "divisor"),
    [
        (Convention(), 3),  # one of four rows is ignored
        (Convention(reduction="sum"), 1),
        (Convention(reduction="none"), 1),
        (Convention(reduction="batch", batch_size=2), 2),  # logits of (2, 2, 2) brought to rows
        (Convention(reduction="batch"), 4),
        (Convention(reduction="full"), 4),
        (Convention(normalizer=8.0), 8),
    ],
)
def test_divisor_worked_by_hand(convention: Convention, divisor: int) -> None:
    """Four rows of (±1/2, ±1/2), the third ignored, over the divisor, and so the loss."""
    labels = np.array([0, 1, -100, 0])
    got = oracle.gradient(ZEROS_2 * 4, labels, convention)
    assert distance(got * divisor, [[-0.5, 0.5], [0.5, -0.5], [0, 0], [-0.5, 0.5]]) < TINY
    contributions = oracle.row_contributions(ZEROS_2 * 4, labels, convention)
    assert distance(contributions * divisor, [LN2, LN2, 0, LN2]) < TINY


def test_loss_is_a_list_only_without_reduction() -> None:
    """The loss of "none" is every row's; else it is their contributions' sum."""
    assert oracle.loss(ZEROS_2 * 2, [0, -100], Convention(reduction="none")) == [LN2, 0]
    assert oracle.loss(ZEROS_2 * 2, [0, 1], Convention(reduction="sum")) == 2 * LN2


def test_all_rows_ignored_has_no_mean_but_a_zero_gradient() -> None:
    """0/0 is NaN as a loss, and nothing flows back from it."""
    assert DIGITS_50.isnan(oracle.loss(ZEROS_2, [-100], Convention()))
    assert oracle.loss(ZEROS_2, [-100], Convention(reduction="sum")) == 0
    assert list(oracle.gradient(ZEROS_2, [-100], Convention())[0]) == [0, 0]


def test_z_loss_worked_by_hand() -> None:
    """Adds 2 lambda lse a = 2 · 1/2 · log 2 · 1/2 to both classes, and lambda log²2 to the loss."""
    convention = Convention(z_loss=0.5)
    expected = [[LN2 / 2 - 0.5, LN2 / 2 + 0.5]]
    assert distance(oracle.gradient(ZEROS_2, [0], convention), expected) < TINY
    assert distance([oracle.loss(ZEROS_2, [0], convention)], [LN2 + LN2**2 / 2]) < TINY


def test_z_loss_under_mean_divides_by_rows_even_with_weights() -> None:
    """Weights 1, 3 on labels 0, 1, and an ignored row: cross-entropy over 4, z-loss over 2."""
    convention = Convention(z_loss=0.5, class_weights=[1, 3])
    expected = [[LN2 / 4 - 1 / 8, LN2 / 4 + 1 / 8], [LN2 / 4 + 3 / 8, LN2 / 4 - 3 / 8], [0, 0]]
    assert distance(oracle.gradient(ZEROS_2 * 3, [0, 1, -100], convention), expected) < TINY
    # (1 + 3) log 2 / 4 + 2 · log²2 / 2 / 2
    assert distance([oracle.loss(ZEROS_2 * 3, [0, 1, -100], convention)], [LN2 + LN2**2 / 2]) < TINY


def test_softcap_worked_by_hand() -> None:
    """At z = (1, 0), c = 1: v = (tanh 1, 0), dv/dz = (1 - tanh²1, 1), a_0 = 1 / (1 + exp(-tanh 1))."""
    tanh = DIGITS_50.tanh(1)
    share = 1 / (1 + DIGITS_50.exp(-tanh))
    expected = [[(share - 1) * (1 - tanh**2), 1 - share]]
    assert distance(oracle.gradient([[1.0, 0.0]], [0], Convention(softcap=1.0)), expected) < TINY
    assert distance(oracle.probabilities([[1.0, 0.0]], Convention(softcap=1.0)), [[share, 1 - share]]) < TINY


def test_upstream_worked_by_hand() -> None:
    """A number scales all rows; one number a row scales each; under mean it meets the divisor, 2."""
    expected = [[-1, 1], [3 / 4, -3 / 4]]
    got = oracle.gradient(ZEROS_2 * 2, [0, 1], Convention(), upstream=[4.0, 3.0])
    assert distance(got, expected) < TINY
    doubled = oracle.gradient(ZEROS_2, [0], Convention(), upstream=2.0)
    assert distance(doubled, [[-1, 1]]) < TINY


def test_probabilities_worked_by_hand() -> None:
    """At z = (1, 0): a_0 = e / (1 + e); a masked class has probability 0, logarithm -inf."""
    e = DIGITS_50.e
    logits = [[1.0, 0.0, -INF]]
    shares = oracle.probabilities(logits, Convention())
    assert distance(shares, [[e / (1 + e), 1 / (1 + e), 0]]) < TINY
    logs = oracle.log_probabilities(logits, Convention())
    assert distance(logs[:, :2], [[1 - DIGITS_50.log(1 + e), -DIGITS_50.log(1 + e)]]) < TINY
    assert logs[0, 2] == -INF


def test_gradient_at_probabilities_worked_by_hand() -> None:
    """Is -q/a: smoothing 1/2 makes q = (3/4, 1/4), a = 1/2; two rows count; the last has upstream 2."""
    convention = Convention(label_smoothing=0.5)
    got = oracle.gradient_at_probabilities(ZEROS_2 * 3, [0, -100, 1], convention, upstream=[1, 1, 2])
    assert distance(got, [[-3 / 4, -1 / 4], [0, 0], [-1 / 2, -3 / 2]]) < TINY
    plain = oracle.gradient_at_probabilities([[0.0, 0.0, -INF]], [0], Convention())
    assert distance(plain, [[-2, 0, 0]]) < TINY


# ---- against itself ---------------------------------------------------------------------------------------

CONVENTIONS = {
    "defaults": Convention(),
    "smoothed": Convention(label_smoothing=0.1, reduction="sum"),
    "others": Convention(label_smoothing=0.1, smoothing_over="others", reduction="full"),
    "weighted": Convention(class_weights=[0.5, 2.0, 0.0, 1.25, 3.0], label_smoothing=0.2),
    "hot": Convention(temperature=3.0, normalizer=11.0),
    "capped": Convention(softcap=2.5, temperature=0.7, reduction="none"),
    "z": Convention(z_loss=1e-2, class_weights=[0.5, 2.0, 0.5, 1.25, 3.0], softcap=20.0),
}
LABELS = np.array([0, 4, -100, 2, 1, 3])


def some_logits() -> npt.NDArray[np.float64]:
    """Return logits with ordinary, saturated, tied and far-off rows and a masked class: (6, 5)."""
    logits = np.random.default_rng(20).normal(0, 3, (6, 5))
    logits[1, 4] += 60.0
    logits[3] = 7.0
    logits[4] += 1e6
    logits[5, 0] = -INF
    return logits


@pytest.fixture(params=CONVENTIONS)
def convention(request: pytest.FixtureRequest) -> Convention:
    """Return each convention in turn."""
    return CONVENTIONS[request.param]


def test_two_step_sizes_agree_to_40_digits(convention: Convention) -> None:
    """A step of 1e-22 is wrong in the 44th digit, one of 1e-30 in the 60th: the truth is no matter of h."""
    coarse = oracle.gradient(some_logits(), LABELS, convention, difference=Difference(step_digits=22))
    fine = oracle.gradient(some_logits(), LABELS, convention)
    assert relative_distance(coarse, fine) < DIGITS_50.mpf(10) ** -40


def test_order_of_accuracy_is_two(convention: Convention) -> None:
    """Ten times the step, a hundred times the error: the difference is central, and its error is its own."""
    truth = oracle.gradient(some_logits(), LABELS, convention)
    errors = [
        distance(oracle.gradient(some_logits(), LABELS, convention, difference=Difference(digits)), truth)
        for digits in (10, 11)
    ]
    assert abs(errors[0] / errors[1] - 100) < TINY**0.2


def test_incremental_difference_is_the_brute_one(convention: Convention) -> None:
    """Exchanging one exponential changes nothing in the first 50 digits, however small the entry."""
    brute = oracle.gradient(some_logits(), LABELS, convention, difference=Difference(incremental=False))
    exchanged = oracle.gradient(some_logits(), LABELS, convention, difference=Difference(incremental=True))
    assert relative_distance(exchanged, brute) < TINY


def test_rows_sum_to_zero_without_softcap_and_z_loss(convention: Convention) -> None:
    """A shift of a row changes no cross-entropy, so its partials cancel."""
    plain = replace(convention, softcap=None, z_loss=0.0)
    gradient = oracle.gradient(some_logits(), LABELS, plain)
    assert distance(gradient.sum(axis=1), [0] * len(LABELS)) < TINY


def test_a_shift_changes_nothing_without_softcap_and_z_loss(convention: Convention) -> None:
    """Logits on a coarse grid are shifted without rounding; 2^30 then costs no digit."""
    plain = replace(convention, softcap=None, z_loss=0.0)
    logits = np.round(some_logits() * 64) / 64
    here = oracle.gradient(logits, LABELS, plain)
    assert relative_distance(oracle.gradient(logits + 2.0**30, LABELS, plain), here) < TINY


def test_chain_from_the_probabilities_gives_the_gradient(convention: Convention) -> None:
    """S4 applied to S6: (t - <t, a>) a with t = dE/da, over T; two unlike differences meet."""
    plain = replace(convention, softcap=None, z_loss=0.0)
    t = oracle.gradient_at_probabilities(some_logits(), LABELS, plain)
    a = oracle.probabilities(some_logits(), plain)
    chained = (t - (t * a).sum(axis=1, keepdims=True)) * a / DIGITS_50.mpf(plain.temperature or 1.0)
    assert distance(chained, oracle.gradient(some_logits(), LABELS, plain)) < TINY


def test_rows_are_independent(convention: Convention) -> None:
    """One row alone, under the divisor of all, has the gradient it had among the others."""
    alone = replace(convention, reduction="sum", normalizer=None)
    together = oracle.gradient(some_logits(), LABELS, alone)
    for i in range(len(LABELS)):
        assert distance(oracle.gradient(some_logits()[[i]], LABELS[[i]], alone)[0], together[i]) == 0


def test_a_one_hot_soft_target_is_a_label() -> None:
    """Without weights (whose mean differs) the two kinds of target agree, smoothing included."""
    labels = np.array([0, 4, 3, 2, 1, 3])
    smoothed = Convention(label_smoothing=0.1, softcap=9.0, z_loss=1e-3)
    soft = oracle.gradient(some_logits(), np.eye(5)[labels], smoothed)
    assert distance(soft, oracle.gradient(some_logits(), labels, smoothed)) < TINY


@pytest.mark.parametrize(
    "row", [[1e15, 1e15 - 30, 1e15 + 2], [1e300, 1e300, 0.0], [1e-300, 0.0, -1e-300], [0.0, -740.0, -300.0]]
)
def test_extreme_rows_keep_their_digits(row: list[float]) -> None:
    """The step is not lost beside 1e300, nor an entry of 1e-322 beside 1: it is a_k off the label."""
    gradient = oracle.gradient([row], [0], Convention())
    shares = oracle.probabilities([row], Convention())
    wide = [k for k in (1, 2) if shares[0, k] > DIGITS_50.mpf("1e-330")]
    assert wide
    assert relative_distance(gradient[:, wide], shares[:, wide]) < DIGITS_50.mpf(10) ** -40


@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize("scale", [2.0**900, 2.0**300, 2.0**-60, 2.0**-300])
def test_extreme_temperatures_keep_their_digits(scale: float, incremental: bool) -> None:
    """At z = (T, 0), v = (1, 0): the gradient is (a - y) / T with a_1 = 1 / (1 + e), whatever T."""
    share = 1 / (1 + DIGITS_50.e)
    convention, difference = Convention(temperature=scale), Difference(incremental=incremental)
    got = oracle.gradient([[scale, 0.0]], [0], convention, difference=difference) * DIGITS_50.mpf(scale)
    assert distance(got, [[-share, share]]) < TINY
    small = oracle.gradient(ZEROS_2, [0], convention, difference=difference) * DIGITS_50.mpf(scale)
    assert distance(small, HALF) < TINY


@pytest.mark.parametrize("scale", [2.0**300, 2.0**-60, 2.0**-300])
def test_extreme_softcaps_keep_their_digits(scale: float) -> None:
    """At z = (c, 0), c = T: v = (tanh 1, 0), and c times the gradient is as for c = 1."""
    tanh = DIGITS_50.tanh(1)
    share = 1 / (1 + DIGITS_50.exp(tanh))
    convention = Convention(softcap=scale, temperature=scale)
    got = oracle.gradient([[scale, 0.0]], [0], convention) * DIGITS_50.mpf(scale)
    assert distance(got, [[-share * (1 - tanh**2), share]]) < TINY


def test_a_wide_row_is_done_incrementally() -> None:
    """1,200 classes: off the label the gradient is the probability."""
    logits = np.random.default_rng(3).normal(0, 4, (1, 1200))
    gradient = oracle.gradient(logits, [0], Convention())
    assert relative_distance(gradient[:, 1:], oracle.probabilities(logits, Convention())[:, 1:]) < TINY


def test_the_global_precision_has_no_say() -> None:
    """A caller with 15 digits, or 5, gets the same 50."""
    here = oracle.gradient(some_logits(), LABELS, Convention())
    with mpmath.mp.workdps(5):
        there = oracle.gradient(some_logits(), LABELS, Convention())
        assert distance(here.sum(axis=1), [0] * len(LABELS)) < TINY
    assert distance(here, there) == 0


# ---- faults that must be seen -----------------------------------------------------------------------------

RIGHT = Convention(
    label_smoothing=0.1, class_weights=[0.5, 2.0, 0.7, 1.25, 3.0], temperature=1.5, softcap=20.0, z_loss=1e-2
)


@pytest.mark.parametrize(
    "wrong",
    [
        {"reduction": "sum"},
        {"reduction": "none"},
        {"reduction": "batch"},
        {"reduction": "full"},
        {"reduction": "batch", "batch_size": 2},
        {"normalizer": 7.0},
        {"ignore_index": 4},
        {"label_smoothing": 0.0},
        {"smoothing_over": "others"},
        {"class_weights": None},
        {"class_weights": [0.5, 2.0, 0.7, 1.25, 3.1]},
        {"temperature": None},
        {"softcap": None},
        {"z_loss": 0.0},
    ],
    ids=str,
)
def test_a_broken_convention_differs(wrong: dict[str, Any]) -> None:
    """Every option matters: none can be dropped without the gradient and the loss showing it."""
    labels = np.array([0, 4, 4, 2, 1, 3])
    broken = replace(RIGHT, **wrong)
    right = oracle.gradient(some_logits(), labels, RIGHT)
    assert distance(oracle.gradient(some_logits(), labels, broken), right) > 1e-3 * DIGITS_50.mpf(1)
    losses = [sum(oracle.row_contributions(some_logits(), labels, c)) for c in (broken, RIGHT)]
    assert distance(losses[:1], losses[1:]) > 1e-3 * DIGITS_50.mpf(1)


def test_reductions_that_differ_only_by_ignored_rows_differ() -> None:
    """Mean and full part as soon as one row is ignored."""
    mean, full = (oracle.gradient(some_logits(), LABELS, Convention(reduction=r)) for r in ("mean", "full"))
    assert distance(mean, full) > DIGITS_50.mpf("0.01")


@pytest.mark.parametrize("incremental", [False, True])
def test_a_planted_fault_is_seen(monkeypatch: pytest.MonkeyPatch, incremental: bool) -> None:
    """A wrong v, with a slope of 2/3 at 0, misses the case worked by hand and the rows' zero sums."""
    monkeypatch.setattr(oracle, "_transformed", lambda z, _: z * 2 / 3 + z**2 / 100)
    difference = Difference(incremental=incremental)
    gradient = oracle.gradient(some_logits(), LABELS, Convention(), difference=difference)
    assert distance(gradient.sum(axis=1), [0] * len(LABELS)) > DIGITS_50.mpf("0.001")
    by_hand = oracle.gradient(ZEROS_2, [0], Convention(), difference=difference)
    assert distance(by_hand, HALF) > DIGITS_50.mpf("0.1")


@pytest.mark.parametrize(
    ("logits", "targets", "convention", "says"),
    [
        (ZEROS_2, [2], Convention(), "label 2 is outside"),
        (ZEROS_2, [-1], Convention(), "label -1 is outside"),
        (ZEROS_2, [0.0], Convention(), "labels must be integers"),
        ([0.0, 0.0], [0], Convention(), "logits must be"),
        ([[0.0, -INF]], [1], Convention(), "masked class"),
        ([[0.0, -INF]], [[0.5, 0.5]], Convention(), "masked class"),
        ([[-INF, -INF]], [0], Convention(), "all -inf"),
        ([[0.0, float("nan")]], [0], Convention(), "NaN"),
        ([[0.0, INF]], [0], Convention(), "NaN or"),
        (ZEROS_2, [0], Convention(class_weights=[1.0]), "1 class weights"),
        (ZEROS_2, [[1.0]], Convention(), "a target of 1"),
        (ZEROS_2, [0], Convention(class_weights=[0.0, 1.0]), "there is no mean"),
        (
            ZEROS_2,
            [[1.0, 0.0]],
            Convention(label_smoothing=0.1, smoothing_over="others"),
            "not defined for soft",
        ),
    ],
)
def test_what_has_no_truth_is_refused(logits: Any, targets: Any, convention: Convention, says: str) -> None:
    """An oracle that answers a question without an answer would teach it to the program."""
    with pytest.raises(ValueError, match=says):
        oracle.gradient(logits, targets, convention)


@pytest.mark.parametrize(
    "option",
    [
        {"reduction": "avg"},
        {"smoothing_over": "all"},
        {"temperature": 0.0},
        {"softcap": -1.0},
        {"normalizer": 0.0},
    ],
)
def test_a_misspelt_convention_is_refused(option: dict[str, Any]) -> None:
    """There is no convention of that name."""
    with pytest.raises(ValueError, match=str(next(iter(option.values())))):
        Convention(**option)


# ---- rounding ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numerator", "power", "expected"),
    [
        (1, -1074, 5e-324),
        (1, -1075, 0.0),  # the tie of 0 and the smallest subnormal: even
        (3, -1075, 1e-323),  # the tie of 1 and 2 subnormals: even
        (2**60 + 1, -1135, 5e-324),  # just above that tie; rounding to 53 bits first would lose it
        (-(2**60 + 1), -1135, -5e-324),
        (2**54 - 1, 970, INF),  # the tie of the largest double and 2^1024
        (2**55 - 3, 969, 2.0**1023 * (2 - 2.0**-52)),
        (1, 1024, INF),
        (-1, 10**12, -INF),
        (1, -(10**12), 0.0),
        (2**53 + 1, 0, 2.0**53),
        (2**53 + 3, 0, 2.0**53 + 4),
        (0, 0, 0.0),
    ],
)
def test_as_float64_rounds_to_nearest_even(numerator: int, power: int, expected: float) -> None:
    """Ties, subnormals and both ends of the range, worked by hand."""
    with DIGITS_50.workprec(200):
        value = DIGITS_50.ldexp(DIGITS_50.mpf(numerator), power)
    assert float(oracle.as_float64(value)) == expected


def test_as_float64_agrees_with_fractions_and_keeps_the_shape() -> None:
    """Python's own division of integers is correctly rounded."""
    rng = np.random.default_rng(5)
    pairs = [(int(rng.integers(-(2**62), 2**62)), int(rng.integers(-1200, 900))) for _ in range(300)]
    values = np.array([DIGITS_50.ldexp(DIGITS_50.mpf(n), p) for n, p in pairs], dtype=object)
    expected = np.array([float(Fraction(n) * Fraction(2) ** p) for n, p in pairs])
    got = oracle.as_float64(values.reshape(30, 10))
    assert got.shape == (30, 10)
    np.testing.assert_array_equal(got.ravel(), expected)


def test_as_float64_passes_non_finite_numbers() -> None:
    """A masked class has the log-probability -inf."""
    got = oracle.as_float64([DIGITS_50.ninf, DIGITS_50.inf, DIGITS_50.nan])
    np.testing.assert_array_equal(got, [-INF, INF, np.nan])

"""The independent truth: every loss convention in 50 digits, gradients by differencing the loss.

Nothing here comes from ``gradcheck_cli`` and no gradient formula is written down. A gradient entry is

    (l(z + h e_j) - l(z - h e_j)) / 2h

of the *row loss* in multiple precision, with h = 1e-30 and so many working digits that neither the
truncation (h² ~ 1e-60) nor the cancellation (digits are added for it) reaches the 50th digit. That loss is

    l = -sum_k q_k log softmax(v)_k + lambda logsumexp(v)²,  v = softcap tanh(z / softcap) / temperature

float64 inputs are taken exactly: ``mpf(0.1)`` is the double, not one tenth. Results are object arrays of
``mpf`` that belong to the private context `DIGITS_50`, so arithmetic between them keeps 60 digits whatever
``mpmath.mp.dps`` says. `as_float64` rounds them once, correctly.

Relative accuracy holds down to entries of about 1e-345; below that, which is 0 in float64, it is absolute.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from mpmath import MPContext  # type: ignore[import-untyped,unused-ignore]

Real = Any
"""An ``mpf``; mpmath carries no types."""

Reals = npt.NDArray[np.object_]

DIGITS_50 = MPContext()
DIGITS_50.dps = 60  # 50 promised, 10 to spare for what a test does with the results

GUARD_DIGITS = 65  # the 50 promised, and 15 for rounding in sums of up to 1e10 terms
SMALLEST_ENTRY_DIGITS = 345  # the smallest subnormal is 4.9e-324; 20 digits of it
FLOAT64_BITS = sys.float_info
BRUTE_FORCE_CLASSES = 48  # wider rows are differenced by changing one exponential


@dataclass(frozen=True)
class Convention:
    """What an exporter may have meant by "the loss". Defaults are those of PyTorch.

    ``batch_size`` is the divisor of ``reduction="batch"``: the first length of logits that were brought to
    rows; None means the rows themselves.
    """

    reduction: str = "mean"
    normalizer: float | None = None
    ignore_index: int = -100
    label_smoothing: float = 0.0
    smoothing_over: str = "classes"
    class_weights: Sequence[float] | npt.NDArray[Any] | None = None
    temperature: float | None = None
    softcap: float | None = None
    z_loss: float = 0.0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse a misspelt option: an oracle that ignores one would bless the wrong answer."""
        _require(self.reduction in {"mean", "sum", "none", "batch", "full"}, f"reduction {self.reduction!r}")
        _require(self.smoothing_over in {"classes", "others"}, f"smoothing over {self.smoothing_over!r}")
        _require(self.temperature is None or self.temperature > 0, f"temperature {self.temperature}")
        _require(self.normalizer is None or self.normalizer > 0, f"normalizer {self.normalizer}")
        _require(self.softcap is None or self.softcap > 0, f"softcap {self.softcap}")


@dataclass(frozen=True)
class Difference:
    """How a gradient is differenced: with h = 10^-step_digits; by a row's whole loss, or incrementally.

    Incrementally, one exponential is exchanged in the row's sum; None does that for wide rows alone.
    """

    step_digits: int = 30  # a central difference is then right to about 60 digits
    incremental: bool | None = None


USUAL = Difference()


@dataclass(frozen=True)
class _Row:
    """One row without its masked classes: (M,) logits z, (M,) weights q, ``classes`` (M,) their places."""

    z: list[Real]
    q: list[Real]
    classes: list[int]


def _require(holds: object, problem: str) -> None:
    """Stop on what has no truth."""
    if not holds:
        raise ValueError(problem)


# ---- inputs -----------------------------------------------------------------------------------------------


def _exact(value: Any) -> Real:
    """Return a number as an mpf: a float64 (or narrower) and an integer exactly, an mpf unchanged."""
    if isinstance(value, (int, np.integer)):
        return DIGITS_50.mpf(int(value))
    if isinstance(value, (float, np.floating)):
        return DIGITS_50.mpf(float(value))
    return DIGITS_50.convert(value)


def _logit_rows(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return logits as (N, K) float64."""
    rows = np.asarray(logits, dtype=np.float64)
    _require(rows.ndim == 2, f"logits must be (N, K), not {rows.shape}")
    return rows


def _are_labels(targets: npt.ArrayLike) -> bool:
    """Say whether the targets are class indices, (N,), rather than distributions, (N, K)."""
    return np.asarray(targets).ndim == 1


def valid_rows(targets: npt.ArrayLike, convention: Convention) -> list[bool]:
    """Return which rows count: (N,). Soft targets have no ignored rows."""
    array = np.asarray(targets)
    if not _are_labels(array):
        return [True] * len(array)
    _require(np.issubdtype(array.dtype, np.integer), f"labels must be integers, not {array.dtype}")
    return [int(label) != convention.ignore_index for label in array]


def _weights(convention: Convention, classes: int) -> list[Real]:
    """Return the class weights, ones when there are none: (K,)."""
    if convention.class_weights is None:
        return [DIGITS_50.mpf(1)] * classes
    weights = [_exact(weight) for weight in convention.class_weights]
    _require(len(weights) == classes, f"{len(weights)} class weights for {classes} classes")
    return weights


# ---- the convention: target weights and divisors ----------------------------------------------------------


def target_weights(target: Any, classes: int, convention: Convention) -> list[Real]:
    """Return q of one row that counts: a class index or (K,) numbers, to (K,)."""
    weights = _weights(convention, classes)
    if np.ndim(target) == 0:
        return _label_weights(int(target), weights, convention)
    return _soft_weights([_exact(share) for share in target], weights, convention)


def _label_weights(label: int, weights: list[Real], convention: Convention) -> list[Real]:
    """Return q for a class index: the label's share, and what smoothing gives the classes or the others."""
    _require(0 <= label < len(weights), f"label {label} is outside 0 .. {len(weights) - 1}")
    smoothing = _exact(convention.label_smoothing)
    on_others = convention.smoothing_over == "others"
    q = []
    for k, weight in enumerate(weights):
        share = (1 - smoothing) * weights[label] if k == label else DIGITS_50.mpf(0)
        if smoothing != 0 and not (on_others and k == label):
            share += smoothing / (len(weights) - 1 if on_others else len(weights)) * weight
        q.append(share)
    return q


def _soft_weights(target: list[Real], weights: list[Real], convention: Convention) -> list[Real]:
    """Return q for a distribution: smoothed first, then weighted."""
    _require(len(target) == len(weights), f"a target of {len(target)} for {len(weights)} classes")
    smoothing = _exact(convention.label_smoothing)
    defined = smoothing == 0 or convention.smoothing_over == "classes"
    _require(defined, "smoothing over the others is not defined for soft targets")
    uniform = smoothing / len(target)
    return [w * ((1 - smoothing) * t + uniform) for w, t in zip(weights, target, strict=True)]


def divisors(logits: npt.ArrayLike, targets: npt.ArrayLike, convention: Convention) -> tuple[Real, Real]:
    """Return what divides the cross-entropy part, and what divides the z-loss part."""
    rows = _logit_rows(logits)
    if convention.normalizer is not None:
        return _exact(convention.normalizer), _exact(convention.normalizer)
    if convention.reduction == "mean":
        return _mean_divisors(rows.shape[1], targets, convention)
    divisor = 1
    if convention.reduction == "full":
        divisor = rows.shape[0]
    elif convention.reduction == "batch":
        divisor = rows.shape[0] if convention.batch_size is None else convention.batch_size
    return _exact(divisor), _exact(divisor)


def _mean_divisors(classes: int, targets: npt.ArrayLike, convention: Convention) -> tuple[Real, Real]:
    """Return the label weights' sum over the rows that count, and the number of those rows."""
    valid = valid_rows(targets, convention)
    rows = _exact(sum(valid))
    if convention.class_weights is None or not _are_labels(targets):
        return rows, rows
    weights = _weights(convention, classes)
    labels = [int(label) for label, counts in zip(np.asarray(targets), valid, strict=True) if counts]
    total = sum((weights[label] for label in labels), DIGITS_50.mpf(0))
    _require(total != 0 or not labels, "the labels' weights sum to 0: there is no mean")
    return total, rows


# ---- the loss of one row, as written in the design --------------------------------------------------------


def _transformed(z: Real, convention: Convention) -> Real:
    """Return v: the logit after softcap, then temperature."""
    if convention.softcap is not None:
        cap = _exact(convention.softcap)
        z = cap * DIGITS_50.tanh(z / cap)
    return z if convention.temperature is None else z / _exact(convention.temperature)


def _log_sum_exp(v: list[Real]) -> Real:
    """Return log of the sum of exp(v), taken from the largest: (M,) to ()."""
    top = max(v)
    return top + DIGITS_50.log(sum((DIGITS_50.exp(value - top) for value in v), DIGITS_50.mpf(0)))


def _loss_parts(z: list[Real], q: list[Real], convention: Convention) -> tuple[Real, Real]:
    """Return the cross-entropy and the z-loss of one row: (M,), (M,)."""
    v = [_transformed(value, convention) for value in z]
    lse = _log_sum_exp(v)
    entropy = -sum((weight * (value - lse) for weight, value in zip(q, v, strict=True)), DIGITS_50.mpf(0))
    return entropy, _exact(convention.z_loss) * lse**2


def _row(z: npt.NDArray[np.float64], target: Any, convention: Convention) -> _Row:
    """Return one row that counts, or say why it has no loss.

    What smoothing puts on a masked class is dropped: that class contributes nothing to any sum.
    """
    classes = _unmasked(z)
    wanted = [int(target)] if np.ndim(target) == 0 else [k for k, share in enumerate(target) if share != 0]
    q = target_weights(target, len(z), convention)
    _require(set(wanted) <= set(classes), "the target is on a masked class: the loss is infinite")
    return _Row([_exact(z[k]) for k in classes], [q[k] for k in classes], classes)


def _unmasked(z: npt.NDArray[np.float64]) -> list[int]:
    """Return the classes whose logit is not -inf."""
    classes = [k for k, value in enumerate(z) if value != -math.inf]
    _require(classes, "a row that is all -inf has no loss")
    _require(all(math.isfinite(z[k]) for k in classes), "a row that holds NaN or +inf has no loss")
    return classes


def _digits(z: npt.NDArray[np.float64], convention: Convention, step_digits: int) -> int:
    """Return the working digits for one row: the promise, the step, the sizes and the smallest entry."""
    finite = [abs(float(value)) for value in z if math.isfinite(value)]
    largest = max(finite, default=0.0)
    temperature = convention.temperature or 1.0
    smallest = 2 * largest / temperature  # exp(-smallest) bounds every probability from below
    if convention.softcap is not None:
        smallest = min(smallest, 2 * convention.softcap / temperature) + 2 * largest / convention.softcap
    entry = min(SMALLEST_ENTRY_DIGITS, 1 + int(min(smallest, 1e6) / math.log(10)))
    sizes = 3 * math.log10(largest + 1) + 2 * abs(math.log10(temperature))  # of z, lse² and dv/dz
    return GUARD_DIGITS + step_digits + entry + math.ceil(sizes)


# ---- losses and probabilities -----------------------------------------------------------------------------


def _parts_of_rows(
    logits: npt.ArrayLike, targets: npt.ArrayLike, convention: Convention
) -> list[tuple[Real, Real]]:
    """Return cross-entropy and z-loss of each row, zeros where ignored: (N, 2)."""
    rows, goals = _logit_rows(logits), np.asarray(targets)
    parts = []
    for z, target, counts in zip(rows, goals, valid_rows(goals, convention), strict=True):
        if not counts:
            parts.append((DIGITS_50.mpf(0), DIGITS_50.mpf(0)))
            continue
        with DIGITS_50.workdps(_digits(z, convention, 0)):
            row = _row(z, target, convention)
            parts.append(_loss_parts(row.z, row.q, convention))
    return parts


def row_losses(logits: npt.ArrayLike, targets: npt.ArrayLike, convention: Convention) -> Reals:
    """Return each row's loss before any divisor: (N, K), (N,) or (N, K), to (N,)."""
    parts = _parts_of_rows(logits, targets, convention)
    return _vector([entropy + z_loss for entropy, z_loss in parts])


def row_contributions(logits: npt.ArrayLike, targets: npt.ArrayLike, convention: Convention) -> Reals:
    """Return what each row adds to the loss, divided: (N, K), (N,) or (N, K), to (N,)."""
    by_entropy, by_rows = divisors(logits, targets, convention)
    parts = _parts_of_rows(logits, targets, convention)
    return _vector([_over(entropy, by_entropy) + _over(z_loss, by_rows) for entropy, z_loss in parts])


def loss(logits: npt.ArrayLike, targets: npt.ArrayLike, convention: Convention) -> Real:
    """Return the loss, an mpf; with reduction "none" (and no normalizer) the list of the rows' losses.

    A mean over no row at all is NaN, as in PyTorch; its gradient is 0.
    """
    contributions = list(row_contributions(logits, targets, convention))
    if convention.normalizer is None and convention.reduction == "none":
        return contributions
    if convention.normalizer is None and 0 in divisors(logits, targets, convention):
        return DIGITS_50.mpf("nan")
    return sum(contributions, DIGITS_50.mpf(0))


def _over(value: Real, divisor: Real) -> Real:
    """Return value / divisor; nothing over nothing is nothing (all rows ignored)."""
    return value if value == 0 else value / divisor


def probabilities(logits: npt.ArrayLike, convention: Convention) -> Reals:
    """Return softmax(v), exactly 0 at masked classes: (N, K) to (N, K)."""
    return _each_unmasked(logits, convention, DIGITS_50.mpf(0), DIGITS_50.exp)


def log_probabilities(logits: npt.ArrayLike, convention: Convention) -> Reals:
    """Return log softmax(v), -inf at masked classes: (N, K) to (N, K)."""
    return _each_unmasked(logits, convention, DIGITS_50.mpf("-inf"), lambda value: value)


def _each_unmasked(
    logits: npt.ArrayLike, convention: Convention, masked: Real, of_log: Callable[[Real], Real]
) -> Reals:
    """Return ``of_log`` of every log-probability, and ``masked`` at masked classes: (N, K) to (N, K)."""
    rows = _logit_rows(logits)
    result = _filled(rows.shape, masked)
    for i, z in enumerate(rows):
        classes = _unmasked(z)
        with DIGITS_50.workdps(_digits(z, convention, 0)):
            v = [_transformed(_exact(z[k]), convention) for k in classes]
            lse = _log_sum_exp(v)
            for k, value in zip(classes, v, strict=True):
                result[i, k] = of_log(value - lse)
    return result


# ---- gradients: differences of the loss -------------------------------------------------------------------


def gradient(
    logits: npt.ArrayLike,
    targets: npt.ArrayLike,
    convention: Convention,
    upstream: Any = 1.0,
    difference: Difference = USUAL,
) -> Reals:
    """Return dE/dz by central differences of each row's loss: (N, K), (N,) or (N, K), to (N, K).

    ``upstream`` is dE/d(row's contribution to the loss), a number or (N,).
    """
    rows, goals = _logit_rows(logits), np.asarray(targets)
    by_entropy, by_rows = divisors(rows, goals, convention)
    incoming = _upstream(upstream, len(rows))
    exchange = difference.incremental
    if exchange is None:
        exchange = rows.shape[1] > BRUTE_FORCE_CLASSES
    differences = _exchange_differences if exchange else _brute_differences
    h_digits = difference.step_digits + _narrowness(convention)
    result = _filled(rows.shape, DIGITS_50.mpf(0))
    for i, counts in enumerate(valid_rows(goals, convention)):
        if not counts:
            continue
        with DIGITS_50.workdps(_digits(rows[i], convention, h_digits)):
            row = _row(rows[i], goals[i], convention)
            step = DIGITS_50.mpf(10) ** -h_digits
            for k, (entropy, z_loss) in zip(row.classes, differences(row, convention, step), strict=True):
                result[i, k] = incoming[i] * (_over(entropy, by_entropy) + _over(z_loss, by_rows))
    return result


def _narrowness(convention: Convention) -> int:
    """Return by how many more digits the step must shrink: the loss bends on the scale of c and T."""
    scale = min(1.0, convention.temperature or 1.0, convention.softcap or 1.0)
    return math.ceil(-math.log10(scale))


def _brute_differences(row: _Row, convention: Convention, step: Real) -> list[tuple[Real, Real]]:
    """Return d(cross-entropy)/dz_j and d(z-loss)/dz_j by the whole row's loss at z ± h e_j: (M, 2)."""
    differences = []
    for j in range(len(row.z)):
        above = _loss_parts([z + step if k == j else z for k, z in enumerate(row.z)], row.q, convention)
        below = _loss_parts([z - step if k == j else z for k, z in enumerate(row.z)], row.q, convention)
        differences.append(_central(above, below, step))
    return differences


def _exchange_differences(row: _Row, convention: Convention, step: Real) -> list[tuple[Real, Real]]:
    """Return the same differences with one exponential exchanged in the row's sum: (M, 2)."""
    v = [_transformed(z, convention) for z in row.z]
    top, mass = max(v), sum(row.q, DIGITS_50.mpf(0))
    powers = [DIGITS_50.exp(value - top) for value in v]
    power_sum = sum(powers, DIGITS_50.mpf(0))
    dot = sum((q * value for q, value in zip(row.q, v, strict=True)), DIGITS_50.mpf(0))
    weight = _exact(convention.z_loss)

    def parts(j: int, z: Real) -> tuple[Real, Real]:
        """Return the row's loss with z in the place of its logit j."""
        moved = _transformed(z, convention)
        lse = top + DIGITS_50.log(power_sum - powers[j] + DIGITS_50.exp(moved - top))
        return mass * lse - (dot + row.q[j] * (moved - v[j])), weight * lse**2

    return [_central(parts(j, z + step), parts(j, z - step), step) for j, z in enumerate(row.z)]


def _central(above: tuple[Real, Real], below: tuple[Real, Real], step: Real) -> tuple[Real, Real]:
    """Return (above - below) / 2h of both parts."""
    return (above[0] - below[0]) / (2 * step), (above[1] - below[1]) / (2 * step)


def gradient_at_probabilities(
    logits: npt.ArrayLike, targets: npt.ArrayLike, convention: Convention, upstream: Any = 1.0
) -> Reals:
    """Return dE/da of E = -sum_k q_k log a_k at a = softmax(v): (N, K), (N,) or (N, K), to (N, K).

    A central difference of the one term that holds a_k, with the step h·a_k. The z-loss is no function of
    the probabilities and has no part in it. Masked classes get exactly 0.
    """
    rows, goals = _logit_rows(logits), np.asarray(targets)
    divisor, _ = divisors(rows, goals, convention)
    incoming = _upstream(upstream, len(rows))
    result = _filled(rows.shape, DIGITS_50.mpf(0))
    for i, counts in enumerate(valid_rows(goals, convention)):
        if not counts:
            continue
        with DIGITS_50.workdps(_digits(rows[i], convention, USUAL.step_digits)):
            row = _row(rows[i], goals[i], convention)
            shares = probabilities(rows[i : i + 1], convention)[0]
            for k, q in zip(row.classes, row.q, strict=True):
                result[i, k] = incoming[i] * _over(_term_difference(q, shares[k]), divisor)
    return result


def _term_difference(q: Real, share: Real) -> Real:
    """Return the difference quotient of -q log a at a = share, in a step of h·a."""
    if q == 0:
        return DIGITS_50.mpf(0)
    step = share * DIGITS_50.mpf(10) ** -USUAL.step_digits
    return (-q * DIGITS_50.log(share + step) + q * DIGITS_50.log(share - step)) / (2 * step)


def _upstream(upstream: Any, rows: int) -> list[Real]:
    """Return the upstream gradient of each row: a number or (N,), to (N,)."""
    if np.ndim(upstream) == 0:
        return [_exact(np.asarray(upstream)[()])] * rows
    _require(np.shape(upstream) == (rows,), f"upstream must be a number or ({rows},)")
    return [_exact(value) for value in upstream]


# ---- results ----------------------------------------------------------------------------------------------


def _vector(values: Sequence[Real]) -> Reals:
    """Return numbers as an object array: (N,)."""
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result


def _filled(shape: tuple[int, ...], value: Real) -> Reals:
    """Return an object array of one number."""
    result = np.empty(shape, dtype=object)
    result[...] = value
    return result


def as_float64(values: Any) -> npt.NDArray[np.float64]:
    """Return the nearest float64, ties to even, subnormals rounded once: any shape to the same shape."""
    array = np.asarray(values, dtype=object)
    flat = [_nearest_double(_exact(value)) for value in array.ravel()]
    return np.array(flat, dtype=np.float64).reshape(array.shape)


def _nearest_double(value: Real) -> float:
    """Return the float64 nearest to an mpf (``float(mpf)`` rounds a subnormal twice)."""
    if not DIGITS_50.isfinite(value):
        return float(value)
    negative, mantissa, exponent, _ = value._mpf_  # man_exp has no sign
    top = int(mantissa).bit_length() + exponent  # 2^(top - 1) <= |value| < 2^top
    if mantissa == 0 or top < FLOAT64_BITS.min_exp - FLOAT64_BITS.mant_dig:
        return 0.0
    try:
        size = int(mantissa) / 2**-exponent if exponent < 0 else float(int(mantissa) << min(exponent, 2048))
    except OverflowError:
        size = math.inf
    return -size if negative else size

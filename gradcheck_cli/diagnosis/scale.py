"""A. The same factor in every entry: what the loss was divided by, or was not."""

from __future__ import annotations

import math
from collections.abc import Iterable

from gradcheck_cli.diagnosis.bug import CONVENTION, DEFECT, Bug, Variant
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.diagnosis.situation import Situation

_MOST_COPIES = 64  # workers, accumulation steps
_LEAST_SCALE, _MOST_SCALE = 7, 40  # powers of two that are loss scales


def _reduction(name: str, divisor: float, situation: Situation) -> Iterable[Variant]:
    """Yield the factor that another reduction would make, if it is another."""
    right = situation.problem.divisor
    if divisor > 0 and divisor != right:
        told = {"factor": right / divisor, "divisor": divisor, "right_divisor": right}
        flags = ("--reduction", name)
        yield Variant(value=right / divisor, parameters=told, flags=flags)


def _sum(sample: Sample) -> Iterable[Variant]:
    if sample.situation.divided:
        yield from _reduction("sum", 1.0, sample.situation)


def _mean(sample: Sample) -> Iterable[Variant]:
    situation = sample.situation
    if not situation.divided:
        for divisor in dict.fromkeys((situation.weight_sum, float(situation.counted))):
            yield from _reduction("mean", divisor, situation)


def _valid(sample: Sample) -> Iterable[Variant]:
    situation = sample.situation
    if situation.divided and situation.problem.divisor != situation.weight_sum:
        yield from _reduction("mean", situation.weight_sum, situation)


def _full(sample: Sample) -> Iterable[Variant]:
    situation = sample.situation
    if situation.divided or situation.rows != situation.weight_sum:
        yield from _reduction("full", float(situation.rows), situation)


def _batch(sample: Sample) -> Iterable[Variant]:
    situation = sample.situation
    if situation.batch not in (situation.rows, situation.counted):
        yield from _reduction("batch", float(situation.batch), situation)


def _twice(sample: Sample) -> Iterable[Variant]:
    situation = sample.situation
    for divisor in dict.fromkeys((situation.problem.divisor, float(situation.rows))):
        if situation.divided and divisor != 1.0:
            yield Variant(value=1.0 / divisor, parameters={"factor": 1.0 / divisor, "divisor": divisor})


def _elements(sample: Sample) -> Iterable[Variant]:
    situation = sample.situation
    right, classes = situation.problem.divisor, situation.classes
    for divisor in dict.fromkeys((right * classes, float(situation.rows * classes))):
        if classes > 1 and situation.divided:
            yield Variant(value=right / divisor, parameters={"factor": right / divisor, "divisor": divisor})


def _unweighted(sample: Sample) -> Iterable[Variant]:
    situation = sample.situation
    weighted = situation.problem.loss.class_weights is not None and not situation.problem.soft
    mean = situation.settings.reduction == "mean" and situation.settings.normalizer is None
    if weighted and mean and situation.problem.divisor != situation.counted:
        factor = situation.problem.divisor / situation.counted
        told = {"factor": factor, "divisor": situation.counted, "right_divisor": situation.problem.divisor}
        yield Variant(value=factor, parameters=told, flags=("--normalizer", f"{situation.counted}"))


def _powers(_: Sample) -> Iterable[Variant]:
    for power in range(_LEAST_SCALE, _MOST_SCALE):
        yield Variant(value=2.0**power, parameters={"factor": 2.0**power, "power": power})


def _copies(_: Sample) -> Iterable[Variant]:
    for copies in range(2, _MOST_COPIES + 1):
        yield Variant(value=float(copies), parameters={"factor": float(copies), "copies": copies})


def _parts(_: Sample) -> Iterable[Variant]:
    for parts in range(2, _MOST_COPIES + 1):
        yield Variant(value=1.0 / parts, parameters={"factor": 1.0 / parts, "parts": parts})


def _sign(_: Sample) -> Iterable[Variant]:
    yield Variant(value=-1.0, parameters={"factor": -1.0})


def _chain(sample: Sample) -> Iterable[Variant]:
    temperature = sample.situation.settings.temperature
    if temperature != 1.0:
        yield Variant(value=temperature, parameters={"factor": temperature, "temperature": temperature})


def _distilled(sample: Sample) -> Iterable[Variant]:
    temperature = sample.situation.settings.temperature
    if temperature != 1.0:
        square = temperature * temperature
        yield Variant(
            value=square,
            parameters={"factor": square, "temperature": temperature},
            flags=("--upstream", f"{square:.12g}"),
        )


def _single_upstream(sample: Sample) -> float | None:
    upstream = sample.situation.problem.upstream
    return upstream if isinstance(upstream, float) and upstream not in (0.0, 1.0) else None


def _ignored_scalar(sample: Sample) -> Iterable[Variant]:
    upstream = _single_upstream(sample)
    if upstream is not None:
        told = {"factor": 1.0 / upstream, "upstream": upstream}
        yield Variant(value=1.0 / upstream, parameters=told, flags=("--upstream", "1"))


def _squared_scalar(sample: Sample) -> Iterable[Variant]:
    upstream = _single_upstream(sample)
    if upstream is not None and abs(upstream) != 1.0:
        yield Variant(value=upstream, parameters={"factor": upstream, "upstream": upstream})


SCALES = (
    Bug(
        "sum-for-mean", CONVENTION, "g (Q a - q), not divided",
        "this is the gradient of the summed loss: it is not divided by {right_divisor:,.9g}",
        "divide by the number of rows that count, or tell softgrad that the loss is a sum",
        "scale", _sum,
    ),
    Bug(
        "mean-for-sum", CONVENTION, "(Q a - q) g / {divisor:,.9g}",
        "this is the gradient of the mean loss: it is divided by {divisor:,.9g}",
        "do not divide, or tell softgrad that the loss is a mean",
        "scale", _mean,
    ),
    Bug(
        "mean-over-valid-rows", CONVENTION, "(Q a - q) g / rows that count",
        "the loss is divided by the {divisor:,.9g} of the rows that count, and not by {right_divisor:,.9g}",
        "divide by {right_divisor:,.9g}, or tell softgrad that the loss is a mean over the rows that count",
        "scale", _valid,
    ),
    Bug(
        "mean-over-all-rows", CONVENTION, "(Q a - q) g / N",
        "the loss is divided by all {divisor:,.9g} rows, and not by {right_divisor:,.9g}",
        "divide by {right_divisor:,.9g}, or tell softgrad that ignored rows are counted too",
        "scale", _full,
    ),
    Bug(
        "mean-over-batch", CONVENTION, "(Q a - q) g / batch size",
        "the loss is divided by the batch size {divisor:,.9g}, and not by {right_divisor:,.9g}",
        "divide by {right_divisor:,.9g}, or tell softgrad that the divisor is the first axis",
        "scale", _batch,
    ),
    Bug(
        "weights-not-normalised", CONVENTION, "w_y (a - y) / number of rows",
        "the weighted loss is divided by the {divisor:,.9g} rows that count, and not by the sum of their "
        "class weights, {right_divisor:,.9g}",
        "divide by the sum of w[label], or give the divisor that was meant",
        "scale", _unweighted,
    ),
    Bug(
        "averaged-twice", DEFECT, "G / {divisor:,.9g}",
        "the mean is taken twice: it is divided by {divisor:,.9g} once more",
        "divide once: the loss is a mean already where the gradient is scaled again",
        "scale", _twice,
    ),
    Bug(
        "mean-over-elements", DEFECT, "(Q a - q) g / (rows K)",
        "the mean is taken over rows and classes: the divisor is {divisor:,.9g}, K times too large",
        "sum over the classes, and divide by the rows alone",
        "scale", _elements,
    ),
    Bug(
        "upstream-ignored", DEFECT, "(Q a - q) / divisor, without g",
        "the upstream gradient {upstream:.9g} is left out",
        "multiply by the gradient that arrives from above (grad_output), or leave --upstream out",
        "scale", _ignored_scalar,
    ),
    Bug(
        "upstream-applied-twice", DEFECT, "g^2 (Q a - q) / divisor",
        "the upstream gradient {upstream:.9g} is multiplied in twice",
        "multiply by grad_output once, in the forward pass or in the backward pass",
        "scale", _squared_scalar,
    ),
    Bug(
        "temperature-chain-missing", DEFECT, "softmax(z/T) - y, without 1/T",
        "the logits are divided by the temperature {temperature:.9g}, but their gradient is not",
        "divide the gradient by T as well: d softmax(z/T) / dz has the factor 1/T",
        "scale", _chain,
    ),
    Bug(
        "distillation-factor", CONVENTION, "T^2 G",
        "the gradient has the factor T^2 = {factor:.9g} that distillation losses carry",
        "leave T^2 out, or tell softgrad about it as an upstream gradient",
        "scale", _distilled,
    ),
    Bug(
        "sign-flipped", DEFECT, "-G",
        "every entry has the opposite sign",
        "return a - y, not y - a (or do not negate the log-likelihood a second time)",
        "scale", _sign,
    ),
    Bug(
        "loss-scale-not-removed", DEFECT, "2^{power} G",
        "every entry is multiplied by 2^{power} = {factor:,.9g}, a loss scale",
        "unscale the gradient before it is exported, or pass the scale as --upstream {factor:.9g}",
        "scale", _powers,
    ),
    Bug(
        "accumulated", DEFECT, "{copies} G",
        "every entry is there {copies} times",
        "zero the buffer before it is accumulated into, or divide by the number of workers or "
        "accumulation steps, if there are {copies}",
        "scale", _copies, general=True,
    ),
    Bug(
        "divided-by-parts", DEFECT, "G / {parts}",
        "every entry is divided by {parts} once too often",
        "if there are {parts} workers, shards or accumulation steps, do not divide by them here",
        "scale", _parts, general=True,
    ),
)  # fmt: skip


def clipped(got: float, right: float, blur: float) -> float | None:
    """Return the round norm that a gradient was clipped to, given both norms, if there is one.

    A threshold people choose, with one significant digit or a half more. `blur` is the relative error that
    rounding may cost the norm.
    """
    if not (0.0 < got < right * (1.0 - 1e-3)):
        return None
    power = math.floor(math.log10(got))
    for digits in (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 7.5, 8.0, 9.0, 10.0):
        threshold = digits * 10.0**power
        if abs(got / threshold - 1.0) < max(blur, 1e-6):
            return threshold
    return None

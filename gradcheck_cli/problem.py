"""Tensors become a problem: rows, targets, divisors and exports, or which two do not fit and why.

A `Problem` that exists can be checked; everything after this module trusts it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np

from gradcheck_cli.census import Census, count
from gradcheck_cli.errors import InputError, UsageError
from gradcheck_cli.exports import Export, Scalar, identify
from gradcheck_cli.numeric.cross_entropy import Loss
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Link
from gradcheck_cli.records import dataclass
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import Rows, Tensor

PLANES = ("grad", "probs", "log-probs", "grad-probs")
"""Exports with the logits' own shape."""

_HEAVIEST = 1e100  # class weight


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be checked: every shape fits, every label is a class or ignored."""

    logits: Rows
    targets: Rows
    soft: bool
    loss: Loss
    upstream: float | Rows
    divisor: float
    z_divisor: float
    ignore_index: int
    ignored_rows: int
    first_counted: int  # a row that is not ignored
    axis: int
    exports: tuple[Export, ...]
    stated_loss: Scalar | None
    tensors: tuple[Tensor, ...]

    @property
    def rows(self) -> int:
        """Return the number of rows N."""
        return self.logits.count

    @property
    def classes(self) -> int:
        """Return the number of classes K."""
        return self.logits.classes


def pose(tensors: Mapping[str, Tensor], scalars: Mapping[str, Scalar], settings: Settings) -> Problem:
    """Return the problem that the tensors and numbers pose under the settings.

    Raises
    ------
    InputError
        If two tensors do not fit each other, or a label is no class.
    UsageError
        If the options do not fit the tensors.
    """
    logits, labels = tensors["logits"], tensors["labels"]
    axis, soft = _class_axis(logits, labels, settings.axis)
    rows = Rows(logits, axis)
    outer = _without(logits.shape, axis)
    targets = _distributions(labels, logits, axis) if soft else _per_row(labels, outer, logits)
    loss = _loss(tensors.get("class-weights"), rows, settings, soft=soft)
    census = (
        Census(rows.count, 0, float(rows.count)) if soft else count(targets, rows.classes, loss, settings)
    )
    if census.ignored == rows.count:
        raise InputError(
            f"{labels.name}: every row has the ignored label {settings.ignore_index}: nothing to verify"
        )
    divisor, z_divisor = _divisors(settings, outer[0] if outer else 1, census)
    upstream = _upstream(tensors.get("upstream"), scalars.get("upstream"), outer, logits)
    exports, stated = _exports(tensors, scalars, rows, outer, settings)
    return Problem(
        logits=rows,
        targets=targets,
        soft=soft,
        loss=loss,
        upstream=upstream,
        divisor=divisor,
        z_divisor=z_divisor,
        ignore_index=settings.ignore_index,
        ignored_rows=census.ignored,
        first_counted=census.first,
        axis=axis,
        exports=exports,
        stated_loss=stated,
        tensors=tuple(tensors.values()),
    )


def _shape(tensor: Tensor) -> str:
    return f"{tensor.name} has shape {tensor.shape}"


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _class_axis(logits: Tensor, labels: Tensor, asked: int | None) -> tuple[int, bool]:
    """Return the class axis, and whether the labels are distributions over it."""
    dims = len(logits.shape)
    if asked is not None and not -dims <= asked < dims:
        raise UsageError(f"--axis {asked}: {_shape(logits)}, which has no such axis")
    soft = labels.shape == logits.shape and not (dims == 1 and logits.shape[0] == 1)
    if dims == 2 and logits.shape[0] == 1 and labels.shape == logits.shape[1:] and labels.shape != (1,):
        soft = asked is None or asked % dims == 1  # the only row's distribution, as a line of text
    if asked is not None:
        axis = asked % dims
        return axis, soft and not _fits(labels, logits.shape, axis)
    if dims <= 2:
        axis = dims - 1
        return axis, soft and not _fits(labels, logits.shape, axis)
    fitting = [axis for axis in range(dims) if _fits(labels, logits.shape, axis)]
    if len(fitting) == 1:
        return fitting[0], False
    if fitting:
        either = " or ".join(f"--axis {axis}" for axis in fitting)
        raise UsageError(
            f"{_shape(labels)} and {_shape(logits)}: the class axis could be {either}; pass the right one"
        )
    if soft:
        raise UsageError(
            f"{_shape(labels)}, the logits' own: which axis holds the classes? pass --axis (0 .. {dims - 1})"
        )
    raise InputError(_misfit(labels, logits, "leave out the class axis of the logits"))


def _distributions(labels: Tensor, logits: Tensor, axis: int) -> Rows:
    """Return the targets as rows; the only row's may be a line of text, one dimension less."""
    return Rows(labels, axis if len(labels.shape) == len(logits.shape) else 0)


def _fits(tensor: Tensor, shape: tuple[int, ...], axis: int) -> bool:
    """Tell whether a tensor has one value for each row of logits of this shape."""
    outer = _without(shape, axis)
    if tensor.shape == outer or (outer == () and tensor.shape == (1,)):
        return True
    return len(outer) == 1 and tensor.shape in ((outer[0], 1), (1, outer[0]))


def _misfit(tensor: Tensor, logits: Tensor, wanted: str) -> str:
    return f"{_shape(tensor)}, but {_shape(logits)}: the {tensor.role} must {wanted}"


def _per_row(tensor: Tensor, outer: tuple[int, ...], logits: Tensor) -> Rows:
    """Return a tensor of one value for each row, or say why it is none."""
    rows = Rows(tensor, None)
    squeezed = tuple(n for n in tensor.shape if n != 1)
    if tensor.shape == outer or squeezed == tuple(n for n in outer if n != 1):
        return rows
    place = "have one class index for each row" if tensor.role == "labels" else "have one value for each row"
    hint = ""
    if len(tensor.shape) > len(logits.shape) and tensor.role == "labels":
        first = "come first, with one score for each class, the LABELS second (are they swapped?)"
        raise InputError(f"{_shape(tensor)}, but {_shape(logits)}: the LOGITS {first}")
    if len(logits.shape) == 2 and squeezed == (logits.shape[1],):
        hint = " (classes along the first axis? pass --axis 0)"
    raise InputError(_misfit(tensor, logits, f"{place}, shape {outer}{hint}"))


def _loss(weights: Tensor | None, rows: Rows, settings: Settings, *, soft: bool) -> Loss:
    classes = rows.classes
    if soft and settings.ignore_index != Settings.ignore_index:
        raise UsageError("--ignore-index needs class labels, but the targets are distributions")
    if soft and settings.label_smoothing and settings.smoothing_over == "others":
        raise UsageError("--smoothing-over others needs class labels, but the targets are distributions")
    if settings.smoothing_over == "others" and not settings.label_smoothing:
        raise UsageError("--smoothing-over others has no effect without --label-smoothing")
    if settings.smoothing_over == "others" and classes == 1:
        raise UsageError("--smoothing-over others: there is one class only, and no other to smooth over")
    return Loss(
        link=Link(settings.temperature, settings.softcap),
        smoothing=settings.label_smoothing,
        smoothing_over=settings.smoothing_over,
        class_weights=None if weights is None else _class_weights(weights, classes),
        z_loss=settings.z_loss,
        divisor_terms=0.0 if weights is None or soft else _summed(rows.count, settings),
    )


def _summed(rows: int, settings: Settings) -> float:
    """Return the roundings, in u, of a mean's divisor that is a sum of class weights.

    A tree of lanes is assumed, ceil(log2 N) + 32: no framework sums the weights one after the other.
    """
    if settings.reduction != "mean" or settings.normalizer is not None:
        return 0.0
    return math.ceil(math.log2(rows)) + 32.0


def _class_weights(tensor: Tensor, classes: int) -> Floats:
    rows = Rows(tensor, None)
    if rows.count != classes:
        raise InputError(f"{_shape(tensor)}, but there are {classes} classes: one weight for each is needed")
    weights = np.empty(classes)
    rows.read(0, classes, weights)
    bad = np.flatnonzero(~((weights >= 0) & (weights < _HEAVIEST)))
    if bad.size:
        raise InputError(
            f"{tensor.name}, class {bad[0]}: weight {weights[bad[0]]:g} is not a number "
            f"from 0 to {_HEAVIEST:g}"
        )
    return weights


def _divisors(settings: Settings, batch: int, census: Census) -> tuple[float, float]:
    """Return the divisors of the cross-entropy and of the z-loss."""
    if settings.normalizer is not None:
        return settings.normalizer, settings.normalizer
    both = {"sum": 1.0, "none": 1.0, "batch": float(batch), "full": float(census.rows)}
    if settings.reduction in both:
        return both[settings.reduction], both[settings.reduction]
    if not census.weight > 0:
        raise InputError("the class weights of all rows that count are 0: the mean loss is 0/0")
    return census.weight, float(census.counted)


def _upstream(
    tensor: Tensor | None, scalar: Scalar | None, outer: tuple[int, ...], logits: Tensor
) -> float | Rows:
    if tensor is None:
        return 1.0 if scalar is None else scalar.value
    rows = Rows(tensor, None)
    if rows.count > 1:
        return _per_row(tensor, outer, logits)
    value = np.empty(1)
    rows.read(0, 1, value)
    if not np.isfinite(value[0]):
        raise InputError(f"{tensor.name}: the upstream gradient {value[0]:g} is not finite")
    return float(value[0])


def _exports(
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Scalar],
    logits: Rows,
    outer: tuple[int, ...],
    settings: Settings,
) -> tuple[tuple[Export, ...], Scalar | None]:
    """Return what is to be judged: tensors, and a stated scalar loss."""
    known = partial(identify, compute_dtype=settings.compute_dtype, logits_rounded=settings.logits_rounded)
    exports = []
    for name in PLANES:
        tensor = tensors.get(name)
        if tensor is None:
            continue
        if tensor.shape != logits.tensor.shape:
            raise InputError(
                f"{_shape(tensor)}, but {_shape(logits.tensor)}: {name} must have the same shape"
            )
        exports.append(known(name, Rows(tensor, logits.axis)))
    if "grad-probs" in tensors and settings.z_loss:
        raise UsageError("--grad-probs with --z-loss: z-loss is no function of the probabilities")
    stated = scalars.get("loss")
    tensor = tensors.get("loss")
    if tensor is not None:
        rows = Rows(tensor, None)
        if rows.count > 1 or settings.reduction == "none":
            exports.append(known("loss", _per_row(tensor, outer, logits.tensor)))
        else:
            stated = Scalar.read(known("loss", rows))
    if stated is not None and settings.reduction == "none" and logits.count > 1:
        raise UsageError("--loss with --reduction none needs one loss for each row, not a single number")
    return tuple(exports), stated

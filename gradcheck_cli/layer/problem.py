"""Tensors become a problem of the softmax layer: logits, upstream gradient and exports, of one shape."""

from __future__ import annotations

from collections.abc import Mapping

from gradcheck_cli.choices import LayerSettings
from gradcheck_cli.errors import InputError, UsageError
from gradcheck_cli.exports import Export, identify
from gradcheck_cli.numeric.cross_entropy import Loss
from gradcheck_cli.numeric.softmax import Link
from gradcheck_cli.records import dataclass
from gradcheck_cli.tensors import Rows, Tensor

EXPORTS = ("grad", "probs", "log-probs")


@dataclass(frozen=True, eq=False)
class LayerProblem:
    """What is to be checked: every tensor has the logits' shape."""

    logits: Rows
    upstream: Rows
    link: Link
    log: bool
    masked_rows: str
    axis: int
    exports: tuple[Export, ...]
    tensors: tuple[Tensor, ...]

    @property
    def rows(self) -> int:
        """Return the number of rows N."""
        return self.logits.count

    @property
    def classes(self) -> int:
        """Return the number of classes K."""
        return self.logits.classes

    @property
    def loss(self) -> Loss:
        """Return what the softmax is taken of, in the form that bounds of probabilities ask for."""
        return Loss(self.link)


def pose(tensors: Mapping[str, Tensor], settings: LayerSettings) -> LayerProblem:
    """Return the problem that the tensors pose under the settings.

    Raises
    ------
    InputError
        If a tensor does not have the logits' shape.
    UsageError
        If the options do not fit the tensors.
    """
    logits = tensors["logits"]
    axis = class_axis(logits, settings.axis)
    for role, tensor in tensors.items():
        if tensor.shape != logits.shape:
            raise InputError(
                f"{tensor.name} has shape {tensor.shape}, but {logits.name} has shape {logits.shape}: "
                f"the {_noun(role)} must have the same shape{_hint(role, tensor, logits)}"
            )
    exports = tuple(
        identify(role, Rows(tensors[role], axis), settings.compute_dtype, settings.logits_rounded)
        for role in EXPORTS
        if role in tensors
    )
    _refuse_other_output(tensors, log=settings.log)
    return LayerProblem(
        logits=Rows(logits, axis),
        upstream=Rows(tensors["upstream"], axis),
        link=Link(settings.temperature),
        log=settings.log,
        masked_rows=settings.masked_rows,
        axis=axis,
        exports=exports,
        tensors=tuple(tensors.values()),
    )


def class_axis(logits: Tensor, asked: int | None) -> int:
    """Return the axis that the softmax is taken along: the last, unless another is asked for."""
    dims = len(logits.shape)
    if dims == 0:
        raise InputError(f"{logits.name} is a scalar: a softmax needs at least one axis")
    if asked is None:
        return dims - 1
    if not -dims <= asked < dims:
        raise UsageError(f"--axis {asked}: {logits.name} has shape {logits.shape}, which has no such axis")
    return asked % dims


def _noun(role: str) -> str:
    return "upstream gradient" if role == "upstream" else role


def _hint(role: str, tensor: Tensor, logits: Tensor) -> str:
    if role == "upstream" and len(tensor.shape) == len(logits.shape) - 1:
        return " (class labels? softgrad check takes those)"
    return ""


def _refuse_other_output(tensors: Mapping[str, Tensor], *, log: bool) -> None:
    """Refuse probabilities of a log-softmax and logarithms of a softmax: a layer has one output."""
    if log and "probs" in tensors:
        raise UsageError("--probs with --log: the output of a log-softmax is --log-probs")
    if not log and "log-probs" in tensors:
        raise UsageError("--log-probs needs --log: the output of a softmax is --probs")

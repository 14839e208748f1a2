"""Tensors become a problem of a linear layer, whose logits are a problem of `check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from gradcheck_cli.choices import LinearSettings
from gradcheck_cli.errors import InputError, UsageError
from gradcheck_cli.exports import Export, Scalar, identify
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.problem import Problem
from gradcheck_cli.problem import pose as pose_check
from gradcheck_cli.records import dataclass
from gradcheck_cli.tensors import Rows, Tensor
from gradcheck_cli.tensors.computed import computed

OF_ROWS = ("grad", "logits", "grad-inputs")
"""Exports with a row for each example."""

EXPORTS = (*OF_ROWS, "grad-weight", "grad-bias")
_PASSED_ON = ("labels", "class-weights", "upstream")
_BLOCK = 1 << 22  # entries of inputs or logits worked on together


@dataclass(frozen=True, eq=False)
class LinearProblem:
    """What is to be checked: the problem that the logits pose, and the layer that makes them."""

    head: Problem
    inputs: Rows
    weight: Floats  # (D, K)
    bias: Floats  # (K,) zeros where there is none
    reach: Floats  # (N,) largest sum |x||w| + |b| of a row: what its logits' rounding grows with
    largest: Floats  # (D,) largest |x| of each input
    has_bias: bool
    layout: str  # of the weight: "io" or "oi"
    exports: tuple[Export, ...]
    tensors: tuple[Tensor, ...]

    @property
    def rows(self) -> int:
        """Return the number of rows N."""
        return self.inputs.count

    @property
    def features(self) -> int:
        """Return the number of inputs D of a row."""
        return self.inputs.classes

    @property
    def classes(self) -> int:
        """Return the number of classes K."""
        return self.head.classes

    @property
    def logits(self) -> Rows:
        """Return the logits."""
        return self.head.logits

    def export(self, name: str) -> Export | None:
        """Return the export of that name, if there is one."""
        return next((each for each in self.exports if each.name == name), None)


@contextmanager
def posed(
    tensors: Mapping[str, Tensor], scalars: Mapping[str, Scalar], settings: LinearSettings
) -> Iterator[LinearProblem]:
    """Yield the problem that the tensors pose; its logits lie in a temporary file while it is open.

    Raises
    ------
    InputError
        If two tensors do not fit each other, or hold what is no finite number.
    UsageError
        If the options do not fit the tensors.
    """
    inputs = tensors["inputs"]
    if not inputs.shape:
        raise InputError(f"{inputs.name} is a scalar: inputs have one row of numbers for each example")
    x = Rows(inputs, -1)
    layout = _layout(tensors["weight"], x, settings.weight_layout)
    weight = _weight(tensors["weight"], layout)
    bias = _bias(tensors.get("bias"), tensors["weight"], weight.shape[1])
    reach, largest = np.empty(x.count), np.zeros(x.classes)
    shape = (*inputs.shape[:-1], weight.shape[1])
    with computed(inputs, "logits", shape, _logits(x, (weight, bias), reach, largest)) as logits:
        given = {role: tensors[role] for role in _PASSED_ON if role in tensors}
        head = pose_check({"logits": logits} | given, scalars, settings.of_check(len(shape) - 1))
        wanted = {"grad": shape, "logits": shape, "grad-inputs": inputs.shape}
        wanted |= {"grad-weight": tensors["weight"].shape, "grad-bias": shape[-1:]}
        exports = tuple(
            identify(name, _rows_of(tensors[name], name, wanted[name], layout), settings.compute_dtype)
            for name in EXPORTS
            if name in tensors
        )
        yield LinearProblem(
            head, x, weight, bias, reach, largest, "bias" in tensors, layout, exports, tuple(tensors.values())
        )


def _layout(weight: Tensor, inputs: Rows, asked: str | None) -> str:
    """Return whether the weight is (in, out) or (out, in)."""
    d, shape = inputs.classes, weight.shape
    if len(shape) != 2:
        raise InputError(f"{weight.name} has shape {shape}: a weight has two axes, inputs and classes")
    fitting = [name for name, axis in (("io", 0), ("oi", 1)) if shape[axis] == d]
    if not fitting:
        raise InputError(
            f"{weight.name} has shape {shape}, but {inputs.tensor.name} has shape {inputs.tensor.shape}: "
            f"one axis of the weight must have the length {d} of a row of inputs"
        )
    if asked is not None:
        if asked not in fitting:
            raise UsageError(
                f"--weight-layout {asked}: {weight.name} has shape {shape}, and a row of inputs {d} numbers"
            )
        return asked
    if len(fitting) == 2:
        raise UsageError(
            f"{weight.name} has shape {shape}, which could be (in, out) or (out, in); pass "
            "--weight-layout io for z = x W, --weight-layout oi for z = x W^T (torch.nn.Linear)"
        )
    return fitting[0]


def _weight(tensor: Tensor, layout: str) -> Floats:
    """Return the weight as (D, K)."""
    rows = Rows(tensor, 1)
    weight = np.empty((rows.count, rows.classes))
    rows.read(0, rows.count, weight)
    _refuse_unbounded(weight, rows, "weight")
    return weight if layout == "io" else np.ascontiguousarray(weight.T)


def _bias(tensor: Tensor | None, weight: Tensor, classes: int) -> Floats:
    bias = np.zeros(classes)
    if tensor is None:
        return bias
    rows = Rows(tensor, None)
    if rows.count != classes:
        raise InputError(
            f"{tensor.name} has shape {tensor.shape}, but {weight.name} has shape {weight.shape}: "
            f"a bias has one number for each of the {classes} classes"
        )
    rows.read(0, classes, bias)
    bad = np.flatnonzero(np.isnan(bias) | (bias == np.inf))
    if bad.size:
        told = f"bias {bias[bad[0]]:g} is no number (-inf masks a class)"
        raise InputError(f"{tensor.name}, class {bad[0]}: {told}")
    return bias


def _refuse_unbounded(values: Floats, rows: Rows, role: str, start: int = 0) -> None:
    bad = ~(np.abs(values) < np.inf)
    if bad.any():
        row, column = (int(each[0]) for each in np.nonzero(bad))
        place = list(rows.index_of(start + row, column))
        raise InputError(f"{rows.tensor.name}, entry {place}: {role} {values[row, column]:g} is not finite")


def _logits(x: Rows, layer: tuple[Floats, Floats], reach: Floats, largest: Floats) -> Iterator[Floats]:
    """Yield the logits block by block; note how far rounding reaches in each row, and the largest inputs."""
    weight, bias = layer
    size, finite = np.abs(weight), np.where(np.isfinite(bias), np.abs(bias), 0.0)
    step = max(1, _BLOCK // max(weight.shape))
    for start in range(0, x.count, step):
        stop = min(start + step, x.count)
        block = np.empty((stop - start, x.classes))
        x.read(start, stop, block)
        _refuse_unbounded(block, x, "input", start)
        np.maximum(largest, np.abs(block).max(axis=0), out=largest)
        with np.errstate(all="ignore"):
            z = block @ weight + bias
            reach[start:stop] = (np.abs(block) @ size + finite).max(axis=1)
        if not np.isfinite(reach[start:stop]).all():
            row = start + int(np.flatnonzero(~np.isfinite(reach[start:stop]))[0])
            raise InputError(f"{x.tensor.name}, row {list(x.index_of(row))}: x W leaves the range of float64")
        yield z


def _rows_of(tensor: Tensor, name: str, wanted: tuple[int, ...], layout: str) -> Rows:
    """Return an export as rows: of examples, or of inputs for the weight's gradient."""
    single = name == "grad-bias" and tensor.shape in ((1, *wanted), (*wanted, 1))
    if tensor.shape != wanted and not single:
        raise InputError(f"{tensor.name} has shape {tensor.shape}: {name} must have shape {wanted} here")
    along = 0 if (name == "grad-weight" and layout == "oi") or (single and tensor.shape[1] == 1) else -1
    return Rows(tensor, along)

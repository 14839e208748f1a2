"""Right exports of cross-entropy gradients, by PyTorch and by JAX, with all that a mutant of one needs.

A module of the benchmarks, not a program. A case is one export: the configuration whose numbers are those
the exporter was given, the gradient before it was rounded to be stored, the file's tensors, the truth by
autograd in float64, and the terms that each entry is made of.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from gradcheck_cli.numeric.precision import BY_NAME, FLOAT32, Precision
from tests.benchmarks import jax_gradients
from tests.benchmarks.frameworks import LOST, WAYS, Configuration, Export, Way, configuration, export

torch: Any = importlib.import_module("torch")

Array = npt.NDArray[Any]

MAKERS = ("torch", "jax jit", "torch", "jax jit", "torch", "jax jit", "torch", "jax eager")
"""Who makes the gradients of successive configurations; JAX compiles an eager one operation by operation."""


@dataclass(frozen=True, eq=False)
class Terms:
    """What the entries ((s Q + zeta) a - s q) slope are made of, in float64 and without softgrad: n rows."""

    a: Array  # (n, K)
    q: Array  # (n, K) target weights, also those an ignored row would have had, without its label
    slope: Array  # (n, K) of the softcap; 1 without
    s: Array  # (n,) upstream over divisor and temperature, also of ignored rows
    zeta: Array  # (n,) 2 lambda lse upstream over divisor and temperature, likewise
    reach: Array  # (n,) largest |v|
    valid: Array  # (n,) which rows count
    labels: Array | None  # (n,) 0 where ignored; None for distributions
    divisor: float
    rows: int  # that count

    @property
    def right(self) -> Array:
        """Return the gradient: (n, K), 0 in ignored rows."""
        return self.gradient(self.q) * self.valid[:, None]

    def gradient(self, q: Array) -> Array:
        """Return the gradient for other target weights, of ignored rows as well: (n, K) to (n, K)."""
        pull = (self.s * q.sum(axis=1) + self.zeta)[:, None] * self.a
        difference: Array = (pull - self.s[:, None] * q) * self.slope
        return difference

    @property
    def unbent(self) -> Array:
        """Return the sizes of the terms that cancel, |s| (Q a + q) + |zeta| a: (n, K)."""
        s = np.abs(self.s)[:, None]
        sizes: Array = self.scale[:, None] * self.a + s * self.q
        return sizes * self.valid[:, None]

    @property
    def scale(self) -> Array:
        """Return |s| Q + |zeta|: (n,)."""
        scale: Array = np.abs(self.s) * self.q.sum(axis=1) + np.abs(self.zeta)
        return scale


@dataclass(frozen=True, eq=False)
class Case:
    """One right export."""

    exact: Configuration
    way: Way
    maker: str
    made: Export  # the gradient and what it was made from, as they are saved
    computed: Array  # (n, K) the gradient in the computed dtype
    truth: Array  # (n, K) autograd in float64, of the same inputs
    terms: Terms

    @property
    def words(self) -> str:
        """Say which export this is."""
        return f"{self.maker} {self.way.name} {self.exact.words}"

    @property
    def grid(self) -> Precision:
        """Return the format that the gradient is stored in."""
        return BY_NAME[self.way.stored]

    @property
    def arithmetic(self) -> Precision:
        """Return the precision of the sums: float32 for 16-bit formats too."""
        return FLOAT32 if self.way.native else BY_NAME[self.way.compute]

    @property
    def stored(self) -> Array:
        """Return the numbers in the file: (n, K) float64."""
        return as_rows(self.made.tensors["grad"])

    def storing(self, computed: Array) -> Any:
        """Return a gradient as it is saved: rounded to the computed dtype, then to the stored: (n, K)."""
        shape = self.exact.logits.shape
        plane = np.moveaxis(computed.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
        rounded = torch.tensor(np.ascontiguousarray(plane)).to(getattr(torch, self.way.compute))
        return rounded.to(getattr(torch, self.way.stored))

    @property
    def lost(self) -> Array:
        """Return where native half arithmetic lost over a sixth of the row's largest gradient: (n, K).

        Half the format's least number, which storing alone may cost, comes on top.
        """
        if not self.way.native:
            return np.zeros(self.truth.shape, dtype=bool)
        largest = np.abs(self.truth).max(axis=1, keepdims=True)
        lost: Array = np.abs(self.stored - self.truth) > LOST * largest + 0.5 * self.grid.smallest_subnormal
        return lost


def as_rows(tensor: Any) -> Array:
    """Return a tensor of the logits' layout as rows of float64: (N, K, ...) to (n, K)."""
    values: Array = tensor.double().numpy()
    return np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])


def cases(seed: int, count: int) -> Iterator[Case]:
    """Yield this many right exports that are finite."""
    found = number = 0
    while True:
        c = configuration(seed, number)
        for way in WAYS:
            case = _case(replace(c, extras=()), way, MAKERS[number % len(MAKERS)])
            if not bool(torch.isfinite(case.made.tensors["grad"]).all()):
                continue  # overflow in half precision: nothing right was exported
            yield case
            found += 1
            if found == count:
                return
        number += 1


def _case(c: Configuration, way: Way, maker: str) -> Case:
    """Return one export of a configuration."""
    made = export(c, way)
    exact = _as_given(c, made)
    if maker == "torch":
        computed = export(exact, Way("", way.compute, way.compute)).tensors["grad"]
    else:
        computed = jax_gradients.gradient(exact, way.compute, jit=maker == "jax jit")
    tensors = {**made.tensors, "grad": computed.to(getattr(torch, way.stored))}
    truth = export(exact, WAYS[0]).tensors["grad"]
    terms = _terms(exact)
    return Case(exact, way, maker, Export(tensors, made.settings), as_rows(computed), as_rows(truth), terms)


def _as_given(c: Configuration, made: Export) -> Configuration:
    """Return the configuration with the numbers as the exporter was given them: rounded."""

    def numbers(role: str) -> Any:
        each = made.tensors.get(role)
        if not isinstance(each, torch.Tensor):
            return each
        return each.double().numpy() if each.is_floating_point() else each.numpy()

    return replace(
        c,
        logits=numbers("logits"),
        targets=numbers("labels"),
        weights=numbers("class-weights"),
        upstream=numbers("upstream"),
    )


def _terms(c: Configuration) -> Terms:
    """Return what a configuration's gradient is made of."""
    shape = c.logits.shape
    rows, classes = c.logits.size // shape[1], shape[1]
    z = np.moveaxis(c.logits, 1, -1).reshape(rows, classes)
    capped = z if c.softcap is None else c.softcap * np.tanh(z / c.softcap)
    v = capped / c.temperature
    top = v.max(axis=1, keepdims=True)
    lse = (top + np.log(np.exp(v - top).sum(axis=1, keepdims=True)))[:, 0]
    weights = np.ones(classes) if c.weights is None else c.weights
    valid, labels, t = _targets(c, rows, classes)
    divisor, z_divisor = 1.0, 1.0
    if c.reduction == "mean":
        z_divisor = float(valid.sum())
        divisor = z_divisor if labels is None else float(weights[labels[valid]].sum())
    scale = np.broadcast_to(np.asarray(c.upstream, dtype=float).reshape(-1), rows) / c.temperature
    return Terms(
        a=np.exp(v - lse[:, None]),
        q=weights * ((1.0 - c.smoothing) * t + c.smoothing / classes),
        slope=np.ones_like(z) if c.softcap is None else 1.0 / np.cosh(z / c.softcap) ** 2,
        s=scale / divisor,
        zeta=2.0 * c.z_loss * lse * scale / z_divisor,
        reach=np.abs(v).max(axis=1),
        valid=valid,
        labels=labels,
        divisor=divisor,
        rows=int(valid.sum()),
    )


def _targets(c: Configuration, rows: int, classes: int) -> tuple[Array, Array | None, Array]:
    """Return which rows count, their labels, and their distributions: (n,), (n,), (n, K)."""
    if c.soft:
        return np.ones(rows, dtype=bool), None, np.moveaxis(c.targets, 1, -1).reshape(rows, classes)
    valid = c.targets.reshape(-1) != c.ignore_index
    labels = np.where(valid, c.targets.reshape(-1), 0)
    t = np.zeros((rows, classes))
    t[np.arange(rows), labels] = valid
    return valid, labels, t

"""The same losses as `frameworks` differentiates with PyTorch, differentiated by JAX.

A module of the benchmarks, not a program: `gradient` is what it is for. It needs jax, ml_dtypes and torch.
The loss is written as JAX users write it: log_softmax, take_along_axis, where, and sums.
"""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.benchmarks.frameworks import Configuration

jax: Any = importlib.import_module("jax")
jnp: Any = importlib.import_module("jax.numpy")
torch: Any = importlib.import_module("torch")

Array = npt.NDArray[Any]

jax.config.update("jax_enable_x64", True)

_ONE_CLASS_AXIS = 1


def gradient(c: Configuration, dtype: str, *, jit: bool) -> Any:
    """Return dE/dlogits of a configuration, computed in a dtype by jax.grad: a torch tensor of that dtype.

    The configuration's numbers must be numbers of the dtype already.
    """
    wanted = getattr(jnp, dtype)
    given = {
        "targets": jnp.asarray(c.targets, dtype=wanted if c.soft else None),
        "upstream": jnp.asarray(c.upstream, dtype=wanted),
        "weights": None if c.weights is None else jnp.asarray(c.weights, dtype=wanted),
    }
    derivative = jax.grad(functools.partial(_total, c))
    if jit:
        derivative = jax.jit(derivative)
    return _to_torch(np.asarray(derivative(jnp.asarray(c.logits, dtype=wanted), given)))


def _to_torch(array: Array) -> Any:
    """Return the torch tensor of the same bits."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def _total(c: Configuration, z: Any, given: dict[str, Any]) -> Any:
    """Return E, the number that is differentiated: the upstream gradient times the reduced loss."""
    v = z if c.softcap is None else c.softcap * jnp.tanh(z / c.softcap)
    v = v if c.temperature == 1.0 else v / c.temperature
    rows, counted = (_soft if c.soft else _hard)(c, v, given)
    divisor, z_divisor = _divisors(c) if c.reduction == "mean" else (1.0, 1.0)
    total = (given["upstream"] * rows).sum() / divisor
    if c.z_loss:
        squares = c.z_loss * jax.nn.logsumexp(v, axis=_ONE_CLASS_AXIS) ** 2
        squares = squares if counted is None else jnp.where(counted, squares, 0)
        total = total + (given["upstream"] * squares).sum() / z_divisor
    return total


def _hard(c: Configuration, v: Any, given: dict[str, Any]) -> tuple[Any, Any]:
    """Return the rows' cross-entropy with class labels, zero where ignored, and which rows count."""
    logs = jax.nn.log_softmax(v, axis=_ONE_CLASS_AXIS)
    counted = given["targets"] != c.ignore_index
    labels = jnp.where(counted, given["targets"], 0)
    picked = jnp.take_along_axis(logs, jnp.expand_dims(labels, 1), axis=1)[:, 0]
    weights = given["weights"]
    rows = -(1.0 - c.smoothing) * (picked if weights is None else picked * weights[labels])
    if c.smoothing:
        spread = logs if weights is None else logs * _along_classes(weights, v)
        rows = rows - c.smoothing / v.shape[1] * spread.sum(axis=_ONE_CLASS_AXIS)
    return jnp.where(counted, rows, 0), counted


def _soft(c: Configuration, v: Any, given: dict[str, Any]) -> tuple[Any, None]:
    """Return the rows' cross-entropy with target distributions; all rows count."""
    q, weights = given["targets"], given["weights"]
    if c.smoothing:
        q = (1.0 - c.smoothing) * q + c.smoothing / v.shape[1]
    if weights is not None:
        q = q * _along_classes(weights, v)
    return -(q * jax.nn.log_softmax(v, axis=_ONE_CLASS_AXIS)).sum(axis=_ONE_CLASS_AXIS), None


def _along_classes(weights: Any, v: Any) -> Any:
    """Return the class weights shaped so that they multiply the class axis: (K,) to (1, K, 1, ...)."""
    return weights.reshape(1, -1, *([1] * (v.ndim - 2)))


def _divisors(c: Configuration) -> tuple[float, float]:
    """Return what the mean divides the cross-entropy by, and the z-loss: summed in float64."""
    if c.soft:
        rows = float(c.targets.size // c.targets.shape[1])
        return rows, rows
    valid = c.targets != c.ignore_index
    rows = float(valid.sum())
    if c.weights is None:
        return rows, rows
    return float(c.weights[c.targets[valid]].sum()), rows

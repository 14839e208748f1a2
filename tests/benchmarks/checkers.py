"""Peers in process: training steps and gradient checkers of other tools, each where it is installed.

A module of the benchmarks, not a program. What is not installed returns None.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.benchmarks.timing import THREADS, Case, best


def module(name: str) -> Any:
    """Return a module if it is installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def torch_backward(case: Case, logits: Any, labels: Any) -> Callable[[], None] | None:
    """Return torch's cross-entropy forward and backward, in the dtype of the logits."""
    torch = module("torch")
    if torch is None:
        return None
    torch.set_num_threads(THREADS)
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)
    if case.soft:
        y = y.to(z.dtype)
    if case.axis == -1 and z.ndim > 2:
        z, y = z.reshape(-1, z.shape[-1]), y.reshape(-1)

    def step() -> None:
        x = z.clone().requires_grad_(True)
        torch.nn.functional.cross_entropy(x, y).backward()

    return step


def torch_gradcheck(logits: Any, labels: Any) -> float | None:
    """Return the time of torch.autograd.gradcheck on every partial derivative, float64."""
    torch = module("torch")
    if torch is None:
        return None
    x = torch.from_numpy(logits.astype(np.float64)).requires_grad_(True)
    y = torch.from_numpy(labels)
    loss = torch.nn.functional.cross_entropy
    warm = x[:1, :3].detach().requires_grad_(True)
    torch.autograd.gradcheck(lambda z: loss(z, y[:1] % 3), (warm,))
    return best(lambda: torch.autograd.gradcheck(lambda z: loss(z, y), (x,)), 1)


def _plain(labels: Any, shape: tuple[int, ...]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return loss and gradient of flat logits, as a user would write them with NumPy."""

    def loss(flat: Any) -> float:
        z = flat.reshape(shape)
        d = z - z.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(d).sum(axis=1)) - d[np.arange(shape[0]), labels]))

    def gradient(flat: Any) -> Any:
        e = np.exp(flat.reshape(shape) - flat.reshape(shape).max(axis=1, keepdims=True))
        a = e / e.sum(axis=1, keepdims=True)
        a[np.arange(shape[0]), labels] -= 1
        return (a / shape[0]).ravel()

    return loss, gradient


def scipy_check(logits: Any, labels: Any) -> float | None:
    """Return the time of scipy.optimize.check_grad on every partial derivative."""
    optimize = module("scipy.optimize")
    if optimize is None:
        return None
    loss, gradient = _plain(labels, logits.shape)
    return best(lambda: optimize.check_grad(loss, gradient, logits.astype(np.float64).ravel()), 1)


def numdifftools_gradient(logits: Any, labels: Any) -> float | None:
    """Return the time of numdifftools.Gradient, its own step extrapolation included."""
    numdifftools = module("numdifftools")
    if numdifftools is None:
        return None
    loss, _ = _plain(labels, logits.shape)
    return best(lambda: numdifftools.Gradient(loss)(logits.astype(np.float64).ravel()), 1)

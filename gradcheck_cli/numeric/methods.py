"""Methods of finite differences, for any function whose change under a step is known in closed form.

A method sees phi only through its change phi(tau) - phi(0), which is relatively accurate here, so the
differences below cancel nothing of importance: their rounding does not grow as the step shrinks. What is
left is truncation, a power of the step. With the derivatives of phi at most M sup_n within the step,

    forward     (phi(h) - phi(0)) / h                                       M h / 2
    central     (phi(h) - phi(-h)) / 2h                                     M h^2 / 6
    complex     Im phi(ih) / h                                              M h^2 / 6
    richardson  [8 (phi(h) - phi(-h)) - (phi(2h) - phi(-2h))] / 12h         M h^4 / 30

M is the second derivative where it is largest near 0, for every function here: t -> log(A + B e^t), with
p = B e^t / (A + B e^t), has the derivatives p (1-p), p (1-p) (1-2p) and p (1-p) (1-2p) (1-12 p (1-p)), and
p itself has p (1-p), p (1-p) (1-2p), p (1-p) (1 - 6 p (1-p)) and p (1-p) (1 - 30 p(1-p) + 120 p^2 (1-p)^2),
whose last factors are at most 1 in size. Within the step p (1-p) grows by e^|t| at most. For an imaginary
step, |A + B e^(is)| >= (A + B) cos(s/2), so p (1-p) grows by 1/cos^2, |1 - 2p| is at most 1/cos and
|1 - 6 p (1-p)| = |p^2 - 4 p (1-p) + (1-p)^2| at most 3/2 / cos^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass

Change = Callable[[float | complex], Floats]
"""What a step does to the function: tau to phi(tau) - phi(0), entry by entry."""

POINTWISE = ("central", "forward", "complex", "richardson")
"""The methods that look at one entry at a time."""

AUTO = {
    "central": 2.0**-26,
    "forward": 2.0**-54,
    "complex": 2.0**-30,
    "richardson": 2.0**-14,
    "directional": 2.0**-26,
}
"""Steps at which truncation falls below rounding: h^2/6 = 3.7e-17, h/2 = 2.8e-17, h^4/30 = 4.6e-19."""

ORDER = {"central": 2, "forward": 1, "complex": 2, "richardson": 4}
"""Power of the step that the truncation falls with."""


@dataclass(frozen=True)
class Method:
    """A method with its step."""

    name: str
    step: float

    @classmethod
    def asked(cls, name: str, step: float | None) -> Method:
        """Return the method of the options; without a step, at its own."""
        return cls(name, AUTO[name] if step is None else step)


LARGEST_STEP = 0.125
"""The envelopes of the derivatives are proven, and worth something, up to here."""


def slope(change: Change, method: str, h: float) -> Floats:
    """Return the derivative of phi at 0 by one of the methods, given what a step changes."""
    if method == "forward":
        return change(h) / h
    if method == "complex":
        imaginary: Floats = change(1j * h).imag
        return imaginary / h
    near = change(h) - change(-h)
    if method == "central":
        return near / (2.0 * h)
    return (8.0 * near - (change(2.0 * h) - change(-2.0 * h))) / (12.0 * h)


def truncation(method: str, h: float) -> float:
    """Return the truncation error of a method, in units of M."""
    if method == "forward":
        return h / 2.0 * math.exp(h)
    if method == "central":
        return h * h / 6.0 * math.exp(h)
    if method == "complex":
        return h * h / 6.0 * 1.5 / math.cos(h / 2.0) ** 4
    return h**4 / 30.0 * math.exp(2.0 * h)


def amplification(method: str, h: float) -> float:
    """Return by how much a relative error of the changes is amplified in the slope.

    The sum of the weights' sizes times the step each belongs to, over the divisor: 1, and 20/12 for
    richardson; a change over a step is at most e^(step) times the slope.
    """
    return (5.0 / 3.0 if method == "richardson" else 1.0) * math.exp(2.0 * h) / math.cos(h / 2.0) ** 4


def five_point(function: Callable[[Floats], Floats], z: Floats, column: int, h: float) -> float:
    """Return the partial derivative of a function of whole rows by brute force, at a row: (K,) to ().

    [8 (f(z + h e_j) - f(z - h e_j)) - (f(z + 2h e_j) - f(z - 2h e_j))] / 12h.
    """
    points = np.repeat(z[None, :], 4, axis=0)
    points[:, column] += np.array([h, -h, 2.0 * h, -2.0 * h])
    plus, minus, plus2, minus2 = function(points)
    return float((8.0 * (plus - minus) - (plus2 - minus2)) / (12.0 * h))

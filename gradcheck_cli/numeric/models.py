"""The ways a right kernel may have computed, from the tightest to the loosest; each contains those before."""

from __future__ import annotations

import math
from enum import IntEnum


class Model(IntEnum):
    """What explains an error: the accuracy grade of a kernel."""

    CORRECTLY_ROUNDED = 0
    TREE = 1
    LANES = 2
    ANY_ORDER = 3
    FUSED_LSE = 4
    NATIVE_HALF = 5
    NONE = 6

    @property
    def words(self) -> str | None:
        """Return the name that reports and JSON use."""
        return None if self is Model.NONE else self.name.lower().replace("_", " ")

    def sigma(self, classes: int) -> float:
        """Return the constant of summation: |fl(sum) - sum| <= sigma u sum of K positive terms.

        K - 1 in any order; ceil(log2 K) + 32 for blocks of up to 32 terms that are added in a tree;
        ceil(K/8) + 16 for eight SIMD lanes, each in order, and their sum.
        """
        any_order = float(max(classes - 1, 0))
        if self >= Model.ANY_ORDER:
            return any_order
        tree = min(any_order, math.ceil(math.log2(max(classes, 1))) + 32.0)
        return tree if self <= Model.TREE else min(any_order, max(tree, math.ceil(classes / 8) + 16.0))

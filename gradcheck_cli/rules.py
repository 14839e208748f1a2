"""What other rules would say of a gradient: their published formulas and default tolerances."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.numeric.precision import Floats

_ASSERT_CLOSE = {
    "float64": (1e-7, 1e-7),
    "float32": (1.3e-6, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float16": (1e-3, 1e-5),
}
"""torch.testing.assert_close: rtol and atol by dtype."""


def refused(rule: str, dtype: str, got: Floats, right: Floats) -> bool:
    """Tell whether a rule refuses a gradient: |got - right| <= atol + rtol |right| in every entry.

    allclose: numpy.allclose, rtol 1e-5 and atol 1e-8. assert_close: torch.testing's, by dtype. gradcheck:
    torch.autograd's, rtol 1e-3 and atol 1e-5, given an exact derivative in place of its own difference.
    """
    rtol, atol = {"allclose": (1e-5, 1e-8), "gradcheck": (1e-3, 1e-5)}.get(rule, _ASSERT_CLOSE[dtype])
    with np.errstate(all="ignore"):
        return not bool((np.abs(got - right) <= atol + rtol * np.abs(right)).all())

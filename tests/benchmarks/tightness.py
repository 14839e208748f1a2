"""How tight softgrad's bounds are: what is observed over what is allowed, on rows made to hurt.

Run with the test extra installed:  python tests/benchmarks/tightness.py

A ratio above 1 refutes a bound; a bound that was loosened shows as ratios that fell. One line for each bound:
the largest ratio, the median of all entries that are not exactly 0 on both sides, how many those are, and the
rows that the largest was seen on.
What is observed is the difference to the oracle's 50 digits; where the arithmetic is float32 or 16 bits,
and for what rounding of the logits moves, the difference to float64. Rows are those of `points.FAMILIES`
(logits of 1e4, offsets of 1e15, ties, saturated rows, subnormal probabilities ...), K from 1 to 50,000;
kernels those of `kernels`, rounding every operation.

Native 16-bit arithmetic and the fused logsumexp are measured against their bounds before these are cut at a
sixth and at a thousandth of the row's largest gradient: that is a verdict, and no bound.

Exit code 1 when a ratio is above 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from gradcheck_cli.numeric.models import Model
from tests.benchmarks import measures
from tests.benchmarks.points import CONVENTIONS

BOUNDS: Mapping[str, Callable[[], measures.Ratios]] = MappingProxyType(
    {
        **{f"float64 gradient, {name}": partial(measures.reference, name) for name in CONVENTIONS},
        f"float64 gradient, {measures.LARGE:,} classes": measures.long_rows,
        "float64 probabilities": measures.probabilities,
        "float64 log-probabilities": measures.log_probabilities,
        "float64 -y/a": measures.at_probabilities,
        "float64 loss": measures.losses,
        "central difference": measures.central,
        "brute-force difference": measures.brute_force,
        "float32 kernel, tree": partial(measures.single, Model.TREE),
        "float32 kernel, lanes": partial(measures.single, Model.LANES),
        "float32 kernel, any order": partial(measures.single, Model.ANY_ORDER),
        "float32 kernel, fused lse": measures.fused,
        "native bfloat16 kernel": partial(measures.native, "bfloat16"),
        "native float16 kernel": partial(measures.native, "float16"),
        "native bfloat16, targets added in it": partial(measures.native, "bfloat16", narrow=True),
        "native float16, targets added in it": partial(measures.native, "float16", narrow=True),
        **{f"storage as {name}": partial(measures.storage, name) for name in measures.KINDS},
        **{
            f"logits rounded to {name}, gradient": partial(measures.rounded_logits, name)
            for name in measures.KINDS
        },
        **{
            f"logits rounded to {name}, loss": partial(measures.rounded_losses, name)
            for name in measures.KINDS
        },
    }
)
"""What is measured, in the order of the report."""


def main() -> int:
    """Print a line for each bound and return the exit code."""
    parser = argparse.ArgumentParser(description="Observed over allowed, for every bound.")
    parser.add_argument("--only", metavar="WORDS", default="", help="bounds whose name holds these words")
    options = parser.parse_args()
    began, worst = time.perf_counter(), 0.0
    print(f"{'bound':<40}{'largest':>9}{'median':>10}{'entries':>10}  largest at")
    for bound, measure in BOUNDS.items():
        if options.only not in bound:
            continue
        with np.errstate(all="ignore"):
            parts = list(measure())
        seen = np.concatenate([part for _, part in parts])
        largest, where = max((float(part.max(initial=0.0)), words) for words, part in parts)
        worst = max(worst, largest)
        refuted = ": REFUTED" if largest > 1.0 else ""
        numbers = f"{largest:>9.3g}{np.median(seen):>10.2g}{seen.size:>10}"
        print(f"{bound:<40}{numbers}  {where}{refuted}", flush=True)
    print(f"largest of all: {worst:.3g} ({time.perf_counter() - began:.0f} s)")
    return 1 if worst > 1.0 else 0


if __name__ == "__main__":
    sys.exit(main())

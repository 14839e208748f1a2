"""Bugs of what is exported beside the gradient: probabilities, their logarithms, -g q/a, and losses of rows.

Entries of the catalogue that change an ingredient show here too (`_PASSED_ON`, with what it becomes); the
others are these exports' own (`forward.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gradcheck_cli.diagnosis.bug import Bug
from gradcheck_cli.diagnosis.catalogue import CHANGES
from gradcheck_cli.diagnosis.forward import (
    LOGARITHMS,
    OF_AT_PROBS,
    OF_LOGS,
    OF_LOSS_ROWS,
    OF_LOSSES,
    OF_PROBS,
    SIGN,
)
from gradcheck_cli.diagnosis.scale import SCALES
from gradcheck_cli.diagnosis.upstream import ROW_FACTORS

EXPORTS = {
    "probs": "", "log-probs": "log a, ", "grad-probs": "-g q / a, ", "loss": "-sum q log a, ",
}  # fmt: skip
"""How a formula begins that says what an ingredient becomes."""

_SOFTMAX = {
    "temperature-missing": "a = softmax(z)",
    "softcap-missing": "a = softmax(z/T), without c tanh(z/c)",
    "softcap-applied": "a = softmax(c tanh(z/c))",
    "softcap-after-temperature": "a = softmax(c tanh(z / (T c)))",
    "wrong-axis": "a = softmax over the rows",
    "sigmoid-for-softmax": "a = 1 / (1 + exp(-z))",
    "padded-lanes": "a = exp(z) / (sum exp(z) + {lanes} exp(0))",
    "local-denominator": "a = exp(z) / sum over a shard of K/{shards}",
    "denominator-reduced-twice": "a / {shards} for a",
    "no-max-subtraction": "a = exp(z) / sum exp(z) in {type}, not shifted",
}
_PLANE = {
    "stale-rows": "0, or an older row, in rows that were not written",
    "tail-columns": "0 in columns >= {first:,}",
}
_TARGETS = {
    "smoothing-missing": "q not smoothed",
    "smoothing-over-others": "q = 1 - E at the label, the rest elsewhere",
    "weights-missing": "q without w_y",
    "label-off-by-one": "q = onehot(y + {offset})",
    "ignored-rows-not-zeroed": "in ignored rows too",
}
_PASSED_ON: dict[str, dict[str, str]] = {
    "probs": {
        **_SOFTMAX, **_PLANE, "temperature-applied": "a = softmax(z/T)",
        "underflow": "0 where a is below the normal numbers of {format}",
    },
    "log-probs": {**_SOFTMAX, **_PLANE, "temperature-applied": "a = softmax(z/T)"},
    "grad-probs": {
        **_SOFTMAX, **_PLANE, **_TARGETS, "upstream-ignored": "g = 1", "upstream-first-row-only": "g = g_0",
        "upstream-applied-twice": "g^2 for g",
    },
    "loss": {
        **_SOFTMAX, **_TARGETS, "zloss-missing": "without L lse^2",
        "zloss-factor": "L lse^2 with a wrong factor",
    },
}  # fmt: skip
"""Of each export the entries of the catalogue that show in it, and what becomes of which ingredient."""

_LOSS_ROWS = frozenset({"weights-applied-twice", "weights-by-row"})
_CHAIN_RULE = frozenset(
    {"temperature-chain-missing", "distillation-factor", "sign-flipped"}
)  # of dE/dz alone
_SCALED = frozenset({"loss-scale-not-removed"})


def _passed_on(name: str) -> tuple[Bug, ...]:
    """Return the entries of the catalogue that show in an export, each with the formula that it has there."""
    shown = _PASSED_ON[name]
    return tuple(
        replace(bug, formula=f"{EXPORTS[name]}{shown[bug.code]}") for bug in CHANGES if bug.code in shown
    )


def _only(bugs: Iterable[Bug], codes: frozenset[str]) -> tuple[Bug, ...]:
    return tuple(bug for bug in bugs if bug.code in codes)


Known = tuple[tuple[Bug, ...], tuple[Bug, ...], tuple[Bug, ...]]
"""Factors of all entries, factors of rows, and changes of the recipe."""

BESIDE: dict[str, Known] = {
    "probs": (_only(SCALES, _SCALED), (), (*_passed_on("probs"), *OF_PROBS)),
    "log-probs": ((SIGN, *LOGARITHMS), (), (*_passed_on("log-probs"), *OF_LOGS)),
    "grad-probs": (
        (SIGN, *(bug for bug in SCALES if bug.code not in _CHAIN_RULE), *LOGARITHMS),
        ROW_FACTORS,
        (*_passed_on("grad-probs"), *OF_AT_PROBS),
    ),
    "loss": (
        (SIGN, *_only(SCALES, _SCALED), *LOGARITHMS, OF_LOSS_ROWS[0]),
        (*_only(ROW_FACTORS, _LOSS_ROWS), OF_LOSS_ROWS[1]),
        (*_passed_on("loss"), *OF_LOSSES),
    ),
}
"""What is known of each export beside the gradient."""

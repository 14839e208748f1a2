"""Does the oracle mean what PyTorch means? Both on random configurations, in float64.

Run where torch is installed:  python tests/benchmarks/torch_agreement.py [--cases 60] [--seed 0]

Prints the largest difference by kind of loss; exit code 1 when one is beyond the tolerance, or NaN on one
side alone.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests import oracle
from tests.oracle import Convention

torch: Any = importlib.import_module("torch")
functional: Any = importlib.import_module("torch.nn.functional")

TOLERANCE = 5e-14  # exp(x) of a rounded x is off by |x| · 1.1e-16, and |x| reaches 150; sums of ten terms
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One loss to compare: logits (N, K), targets (N,) or (N, K), upstream a number or (N,)."""

    logits: Array
    targets: Array
    convention: Convention
    upstream: Any


@dataclass(frozen=True)
class Result:
    """What one side says: the loss () or (N,), and a gradient (N, K)."""

    loss: Array
    gradient: Array


# ---- random cases -----------------------------------------------------------------------------------------


def some_case(rng: np.random.Generator, **options: Any) -> Case:
    """Return a case of up to 9 rows and 12 classes with labels, some ignored, inside the classes or out."""
    rows, classes = int(rng.integers(1, 10)), int(rng.integers(2, 13))
    ignored = int(rng.choice([-100, 0, classes - 1, 255]))
    targets = rng.integers(0, classes, rows)
    targets[rng.random(rows) < rng.choice([0.0, 0.3])] = ignored
    convention = Convention(
        reduction=str(rng.choice(["mean", "sum", "none"])),
        ignore_index=ignored,
        class_weights=rng.uniform(0.1, 4.0, classes) if rng.random() < 1 / 2 else None,
        **options,
    )
    upstream = rng.normal(size=rows) if convention.reduction == "none" else float(rng.normal())
    return Case(some_logits(rng, rows, classes), targets, convention, upstream)


def some_logits(rng: np.random.Generator, rows: int, classes: int) -> Array:
    """Return logits from nearly flat to saturated: (rows, classes)."""
    return rng.normal(0, float(rng.choice([0.1, 3.0, 20.0])), (rows, classes))


def smoothed_case(rng: np.random.Generator) -> Case:
    """Return a case with label smoothing."""
    return some_case(rng, label_smoothing=float(rng.uniform(0, 1)))


def soft_case(rng: np.random.Generator) -> Case:
    """Return a case with soft targets, whose rows do not sum to 1, smoothed or not."""
    case = some_case(rng, label_smoothing=float(rng.choice([0.0, 0.2])))
    return Case(case.logits, rng.uniform(0, 1, case.logits.shape), case.convention, case.upstream)


def masked_case(rng: np.random.Generator) -> Case:
    """Return a case with masked classes that are no row's label."""
    case = some_case(rng)
    logits = np.where(rng.random(case.logits.shape) < 1 / 3, -np.inf, case.logits)
    rows = np.arange(len(logits))
    logits[rows, case.targets % logits.shape[1]] = 1.5
    return Case(logits, case.targets, case.convention, case.upstream)


def per_row_case(rng: np.random.Generator) -> Case:
    """Return a case with one upstream number a row under every reduction."""
    case = _with_a_row_that_counts(smoothed_case(rng))
    return Case(case.logits, case.targets, case.convention, rng.normal(size=len(case.logits)))


def composed_case(rng: np.random.Generator) -> Case:
    """Return a case with softcap, temperature and z-loss, and smoothing over the others."""
    case = some_case(
        rng,
        temperature=float(rng.uniform(0.5, 4)),
        softcap=float(rng.uniform(2, 30)),
        z_loss=float(rng.uniform(0, 0.1)),
        label_smoothing=float(rng.uniform(0, 0.5)),
        smoothing_over="others",
    )
    return _with_a_row_that_counts(case)


def _with_a_row_that_counts(case: Case) -> Case:
    """Return the case with a first row that is not ignored, for what is divided by hand."""
    case.targets[0] = (case.convention.ignore_index + 1) % case.logits.shape[1]
    return case


def all_ignored_case(rng: np.random.Generator) -> Case:
    """Return a case in which no row counts."""
    case = some_case(rng)
    return Case(case.logits, np.full_like(case.targets, case.convention.ignore_index), case.convention, 1.0)


# ---- the two sides ----------------------------------------------------------------------------------------


def of_oracle(case: Case) -> Result:
    """Return the oracle's loss and dE/dz."""
    arguments = (case.logits, case.targets, case.convention)
    gradient = oracle.gradient(*arguments, case.upstream)
    return Result(oracle.as_float64(oracle.loss(*arguments)), oracle.as_float64(gradient))


def of_oracle_at_probabilities(case: Case) -> Result:
    """Return the oracle's loss and dE/da."""
    arguments = (case.logits, case.targets, case.convention)
    gradient = oracle.gradient_at_probabilities(*arguments, case.upstream)
    return Result(oracle.as_float64(oracle.loss(*arguments)), oracle.as_float64(gradient))


def _options(case: Case) -> dict[str, Any]:
    """Return weight and ignore_index as torch takes them."""
    weights = case.convention.class_weights
    options: dict[str, Any] = {"weight": None if weights is None else torch.tensor(np.asarray(weights))}
    if case.targets.ndim == 1:
        options["ignore_index"] = case.convention.ignore_index
    return options


def of_cross_entropy(case: Case) -> Result:
    """Return what F.cross_entropy and its backward say."""
    z = torch.tensor(case.logits, requires_grad=True)
    convention = case.convention
    options = {**_options(case), "label_smoothing": convention.label_smoothing}
    loss = functional.cross_entropy(z, torch.tensor(case.targets), reduction=convention.reduction, **options)
    if np.ndim(case.upstream) == loss.ndim:
        loss.backward(torch.tensor(case.upstream, dtype=z.dtype))
    elif np.ndim(case.upstream) == 0:
        loss.backward(torch.full_like(loss, case.upstream))
    else:  # one number a row under mean or sum: weigh the rows' losses, and divide as the mean does
        rows = functional.cross_entropy(z, torch.tensor(case.targets), reduction="none", **options)
        divisor = (rows.sum() / loss).item()
        ((torch.tensor(case.upstream) * rows).sum() / divisor).backward()
    return Result(loss.detach().numpy(), z.grad.numpy())


def of_nll_loss(case: Case) -> Result:
    """Return what F.nll_loss of log a and its backward to a say."""
    a = torch.softmax(torch.tensor(case.logits), dim=1).requires_grad_(requires_grad=True)
    loss = functional.nll_loss(
        torch.log(a), torch.tensor(case.targets), reduction=case.convention.reduction, **_options(case)
    )
    loss.backward(torch.tensor(case.upstream, dtype=a.dtype).expand_as(loss))
    return Result(loss.detach().numpy(), a.grad.numpy())


def of_composition(case: Case) -> Result:
    """Return what autograd makes of tanh, log_softmax, logsumexp and indexing, written out."""
    c, z = case.convention, torch.tensor(case.logits, requires_grad=True)
    v = c.softcap * torch.tanh(z / c.softcap) / c.temperature
    valid = torch.tensor(case.targets != c.ignore_index)
    labels = torch.where(valid, torch.tensor(case.targets), 0)
    classes = v.shape[1]
    weights = torch.ones(classes, dtype=z.dtype) if c.class_weights is None else torch.tensor(c.class_weights)
    minus_log = -torch.log_softmax(v, dim=1) * weights
    on_label = minus_log.gather(1, labels[:, None])[:, 0]
    on_others = minus_log.sum(dim=1) - on_label
    entropy = ((1 - c.label_smoothing) * on_label + c.label_smoothing / (classes - 1) * on_others) * valid
    z_loss = c.z_loss * torch.logsumexp(v, dim=1) ** 2 * valid
    if c.reduction == "mean":
        rows = entropy / weights[labels][valid].sum() + z_loss / valid.sum()
    else:
        rows = entropy + z_loss
    (torch.tensor(case.upstream, dtype=z.dtype) * rows).sum().backward()
    loss = rows if c.reduction == "none" else rows.sum()
    return Result(loss.detach().numpy(), z.grad.numpy())


Side = Callable[[Case], Result]
KINDS: dict[str, tuple[Callable[[np.random.Generator], Case], Side, Side]] = {
    "labels, ignored, weights": (some_case, of_oracle, of_cross_entropy),
    "label smoothing": (smoothed_case, of_oracle, of_cross_entropy),
    "soft targets": (soft_case, of_oracle, of_cross_entropy),
    "masked classes": (masked_case, of_oracle, of_cross_entropy),
    "upstream per row": (per_row_case, of_oracle, of_cross_entropy),
    "all rows ignored": (all_ignored_case, of_oracle, of_cross_entropy),
    "at the probabilities": (some_case, of_oracle_at_probabilities, of_nll_loss),
    "softcap, T, z, others": (composed_case, of_oracle, of_composition),
}


# ---- comparison -------------------------------------------------------------------------------------------


def difference(got: Array, expected: Array) -> float:
    """Return the largest difference, relative to the largest expected entry if above 1; NaN must meet NaN.

    In a saturated row 1 - a_y is tiny, and float64 has it only to 1e-16 of 1: hence the "if above 1".
    """
    if got.shape != expected.shape or not np.array_equal(np.isnan(got), np.isnan(expected)):
        return np.inf
    numbers = ~np.isnan(expected)
    if not numbers.any():
        return 0.0
    largest = max(1.0, np.abs(expected[numbers]).max())
    return float(np.abs(got[numbers] - expected[numbers]).max() / largest)


def largest_differences(kind: str, cases: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the largest difference of loss and of gradient over some cases of one kind."""
    some, ours, theirs = KINDS[kind]
    worst_loss = worst_gradient = 0.0
    for _ in range(cases):
        case = some(rng)
        expected, got = ours(case), theirs(case)
        worst_loss = max(worst_loss, difference(got.loss, expected.loss))
        worst_gradient = max(worst_gradient, difference(got.gradient, expected.gradient))
    return worst_loss, worst_gradient


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description="Compare the oracle with torch autograd in float64.")
    parser.add_argument("--cases", type=int, default=60, help="random cases of each kind (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the random cases (default: 0)")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    agree = True
    lines = [f"{'kind':<26}{'cases':>6}{'loss':>12}{'gradient':>12}"]
    for kind in KINDS:
        loss, gradient = largest_differences(kind, options.cases, rng)
        holds = loss <= TOLERANCE and gradient <= TOLERANCE
        agree = agree and holds
        mark = "" if holds else "  DIFFERS"
        lines.append(f"{kind:<26}{options.cases:>6}{loss:>12.1e}{gradient:>12.1e}{mark}")
    lines.append(f"torch {torch.__version__}, allowed {TOLERANCE:.0e}: {'agree' if agree else 'DISAGREE'}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())

"""What a check found: the frozen records that a report shows and that JSON holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

from gradcheck_cli.records import dataclass


class Verdict(StrEnum):
    """The three answers softgrad gives."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Input:
    """One tensor that went into the check, as it was found."""

    role: str  # logits, labels, grad, ...
    path: str
    dtype: str  # of the container: float32, bfloat16, int64, text
    shape: tuple[int, ...]
    member: str | None = None
    grid: str | None = None  # precision its values sit on, where it was inferred
    order: str = "C"
    notes: tuple[str, ...] = ()  # what was assumed while reading, one sentence each


@dataclass(frozen=True)
class Data:
    """The problem that the tensors pose."""

    rows: int
    classes: int
    axis: int
    ignored_rows: int  # by their label; without labels, because they are wholly masked
    divisor: float | None  # of the loss, where there is one
    targets: str  # "class labels", "distributions", or the "softmax layer" or "log-softmax layer"


@dataclass(frozen=True)
class Worst:
    """One entry among the worst of a comparison; the index is in the tensor's own layout."""

    index: tuple[int, ...]
    label: int | None
    got: float
    expected: float
    abs_error: float
    allowed: float
    margin: float


@dataclass(frozen=True)
class Check:
    """One comparison: how many entries, how many fail, how bad, and where."""

    name: str
    verdict: Verdict
    entries: int
    failing: int
    max_abs_error: float
    max_rel_error: float
    max_ulp_error: float | None  # in units in the last place of the grid; None where there is none
    max_margin: float
    required_atol: float
    required_rtol: float
    explained_by: str | None  # the tightest model of the exporter's arithmetic that does
    tolerance: str  # where the allowance comes from, in words
    coverage: str  # "every entry", or what was sampled and how
    worst: tuple[Worst, ...] = ()
    median_ulp_error: float | None = None  # to within 9 %, of ulp_entries entries; the next likewise
    p99_ulp_error: float | None = None
    ulp_entries: int = 0

    @property
    def exported(self) -> bool:
        """Whether this check judges a tensor the user handed in, and not softgrad itself."""
        return self.name not in SELF_CHECKS


SELF_CHECKS = (
    "forward", "difference", "audit", "chain", "columns", "symmetry", "hessian", "invariants",
    "whole-row-forward", "whole-row-central", "forward-difference", "central", "complex", "richardson",
    "directional", "weight-difference", "bias-difference", "inputs-difference", "directions",
    "weight-audit",
)  # fmt: skip


@dataclass(frozen=True)
class Warning:  # noqa: A001 - the word of the JSON contract
    """Something the user should know although it decides nothing."""

    code: str
    message: str
    lacks: str | None = None  # what the data lacks to show some bugs, where that is what it warns of


@dataclass(frozen=True)
class Diagnosis:
    """A known bug that explains the failing entries of an export; the best explanation comes first."""

    code: str
    kind: str  # defect, convention or rounding
    message: str  # what happened, and the evidence in numbers
    formula: str
    advice: str
    parameters: dict[str, Any]
    explained: float  # share of the failing entries
    flags: tuple[str, ...] = ()  # under which the file is right
    together_with: tuple[str, ...] = ()  # other bugs that are needed for the explanation
    tied_with: str | None = None  # the best explanation, where this one explains as much
    tied_because: str | None = None  # why the data cannot tell them apart, as far as that is known
    of: str = "grad"  # the export that it explains


@dataclass(frozen=True)
class Fact:
    """Something that holds of the failing entries, whether a bug is named or not."""

    code: str
    message: str
    of: str = "grad"  # the export


@dataclass(frozen=True)
class Saved:
    """Failing rows that were written to a folder, and the command that fails on them, to be run there."""

    folder: str
    rows: int
    command: str


class Streamed:
    """The rows of a plane that may be too large to be kept; each is worked out when it is asked for."""

    def __init__(self, rows: int, row: Callable[[int], Any]) -> None:
        self._rows = rows
        self.row = row

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows, from first to last."""
        return map(self.row, range(self._rows))


@dataclass(frozen=True, eq=False)
class Matrix:
    """Some rows and columns of a Jacobian, side by side; every array is (n, n) but the first three.

    Where every entry was asked for, they are streamed.
    """

    row: tuple[int, ...]  # of the logits
    classes: Any  # (n,) which classes
    probabilities: Any  # (n,)
    analytic: Any
    difference: Any
    error: Any  # |difference - analytic|
    allowed: Any  # what that may be
    exported: Any = None
    exported_allowed: Any = None


@dataclass(frozen=True, eq=False)
class Curve:
    """A method's error against its step: every list has an entry for each step."""

    name: str
    steps: tuple[float, ...]
    max_error: tuple[float, ...]
    median_error: tuple[float, ...]
    bound: tuple[float, ...]  # what the largest error may be
    best: int  # which step has the least largest error
    plateau: tuple[int, int]  # first and last step around the best that are nearly as good


@dataclass(frozen=True)
class Picture:
    """Where an exported tensor fails, and how large its errors are."""

    name: str  # of the check
    rows: int
    classes: int
    failing: tuple[tuple[int, ...], ...]  # failing entries of each part: rows down, classes across
    octaves: tuple[tuple[int | None, int], ...]  # entries whose error is up to 2^n ulps; None: no error

    @property
    def axes(self) -> str:
        """What lies which way: of a linear layer's gradients the inputs' features may be one of them."""
        features = {
            "grad-weight": "features down, classes across",
            "grad-inputs": "rows down, features across",
        }
        return features.get(self.name, "rows down, classes across")


@dataclass(frozen=True)
class Outcome:
    """Everything one command found out."""

    command: str
    inputs: tuple[Input, ...]
    settings: dict[str, Any]
    data: Data
    checks: tuple[Check, ...]
    seconds: float
    warnings: tuple[Warning, ...] = ()
    diagnosis: tuple[Diagnosis, ...] = ()
    facts: tuple[Fact, ...] = ()
    saved: Saved | None = None
    matrix: Matrix | None = None  # of jacobian
    curves: tuple[Curve, ...] = ()  # of sweep
    pictures: tuple[Picture, ...] = ()  # where they were asked for

    @property
    def verdict(self) -> Verdict:
        """Inconclusive when the ruler itself is off, fail when an exported tensor is wrong."""
        if any(c.verdict is not Verdict.PASS for c in self.checks if not c.exported):
            return Verdict.INCONCLUSIVE
        verdicts = [c.verdict for c in self.checks]
        if Verdict.FAIL in verdicts:
            return Verdict.FAIL
        return Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts or not verdicts else Verdict.PASS

    @property
    def exit_code(self) -> int:
        """0 every check passed, 1 an exported tensor is wrong, 2 it could not be decided."""
        return {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 2}[self.verdict]

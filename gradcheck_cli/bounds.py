"""What an export may be off by in some rows: one bound for each model that may explain it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from gradcheck_cli.exports import Export, rounding
from gradcheck_cli.grades import ARITHMETIC
from gradcheck_cli.numeric import accuracy, half
from gradcheck_cli.numeric.allowance import Allowance
from gradcheck_cli.numeric.cross_entropy import Loss, Point
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import FLOAT64, Floats, storage_error
from gradcheck_cli.numeric.softmax import Link, Sums
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags

ACCEPTED = Model.FUSED_LSE
"""The loosest model of plain arithmetic that is accepted; native half comes on top, entry by entry."""


@dataclass(frozen=True, eq=False)
class Bound:
    """The allowance of entries under one model; the pivot column has its own."""

    allowance: Allowance
    own: Floats  # (n,)


class Ladder:
    """The bounds of an exported gradient, or of probabilities, in some rows; each worked out when needed."""

    def __init__(self, at: Point, export: Export, slope: Floats | float = 1.0) -> None:
        self.export = export
        self._at = at
        self._slope = slope  # of a softcap, in the pivot column
        self.point = at  # whose gradient the export is: of probabilities, the softmax alone
        if export.name == "probs":
            self.point, self._slope = accuracy.bare(at.sums, at.loss.link), 1.0
        self._hidden = (
            None
            if export.logits is None
            else accuracy.rounded_logits_error(self.point, export.logits, self._slope)
        )
        self._bounds: dict[Model, Bound] = {}

    def bound(self, model: Model) -> Bound:
        """Return the bound under a model of plain arithmetic."""
        if model not in self._bounds:
            allowance = exported_error(self._at, self.export, model, self._reference)
            own = allowance.at_pivot(self.point, self._slope, self._slope * self.point.own_gradient)
            if self._hidden is not None:
                outside, at_pivot = self._hidden
                allowance, own = allowance + outside, own + at_pivot
            self._bounds[model] = Bound(allowance, own)
        return self._bounds[model]

    @cached_property
    def _reference(self) -> Allowance:
        return reference_error(self._at, self.export)

    def vague(self) -> Flags:
        """Return of which rows nothing can be said, because arithmetic alone may cost so much: (n,)."""
        hidden = 0.0 if self._hidden is None else self._hidden[0].fixed
        lost: Flags = self.bound(ACCEPTED).allowance.fixed - hidden > accuracy.VAGUE * self.point.magnitude
        return lost

    def hides(self) -> Floats:
        """Return what share of an entry the rounding of the logits hides in each row: (n,)."""
        if self._hidden is None:
            return np.zeros_like(self.point.magnitude)
        magnitude = self.point.magnitude
        return self._hidden[0].fixed / np.where(magnitude > 0.0, magnitude, 1.0)


def reference_error(at: Point, export: Export) -> Allowance:
    """Return the allowance of softgrad's own float64 values."""
    if export.name == "probs":
        own = accuracy.pairwise(at.sums.classes)
        return accuracy.probability_error(at.sums, at.loss.link, FLOAT64, own)
    return accuracy.reference_error(at)


def exported_error(
    at: Point, export: Export, model: Model = ACCEPTED, reference: Allowance | None = None
) -> Allowance:
    """Return reference error, compute model and storage together: all of a bound but what 16 bits cost."""
    whole = reference_error(at, export) if reference is None else reference
    sigma = model.sigma(at.sums.classes)
    if model is Model.CORRECTLY_ROUNDED:
        whole = whole.stored(export.compute)
    elif export.name == "probs":
        whole += accuracy.probability_error(at.sums, at.loss.link, export.compute, sigma)
    else:
        whole += accuracy.gradient_error(at, export.compute, sigma)
    if export.name == "probs":
        at = accuracy.bare(at.sums, at.loss.link)
    if model >= Model.FUSED_LSE:
        whole = replace(whole, fixed=whole.fixed + accuracy.fused_lse_error(at, export.compute))
    if export.grid is not export.compute and not export.grid.half:
        whole = whole.stored(export.grid)
    return whole.rounded(*rounding(export.decimals))


def add_storage(allowed: Floats, expected: Floats, export: Export, work: Floats) -> None:
    """Add what rounding to a 16-bit format costs, given what is allowed before it.

    Not in :func:`exported_error`: half the spacing at an entry is up to half as much as u of it, which is
    most of what is allowed.
    """
    if not export.grid.half:
        return
    np.abs(expected, out=work)
    work += allowed
    allowed += storage_error(work, export.grid, work)


@dataclass(frozen=True)
class Rate:
    """What a model allows at least of any entry."""

    fixed: float  # of (|s| Q + |zeta|) a_j
    relative: float  # of |g_j|

    @property
    def outside(self) -> float:
        """What is allowed of an entry outside the pivot column, where both are the same."""
        return self.fixed + self.relative


def least_rates(export: Export, loss: Loss, classes: int) -> dict[Model, Rate]:
    """Return what each model allows at least, but for what storing in 16 bits costs.

    Without softcap, z-loss and dense targets a bound over |g_j| grows with log S, |m| and the depth, and
    depends on nothing else; here it is of a row where all of these are 0.
    """
    at = replace(accuracy.bare(_rows(np.zeros(1), np.zeros(1), classes), loss.link), loss=loss)
    found = {}
    for model in (*ARITHMETIC, ACCEPTED):
        allowance = exported_error(at, export, model)
        found[model] = Rate(float(allowance.fixed[0]), allowance.relative)
    return found


def least_native_rates(
    export: Export, link: Link, top: Floats, log_total: Floats, depth: Floats | float = 0.0
) -> Floats:
    """Return what 16-bit arithmetic throughout allows at least of |g_j| outside the pivot column: (n,)."""
    if export.native is None:
        return np.zeros_like(top)
    return half.least_rate(_rows(top, log_total, export.rows.classes), link, export.native, depth)


def surely_clear(at: Point, export: Export) -> bool:
    """Tell whether something can be said of every one of some rows, if not about their logits' rounding.

    Of one row that has the largest |m| and the largest log S of all, as in :func:`least_rates`; a rounded
    logsumexp costs it 2u |lse|, uncapped.
    """
    top, log_total = np.abs(at.sums.top), at.sums.log_total
    worst = _rows(top.max(keepdims=True), log_total.max(keepdims=True), at.sums.classes)
    plain = exported_error(accuracy.bare(worst, at.loss.link), export, Model.ANY_ORDER)
    fused = np.expm1(np.minimum(2.0 * export.compute.unit * worst.lse, 1.0))
    return bool(1.01 * (plain.fixed[0] + fused[0]) <= accuracy.VAGUE)


def _rows(top: Floats, log_total: Floats, classes: int) -> Sums:
    """Return rows with their largest logit in the pivot column."""
    nothing, one, first = np.zeros_like(top), np.ones_like(top), np.zeros(len(top), dtype=np.int64)
    return Sums(top, nothing, one, nothing, log_total, first, nothing, one, one, classes)

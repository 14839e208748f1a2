"""The comparisons a block is put through: for each, what was got, what is right, and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from gradcheck_cli.blocks import Block
from gradcheck_cli.exports import Export, rounding
from gradcheck_cli.findings import Finding, Look, compare
from gradcheck_cli.numeric import accuracy, cross_entropy, difference
from gradcheck_cli.numeric.accuracy import Allowance
from gradcheck_cli.numeric.cross_entropy import Loss, Scale
from gradcheck_cli.numeric.precision import FLOAT64, Floats, Precision
from gradcheck_cli.numeric.softmax import DEEPEST, vjp

_SMALLEST = 2.0**-1000
"""Probabilities below this take no part in the chain: -y/a would overflow."""


class Models(Protocol):
    """The arithmetic that may explain an export."""

    @property
    def compute(self) -> Precision:
        """Precision of the computation, sums in any order."""

    @property
    def native(self) -> Precision | None:
        """16-bit arithmetic that is accepted as well."""


class Comparison(Protocol):
    """One check of the report, block by block."""

    name: str

    def look(self, block: Block, look: Look) -> Finding:
        """Return what the block shows."""


@dataclass(frozen=True, eq=False)
class Difference:
    """Analytic gradient against the central finite difference, every entry."""

    loss: Loss
    name: str = "difference"

    def look(self, block: Block, look: Look) -> Finding:
        """Compare both, derived from the same softmax."""
        f, q, by, room = block.f, block.q, block.by, block.room
        got = difference.central(f, q, by, self.loss, room.got, room.work)
        allowance = accuracy.difference_error(f, q, by, self.loss)
        allowed = allowance.spread(f, q, block.g, room.allowed, room.work)
        allowed[f.rows, f.pivot] = accuracy.difference_at_pivot(f, q, by, self.loss, allowance)
        return compare(got, block.g, allowed, look, room.error, room.work)


@dataclass(frozen=True, eq=False)
class Chain:
    """-q/a through the softmax's backward against Q a - q, before upstream and divisor.

    Without smoothing every other entry of a row is the same number times a_j on both sides, so the row
    is compared in that factor and in its label's entry.
    """

    name: str = "chain"

    def look(self, block: Block, look: Look) -> Finding:
        """Compare the chain of two formulas with the fused one."""
        f, q = block.f, block.q
        sigma = accuracy.pairwise(f.a.shape[1])
        unit = (sigma + 8.0) * FLOAT64.unit
        own = f.at_pivot(f.a)
        chosen = block.counted & (own > _SMALLEST)
        if not q.sparse:
            return self._dense(block, look, unit)
        mass, p, others = q.mass * chosen, np.where(chosen, own, 1.0), f.others
        at_label = -mass / p
        inner = at_label * p
        got = np.stack([-inner, (at_label - inner) * p], axis=1)
        expected = np.stack([mass, -mass * others], axis=1)
        allowed = unit * np.stack([mass, mass], axis=1) + 2.0**-1000
        return replace(_small(got, expected, allowed, look), entries=2 * int(chosen.sum()))

    def _dense(self, block: Block, look: Look, unit: float) -> Finding:
        f, q, room = block.f, block.q, block.room
        weights, tiny = room.got, f.a <= _SMALLEST
        weights[...] = q.plane()
        weights[f.rows, f.pivot] = q.at_pivot
        expected = f.a * q.mass[:, None] - weights
        expected[f.rows, f.pivot] = q.others - q.mass * f.others
        at_probabilities = -np.divide(weights, f.a, out=np.zeros_like(weights), where=~tiny)
        got = vjp(f.a, at_probabilities)
        # A probability too small for -y/a takes its share of the inner product along.
        lost = np.where(tiny, weights, 0.0).sum(axis=1)[:, None]
        allowed = unit * (f.a * q.mass[:, None] + weights) + lost * f.a + 2.0**-1000
        allowed[tiny] = np.inf
        return compare(got, expected, allowed, look, room.error, room.work)


@dataclass(frozen=True, eq=False)
class Invariants:
    """The gradient of a row sums to zero (z-loss: to zeta); under a softcap the probabilities to one."""

    name: str = "invariants"

    def look(self, block: Block, look: Look) -> Finding:
        """Compare the row sums."""
        f, q, by = block.f, block.q, block.by
        sigma = accuracy.pairwise(f.a.shape[1])
        if f.slope is not None:
            got, expected = f.a.sum(axis=1), np.ones(len(f.rows))
            allowed = np.full(len(f.rows), (sigma + 4.0) * FLOAT64.unit)
        else:
            got, expected = block.g.sum(axis=1), by.zeta
            size = 2.0 * np.abs(by.s) * q.mass + np.abs(by.zeta)
            allowed = (2.0 * sigma + 12.0) * FLOAT64.unit * size + 2.0**-1000
        return _small(got[:, None], expected[:, None], allowed[:, None], look)


@dataclass(frozen=True)
class Tolerance:
    """A tolerance the user asked for instead of the proven allowance."""

    rtol: float
    atol: float

    def spread(self, expected: Floats, out: Floats) -> Floats:
        """Write atol + rtol |expected| to `out`."""
        np.abs(expected, out=out)
        out *= self.rtol
        out += self.atol
        return out


@dataclass(frozen=True, eq=False)
class Exported:
    """An exported tensor with the logits' shape against the truth."""

    export: Export
    loss: Loss
    tolerance: Tolerance | None = None

    @property
    def name(self) -> str:
        """Return the name of the check."""
        return self.export.name

    def look(self, block: Block, look: Look) -> Finding:
        """Read the block's part of the export and compare it."""
        room = block.room
        self.export.rows.read(block.start, block.stop, room.got)
        expected = self._expected(block)
        if self.tolerance is not None:
            allowed = self.tolerance.spread(expected, room.allowed)
        else:
            allowed = self._allowed(block, expected)
        return compare(room.got, expected, allowed, look, room.error, room.work)

    def _expected(self, block: Block) -> Floats:
        f, room = block.f, block.room
        if self.name == "grad":
            return block.g
        if self.name == "probs":
            return f.a
        if self.name == "log-probs":
            np.subtract(f.d, f.log_total[:, None], out=room.error)
            room.error[f.d <= DEEPEST] = -np.inf
            return room.error.copy()
        return cross_entropy.gradient_at_probabilities(
            f, block.q, _plain(block, self.loss), room.error
        ).copy()

    def _allowed(self, block: Block, expected: Floats) -> Floats:
        """Return reference error, compute model and storage together: the proven allowance."""
        if self.name == "grad":
            return self._gradient_allowed(block)
        if self.name == "probs":
            return self._probabilities_allowed(block)
        f, room, export = block.f, block.room, self.export
        if self.name == "log-probs":
            out = accuracy.log_probability_error(
                f, self.loss.link, export.compute, export.native, room.allowed
            )
        else:
            out = accuracy.gradient_at_probabilities_error(
                f, self.loss.link, export.compute, export.native, expected, room.allowed
            )
        return self._rounded(out, expected)

    def _gradient_allowed(self, block: Block) -> Floats:
        f, q, by, room, export = block.f, block.q, block.by, block.room, self.export
        sigma = accuracy.any_order(f.a.shape[1])
        model = accuracy.gradient_error(f, q, by, self.loss, export.compute, sigma)
        whole = self._stored(accuracy.reference_error(f, q, by, self.loss) + model)
        allowed = whole.spread(f, q, block.g, room.allowed, room.work)
        if export.native is not None:
            native = accuracy.native_half(f, q, by, self.loss, export.native, block.g, room.error, room.work)
            allowed += native
        return allowed

    def _probabilities_allowed(self, block: Block) -> Floats:
        f, room, export = block.f, block.room, self.export
        sigma = accuracy.any_order(f.a.shape[1])
        link = self.loss.link
        own = accuracy.probability_error(f, link, FLOAT64, accuracy.pairwise(f.a.shape[1]))
        whole = self._stored(own + accuracy.probability_error(f, link, export.compute, sigma))
        bare, no_targets = accuracy.bare(f)
        allowed = whole.spread(bare, no_targets, f.a, room.allowed, room.work)
        if export.native is not None:
            one = np.ones(len(f.rows))
            by = Scale(one, 0.0 * one, 0.0 * one)
            allowed += accuracy.native_half(
                bare, no_targets, by, self.loss, export.native, f.a, room.error, room.work
            )
        return allowed

    def _stored(self, whole: Allowance) -> Allowance:
        export = self.export
        if export.grid is not export.compute:
            whole = whole.stored(export.grid)
        return whole.rounded(*rounding(export.decimals))

    def _rounded(self, allowed: Floats, expected: Floats) -> Floats:
        """Add storage and printing to an allowance that is not affine in the probabilities."""
        grid = self.export.grid
        relative, absolute = rounding(self.export.decimals)
        size = np.abs(expected)
        size[np.isinf(size)] = 0.0
        allowed *= 1.0 + grid.unit
        allowed += (grid.unit + relative) * size + absolute + grid.smallest_subnormal
        return allowed


@dataclass(frozen=True, eq=False)
class RowLosses:
    """Exported losses of the rows (reduction none), without upstream, against the truth."""

    export: Export
    loss: Loss
    tolerance: Tolerance | None = None
    name: str = "loss"

    def look(self, block: Block, look: Look) -> Finding:
        """Compare the block's rows."""
        got = np.empty(len(block.f.rows))
        self.export.rows.read(block.start, block.stop, got)
        expected, allowed = true_losses(block, self.loss, self.export)
        if self.tolerance is not None:
            allowed = self.tolerance.spread(expected, allowed)
        else:
            relative, absolute = rounding(self.export.decimals)
            grid = self.export.grid
            allowed += (grid.unit + relative) * expected + absolute + grid.smallest_subnormal
        return _small(got[:, None], expected[:, None], allowed[:, None], look)


def true_losses(
    block: Block, loss: Loss, models: Models, divisor: float = 1.0, z_divisor: float = 1.0
) -> tuple[Floats, Floats]:
    """Return each row's share of the loss, 0 where ignored, and its allowance: (n,), (n,)."""
    plain = cross_entropy.row_losses(block.f, block.q, block.room.work)
    square = loss.z_loss * block.f.lse**2
    least = min(divisor, z_divisor)
    own = accuracy.loss_error(block.f, block.q, loss, plain, FLOAT64, None)
    model = accuracy.loss_error(block.f, block.q, loss, plain, models.compute, models.native)
    return (plain / divisor + square / z_divisor) * block.counted, (own + model) * block.counted / least


def _plain(block: Block, loss: Loss) -> Floats:
    """Return upstream over divisor, without the 1/T that the scale holds for dv/dz."""
    return block.by.s if block.f.slope is not None else block.by.s * loss.link.temperature


def _small(got: Floats, expected: Floats, allowed: Floats, look: Look) -> Finding:
    """Compare arrays of a few numbers a row."""
    if not got.size:
        return Finding()
    return compare(got, expected, allowed, look, np.empty_like(got), np.empty_like(got))

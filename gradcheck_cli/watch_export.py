"""An exported gradient, or probabilities, at a glance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck_cli.blocks import Seen
from gradcheck_cli.bounds import ACCEPTED, Ladder, least_rates, surely_clear
from gradcheck_cli.comparisons import known
from gradcheck_cli.exports import Export
from gradcheck_cli.findings import A_HAIR_LESS, Finding, Sides, Tally, compare
from gradcheck_cli.glance import Glimpse, places, reach
from gradcheck_cli.grades import ARITHMETIC, Grade, tightest
from gradcheck_cli.numeric.cross_entropy import Loss
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices, Planes
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags
from gradcheck_cli.watch_difference import compare_pivots

_FEW = 1.0 / 16.0
"""Share of a tile's entries up to which they are compared one by one."""

_ROUNDING = 2.0**-50
"""More than what two quotients and three products round, relative to the entry."""

_TINY = 2.0**-1074

_ENOUGH = 1 << 14
"""Entries from which on their errors are counted in ulps, all at once."""


@dataclass(frozen=True)
class _Limits:
    """Relative errors up to which an entry changes nothing, and the absolute error on record."""

    strict: float  # of every entry
    loose: float  # without regard to the largest error in ulps
    narrow: float  # of an entry just below a power of two, in ulps; just above it twice as much is the same
    absolute: float

    def remarkable(self, off: Floats, right: Floats, w: Floats) -> Flags:
        """Return which entries may change something, by |got - right w| over w, right, and w: (m,) each.

        A relative error r of an entry f 2^e, 1/2 <= f < 1, is r f 2^digits ulps; of a subnormal one less.
        """
        size = np.abs(right)
        fraction, _ = np.frexp(size * w * A_HAIR_LESS)  # of what rounding may not lift over a power of two
        fine = off <= self.loose * size
        fine &= off * fraction <= self.narrow * size
        fine &= (off + _ROUNDING * size) * w <= self.absolute
        return ~fine


class WatchExport:
    """An exported gradient, or probabilities, over w_j."""

    def __init__(self, export: Export, loss: Loss, tally: Tally) -> None:
        self.name = export.name
        self._export = export
        self._tally = tally
        self._of_loss = export.name == "grad"
        self._least = least_rates(export, loss, export.rows.classes)
        self._closely: list[Flags] = []
        self._own: list[Floats] = []  # (n,) what was got in the label's column
        self._open: list[tuple[Indices, Indices, Floats]] = []  # rows, columns, (3, m) got, a and d
        self._sampled: list[tuple[Indices, Floats, Floats]] = []  # rows, got, a
        self._counted: list[tuple[Floats, Floats]] = []  # got, expected, to be counted in ulps

    def look(self, seen: Glimpse) -> Flags | None:
        """Divide by w_j; leave open what may change the result, or ask for a close look if that is much."""
        got, at_label = seen.plane(seen.room.got), (seen.rows, seen.labels)
        seen.room.read(self._export.rows, seen.start, got)
        own = got[at_label]
        sampled = self._sampled_from(seen, got)
        right = seen.inverse * seen.coefficient if self._of_loss else seen.inverse
        quotient = np.divide(got, seen.w, out=got)
        quotient[at_label] = right
        size, limits = np.abs(right), self._limits()
        off = reach(quotient, right)
        fine = (off <= limits.strict * size) & (off + _ROUNDING * size <= limits.absolute)
        much = not fine.all() and not self._leave_open(seen, quotient, right, np.flatnonzero(~fine), limits)
        self._closely.append(np.full(len(fine), much))
        self._own.append(own)
        if much:
            return self._closely[-1]
        self._sampled += sampled
        return None

    def _limits(self) -> _Limits:
        margin, relative, ulps = self._tally.thresholds()
        limit = min(relative, margin * self._least[ACCEPTED].outside)
        if self._tally.model < ACCEPTED:
            limit = min(limit, self._least[self._tally.model].outside)
        in_ulps = ulps * 2.0**-self._export.grid.digits
        loose, narrow = (A_HAIR_LESS * each - _ROUNDING for each in (limit, in_ulps))
        return _Limits(min(loose, narrow), loose, narrow, self._tally.finding.max_abs)

    def _leave_open(
        self, seen: Glimpse, quotient: Floats, right: Floats, rows: Indices, limits: _Limits
    ) -> bool:
        """Keep the entries that may change the result, unless there are too many to look at one by one."""
        rows, chosen = _cut(rows)
        quotient, w = quotient[chosen], seen.w[chosen]
        middle, size = right[chosen, None], np.abs(right[chosen, None])
        fine = quotient <= middle + limits.strict * size
        fine &= quotient >= middle - limits.strict * size
        above, below = (each.reduce(quotient, axis=1, keepdims=True) for each in (np.fmax, np.fmin))
        off = np.maximum(above - middle, middle - below) + _ROUNDING * size
        fine &= w < max(limits.absolute, _TINY) / off
        within, columns = places(~fine)
        if columns.size > _FEW * seen.w.size:
            return False
        off, a = np.abs(quotient[within, columns] - right[rows[within]]), w[within, columns]
        keep = limits.remarkable(off, right[rows[within]], a)
        if keep.any():
            at = (rows[within][keep], columns[keep])
            a = seen.w[at] * seen.inverse[at[0]]
            numbers = np.stack([seen.stored(self._export.rows, at), a, seen.depths(at)])
            self._open.append((seen.waiting + at[0], at[1], numbers))
        return True

    def _sampled_from(self, seen: Glimpse, got: Floats) -> list[tuple[Indices, Floats, Floats]]:
        """Return the rows whose errors are counted in ulps."""
        chosen = self._tally.turns(seen.start, len(got))
        if chosen is None:
            return []
        a = seen.w[chosen] * seen.inverse[chosen, None]
        return [(seen.waiting + seen.rows[chosen], got[chosen].copy(), a)]

    def settle(self, seen: Seen) -> None:
        """Compare the label's column and what was left open."""
        closely, own = np.concatenate(self._closely), np.concatenate(self._own)
        chosen = np.flatnonzero(~closely)
        if chosen.size:
            right = seen.at.own_gradient if self._of_loss else seen.at.sums.own_a
            self._collect(seen, right)
            self._settle(seen, chosen, own, right)
        for each in (self._closely, self._own, self._open, self._sampled):
            each.clear()

    def finish(self) -> None:
        """Count errors in ulps, all at once."""
        if self._counted:
            self._tally.add_ulps(*(np.concatenate([each[i] for each in self._counted]) for i in (0, 1)))
            self._counted.clear()

    def _collect(self, seen: Seen, right: Floats) -> None:
        """Note what is right in the rows whose errors are counted in ulps."""
        for rows, got, a in self._sampled:
            expected = a * seen.at.coefficient[rows, None] if self._of_loss else a
            expected[np.arange(len(rows)), seen.at.sums.pivot[rows]] = right[rows]
            self._counted.append((np.ravel(got), np.ravel(expected)))
        if sum(got.size for got, _ in self._counted) >= _ENOUGH:
            self.finish()

    def _settle(self, seen: Seen, chosen: Indices, own: Floats, right: Floats) -> None:
        """Compare in full what may change the result; bounds are worked out for the rows concerned alone."""
        doubtful = chosen[self._remarkable(seen, own, right)[chosen]]
        rows = _without_repeats(np.concatenate([doubtful, *(each[0] for each in self._open)]))
        if self._export.logits is not None or not surely_clear(seen.at, self._export):
            rows = np.arange(len(own))
        ladder = Ladder(seen.at.part(rows), self._export)
        compared = self._settle_open(seen, ladder, rows)
        if doubtful.size:
            within = np.searchsorted(rows, doubtful)
            sides = Sides(own[doubtful], right[doubtful], ladder.bound(ACCEPTED).own[within])
            finding, error = compare_pivots(seen.part(doubtful), sides, self._tally)
            _grade(finding, error, self._tally, lambda model: ladder.bound(model).own[within])
        self._tally.pass_over(len(chosen) * seen.at.sums.classes - compared - len(doubtful))
        counted = seen.counted[chosen]
        if len(rows) == len(own):
            known(ladder, counted, chosen, self._tally)
        else:
            self._tally.needs(self._export.finest)
            self._tally.add(Finding(grade=Grade(clear=int(np.count_nonzero(counted)))))

    def _remarkable(self, seen: Seen, own: Floats, right: Floats) -> Flags:
        """Tell which entries of the label's column may change the result: (n,), (n,) to (n,)."""
        error, size = np.abs(own - right), np.abs(right)
        scale = seen.at.sums.own_a * (seen.at.magnitude if self._of_loss else 1.0)
        margin, relative, ulps = self._tally.thresholds()
        fine = error <= np.minimum(A_HAIR_LESS * relative * size, self._tally.finding.max_abs)
        for model, share in ((ACCEPTED, margin), (self._tally.model, 1.0)):
            if model <= ACCEPTED:
                rate = self._least[model]
                fine &= error <= A_HAIR_LESS * share * (rate.fixed * scale + rate.relative * size)
        _, exponent = np.frexp(A_HAIR_LESS * size)
        fine &= error <= np.ldexp(A_HAIR_LESS * ulps * 2.0**-self._export.grid.digits, exponent)
        return ~fine

    def _settle_open(self, seen: Seen, ladder: Ladder, known_rows: Indices) -> int:
        """Compare single entries in full, as rows of one class each; return how many."""
        if not self._open:
            return 0
        rows, columns = (np.concatenate([each[i] for each in self._open]) for i in (0, 1))
        got, a, d = (each[:, None] for each in np.concatenate([each[2] for each in self._open], axis=1))
        within, none = np.searchsorted(known_rows, rows), np.zeros(len(rows), dtype=np.int64)
        single = Planes(d, a, None, np.arange(len(rows)), none)
        point = ladder.point.part(within)
        right = a * point.coefficient[:, None]
        allowed, error, work = np.empty((3, len(rows), 1))

        def spread(model: Model) -> Floats:
            allowance = ladder.bound(model).allowance.part(within)
            return allowance.outside_pivot(point, single, right, allowed, work)

        look = self._tally.look(lambda each: (int(seen.numbers[rows[each]]), int(columns[each])))
        finding = compare(Sides(got, right, spread(ACCEPTED)), look, error, work)
        _grade(finding, error, self._tally, spread)
        self._tally.add(finding)
        return len(rows)


def _cut(rows: Indices) -> tuple[Indices, slice | Indices]:
    """Return rows, and what chooses them: a slice where they lie close together, for that copies nothing."""
    first, stop = int(rows[0]), int(rows[-1]) + 1
    if stop - first <= 2 * len(rows):
        return np.arange(first, stop), slice(first, stop)
    return rows, rows


def _without_repeats(numbers: Indices) -> Indices:
    """Return numbers in order, each once; np.unique imports numpy.ma, which takes longer than a check."""
    ordered = np.sort(numbers)
    return ordered[np.diff(ordered, prepend=-1) > 0]


def _grade(finding: Finding, error: Floats, tally: Tally, spread: Callable[[Model], Floats]) -> None:
    """Note the tightest model that explains the errors of a comparison."""
    if finding.failing:
        tally.needs(Model.NONE)
    else:
        ways = (*ARITHMETIC, ACCEPTED)
        tally.needs(tightest(tally.model, ways, lambda model: bool((error <= spread(model)).all())))

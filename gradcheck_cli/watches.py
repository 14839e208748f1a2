"""What a glance watches: finite differences, and exported gradients and probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.blocks import Seen
from gradcheck_cli.bounds import ACCEPTED, Ladder, least_rates
from gradcheck_cli.comparisons import known
from gradcheck_cli.exports import Export
from gradcheck_cli.findings import A_HAIR_LESS, Entry, Finding, Sides, Tally, compare
from gradcheck_cli.glance import Glimpse
from gradcheck_cli.grades import ARITHMETIC, tightest
from gradcheck_cli.numeric import difference, ruler
from gradcheck_cli.numeric.cross_entropy import Loss
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices, Planes
from gradcheck_cli.refusals import Flags

_FEW = 1.0 / 16.0
"""Share of a tile's entries up to which they are compared one by one."""

_ROUNDING = 2.0**-50
"""More than what two quotients and three products round, relative to the entry."""


_TINY = 2.0**-1074


class WatchDifference:
    """The log ratios of the central difference, 2h times the factor s Q that both sides share, over w_j.

    That factor is left out: an entry's relative error is that of its quotient over 2h / S, held to the one
    bound that holds for every entry. Rows in which it does not, or in which some w_j is 0, need a close look.
    """

    name = "difference"

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._allowed = ruler.relative_error()
        self._doubtful: list[Flags] = []

    def look(self, seen: Glimpse) -> Flags | None:
        """Divide the log ratios by w_j and look at the extremes of each row."""
        quotient = np.divide(seen.ratios, seen.w, out=seen.ratios)
        exact = seen.inverse * (2.0 * difference.STEP)
        quotient[seen.rows, seen.labels] = exact
        off = _reach(quotient, exact)
        off /= exact
        doubtful: Flags = ~(off <= self._allowed)
        self._doubtful.append(doubtful)
        some = bool(doubtful.any())
        if some:
            off[doubtful] = 0.0
        self._record(seen, quotient, off)
        return doubtful if some else None

    def _record(self, seen: Glimpse, quotient: Floats, off: Floats) -> None:
        """Enter what exceeds what is on record; no a_j is larger than 1 / S."""
        self._record_largest(seen, quotient, off * np.abs(seen.coefficient) * seen.inverse)
        tally, most = self._tally, float(off.max())
        if most <= tally.finding.max_rel and not self._among_the_worst(most / self._allowed, seen.start):
            return
        off = np.where(seen.coefficient == 0.0, 0.0, off)
        most, margins = float(off.max()), off / self._allowed
        if most > tally.finding.max_rel:
            tally.add(Finding(max_rel=most, max_margin=most / self._allowed))
        for row in np.argsort(-margins, kind="stable"):
            if not self._among_the_worst(float(margins[row]), seen.start + int(row)):
                break
            tally.add(Finding(worst=self._worst(seen, quotient, int(row))))

    def _record_largest(self, seen: Glimpse, quotient: Floats, limit: Floats) -> None:
        """Enter an absolute error that exceeds the one on record, given what w_j times is no less: (n,)."""
        on_record = self._tally.finding.max_abs
        if not float(limit.max()) > on_record:
            return
        rows, columns = _places(seen.w >= (on_record / limit)[:, None])
        exact = seen.inverse[rows] * (2.0 * difference.STEP)
        errors = np.abs(quotient[rows, columns] / exact - 1.0) * seen.w[rows, columns]
        largest = float((errors * np.abs(seen.coefficient[rows]) * seen.inverse[rows]).max(initial=0.0))
        if largest > on_record:
            self._tally.add(Finding(max_abs=largest))

    def _among_the_worst(self, margin: float, row: int) -> bool:
        """Tell whether entries with this margin belong to the worst; of those that tie, the first do."""
        worst, top = self._tally.finding.worst, self._tally.top
        if margin <= 0.0 or not top:
            return False
        return len(worst) < top or (-margin, row) < worst[top - 1].rank[:2]

    def _worst(self, seen: Glimpse, quotient: Floats, row: int) -> tuple[Entry, ...]:
        """Return the worst entries of a row."""
        inverse, factor = float(seen.inverse[row]), float(seen.coefficient[row])
        errors = np.abs(quotient[row] / (inverse * (2.0 * difference.STEP)) - 1.0)
        columns = np.argsort(-errors, kind="stable")[: self._tally.top]
        entries = []
        for column in columns[errors[columns] > 0.0]:
            w, relative = float(seen.w[row, column]), float(errors[column])
            right = w * inverse * factor
            got = float(quotient[row, column]) * w * (factor * (0.5 / difference.STEP))
            numbers = (relative * abs(right), self._allowed * abs(right), relative / self._allowed)
            entries.append(Entry(seen.start + row, int(column), got, right, *numbers))
        return tuple(entries)

    def settle(self, seen: Seen) -> None:
        """Compare the label's column."""
        chosen = np.flatnonzero(~np.concatenate(self._doubtful))
        self._doubtful.clear()
        if not chosen.size:
            return
        rows = seen.part(chosen)
        at = rows.at
        own = ruler.difference_at_pivot(at, ruler.difference_error(at), 1.0)
        sides = Sides(difference.central_at_pivot(at, None), at.own_gradient, own)
        _compare_pivots(rows, sides, self._tally)
        self._tally.pass_over(len(chosen) * (at.sums.classes - 1))


@dataclass(frozen=True)
class _Limits:
    """Relative errors up to which an entry changes nothing, and the absolute error on record."""

    strict: float  # of every entry
    loose: float  # without regard to the largest error in ulps
    narrow: float  # of an entry just below a power of two, in ulps; just above it twice as much is the same
    absolute: float

    def passed_by(self, off: Floats, right: Floats, w: Floats) -> Flags:
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
        self._least = least_rates(export, loss, export.rows.classes)
        self._closely: list[Flags] = []
        self._own: list[Floats] = []  # (n,) what was got in the label's column
        self._open: list[tuple[Indices, Indices, Floats]] = []  # rows, columns, (3, m) got, a and d
        self._sampled: list[tuple[Indices, Floats, Floats]] = []  # rows, got, a

    def look(self, seen: Glimpse) -> Flags | None:
        """Divide by w_j; leave open what may change the result, or ask for a close look if that is much."""
        got, at_label = seen.plane(seen.room.got), (seen.rows, seen.labels)
        seen.room.read(self._export.rows, seen.start, got)
        own = got[at_label]
        sampled = self._sampled_from(seen, got)
        right = seen.inverse * seen.coefficient if self.name == "grad" else seen.inverse
        quotient = np.divide(got, seen.w, out=got)
        quotient[at_label] = right
        size, limits = np.abs(right), self._limits()
        off = _reach(quotient, right)
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
        limit = min(relative, margin * self._least[ACCEPTED])
        if self._tally.model < ACCEPTED:
            limit = min(limit, self._least[self._tally.model])
        in_ulps = ulps * 2.0**-self._export.grid.digits
        loose, narrow = (A_HAIR_LESS * each - _ROUNDING for each in (limit, in_ulps))
        return _Limits(min(loose, narrow), loose, narrow, self._tally.finding.max_abs)

    def _leave_open(
        self, seen: Glimpse, quotient: Floats, right: Floats, rows: Indices, limits: _Limits
    ) -> bool:
        """Keep the entries that may change the result, unless there are too many to look at one by one."""
        quotient, w = quotient[rows], seen.w[rows]
        middle, reach = right[rows, None], np.abs(right[rows, None])
        fine = quotient <= middle + limits.strict * reach
        fine &= quotient >= middle - limits.strict * reach
        above, below = (each.reduce(quotient, axis=1, keepdims=True) for each in (np.fmax, np.fmin))
        off = np.maximum(above - middle, middle - below) + _ROUNDING * reach
        fine &= w < max(limits.absolute, _TINY) / off
        within, columns = _places(~fine)
        if columns.size > _FEW * seen.w.size:
            return False
        off, a = np.abs(quotient[within, columns] - right[rows[within]]), w[within, columns]
        keep = limits.passed_by(off, right[rows[within]], a)
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
            self._settle(seen, chosen, own)
        for each in (self._closely, self._own, self._open, self._sampled):
            each.clear()

    def _settle(self, seen: Seen, chosen: Indices, own: Floats) -> None:
        ladder = Ladder(seen.at, self._export)
        point, tally = ladder.point, self._tally
        bound = ladder.bound(ACCEPTED)
        classes = point.sums.classes
        tally.pass_over(len(chosen) * (classes - 1) - self._settle_open(seen, ladder))
        part, right = seen.part(chosen), point.own_gradient if self.name == "grad" else point.sums.own_a
        sides = Sides(own[chosen], right[chosen], bound.own[chosen])
        finding, error = _compare_pivots(part, sides, tally)
        _grade(finding, error, tally, lambda model: ladder.bound(model).own[chosen])
        known(ladder, part.counted, chosen, tally)
        for rows, got, a in self._sampled:
            expected = a * point.coefficient[rows][:, None]
            expected[np.arange(len(rows)), point.sums.pivot[rows]] = right[rows]
            tally.add_ulps(got, expected)

    def _settle_open(self, seen: Seen, ladder: Ladder) -> int:
        """Compare single entries in full, as rows of one class each; return how many."""
        if not self._open:
            return 0
        rows, columns = (np.concatenate([each[i] for each in self._open]) for i in (0, 1))
        got, a, d = (each[:, None] for each in np.concatenate([each[2] for each in self._open], axis=1))
        none = np.zeros(len(rows), dtype=np.int64)
        single = Planes(d, a, None, np.arange(len(rows)), none)
        point = ladder.point.part(rows)
        right = a * point.coefficient[:, None]
        allowed, error, work = np.empty((3, len(rows), 1))

        def spread(model: Model) -> Floats:
            allowance = ladder.bound(model).allowance.part(rows)
            return allowance.outside_pivot(point, single, right, allowed, work)

        look = self._tally.look(lambda each: (int(seen.numbers[rows[each]]), int(columns[each])))
        finding = compare(Sides(got, right, spread(ACCEPTED)), look, error, work)
        _grade(finding, error, self._tally, spread)
        self._tally.add(finding)
        return len(rows)


def _reach(plane: Floats, middle: Floats) -> Floats:
    """Return how far the entries of each row lie from a number at most: (n, K), (n,) to (n,)."""
    above: Floats = np.maximum.reduce(plane, axis=1) - middle
    below: Floats = middle - np.minimum.reduce(plane, axis=1)
    return np.maximum(above, below, out=above)


def _places(chosen: Flags) -> tuple[Indices, Indices]:
    """Return rows and columns of what is chosen of a plane; of a flattened one NumPy finds it faster."""
    if chosen.flags.c_contiguous:
        return np.divmod(np.flatnonzero(chosen), chosen.shape[1])
    columns, rows = np.divmod(np.flatnonzero(chosen.T), len(chosen))
    return rows, columns


def _compare_pivots(seen: Seen, sides: Sides, tally: Tally) -> tuple[Finding, Floats]:
    """Compare the label's column of rows."""
    pivot, numbers = seen.at.sums.pivot, seen.numbers
    look = tally.look(lambda row: (int(numbers[row]), int(pivot[row])))
    error = np.empty_like(sides.allowed)
    finding = compare(sides, look, error, np.empty_like(error))
    tally.add(finding)
    return finding, error


def _grade(finding: Finding, error: Floats, tally: Tally, spread: Callable[[Model], Floats]) -> None:
    """Note the tightest model that explains the errors of a comparison."""
    if finding.failing:
        tally.needs(Model.NONE)
    else:
        ways = (*ARITHMETIC, ACCEPTED)
        tally.needs(tightest(tally.model, ways, lambda model: bool((error <= spread(model)).all())))

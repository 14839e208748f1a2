"""What a glance watches: finite differences, and exported gradients and probabilities."""

from __future__ import annotations

from collections.abc import Callable

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

_ROUNDING = 2.0**-51
"""More than what a quotient and two products round, relative to the entry."""


class WatchDifference:
    """The central difference over a_j, which is 2h times the factor s Q that both sides share.

    That factor is left out: an entry's relative error is that of its quotient, held to the one bound that
    holds for every entry. Rows in which it does not, or in which some a_j is 0, need a close look.
    """

    name = "difference"

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._allowed = ruler.relative_error()
        self._doubtful: list[Flags] = []

    def look(self, seen: Glimpse) -> Flags | None:
        """Divide the logarithms by a_j and look at the extremes of each row."""
        logs = difference.log_ratios(seen.a, seen.plane(seen.room.got))
        quotient = np.divide(logs, seen.a, out=seen.plane(seen.room.error))
        quotient[seen.rows, seen.labels] = 2.0 * difference.STEP
        lowest, highest = quotient.min(axis=1), quotient.max(axis=1)
        scale = 0.5 / difference.STEP  # a power of two: nothing is rounded
        off = np.maximum(highest * scale - 1.0, 1.0 - lowest * scale)
        doubtful: Flags = ~(off <= self._allowed)
        self._doubtful.append(doubtful)
        off[doubtful | (seen.coefficient == 0.0)] = 0.0
        self._record(seen, quotient, off)
        return doubtful if doubtful.any() else None

    def _record(self, seen: Glimpse, quotient: Floats, off: Floats) -> None:
        """Enter what exceeds what is on record."""
        tally = self._tally
        most = float(off.max())
        if most > tally.finding.max_rel:
            tally.add(Finding(max_rel=most, max_margin=most / self._allowed))
        largest = off * np.abs(seen.coefficient) * seen.likeliest
        rows = np.flatnonzero(largest > tally.finding.max_abs)
        if rows.size:
            entries = self._errors(quotient[rows]) * seen.a[rows]
            tally.add(Finding(max_abs=float((entries.max(axis=1) * np.abs(seen.coefficient[rows])).max())))
        margins = off / self._allowed
        first = int(margins.argmax())
        if self._among_the_worst(float(margins[first]), seen.start + first):
            for row in np.argsort(-margins, kind="stable"):
                if not self._among_the_worst(float(margins[row]), seen.start + int(row)):
                    break
                tally.add(Finding(worst=self._worst(seen, quotient, int(row))))

    def _among_the_worst(self, margin: float, row: int) -> bool:
        """Tell whether entries with this margin belong to the worst; of those that tie, the first do."""
        worst, top = self._tally.finding.worst, self._tally.top
        if margin <= 0.0 or not top:
            return False
        return len(worst) < top or (-margin, row) < worst[top - 1].rank[:2]

    @staticmethod
    def _errors(quotient: Floats) -> Floats:
        errors: Floats = np.abs(quotient * (0.5 / difference.STEP) - 1.0)
        return errors

    def _worst(self, seen: Glimpse, quotient: Floats, row: int) -> tuple[Entry, ...]:
        """Return the worst entries of a row."""
        errors = self._errors(quotient[row])
        columns = np.argsort(-errors, kind="stable")[: self._tally.top]
        factor = float(seen.coefficient[row])
        entries = []
        for column in columns[errors[columns] > 0.0]:
            right, relative = float(seen.a[row, column]) * factor, float(errors[column])
            got = float(seen.plane(seen.room.got)[row, column]) * (factor * (0.5 / difference.STEP))
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


class WatchExport:
    """An exported gradient, or probabilities, over a_j."""

    def __init__(self, export: Export, loss: Loss, tally: Tally) -> None:
        self.name = export.name
        self._export = export
        self._tally = tally
        self._least = least_rates(export, loss, export.rows.classes)
        self._closely: list[Flags] = []
        self._own: list[Floats] = []  # (2, n) got and a in the label's column
        self._open: list[tuple[Indices, Indices, Floats]] = []  # rows, columns, (3, m) got, a and d
        self._sampled: list[tuple[Indices, Floats, Floats]] = []  # rows, got, a

    def look(self, seen: Glimpse) -> Flags | None:
        """Divide by a_j; leave open what may change the result, or ask for a close look if that is much."""
        got = seen.plane(seen.room.got)
        seen.room.read(self._export.rows, seen.start, got)
        right = seen.coefficient if self.name == "grad" else np.ones_like(seen.coefficient)
        quotient = np.divide(got, seen.a, out=seen.plane(seen.room.error))
        quotient[seen.rows, seen.labels] = right
        size, limit, most = np.abs(right), self._limit(), self._tally.finding.max_abs
        off = np.maximum(quotient.max(axis=1) - right, right - quotient.min(axis=1))
        fine = (off <= limit * size) & ((off + _ROUNDING * size) * seen.likeliest <= most)
        much = not fine.all() and not self._leave_open(seen, quotient, right, np.flatnonzero(~fine), limit)
        self._closely.append(np.full(len(fine), much))
        at_label = (seen.rows, seen.labels)
        self._own.append(np.stack([got[at_label], seen.a[at_label]]))
        if much:
            return self._closely[-1]
        self._sample(seen, got)
        return None

    def _limit(self) -> float:
        """Return the relative error up to which an entry changes nothing."""
        margin, relative = self._tally.thresholds()
        limit = min(relative, margin * self._least[ACCEPTED])
        if self._tally.model < ACCEPTED:
            limit = min(limit, self._least[self._tally.model])
        return A_HAIR_LESS * limit - _ROUNDING

    def _leave_open(
        self, seen: Glimpse, quotient: Floats, right: Floats, rows: Indices, limit: float
    ) -> bool:
        """Keep the entries that may change the result, unless they are too many."""
        size = np.abs(right[rows])[:, None]
        off = np.abs(quotient[rows] - right[rows, None])
        most = self._tally.finding.max_abs
        keep = ~((off <= limit * size) & ((off + _ROUNDING * size) * seen.a[rows] <= most))
        if np.count_nonzero(keep) > _FEW * quotient.size:
            return False
        within, columns = np.nonzero(keep)
        at = (rows[within], columns)
        if columns.size:
            numbers = np.stack([seen.plane(seen.room.got)[at], seen.a[at], seen.d[at]])
            self._open.append((seen.waiting + rows[within], columns, numbers))
        return True

    def _sample(self, seen: Glimpse, got: Floats) -> None:
        """Keep the rows whose errors are counted in ulps."""
        chosen = self._tally.turns(seen.start, len(got))
        if chosen is not None:
            self._sampled.append(
                (seen.waiting + seen.rows[chosen], got[chosen].copy(), seen.a[chosen].copy())
            )

    def settle(self, seen: Seen) -> None:
        """Compare the label's column and what was left open."""
        closely, own = np.concatenate(self._closely), np.concatenate(self._own, axis=1)
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
        part, right = seen.part(chosen), point.own_gradient if self.name == "grad" else own[1]
        sides = Sides(own[0][chosen], right[chosen], bound.own[chosen])
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

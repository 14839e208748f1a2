"""The finite difference at a glance, and how the label's column of rows is compared."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.blocks import Seen
from gradcheck_cli.findings import A_HAIR_LESS, Entry, Finding, Sides, Tally, compare
from gradcheck_cli.glance import Glimpse, places, reach
from gradcheck_cli.numeric import difference, ruler
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.refusals import Flags


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
        off = reach(quotient, exact)
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
        known = most <= tally.finding.max_rel and most / self._allowed <= tally.finding.max_margin
        if known and not self._among_the_worst(most / self._allowed, seen.start):
            return
        off = np.where(seen.coefficient == 0.0, 0.0, off)
        most, margins = float(off.max()), off / self._allowed
        tally.add(Finding(max_rel=most, max_margin=most / self._allowed))
        for row in np.argsort(-margins, kind="stable").tolist():
            if not self._among_the_worst(float(margins[row]), seen.start + row):
                break
            tally.add(Finding(worst=self._worst(seen, quotient[row], row)))

    def _record_largest(self, seen: Glimpse, quotient: Floats, limit: Floats) -> None:
        """Enter an absolute error that exceeds the one on record, given what w_j times is no less: (n,)."""
        on_record = self._tally.finding.max_abs
        if not float(limit.max()) > on_record:
            return
        rows, columns = places(seen.w >= (on_record / limit)[:, None])
        exact = seen.inverse[rows] * (2.0 * difference.STEP)
        errors = np.abs(quotient[rows, columns] - exact) / exact * seen.w[rows, columns]
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
        """Return the worst entries of a row, given its quotients: (K,)."""
        inverse, factor = float(seen.inverse[row]), float(seen.coefficient[row])
        exact = inverse * (2.0 * difference.STEP)
        errors = np.abs(quotient - exact) / exact  # the same bits as the row's own
        entries, bar = [], self._tally.finding.bar(self._tally.top) * self._allowed * A_HAIR_LESS
        for _ in range(min(self._tally.top, len(errors))):
            column = int(errors.argmax())  # the first of those that tie
            relative = float(errors[column])
            if not (relative > 0.0 and relative >= bar):
                break
            errors[column] = -1.0
            w = float(seen.w[row, column])
            right = w * inverse * factor
            got = float(quotient[column]) * w * (factor * (0.5 / difference.STEP))
            numbers = (relative * abs(right), self._allowed * abs(right), relative / self._allowed)
            entries.append(Entry(seen.start + row, column, got, right, *numbers))
        return tuple(entries)

    def settle(self, seen: Seen) -> None:
        """Compare the label's column."""
        chosen = np.flatnonzero(~np.concatenate(self._doubtful))
        self._doubtful.clear()
        if not chosen.size:
            return
        rows = seen if len(chosen) == len(seen.numbers) else seen.part(chosen)
        at = rows.at
        own = ruler.difference_at_pivot(at, ruler.difference_error(at), 1.0)
        sides = Sides(difference.central_at_pivot(at, None), at.own_gradient, own)
        compare_pivots(rows, sides, self._tally)
        self._tally.pass_over(len(chosen) * (at.sums.classes - 1))

    def finish(self) -> None:
        """Everything has been compared."""


def compare_pivots(seen: Seen, sides: Sides, tally: Tally) -> tuple[Finding, Floats]:
    """Compare the label's column of rows."""
    pivot, numbers = seen.at.sums.pivot, seen.numbers
    look = tally.look(lambda row: (int(numbers[row]), int(pivot[row])))
    error = np.empty_like(sides.allowed)
    finding = compare(sides, look, error, np.empty_like(error))
    tally.add(finding)
    return finding, error

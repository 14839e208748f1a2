"""The finite difference at a glance, and how the label's column of rows is compared."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.blocks import Seen
from gradcheck_cli.findings import A_HAIR_LESS, Entry, Finding, Sides, Tally, compare
from gradcheck_cli.glance import Glimpse, places
from gradcheck_cli.numeric import difference, ruler
from gradcheck_cli.numeric.difference import Quotients
from gradcheck_cli.numeric.precision import FLOAT64, Floats
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.refusals import Flags

_PART = 128
"""Classes that are looked at together when the worst of a row are looked for."""


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
        """Look at the extremes of each row's quotients."""
        off = seen.quotients.off
        doubtful: Flags = ~(off <= self._allowed)
        self._doubtful.append(doubtful)
        some = bool(doubtful.any())
        if some:
            off[doubtful] = 0.0
        self._record(seen, off)
        return doubtful if some else None

    def _record(self, seen: Glimpse, off: Floats) -> None:
        """Enter what exceeds what is on record; no a_j is larger than 1 / S."""
        self._record_largest(seen, off)
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
            tally.add(Finding(worst=self._worst(seen, row)))

    def _record_largest(self, seen: Glimpse, off: Floats) -> None:
        """Enter an absolute error that exceeds the one on record, given how far each row is off: (n,)."""
        on_record = self._tally.finding.max_abs
        factor = np.abs(seen.coefficient) * seen.inverse
        of = seen.quotients
        larger = np.flatnonzero((factor * (of.farthest / of.exact) > A_HAIR_LESS * on_record) & (off > 0.0))
        if not larger.size:
            return
        sought = max(on_record, A_HAIR_LESS * float((factor * (of.surely / of.exact))[larger].max()))
        least = np.maximum(sought / (factor * off)[larger], FLOAT64.smallest_subnormal)
        among = seen.w if larger.size == len(off) else seen.w[larger]
        rows, columns = places(among >= least[:, None])
        rows = larger[rows]
        w = seen.w[rows, columns]
        errors = _singly(w, seen.inverse[rows]).off * w
        largest = float((errors * factor[rows]).max(initial=0.0))
        if largest > on_record:
            self._tally.add(Finding(max_abs=largest))

    def _among_the_worst(self, margin: float, row: int) -> bool:
        """Tell whether entries with this margin belong to the worst; of those that tie, the first do."""
        worst, top = self._tally.finding.worst, self._tally.top
        if margin <= 0.0 or not top:
            return False
        return len(worst) < top or (-margin, row) < worst[top - 1].rank[:2]

    def _worst(self, seen: Glimpse, row: int) -> tuple[Entry, ...]:
        """Return the worst entries of a row."""
        inverse, factor = float(seen.inverse[row]), float(seen.coefficient[row])
        bar = self._tally.finding.bar(self._tally.top) * self._allowed * A_HAIR_LESS
        w = np.ascontiguousarray(seen.w[row])
        columns = _promising(w, inverse, self._tally.top)
        w = w[columns]
        each = _singly(w, np.full(len(w), inverse))
        quotients, errors = each.single, np.where(columns == seen.labels[row], 0.0, each.off)
        entries = []
        for _ in range(min(self._tally.top, len(errors))):
            place = int(errors.argmax())  # the first of those that tie
            relative = float(errors[place])
            if not (relative > 0.0 and relative >= bar):
                break
            errors[place] = -1.0
            weight = float(w[place])
            right = weight * inverse * factor
            got = float(quotients[place]) * weight * (factor * (0.5 / difference.STEP))
            numbers = (relative * abs(right), self._allowed * abs(right), relative / self._allowed)
            entries.append(Entry(seen.start + row, int(columns[place]), got, right, *numbers))
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


def _promising(w: Floats, inverse: float, top: int) -> Indices:
    """Return columns of a row among which the worst are: (K,) to (m,), in order.

    Each of so many is in a part whose own worst is one of so many, or in the label's, which shows none.
    """
    classes = len(w)
    parts = classes // _PART
    whole = w[: parts * _PART].reshape(parts, _PART)
    found = difference.quotients(whole, np.full(parts, inverse), None, np.empty_like(whole)).off
    worst = np.argsort(-np.nan_to_num(found, nan=np.inf), kind="stable")[: top + 1]
    columns = (np.sort(worst)[:, None] * _PART + np.arange(_PART)).ravel()
    return np.concatenate([columns, np.arange(parts * _PART, classes)])


def _singly(w: Floats, inverse: Floats) -> Quotients:
    """Return what the log ratios of single entries show, the same bits as among others: (m,), (m,)."""
    return difference.quotients(np.ascontiguousarray(w)[:, None], inverse, None, np.empty((len(w), 1)))


def compare_pivots(seen: Seen, sides: Sides, tally: Tally) -> tuple[Finding, Floats]:
    """Compare the label's column of rows."""
    pivot, numbers = seen.at.sums.pivot, seen.numbers
    look = tally.look(lambda row: (int(numbers[row]), int(pivot[row])))
    error = np.empty_like(sides.allowed)
    finding = compare(sides, look, error, np.empty_like(error))
    tally.add(finding)
    return finding, error

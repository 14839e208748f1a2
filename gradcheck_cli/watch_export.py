"""An exported gradient, or probabilities, at a glance."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.blocks import Seen
from gradcheck_cli.bounds import ACCEPTED, Ladder, least_native_rates, least_rates, surely_clear
from gradcheck_cli.comparisons import known
from gradcheck_cli.exports import Export
from gradcheck_cli.findings import A_HAIR_LESS, Finding, Tally
from gradcheck_cli.glance import Glimpse, places
from gradcheck_cli.grades import Grade
from gradcheck_cli.limits import A_HAIR, FAR_DOWN, Limits, Plain, Sizes
from gradcheck_cli.numeric import compiled, half
from gradcheck_cli.numeric.compiled import Places, Stored
from gradcheck_cli.numeric.cross_entropy import Loss
from gradcheck_cli.numeric.precision import FLOAT64, Floats
from gradcheck_cli.numeric.softmax import Indices, Sums
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags
from gradcheck_cli.singly import Picked, judge

_FEW = 1.0 / 16.0
"""Share of a tile's entries up to which they are compared one by one."""

_SOME = 1.0 / 4.0
"""Share up to which it is worth a look which of them matter once their own depth is known."""

_ENOUGH = 1 << 14
"""Entries from which on their errors are counted in ulps, all at once."""

_LEAST = 2.0**-1000
"""Products above this are not 0, in whatever order they are formed."""


@dataclass(frozen=True, eq=False)
class _Filling:
    """What of some rows of a 16-bit export should not be 0, and what is; the label's column is left out."""

    filled: Indices  # (n,) how many should not be
    flushed: int  # how many of these are
    zero: Flags | None  # (n, K) what is, if anything


class WatchExport:
    """An exported gradient, or probabilities, next to one number of each row times w_j."""

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
        self._filled: list[Indices] = []  # (n,) of a 16-bit export: see `_Filling`

    def look(self, seen: Glimpse) -> Flags | None:
        """Subtract what is right, and leave open what may change the result.

        If that is much, ask for a close look.
        """
        got = seen.room.read_floats(self._export.rows, seen.start, seen.plane(seen.room.got))
        at_label = seen.rows, seen.labels
        own, sampled = got[at_label].astype(np.float64), self._sampled_from(seen, got)
        right = seen.inverse * seen.coefficient if self._of_loss else seen.inverse
        filling = self._filling(seen, got, right) if self._export.grid.half else None
        got[at_label] = 0.0
        much = not self._leave_open(seen, got, right, filling.zero if filling else None)
        closely = np.full(len(own), much)
        self._closely.append(closely)
        self._own.append(own)
        if filling is not None:
            self._filled.append(filling.filled)
        if much:
            return closely
        self._sampled += sampled
        if filling is not None:
            self._tally.add(Finding(grade=Grade(flushed=filling.flushed)))
        return None

    def _filling(self, seen: Glimpse, got: Stored, right: Floats) -> _Filling:
        """Return what should not be 0 and what is, without a look at each product where all are large."""
        zero = got == 0.0
        zero[seen.rows, seen.labels] = False
        some = bool(zero.any())
        if not some and float((seen.least * np.abs(right)).min()) > _LEAST:
            return _Filling(np.full(len(right), got.shape[1] - 1), 0, None)
        expected = seen.w * seen.inverse[:, None]
        if self._of_loss:
            expected *= seen.coefficient[:, None]
        there = expected != 0.0
        filled, flushed = np.count_nonzero(there, axis=1), int(np.count_nonzero(zero & there))
        return _Filling(filled, flushed, zero if some else None)

    def _leave_open(self, seen: Glimpse, got: Stored, right: Floats, zero: Flags | None) -> bool:
        """Keep the entries that may change the result, unless there are too many to look at one by one.

        What was got is 0 in the label's column.
        """
        limits = Limits.of(self._tally, self._export, self._least, self._plain(seen))
        near = self._near(seen, limits, got, right * (1.0 - A_HAIR), zero)
        if near is None:
            return False
        at, of = near
        if len(at[0]):
            sloped = limits.sloped[at[0]] if self._export.native is None else self._sloped(seen, at)
            kept, _ = _where(limits.of_entries(at[0], sloped).exceeded(of))
            kept = kept[at[1][kept] != seen.labels[at[0][kept]]]  # a row may allow no error at all
            at = at[0][kept], at[1][kept]
        if len(at[0]) > _FEW * got.size:
            return False
        if len(at[0]):
            a = seen.w[at] * seen.inverse[at[0]]
            numbers = np.array([got[at], a, seen.depths(at)], dtype=np.float64)
            self._open.append((seen.waiting + at[0], at[1], numbers))
        return True

    def _near(
        self, seen: Glimpse, limits: Limits, got: Stored, factor: Floats, zero: Flags | None
    ) -> tuple[Places, Sizes] | None:
        """Return the entries near their limits, or None if they are too many."""
        most = int((_FEW if self._export.native is None else _SOME) * got.size)
        loops = compiled.loops()
        if loops is None:
            of = self._sizes(seen, got, factor, zero)
            at = _where(limits.exceeded(of))
            return (at, of.at(*at)) if len(at[0]) <= most else None
        numbers = limits.of_all(excused=zero is not None)
        found = loops.beyond(seen.w, got, limits.of_rows(factor), numbers, most)
        if found is None:
            return None
        rows, columns = found
        some = None if zero is None else zero[rows, columns]
        return found, Sizes.of(seen.w[rows, columns], got[rows, columns], factor[rows], some)

    def _sizes(self, seen: Glimpse, got: Stored, factor: Floats, zero: Flags | None) -> Sizes:
        """Return errors and sizes of all entries."""
        size = np.multiply(seen.w, factor[:, None], out=seen.plane(seen.room.work))
        error = np.subtract(got, size, out=seen.plane(seen.room.error))
        np.abs(error, out=error)
        if factor.min() < 0.0:
            np.abs(size, out=size)
        size[seen.rows, seen.labels] = 1.0
        far_down = not float((seen.least * np.abs(factor)).min()) > FAR_DOWN
        if far_down:
            np.maximum(size, FLOAT64.smallest_normal, out=size)
        return Sizes(error, size, zero, seen.plane(seen.room.allowed), seen.plane(seen.room.g), far_down)

    def _plain(self, seen: Glimpse) -> Plain:
        """Return what the rows allow at least."""
        scale = np.abs(seen.coefficient) if self._of_loss else np.ones_like(seen.inverse)
        likeliest, native = seen.inverse * scale, self._export.native
        nothing = np.zeros_like(scale)
        if native is None:
            return Plain(likeliest, nothing, nothing)
        link = seen.problem.loss.link
        sloped = least_native_rates(self._export, link, seen.shift / link.temperature, -np.log(seen.inverse))
        others = scale * seen.rest * seen.inverse
        largest = np.maximum(np.where(seen.own < 1.0, likeliest, others), others)
        return Plain(likeliest, sloped, half.least_floor(scale, sloped, largest, native))

    def _sloped(self, seen: Glimpse, at: Places) -> Floats:
        """Return what is allowed at least of single entries' |g|, given how deep they lie: (m,)."""
        link = seen.problem.loss.link
        top, log_total = seen.shift[at[0]] / link.temperature, -np.log(seen.inverse[at[0]])
        depth = -(1.0 - 2.0**-40) * np.log(seen.w[at])
        more = least_native_rates(self._export, link, top, log_total, depth)
        return self._least[ACCEPTED].outside + more

    def _sampled_from(self, seen: Glimpse, got: Stored) -> list[tuple[Indices, Floats, Floats]]:
        """Return the rows whose errors are counted in ulps."""
        chosen = self._tally.turns(seen.start, len(got))
        if chosen is None:
            return []
        a = seen.w[chosen] * seen.inverse[chosen, None]
        return [(seen.waiting + seen.rows[chosen], got[chosen].astype(np.float64), a)]

    def settle(self, seen: Seen) -> None:
        """Compare the label's column and what was left open."""
        closely, own = np.concatenate(self._closely), np.concatenate(self._own)
        chosen = np.flatnonzero(~closely)
        if chosen.size:
            right = seen.at.own_gradient if self._of_loss else _at_label(seen.at.sums)
            self._collect(seen, right)
            self._settle(seen, chosen, own, right)
            if self._filled:
                self._count(own[chosen], right[chosen], np.concatenate(self._filled)[chosen])
        for each in (self._closely, self._own, self._open, self._sampled, self._filled):
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

    def _count(self, own: Floats, right: Floats, filled: Indices) -> None:
        """Count what should not be 0 in rows of a 16-bit export: (n,).

        What was got and is right at the label is given as well.
        """
        there = right != 0.0
        filled = filled + there
        grade = Grade(
            nonzero=int(filled.sum()),
            rows=int(np.count_nonzero(filled)),
            flushed=int(np.count_nonzero((own == 0.0) & there)),
        )
        self._tally.add(Finding(grade=grade))

    def _settle(self, seen: Seen, chosen: Indices, own: Floats, right: Floats) -> None:
        """Compare in full what may change the result; bounds are worked out for the rows concerned alone."""
        doubtful = chosen[self._remarkable(seen, own, right)[chosen]]
        rows = _without_repeats(np.concatenate([doubtful, *(each[0] for each in self._open)]))
        if self._export.logits is not None or not surely_clear(seen.at, self._export):
            rows = np.arange(len(own))
        ladder = Ladder(seen.at.part(rows), self._export)
        compared = self._settle_open(seen, ladder, rows)
        if doubtful.size:
            within, sums = np.searchsorted(rows, doubtful), seen.at.sums.part(doubtful)
            numbers = seen.numbers[doubtful]
            sides = (own[doubtful], right[doubtful], _at_label(sums), sums.own_d)
            judge(Picked(within, numbers, sums.pivot, *sides, at_label=True), ladder, self._tally)
        self._tally.pass_over(len(chosen) * seen.at.sums.classes - compared - len(doubtful))
        counted = seen.counted[chosen]
        if len(rows) == len(own):
            known(ladder, counted, chosen, self._tally)
        else:
            self._tally.needs(self._export.finest)
            self._tally.add(Finding(grade=Grade(clear=int(np.count_nonzero(counted)))))

    def _remarkable(self, seen: Seen, own: Floats, right: Floats) -> Flags:
        """Tell which entries of the label's column may change the result: (n,), (n,) to (n,).

        Of a 16-bit export, or one of 16-bit arithmetic, all of them are taken to.
        """
        if self._export.native is not None or self._export.grid.half:
            return np.ones(len(own), dtype=bool)
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
        """Compare what was left open; return how many entries."""
        if not self._open:
            return 0
        rows, columns = (np.concatenate([each[i] for each in self._open]) for i in (0, 1))
        got, a, d = np.concatenate([each[2] for each in self._open], axis=1)
        within = np.searchsorted(known_rows, rows)
        right = a * ladder.point.coefficient[within]
        picked = Picked(within, seen.numbers[rows], columns, got, right, a, d, at_label=False)
        judge(picked, ladder, self._tally)
        return len(rows)


def _at_label(sums: Sums) -> Floats:
    """Return a in the label's column, the same bits as a plane of it holds: (n,)."""
    own: Floats = sums.own_w * (1.0 / sums.total)
    return own


def _where(chosen: Flags | None) -> Places:
    """Return rows and columns of what is chosen of a plane, if anything is."""
    if chosen is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return places(chosen)


def _without_repeats(numbers: Indices) -> Indices:
    """Return numbers in order, each once; np.unique imports numpy.ma, which takes longer than a check."""
    ordered = np.sort(numbers)
    return ordered[np.diff(ordered, prepend=-1) > 0]

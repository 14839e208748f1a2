"""Entries of an export judged one by one, wherever they lie, as rows of one class each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.bounds import ACCEPTED, Ladder, add_storage
from gradcheck_cli.findings import Sides, Tally, compare
from gradcheck_cli.grades import ARITHMETIC, Grade, tightest
from gradcheck_cli.numeric import half
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import Floats, Precision
from gradcheck_cli.numeric.softmax import Indices, Planes
from gradcheck_cli.records import dataclass


@dataclass(frozen=True, eq=False)
class Picked:
    """Some entries, all of them in their rows' label's column or none: (m,) arrays."""

    within: Indices  # their rows among those of the ladder
    numbers: Indices  # of their rows
    columns: Indices
    got: Floats
    right: Floats
    a: Floats
    d: Floats
    at_label: bool


def judge(picked: Picked, ladder: Ladder, tally: Tally) -> None:
    """Compare the entries in full, and note the arithmetic that explains them."""
    got, right = picked.got[:, None], picked.right[:, None]
    allowed, work = np.empty((2, *got.shape))
    error = np.abs(got - right)

    def explains(model: Model) -> bool:
        return bool((error <= _allowed(picked, ladder, model, allowed, work)).all())

    model = tightest(tally.model, (*ARITHMETIC, ACCEPTED), explains)
    strained = error > _allowed(picked, ladder, ACCEPTED, allowed, work)
    if (native := ladder.export.native) is not None:
        allowed += _native(picked, ladder, native, work)
    look = tally.look(lambda each: (int(picked.numbers[each]), int(picked.columns[each])))
    finding = compare(Sides(got, right, allowed), look, error, work)
    grade = Grade(Model.NATIVE_HALF if strained.any() else model)
    if ladder.export.grid.half and ladder.export.inferred and not picked.at_label:
        rows = np.sort(picked.numbers[strained[:, 0]])
        grade = replace(
            grade, strained=len(rows), strained_rows=int(np.count_nonzero(np.diff(rows, prepend=-1)))
        )
    tally.add(replace(finding, grade=replace(grade, model=Model.NONE) if finding.failing else grade))


def _single(picked: Picked) -> Planes:
    m = len(picked.got)
    return Planes(picked.d[:, None], picked.a[:, None], None, np.arange(m), np.zeros(m, dtype=np.int64))


def _allowed(picked: Picked, ladder: Ladder, model: Model, out: Floats, work: Floats) -> Floats:
    """Write what a model of plain arithmetic allows of the entries to `out`: (m, 1)."""
    bound, right = ladder.bound(model), picked.right[:, None]
    if picked.at_label:
        out[:, 0] = bound.own[picked.within]
    else:
        point = ladder.point.part(picked.within)
        bound.allowance.part(picked.within).outside_pivot(point, _single(picked), right, out, work)
    add_storage(out, right, ladder.export, work)
    return out


def _native(picked: Picked, ladder: Ladder, native: Precision, work: Floats) -> Floats:
    """Return what 16-bit arithmetic throughout costs the entries: (m, 1)."""
    point, room = ladder.point.part(picked.within), (np.empty_like(work), work)
    terms = half.native_terms(point, _single(picked), native, picked.right[:, None], room)
    if picked.at_label:
        terms[:, 0] += half.native_target(point, native)
    return half.capped(terms, point.largest, native)

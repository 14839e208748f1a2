"""Small cases of one form as the rows of one problem: those that plainly pass are told apart from the rest.

Most of the time of a small case is what it costs to begin: options, files, a problem, an audit, reports. Rows
are independent, so all rows of many cases go through the comparisons together, and the worst margin of each
case is that of its own rows, bit for bit what a run of its own finds. Whatever is not as plain as can be is
left to such a run: an odd file, a value that is not finite, a 16-bit export, an error, a doubt.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.audit import WHOLE, audit
from gradcheck_cli.batch.case import Case, Cases
from gradcheck_cli.batch.kinds import reading_of, settings_of
from gradcheck_cli.blocks import Room, work_out
from gradcheck_cli.bounds import ACCEPTED
from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.engine import comparisons_for
from gradcheck_cli.errors import SoftgradError
from gradcheck_cli.exports import Export, grid_of
from gradcheck_cli.findings import Finding, Tally
from gradcheck_cli.grid import Grid
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.outcome import Verdict
from gradcheck_cli.problem import PLANES, Problem, pose
from gradcheck_cli.reading import Reading
from gradcheck_cli.records import dataclass
from gradcheck_cli.refusals import Flags
from gradcheck_cli.report.sentence import PROVEN, tolerance_in, within
from gradcheck_cli.settings import Settings
from gradcheck_cli.summary import Head
from gradcheck_cli.tensors import Rows, Tensor
from gradcheck_cli.tensors.arrays import tensor_of
from gradcheck_cli.tensors.pile import first_of, form_of, numbers_of, whole
from gradcheck_cli.verdict import verdict_of

Numbered = tuple[int, Case]

MOST = 128
"""Cases of a stack at most: from there on what they share is a small part of the time of each."""

LEAST = 4
"""Cases of a stack at least: what they share costs as much as two or three cases by themselves."""

_USUAL = 16
"""Cases that are not spread over more stacks, for the sake of more processes."""

_DOUBTS = 3  # cases that cannot be stacked after which the others are hardly worth a try

_FEW = 1 << 14  # entries of a case; a larger one has work of its own to do


def stacks(cases: Cases, numbers: Iterable[int], jobs: int) -> tuple[list[list[int]], list[int]]:
    """Return which cases may be stacked, by stacks, and which not, as far as that is told without a file."""
    alike: dict[str, list[int]] = {}
    piles: list[list[int]] = []
    apart: list[int] = []
    for number in numbers:
        case = cases[number]
        (alike.setdefault(_conventions(case), []) if _stackable(case) else apart).append(number)
    for same in alike.values():
        size = min(MOST, max(_USUAL, len(same) // (4 * jobs)))
        cuts = [same[start : start + size] for start in range(0, len(same), size)]
        piles += [cut for cut in cuts if len(cut) >= LEAST]
        apart += [number for cut in cuts if len(cut) < LEAST for number in cut]
    return piles, apart


def passing_of(cases: Mapping[int, Case]) -> list[Head]:
    """Return the heads of those of any cases that plainly pass, stacked as far as they can be."""
    piles, _ = stacks(cases, cases, 1)
    return [head for pile in piles for head in passing([(number, cases[number]) for number in pile])]


def _conventions(case: Case) -> str:
    return repr((case.command, [role for role, _ in case.files], case.options))


def _stackable(case: Case) -> bool:
    """Tell whether a case has logits, labels and exports of the logits' shape, in files of their own."""
    roles = {role for role, _ in case.files}
    known = {"logits", "labels"} < roles <= {"logits", "labels", *PLANES}
    return case.command == "check" and case.refusal is None and known


def passing(numbered: Sequence[Numbered]) -> list[Head]:
    """Return the heads of those cases of a stack that plainly pass, as runs of their own would tell them."""
    began = time.perf_counter()
    try:
        heads = _told(numbered)
    except Exception:  # noqa: BLE001 - whatever it is, the run of its own that follows tells it of its case
        return []
    seconds = (time.perf_counter() - began) / len(numbered)
    return [replace(head, seconds=seconds) for head in heads]


def _told(numbered: Sequence[Numbered]) -> list[Head]:
    options = dict(numbered[0][1].options)
    settings, reading = settings_of("check", options), reading_of(options)
    usual = settings.as_usual and settings.order == 1 and settings.logits_rounded is None
    if not usual or reading.input_format not in (None, "npy"):
        return []
    return [head for pile in _of_one_form(numbered) for head in _passing(pile, settings, reading)]


@dataclass(frozen=True)
class _Loaded:
    """A case with the bytes of its files by role."""

    number: int
    case: Case
    files: Mapping[str, bytes]


def _of_one_form(numbered: Sequence[Numbered]) -> Iterator[list[_Loaded]]:
    """Yield the cases whose files could be read, those together whose headers and sizes are the same."""
    piles: dict[Any, list[_Loaded]] = {}
    doubts = 0
    for number, case in numbered:
        files = _loaded(case)
        if files is None:
            doubts += 1
            if doubts > _DOUBTS and not piles:
                return
            continue
        form = tuple(form_of(data) for data in files.values())
        piles.setdefault(form, []).append(_Loaded(number, case, files))
    yield from (pile for pile in piles.values() if len(pile) >= LEAST)


def _loaded(case: Case) -> dict[str, bytes] | None:
    files = {}
    for role, path in case.files:
        data = whole(path)
        if data is None:
            return None
        files[role] = data
    return files


def _passing(pile: list[_Loaded], settings: Settings, reading: Reading) -> list[Head]:
    """Return the heads of the cases of one form that plainly pass."""
    with ExitStack() as opened, np.errstate(all="ignore"):
        try:
            first = {
                role: opened.enter_context(first_of(data, role, role, reading))
                for role, data in pile[0].files.items()
            }
            alone = pose(first, {}, settings)
            if not _plain(alone):
                return []
            stacked = _Stack.of(pile, first, alone, settings)
            if stacked is None:
                return []
            seed = (
                f"{settings.seed} {'/'.join(pile[0].case.name.split('/')[-2:])}"  # other rows in each stack
            )
            margins = _margins(stacked.posed(opened), settings, seed)
        except SoftgradError:
            return []
    return [] if margins is None else stacked.heads(margins, settings)


def _plain(problem: Problem) -> bool:
    """Tell whether one case stands for all of its form, once labels and grids are known to be alike."""
    few = 1 < problem.rows * problem.classes <= _FEW
    return few and not problem.soft and not any(export.grid.half for export in problem.exports)


@dataclass(frozen=True, eq=False)
class _Stack:
    """Cases of one form: their numbers by role, (cases, ...), and what their labels come to."""

    pile: Sequence[_Loaded]
    alone: Problem  # the first of them by itself
    numbers: Mapping[str, NDArray[Any]]
    counted: Flags  # (cases, rows) rows that are not ignored
    divisors: Floats  # (cases,)

    @classmethod
    def of(
        cls, pile: Sequence[_Loaded], first: Mapping[str, Tensor], alone: Problem, settings: Settings
    ) -> _Stack | None:
        """Return the stack of those cases that are plain; None where too few are."""
        numbers = {}
        for role, tensor in first.items():
            found = numbers_of(tensor, [each.files[role] for each in pile])
            if found is None or (role == "labels" and found.dtype.kind not in "iu"):
                return None
            numbers[role] = found
        labels = numbers["labels"].reshape(len(pile), -1)
        counted = labels != settings.ignore_index
        known = ~counted | ((labels >= 0) & (labels < alone.classes))
        plain = known.all(axis=1) & counted.any(axis=1) & _finite(numbers["logits"])
        for export in alone.exports:
            plain &= _on_grid(numbers[export.name], export)
        kept = np.flatnonzero(plain).tolist()
        if len(kept) < LEAST:
            return None
        divisors = np.full(len(pile), alone.divisor)
        if settings.reduction == "mean" and settings.normalizer is None:
            divisors = counted.sum(axis=1).astype(np.float64)
        return cls(
            [pile[each] for each in kept],
            alone,
            {role: each[kept] for role, each in numbers.items()},
            counted[kept],
            divisors[kept],
        )

    def posed(self, opened: ExitStack) -> Problem:
        """Return the problem of all rows; what each case divides by is in the upstream of its rows."""
        alone, (cases, rows) = self.alone, self.counted.shape
        upstream = np.repeat(1.0 / self.divisors, rows)
        tensors = {
            role: opened.enter_context(tensor_of(each, role))
            for role, each in {**self.numbers, "upstream": upstream}.items()
        }
        axis = alone.axis + 1
        return replace(
            alone,
            logits=Rows(tensors["logits"], axis),
            targets=Rows(tensors["labels"], None),
            upstream=Rows(tensors["upstream"], None),
            divisor=1.0,
            z_divisor=1.0,
            ignored_rows=cases * rows - int(np.count_nonzero(self.counted)),
            first_counted=int(self.counted.argmax()),
            axis=axis,
            exports=tuple(
                replace(each, rows=Rows(tensors[each.name], axis)) for each in alone.exports
            ),
            tensors=(),
        )  # fmt: skip

    def heads(self, margins: Mapping[str, Floats], settings: Settings) -> list[Head]:
        """Return the heads of the cases whose worst margins are at most 1, given the margins of all rows."""
        bound = tolerance_in(vars(settings)) or PROVEN
        names = list(margins)
        worst = np.stack([each.reshape(self.counted.shape).max(axis=1) for each in margins.values()])
        plain, at = np.all(worst <= 1.0, axis=0), worst.argmax(axis=0)
        heads = []
        for place, each in enumerate(self.pile):
            if plain[place]:
                name, margin = names[at[place]], float(worst[at[place], place])
                message = within(names, (name, margin), bound)
                head = Head(
                    each.case.name, each.number, "pass", message, margin=margin, check=name, judged=True
                )
                heads.append(head)
        return heads


def _finite(numbers: NDArray[Any]) -> Flags:
    """Return which cases have nothing but finite numbers: (cases,)."""
    finite: Flags = np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1)
    return finite


def _on_grid(numbers: NDArray[Any], export: Export) -> Flags:
    """Return which cases are to be judged by the grid that the first is judged by: (cases,)."""
    return np.array([grid_of(export.rows.tensor.dtype, [each]) is export.grid for each in numbers])


def _margins(problem: Problem, settings: Settings, seed: str) -> dict[str, Floats] | None:
    """Return by export the worst margin of each row: (rows,); None if softgrad's own checks leave a doubt."""
    comparisons = comparisons_for(problem, Tolerance.asked(settings.rtol, settings.atol))
    tallies = {each.name: Tally(None, 0) for each in comparisons}
    for tally in tallies.values():
        tally.needs(ACCEPTED)  # whether a tighter model explains it as well is of no interest here
    margins = {each.name: np.empty(problem.rows) for each in problem.exports}
    grid = Grid.of(problem)
    room = Room.of(problem, grid, depth=True)
    for number in range(grid.blocks):
        block = work_out(problem, grid.rows_of(number), grid, room)
        judges = [(each.name, each.begin(block)) for each in comparisons]
        for tile in block.tiles():
            for name, judge in judges:
                judge.tile(tile, tallies[name])
                if name in margins:
                    margins[name][tile.start : tile.stop] = tile.plane(room.work).max(axis=1)
        for name, judge in judges:
            judge.end(tallies[name])
    sample = audit(problem, seed, 0, WHOLE)
    own = [tally.finding for name, tally in tallies.items() if name not in margins]
    if not all(_sure(each) for each in (*own, sample.forward, sample.differences)):
        return None
    return None if any(tallies[name].finding.vague for name in margins) else margins


def _sure(finding: Finding) -> bool:
    return verdict_of(finding) is Verdict.PASS

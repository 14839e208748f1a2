"""A failed gradient of the softmax layer in, the bug in words out.

A few rows -> the guesses that one factor brings in line with them -> one walk over every entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from gradcheck_cli.diagnosis.damage import Damage, places
from gradcheck_cli.diagnosis.guess import Claim, Scale, Trial, claims, interval, worded
from gradcheck_cli.diagnosis.pulled.catalogue import Suspicion, bare, reposed, scales, summed, suspicions
from gradcheck_cli.diagnosis.pulled.lanes import of_lanes
from gradcheck_cli.diagnosis.pulled.pairs import pairs
from gradcheck_cli.diagnosis.pulled.piece import Few, Layer, Pulled, dot
from gradcheck_cli.engine import silent
from gradcheck_cli.errors import InputError, SoftgradError
from gradcheck_cli.grid import BLOCK_ROWS, Grid
from gradcheck_cli.layer.blocks import room_of
from gradcheck_cli.layer.problem import LayerProblem
from gradcheck_cli.outcome import Diagnosis, Fact
from gradcheck_cli.records import dataclass
from gradcheck_cli.workers import Counter, FailedPiece, spread

_RUNS, _RUN, _ENTRIES = 4, 4, 1 << 15  # of the rows that are looked at first: runs, and how long they are
_NEAR = 0.01  # how nearly a number must be one of all rows, or of its column, before these are added up
_WHOLE = 1 << 13  # entries up to which all rows are looked at first
_STRIDED = 1 << 19  # entries of a tile of rows that do not lie together
_MOST_CLAIMS = 4
_WORTH_A_PROCESS = 1 << 19
_MOSTLY = 0.2  # of the entries must fail before the whole file is of low precision, or in another order
_CHANCE = 3.0  # standard deviations
_WIDESPREAD = frozenset({"low-precision", "transposed"})


@dataclass(frozen=True, eq=False)
class _Held:
    """A claim, the layer that it is made of, and the few rows that leave it."""

    layer: Layer
    claim: Claim[Pulled]
    few: Few


def diagnose(
    layer: Layer, worst: Sequence[int], processes: int
) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    """Return the bugs that explain every entry of a failed gradient, and where it fails."""
    with np.errstate(all="ignore"):
        few, factors = Few(layer, _rows(layer, worst)), scales(layer)
        held = list(_standing(chain(suspicions(layer), of_lanes(layer)), few, factors, *bare(layer)))
        damage, trials = _walked(layer, held, processes)
        facts = places(damage, layer.problem.rows, layer.problem.classes, layer.export.name)
        if not damage.nonzero:
            return (_all_zero(layer),), facts
        held = held or list(_standing(_likely(layer, damage), few, factors))
        standing = _settled(held, layer, trials, processes)
        if not standing and _summable(few):
            more = list(_standing(_of_sums(layer), few, factors))
            _, trials = _walked(layer, more, processes)
            standing = _settled(more, layer, trials, processes)
        if not standing:
            more = list(_standing(pairs(layer), few, factors))
            own = [each for each in more if each.layer is layer]
            trials = _walked(layer, own, processes)[1] if own else []
            standing = _settled(more, layer, trials, processes)
        return worded(standing, layer.export.name), facts


def _likely(layer: Layer, damage: Damage) -> Iterator[Suspicion]:
    """Yield the layer as it may have been meant; what spoils a whole file only where most of it fails."""
    most = damage.failing >= _MOSTLY * damage.entries
    for each in reposed(layer):
        if most or each.guess.name is None or each.guess.name.code not in _WIDESPREAD:
            yield each


def _standing(
    suspected: Iterable[Suspicion], few: Few, factors: Sequence[Scale], *first: Suspicion
) -> Iterator[_Held]:
    """Yield the claims that a few rows leave, at most so many; of another layer, rows of its own."""
    kept, rows = 0, few
    for each in (*first, *suspected):
        try:
            if each.layer is not rows.layer:
                rows = few if each.layer is few.layer else Few(each.layer, _rows(each.layer, ()))
            found = interval(rows, each.guess, each.layer.export)
        except SoftgradError:  # what cannot be posed so was not meant so
            continue
        for claim in claims(each.guess, found, factors, bare=each in first):
            kept += 1
            if kept <= _MOST_CLAIMS:
                yield _Held(each.layer, claim, rows)


def _rows(layer: Layer, worst: Sequence[int]) -> list[range]:
    """Return the rows to look at first: the worst, and some runs that lie evenly, from end to end.

    Of rows that do not lie together in their file, which take as many reads as they have entries, one run.
    """
    rows = layer.problem.rows
    if rows * layer.problem.classes <= _WHOLE:
        return [range(rows)]
    if not _together(layer.problem):
        size = max(1, min(_RUNS * _RUN, rows, _ENTRIES // layer.problem.classes))
        return [range((rows - size) // 2, (rows + size) // 2)]
    size = max(1, min(_RUN, rows, _ENTRIES // layer.problem.classes))
    single = dict.fromkeys(worst[:4] or [0])
    starts = dict.fromkeys(np.linspace(0, rows - size, _RUNS).round().astype(int).tolist())
    return [*(range(row, row + 1) for row in single), *(range(start, start + size) for start in starts)]


def _settled(
    held: Sequence[_Held], layer: Layer, trials: Sequence[Trial], processes: int
) -> list[Claim[Pulled]]:
    """Return the claims that explain every entry; those of another layer are walked here.

    What is named already need not be tried in another variant.
    """
    own = iter(trials)
    found: list[Claim[Pulled]] = []
    for each in held:
        claim = each.claim
        trial = next(own) if each.layer is layer else None
        if any(known.codes == claim.codes and known.rank <= claim.rank for known in found):
            continue
        if "low-precision" in claim.codes and _lopsided(each.few):
            continue
        if (trial or _elsewhere(each, processes)).holds(len(claim.names)):
            found.append(claim)
    return found


def _lopsided(few: Few) -> bool:
    """Tell whether errors pull the rows one way, or with what is right: rounding pulls each its own way."""
    off = np.concatenate([each.got - each.right for each in few])
    right = np.concatenate([each.right for each in few])
    most = _CHANCE * np.sqrt(len(off))
    return any(bool(np.abs(np.sign(each.sum(axis=1)).sum()) > most) for each in (off, off * right))


def _elsewhere(held: _Held, processes: int) -> Trial:
    """Return the trial of a claim that is made of another layer; there, right is what it predicts."""
    _, (trial,) = _walked(held.layer, [held], processes, counting=False)
    trial.before, trial.left = 1.0, 0.0  # every entry passes the check's own bounds, and some did not before
    return trial


def _all_zero(layer: Layer) -> Diagnosis:
    return Diagnosis(
        "all-zero", "defect", "every entry is 0", "0",
        "check that the backward pass ran, and that it wrote into the buffer that was exported",
        {}, explained=1.0, of=layer.export.name,
    )  # fmt: skip


def _walked(
    layer: Layer, held: Sequence[_Held], processes: int, *, counting: bool = True
) -> tuple[Damage, list[Trial]]:
    """Walk over every entry: where it fails, and what becomes of the claims; only that, if not `counting`.

    Raises
    ------
    InputError
        If a file changed since it was checked.
    """
    problem = layer.problem
    grid = _grid(problem)
    counter = Counter(min(processes, 1 + problem.rows * problem.classes // _WORTH_A_PROCESS))

    def work(blocks: Iterator[int]) -> dict[str, Any]:
        damage = Damage.none(problem.rows, problem.classes)
        trials = [Trial() for _ in held]
        room = room_of(problem, grid)
        with np.errstate(all="ignore"):
            for number in blocks:
                if not counting and all(each.unexplained for each in trials):
                    break
                try:
                    for piece in layer.pieces(grid.rows_of(number), grid, room):
                        _look(piece, damage if counting else None, trials, held)
                except InputError as error:
                    raise FailedPiece(number, str(error)) from error
        return {"damage": damage.record(), "trials": [vars(each) for each in trials]}

    records = spread(work, grid.blocks, counter, silent(problem.rows, counter.total))
    whole, trials = Damage.none(problem.rows, problem.classes), [Trial() for _ in held]
    for each in records:
        whole = whole.merge(Damage.of_record(each["damage"]))
        trials = [one.merge(Trial(**other)) for one, other in zip(trials, each["trials"], strict=True)]
    return whole, trials


def _look(piece: Pulled, damage: Damage | None, trials: Sequence[Trial], held: Sequence[_Held]) -> None:
    """Take in a piece; where damage is not counted, no claim is compared with what is right."""
    if damage is not None:
        damage.add(piece)
    for trial, each in zip(trials, held, strict=True):
        (trial.hold if damage is None else trial.add)(piece, each.claim, each.layer.export)


def _grid(problem: LayerProblem) -> Grid:
    """Return how the rows are cut: rows that do not lie together in their file are read many at a time."""
    if _together(problem):
        return Grid.of(problem)
    tile = min(max(1, _STRIDED // problem.classes), BLOCK_ROWS, problem.rows)
    return Grid(problem.rows, tile, tile)


def _together(problem: LayerProblem) -> bool:
    """Tell whether rows lie together in their file."""
    shape, outer = problem.logits.tensor.shape, problem.logits.tensor.layout != "F"
    return problem.axis == (len(shape) - 1 if outer else 0)


def _summable(few: Few) -> bool:
    """Tell whether got / a - t may be one number of all rows, or one of each column, in most entries.

    A cheap look: the sums that would tell take another walk.
    """
    pieces = list(few)
    got, a, t = (np.concatenate([getattr(each, name) for each in pieces]) for name in ("got", "a", "t"))
    rest = got * pieces[0].temperature / a - t
    rest[~np.isfinite(rest)] = 0.0
    room = _NEAR * (np.median(np.abs(t)) + np.median(np.abs(rest)))
    middles = np.median(rest), np.median(rest, axis=0)
    return any(bool(np.median(np.abs(rest - middle)) <= room) for middle in middles)


def _of_sums(layer: Layer) -> Iterator[Suspicion]:
    """Yield the guesses that need sums over all rows."""
    problem, grid = layer.problem, _grid(layer.problem)
    room = room_of(problem, grid)
    whole = size = 0.0
    columns, sizes = np.zeros((2, problem.classes))
    for number in range(grid.blocks):
        for piece in layer.pieces(grid.rows_of(number), grid, room):
            whole += float(dot(piece.t, piece.a).sum())
            size += float(dot(np.abs(piece.t), piece.a).sum())
            columns += (piece.t * piece.a).sum(axis=0)
            sizes += (np.abs(piece.t) * piece.a).sum(axis=0)
    yield from summed(layer, whole, size, columns, sizes)

"""Every known bug planted in the right gradient of the user's data: what would become of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck_cli.check import check
from gradcheck_cli.diagnosis.mutants import Mutant, mutants
from gradcheck_cli.diagnosis.sample import draw
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.view import Rows as Views
from gradcheck_cli.errors import OutputError, UsageError
from gradcheck_cli.exports import Export, Scalar
from gradcheck_cli.numeric.precision import BY_NAME, FLOAT32, Floats
from gradcheck_cli.outcome import Outcome, Verdict
from gradcheck_cli.problem import Problem, pose
from gradcheck_cli.records import dataclass
from gradcheck_cli.rules import refused
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import Tensor, open_tensor

_ENTRIES = 1 << 16  # worked out together
_NUMPY = {"float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "|V2"}


@dataclass(frozen=True)
class Fate:
    """What became of one planted bug."""

    code: str
    kind: str
    caught: bool
    named: tuple[str, ...]  # codes of the best explanation
    tied: tuple[str, ...]  # codes that explain as much
    failing: int
    margin: float
    note: str  # why it was not caught, or not named
    refused_by: dict[str, bool] = field(default_factory=dict)
    path: str | None = None


@dataclass(frozen=True)
class Mutation:
    """What all planted bugs came to."""

    dtype: str
    settings: dict[str, Any]
    fates: tuple[Fate, ...]
    seconds: float


@dataclass(frozen=True)
class Wish:
    """What the user asked for."""

    dtype: str
    codes: tuple[str, ...] = ()  # all if empty
    rules: tuple[str, ...] = ()
    folder: str | None = None


def mutate(
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Scalar],
    settings: Settings,
    wish: Wish,
    each: Callable[[Fate], None] = lambda _: None,
) -> Mutation:
    """Return what became of every bug that can be planted.

    Raises
    ------
    InputError, UsageError
        If the tensors pose no problem, or a bug that was asked for cannot be planted in it.
    OutputError
        If a mutant cannot be written.
    """
    began = time.perf_counter()
    problem = pose(tensors, scalars, settings)
    situation = Situation(problem, settings, _export(problem, wish.dtype), None)
    sample = draw(situation, (), settings.seed)
    chosen = _chosen(list(mutants(sample)), wish.codes)
    fates = []
    with tempfile.TemporaryDirectory(prefix="softgrad-") as hidden:
        folder = _folder(wish.folder or hidden)
        for mutant in chosen:
            path = folder / f"{mutant.code}.npy"
            laboratory = _Laboratory(situation, tensors, scalars, wish)
            fate = laboratory.fate(mutant, path)
            fates.append(replace(fate, path=str(path)) if wish.folder else fate)
            each(fates[-1])
            if not wish.folder:
                path.unlink()
    return Mutation(wish.dtype, settings.in_force(), tuple(fates), time.perf_counter() - began)


def _export(problem: Problem, dtype: str) -> Export:
    """Return the gradient that is to be made, its values not yet there: they are never read."""
    grid = BY_NAME[dtype]
    native = grid if grid.half else None
    return Export("grad", problem.logits, grid, FLOAT32 if grid.half else grid, native, None)


def _chosen(every: list[Mutant], codes: Iterable[str]) -> list[Mutant]:
    wanted = list(codes)
    there = [each.code for each in every]
    for code in wanted:
        if code not in there:
            raise UsageError(f"--bug {code}: cannot be planted in this data; there are {', '.join(there)}")
    return [each for each in every if not wanted or each.code in wanted]


def _folder(path: str) -> Path:
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made: {error.strerror}") from error
    return folder


@dataclass(frozen=True, eq=False)
class _Laboratory:
    situation: Situation
    tensors: Mapping[str, Tensor]
    scalars: Mapping[str, Scalar]
    wish: Wish

    def fate(self, mutant: Mutant, path: Path) -> Fate:
        """Write a mutant, check it, and return what became of it."""
        changed, said = self._write(mutant, path)
        with open_tensor(str(path), role="grad") as grad:
            outcome = check({**self.tensors, "grad": grad}, self.scalars, self.situation.settings)
        (judged,) = (each for each in outcome.checks if each.name == "grad")
        caught = judged.verdict is Verdict.FAIL
        named = tuple(each.code for each in outcome.diagnosis if each.tied_with is None) if caught else ()
        tied = tuple(each.code for each in outcome.diagnosis if each.tied_with is not None) if caught else ()
        note = _note(mutant, outcome, changed=changed, named=(*named, *tied))
        return Fate(
            mutant.code, mutant.kind, caught, named, tied, judged.failing, judged.max_margin, note, said
        )

    def _write(self, mutant: Mutant, path: Path) -> tuple[bool, dict[str, bool]]:
        """Write a mutant as NPY; tell whether it differs from what is right, and which rules refuse it."""
        situation, dtype = self.situation, self.wish.dtype
        logits = situation.problem.logits.tensor
        step = max(1, _ENTRIES // situation.classes)
        source = Views(situation, min(step, situation.rows))
        said = dict.fromkeys(self.wish.rules, False)
        changed = False
        try:
            file = np.lib.format.open_memmap(
                path, mode="w+", dtype=np.dtype(_NUMPY[dtype]), shape=logits.shape
            )
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
        for rows, wrong, right in _walked(mutant, source, step):
            stored, kept = _stored(wrong, dtype)
            meant = _stored(right, dtype)[1]
            changed = changed or not np.array_equal(kept, meant, equal_nan=True)
            _put(file, situation.problem.axis, rows, stored)
            for rule in said:
                said[rule] = said[rule] or refused(rule, dtype, kept, meant)
        file.flush()
        return changed, said


def _walked(mutant: Mutant, source: Views, step: int) -> Iterable[tuple[range, Floats, Floats]]:
    """Yield ranges of rows with the wrong and the right gradient."""
    total = source.situation.rows
    ranges = [range(start, min(start + step, total)) for start in range(0, total, step)]
    if not mutant.transposed:
        for rows in ranges:
            yield rows, *mutant.rows(source, rows)
        return
    whole = np.concatenate([mutant.rows(source, rows)[1] for rows in ranges])
    turned = np.ascontiguousarray(whole.T).reshape(whole.shape)
    for rows in ranges:
        yield rows, turned[rows.start : rows.stop], whole[rows.start : rows.stop]


def _stored(plane: Floats, dtype: str) -> tuple[np.ndarray[Any, Any], Floats]:
    """Return a plane as it is stored, and as it is read back."""
    with np.errstate(all="ignore"):
        if dtype != "bfloat16":
            stored = plane.astype(_NUMPY[dtype])
            return stored, stored.astype(np.float64)
        bits = plane.astype(np.float32).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        even = bits + np.uint32(0x7FFF) + odd  # to nearest, ties to even
        half = np.where(np.isnan(plane), np.uint32(0x7FC00000), even) >> np.uint32(16)
        kept = (half << np.uint32(16)).view(np.float32).astype(np.float64)
        return half.astype("<u2").view("V2"), kept


def _put(file: np.ndarray[Any, Any], axis: int, rows: range, stored: np.ndarray[Any, Any]) -> None:
    moved = np.moveaxis(file, axis, -1)
    if moved.ndim == 1:
        moved[...] = stored[0]
        return
    moved[np.unravel_index(np.arange(rows.start, rows.stop), moved.shape[:-1])] = stored


def _note(mutant: Mutant, outcome: Outcome, *, changed: bool, named: tuple[str, ...]) -> str:
    """Say why a bug was not caught, or not under its name."""
    if not changed:
        return "changes nothing in this data"
    if outcome.verdict is not Verdict.FAIL:
        return "no more than the arithmetic may cost"
    if not named:
        return f"not named: {outcome.facts[0].message}" if outcome.facts else "not named"
    if mutant.code not in named:
        return "looks like another bug on this data"
    return "" if len(named) == 1 else "one of several that this data cannot tell apart"

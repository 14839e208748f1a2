"""Where a judged plane fails: counts and maps that add up over pieces and processes, and facts from them."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.diagnosis.guess import Piece
from gradcheck_cli.diagnosis.where import runs_of
from gradcheck_cli.outcome import Fact

Counts = NDArray[np.int64]


@dataclass(eq=False)
class Damage:
    """Counts over all entries; (N,) and (K,) numbers of failing entries of rows and columns."""

    entries: int
    failing: int
    zeros: int  # failing and exactly 0
    not_numbers: int  # failing and NaN or infinite
    nonzero: int
    rows: Counts
    columns: Counts

    @classmethod
    def none(cls, rows: int, columns: int) -> Damage:
        """Return that of no entry."""
        return cls(0, 0, 0, 0, 0, np.zeros(rows, dtype=np.int64), np.zeros(columns, dtype=np.int64))

    def add(self, piece: Piece) -> None:
        """Take in some rows."""
        failing, silent = piece.failing, piece.got == 0.0
        self.entries += failing.size
        self.failing += int(np.count_nonzero(failing))
        self.zeros += int(np.count_nonzero(failing & silent))
        self.not_numbers += int(np.count_nonzero(failing & ~np.isfinite(piece.got)))
        self.nonzero += failing.size - int(np.count_nonzero(silent))
        self.rows[piece.start : piece.start + len(failing)] += np.count_nonzero(failing, axis=1)
        self.columns += np.count_nonzero(failing, axis=0)

    def merge(self, other: Damage) -> Damage:
        """Return that of both sets of pieces."""
        terms: dict[str, Any] = {name: value + getattr(other, name) for name, value in vars(self).items()}
        return Damage(**terms)

    def record(self) -> dict[str, Any]:
        """Return it as something that JSON holds."""
        return {
            name: base64.b64encode(value.tobytes()).decode("ascii")
            if isinstance(value, np.ndarray)
            else value
            for name, value in vars(self).items()
        }

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Damage:
        """Return what a record holds."""
        terms: dict[str, Any] = {
            name: np.frombuffer(base64.b64decode(value), dtype=np.int64) if isinstance(value, str) else value
            for name, value in record.items()
        }
        return cls(**terms)


def places(damage: Damage, rows: int, columns: int, of: str) -> tuple[Fact, ...]:
    """Return what can be said of the failing entries of a plane of so many rows and columns."""
    told = [*_counts(damage), *_runs("columns", damage.columns, columns), *_runs("rows", damage.rows, rows)]
    return tuple(replace(each, of=of) for each in told)


def _counts(damage: Damage) -> list[Fact]:
    told = []
    for code, count, words in (
        ("zeros", damage.zeros, "got exactly 0"),
        ("not-numbers", damage.not_numbers, "got NaN or an infinity"),
    ):
        if count:
            every = count == damage.failing
            some = f"all {count:,} failing entries" if every else f"{count:,} of the failing entries"
            told.append(Fact(code, f"{some} {words}"))
    return told


def _runs(kind: str, map_: Counts, of: int) -> list[Fact]:
    """Return in which rows or columns the failures are, if not in most."""
    failing = np.flatnonzero(map_)
    if (
        not failing.size
        or len(failing) == of
        or not (len(failing) <= of // 2 or np.ptp(failing) < len(failing))
    ):
        return []
    return [Fact(f"in-{kind}", f"{len(failing):,} of {of:,} {kind} fail: {runs_of(failing, of)}")]

"""A bug of a gradient that is judged as a plane: its name, what it makes, and the factor.

The commands beside `check` share this form. A guess gives the plane that the bug makes and what it may be off
by; it stands while one factor brings every entry of the rows looked at in line (`fit.py`), and is named only
after a walk over every entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np

from gradcheck_cli.diagnosis.bug import DEFECT
from gradcheck_cli.diagnosis.fit import HAIR, allowed_factors, by_chance
from gradcheck_cli.exports import Export, rounding
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.outcome import Diagnosis
from gradcheck_cli.refusals import Flags

_WIDEST = 1.2  # largest over smallest factor, from which a factor is too vague to be named
_HAIR = 1e-9  # relative, of rounding in squares
_LEAST = 2.0**-900  # sum of squares of which none that counts is lost below the smallest numbers
_BETTER = 0.5  # of the failing entries' error must go


@dataclass(frozen=True, eq=False)
class Piece:
    """Some rows of a judged plane: (n, m) each."""

    start: int
    got: Floats
    right: Floats
    allowed: Floats

    @cached_property
    def failing(self) -> Flags:
        """Return the entries that the check refuses."""
        return refused(self.got, self.right, self.allowed)

    @cached_property
    def before(self) -> float:
        """Return the error of what is right in the failing entries."""
        return _sum(self.got, self.right, self.failing)


P = TypeVar("P", bound=Piece)

Core = Callable[[P], tuple[Floats, Floats]]
"""Gives the plane that a bug makes and what each entry may be off by: (n, m), (n, m)."""


@dataclass(frozen=True)
class Name:
    """What is said of a bug; the words may hold {parameters}."""

    code: str
    formula: str
    happened: str
    advice: str
    kind: str = DEFECT


@dataclass(frozen=True, eq=False)
class Scale:
    """A factor of all entries that has a reason."""

    name: Name
    value: float
    told: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    general: bool = False  # gives way to any other that explains as much


@dataclass(frozen=True, eq=False)
class Guess(Generic[P]):
    """A bug, or nothing but the factor where it has no name."""

    name: Name | None
    core: Core[P]
    told: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    general: bool = False  # gives way to any other that explains as much
    alone: bool = False  # never together with a factor
    second: Name | None = None  # another bug that is there as well


@dataclass(frozen=True, eq=False)
class Claim(Generic[P]):
    """A guess and the factor that goes with it."""

    guess: Guess[P]
    scale: Scale | None

    @property
    def value(self) -> float:
        """Return the factor."""
        return 1.0 if self.scale is None else self.scale.value

    @property
    def names(self) -> tuple[Name, ...]:
        """Return what is named."""
        scale = None if self.scale is None else self.scale.name
        return tuple(each for each in (scale, self.guess.name, self.guess.second) if each is not None)

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the codes of the bugs."""
        return tuple(each.code for each in self.names)

    @property
    def rank(self) -> tuple[int, bool]:
        """Return the key by which claims are sorted: few bugs, specific ones first."""
        general = self.guess.general or (self.scale is not None and self.scale.general)
        return len(self.names), general

    @property
    def flags(self) -> tuple[str, ...]:
        """Return the flags under which the file is right, where one bug is all of it."""
        if len(self.names) > 1:
            return ()
        return self.guess.flags if self.scale is None else self.scale.flags


def refused(got: Floats, plane: Floats, allowed: Floats) -> Flags:
    """Return the entries that differ by more than is allowed: (n, m)."""
    with np.errstate(all="ignore"):
        error = got - plane
        wrong: Flags = ~(np.abs(error, out=error) <= allowed)
        if np.isnan(error).any():  # two infinities, or a NaN
            wrong &= ~((got == plane) | (np.isnan(got) & np.isnan(plane)))
    return wrong


def floor_of(export: Export, got: Floats) -> Floats:
    """Return what no factor multiplies, broadcastable: printing, and the smallest numbers that are stored."""
    floor = rounding(export.decimals)[1] + 4.0 * export.grid.smallest_subnormal
    whole = np.array([[floor + 8.0 * export.compute.smallest_normal]])
    if export.flushes:
        whole = np.where(got == 0.0, np.maximum(whole, export.grid.smallest_normal), whole)
    return whole


def interval(pieces: Iterable[P], guess: Guess[P], export: Export) -> tuple[float, float]:
    """Return the factors that bring every entry in line with a guess; none where low > high.

    Of a guess that is never together with a factor, none but 1 are asked for.
    """
    low, high = -np.inf, np.inf
    for piece in pieces:
        with np.errstate(all="ignore"):
            plane, error = guess.core(piece)
            floor = floor_of(export, piece.got)
            if apart(piece.got, plane, error, floor):
                return np.inf, -np.inf
            found = allowed_factors(piece.got, plane, error, floor)
        low, high = max(low, float(found.low.max())), min(high, float(found.high.min()))
        if not low <= high + HAIR * abs(high):
            break
        if guess.alone and not low - HAIR * abs(low) <= 1.0 <= high + HAIR * abs(high):
            return np.inf, -np.inf
    return low, high


def apart(got: Floats, plane: Floats, error: Floats, floor: Floats) -> bool:
    """Tell whether got points so far away from a plane that no factor c will do: a cheap look.

    |got - c P| <= |c| E + F in every entry asks of the lengths of all entries together for
    |got| sin(got, P) <= |c| |E| + |F| and |c| (|P| - |E|) <= |got| + |F|. What is no number tells nothing.
    """
    own, of, off = (_product(each, each) for each in (got, plane, error))
    if not (_LEAST < own < math.inf and _LEAST < of < math.inf and off < of):
        return False
    least = float(floor.max()) * math.sqrt(got.size)
    along = _product(got, plane)
    most = (math.sqrt(own) + least) / (math.sqrt(of) - math.sqrt(off)) * math.sqrt(off) + least
    return own - along * along / of > _HAIR * own + (1.0 + _HAIR) * most * most


def _product(x: Floats, y: Floats) -> float:
    return float(np.vdot(x, y))


def claims(
    guess: Guess[P], found: tuple[float, float], scales: Sequence[Scale], *, bare: bool
) -> list[Claim[P]]:
    """Return what may be claimed of a guess that leaves these factors open; `bare`: it changes nothing."""
    low, high = found[0] - HAIR * abs(found[0]), found[1] + HAIR * abs(found[1])
    if not low <= high or low <= 0.0 <= high or not np.isfinite(low) or not np.isfinite(high):
        return []  # nothing at all explains it as well
    if low <= 1.0 <= high:
        return [] if bare else [Claim(guess, None)]
    if guess.alone or max(abs(low), abs(high)) > _WIDEST * min(abs(low), abs(high)):
        return []
    near = (each for each in scales if low <= each.value <= high)
    return [Claim(guess, each) for each in near if not (each.general and by_chance(each.value, found))]


@dataclass
class Trial:
    """What a walk over every entry makes of a claim; adds up over pieces and processes."""

    unexplained: int = 0
    telling: int = 0  # entries that are predicted to be other than 0, and surely so
    left: float = 0.0  # error of the failing entries under the claim
    before: float = 0.0  # and of the right answer

    def add(self, piece: P, claim: Claim[P], export: Export) -> None:
        """Take in a piece: whether it is explained, and how near the claim is beside what is right."""
        with np.errstate(all="ignore"):
            plane = self.hold(piece, claim, export)
            if plane is not None:
                self.left += _sum(piece.got, plane, piece.failing)
                self.before += piece.before

    def hold(self, piece: P, claim: Claim[P], export: Export) -> Floats | None:
        """Take in whether a piece is explained; return what is claimed of it, None once that is refuted."""
        if self.unexplained:
            return None
        plane, error = claim.guess.core(piece)
        if claim.value != 1.0:
            plane, error = claim.value * plane, abs(claim.value) * error
        error = error + floor_of(export, piece.got)
        self.unexplained += int(np.count_nonzero(refused(piece.got, plane, error)))
        self.telling += int(np.count_nonzero(~(np.abs(plane) <= 2.0 * error)))
        return None if self.unexplained else plane

    def merge(self, other: Trial) -> Trial:
        """Return the trial of both sets of pieces."""
        return Trial(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def holds(self, bugs: int) -> bool:
        """Tell whether the claim explains everything, and better than what is right; so many bugs."""
        better = self.before > 0.0 and self.left <= _BETTER * self.before
        return not self.unexplained and better and self.telling > 2 * bugs


def _sum(got: Floats, plane: Floats, chosen: Flags) -> float:
    """Return the error of a prediction; an entry that is no number counts 1 where it is not predicted."""
    error = got - plane
    total = float(np.einsum("ij,ij->", np.abs(error, out=error), chosen))
    if np.isfinite(total):
        return total
    got, plane = got[chosen], plane[chosen]
    same = (got == plane) | (np.isnan(got) & np.isnan(plane))
    error = np.where(same, 0.0, np.abs(got - plane))
    return float(np.where(np.isfinite(error), error, 1.0).sum())


def worded(standing: Sequence[Claim[P]], of: str) -> tuple[Diagnosis, ...]:
    """Return the claims that stand in words: the best, and those that explain as much with as few bugs."""
    best = sorted(standing, key=lambda each: each.rank)
    different = {each.codes: each for each in reversed([one for one in best if one.rank == best[0].rank])}
    named: list[Diagnosis] = []
    for claim in reversed(different.values()):
        tied = named[0].code if named else None
        named += [_told(claim, name, of, tied) for name in claim.names]
    return tuple(named)


def _told(claim: Claim[P], name: Name, of: str, tied: str | None) -> Diagnosis:
    told = {} if claim.scale is None else {"factor": claim.value, **claim.scale.told}
    told |= claim.guess.told
    return Diagnosis(
        code=name.code,
        kind=name.kind,
        message=name.happened.format(**told),
        formula=name.formula.format(**told),
        advice=name.advice.format(**told),
        parameters=told,
        explained=1.0,
        flags=claim.flags,
        together_with=tuple(code for code in claim.codes if code != name.code),
        tied_with=tied,
        of=of,
    )

"""The one form of a catalogue entry.

A bug does one of three things to the right gradient: it multiplies all of it (`value`), multiplies each row
(`factor`), or changes the recipe (`change`). `variants` says when the bug can be there at all and with which
parameters; those that only the wrong gradient shows are read off the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any

from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass

DEFECT, CONVENTION, ROUNDING = "defect", "convention", "rounding"


@dataclass(frozen=True)
class Bug:
    """One known wrong gradient."""

    code: str
    kind: str  # defect, convention or rounding
    formula: str  # what is computed in place of the right answer, in the notation of numeric
    happened: str  # one sentence, with {parameters}
    advice: str  # what to change, with {parameters}
    slot: str  # two bugs of one slot cannot be there together: scale, rows, ignored, or a section's own
    variants: Callable[[Sample], Iterable[Variant]]
    costly: bool = False  # needs more than the rows themselves: tried only where nothing else fits
    general: bool = False  # gives way to any other bug that explains as much: it reads much off the data
    possible: Callable[[Sample], bool] = lambda _: True  # a cheap look at whether the file may hold it


@dataclass(frozen=True, eq=False)
class Variant:
    """A bug with its parameters; one of the three is what it does."""

    value: float | None = None
    factor: Callable[[Recipe], Floats] | None = None  # (n,), of the right recipe
    change: Callable[[Recipe], Recipe] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()  # under which the file is right
    guessed: bool = False  # one of many values that are tried because people choose them; never in a pair
    general: bool = False  # as of a bug: this variant rests on little


@dataclass(frozen=True, eq=False)
class Suspect:
    """A bug in one of its variants."""

    bug: Bug
    variant: Variant


def nice(value: float, digits: int = 2) -> float:
    """Return a number as people choose it, with so many significant digits."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else value


def suspects(bugs: Iterable[Bug], sample: Sample) -> list[Suspect]:
    """Return the bugs that can be there at all, in every variant."""
    return [Suspect(bug, variant) for bug in bugs if bug.possible(sample) for variant in bug.variants(sample)]

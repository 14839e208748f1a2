"""What is in a tensor file: every tensor counted, bounded, and its role guessed; nothing is judged."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.errors import InputError
from gradcheck_cli.names import role_of, split
from gradcheck_cli.reading import Reading
from gradcheck_cli.tensors import (
    UNJUDGED,
    Container,
    Rows,
    Tensor,
    decoded,
    locate,
    member_of,
    open_container,
)

Floats = NDArray[np.float64]

_ENTRIES = 1 << 17  # looked at together
_WIDEST = 1 << 22  # classes of a row that is held whole
_NEAR = {1: 0.2, 2: 1e-2, 4: 1e-4, 8: 1e-4}
"""By the bytes of a value, the relative error that storing them makes in a row's sum, and to spare."""


@dataclass(frozen=True)
class Holding:
    """What one tensor holds, or why it cannot be read."""

    member: str | None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    order: str | None = None
    entries: int | None = None
    finite: int | None = None
    nan: int | None = None
    positive_infinite: int | None = None
    negative_infinite: int | None = None
    least: float | None = None  # of the finite values; whole numbers are ints
    greatest: float | None = None
    role: str | None = None  # the likeliest
    because: str | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Inspection:
    """What one file holds, or why it cannot be read."""

    path: str
    format: str | None = None
    tensors: tuple[Holding, ...] = ()
    others: tuple[str, ...] = ()  # members that are no tensors
    error: str | None = None

    @property
    def errors(self) -> tuple[str, ...]:
        """Everything that could not be read."""
        return tuple(e for e in (self.error, *(each.error for each in self.tensors)) if e is not None)


def inspect(text: str, reading: Reading) -> Inspection:
    """Return what ``FILE`` or ``FILE:MEMBER`` holds; what cannot be read is part of the answer."""
    location = locate(text)
    try:
        with open_container(location, reading) as container:
            members: tuple[str | None, ...] = container.members or (None,)
            if location.member is not None:
                members = (member_of(container, location.member, UNJUDGED),)
            tensors = tuple(_holding(container, member, reading) for member in members)
            return Inspection(location.path, container.format, tensors, container.others)
    except InputError as error:
        return Inspection(location.path, error=str(error))


def names_of(inspection: Inspection) -> set[str]:
    """Return the names that --dtype knows the tensors of a file under."""
    return {each.member or PurePath(inspection.path).stem for each in inspection.tensors}


def _holding(container: Container, member: str | None, reading: Reading) -> Holding:
    name = member or PurePath(container.source.path).stem
    asked = reading.dtype_of(name)
    reading = replace(reading, dtype=() if asked is None else (f"{UNJUDGED}={asked}",))
    try:
        with container.tensor(member, UNJUDGED, reading) as tensor:
            seen = _seen(tensor)
            tensor.check_unchanged()
    except InputError as error:
        return Holding(member, error=str(error))
    by_name = role_of(member) if member is not None else (split(name) or (None, None))[1]
    role, because = (by_name, "its name") if by_name is not None else _guess(tensor, seen)
    return Holding(
        member=member,
        dtype=tensor.dtype,
        shape=tensor.shape,
        order=tensor.order,
        entries=math.prod(tensor.shape),
        finite=seen.finite,
        nan=seen.nan,
        positive_infinite=seen.positive_infinite,
        negative_infinite=seen.negative_infinite,
        least=seen.least,
        greatest=seen.greatest,
        role=role,
        because=because,
        notes=tensor.notes,
    )


@dataclass
class _Seen:
    """Counts and bounds of all values so far, and what was true of every row."""

    finite: int = 0
    nan: int = 0
    positive_infinite: int = 0
    negative_infinite: int = 0
    least: float | None = None
    greatest: float | None = None
    whole: bool = True
    sum_to_one: bool = True
    sum_to_zero: bool = True
    logarithms_of_one: bool = True

    def count(self, values: Floats | NDArray[np.integer]) -> None:
        """Take values into the counts and bounds."""
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            self.nan += int(np.count_nonzero(np.isnan(values)))
            self.positive_infinite += int(np.count_nonzero(values == np.inf))
            self.negative_infinite += int(np.count_nonzero(values == -np.inf))
            values = values if finite.all() else values[finite]
            self.whole = self.whole and bool((np.trunc(values) == values).all())
        self.finite += values.size
        if values.size:
            least, greatest = values.min().item(), values.max().item()
            self.least = least if self.least is None else min(self.least, least)
            self.greatest = greatest if self.greatest is None else max(self.greatest, greatest)

    def take_rows(self, rows: Floats, near: float) -> None:
        """See whether whole rows look like a distribution, its logarithm, or a gradient."""
        sums, sizes = rows.sum(axis=1), np.abs(rows).sum(axis=1)
        self.sum_to_one = self.sum_to_one and bool((np.abs(sums - 1.0) <= near).all())
        self.sum_to_zero = self.sum_to_zero and bool((np.abs(sums) <= near * sizes).all())
        if self.logarithms_of_one:
            total = np.exp(np.minimum(rows, 1.0)).sum(axis=1)
            self.logarithms_of_one = bool((np.abs(total - 1.0) <= near).all())


def _seen(tensor: Tensor) -> _Seen:
    """Look at every value once, a few rows at a time."""
    seen, last = _Seen(), tensor.shape[-1] if tensor.shape else 1
    by_row = len(tensor.shape) > 0 and 1 < last <= _WIDEST
    rows = Rows(tensor, len(tensor.shape) - 1 if by_row else None)
    step = max(1, _ENTRIES // rows.classes)
    with np.errstate(all="ignore"):
        for start in range(0, rows.count, step):
            values = decoded(rows.read_stored(start, min(start + step, rows.count)), tensor.dtype)
            seen.count(values)
            if by_row and values.dtype.kind == "f":
                near = _NEAR[tensor.stored.itemsize]
                seen.take_rows(values.astype(np.float64, copy=False), near)
    if not by_row or _counts(tensor):
        seen.sum_to_one = seen.sum_to_zero = seen.logarithms_of_one = False
    return seen


def _guess(tensor: Tensor, seen: _Seen) -> tuple[str | None, str | None]:
    """Return the role that the values suggest, and what suggests it."""
    if seen.least is None or seen.greatest is None or seen.least == seen.greatest == 0.0:
        return None, None
    single, flat = math.prod(tensor.shape) == 1, len(tensor.shape) == 1
    bits = ", if not the bits of bfloat16" if tensor.stored.itemsize == 2 else ""
    suggestions = (
        (_counts(tensor) and not single, "labels", f"integers{bits}"),
        (single, None if _counts(tensor) else "loss", "a single number"),
        (seen.sum_to_one and seen.least >= 0.0, "probs", "its rows sum to 1"),
        (
            seen.logarithms_of_one and seen.greatest <= 0.0,
            "log-probs",
            "the exponentials of its rows sum to 1",
        ),
        (seen.sum_to_zero, "grad", "its rows sum to 0"),
        (flat and seen.whole and not seen.nan, "labels", "whole numbers"),
        (flat, None, None),
    )
    return next(
        ((role, because) for fits, role, because in suggestions if fits), ("logits", "nothing else fits")
    )


def _counts(tensor: Tensor) -> bool:
    """Tell whether a tensor holds integers, and not the bits of something else."""
    return tensor.stored.kind in "iu" and not tensor.dtype.startswith(("float", "bfloat"))

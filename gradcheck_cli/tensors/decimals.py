"""How many digits the numbers of a text were printed with."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from gradcheck_cli.records import dataclass

EXACT = 17  # significant digits that tell any two doubles apart
SLICE = 1 << 18  # bytes looked at together: the masks stay in the cache
POINT = 46
OVERLAP = 64  # more than the longest window, so that none is lost between two slices

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Decimals:
    """How numbers were printed.

    ``significant``: the most significant digits of any cell, at most 17; zeros count for nothing, and a text
    of integers alone is exact. ``places``: the digits after the point, where no cell has an exponent and all
    cells have equally many; else None.
    """

    significant: int
    places: int | None


class Scan:
    """Takes the text of the cells, block by block, and stops looking as soon as nothing can change."""

    def __init__(self) -> None:
        self._significant = 0
        self._places: int | None = None
        self._fixed = True  # until an exponent, an integer or another number of places is seen
        self._fractions = False  # a point or an exponent was seen

    def result(self) -> Decimals:
        """Return what was found."""
        exact = not self._fractions or self._significant == 0
        return Decimals(
            EXACT if exact else min(self._significant, EXACT), self._places if self._fixed else None
        )

    def update(self, block: bytes, numbers: Numbers) -> None:
        """Take lines of numbers, each ended by a line feed, and their values."""
        if not self._fixed and self._significant >= EXACT:
            return
        exponents = b"e" in block or b"E" in block
        self._fractions = self._fractions or exponents or b"." in block
        codes: Bytes = np.frombuffer(block, np.uint8)
        self._fixed = self._fixed and not exponents and self._same_places(block, codes)
        if self._fixed:
            self._take_largest(numbers)
            return
        for start in range(0, len(block), SLICE):
            if self._significant >= EXACT:
                return
            self._grow(block, codes, start, min(start + SLICE + OVERLAP, len(block)))

    def _take_largest(self, numbers: Numbers) -> None:
        """Count the digits of the largest number: with equal places it has the most."""
        largest = max(float(numbers.max()), -float(numbers.min()))
        if not largest < np.inf:
            largest = float(np.abs(numbers).max(where=np.isfinite(numbers), initial=0.0))
        digits = f"{abs(largest):.{self._places or 0}f}".replace(".", "").lstrip("0")
        self._significant = max(self._significant, len(digits))

    def _same_places(self, block: bytes, codes: Bytes) -> bool:
        """Whether every number of the block has as many digits after its point as the first of all."""
        if re.search(rb"\d", block) is None:  # only nan and inf
            return True
        match = re.search(rb"\.(\d*)", block)
        if match is None:
            return False
        if self._places is None:
            self._places = len(match.group(1))
        return self._aligned(codes, self._places)

    @staticmethod
    def _aligned(codes: Bytes, places: int) -> bool:
        """Whether points are followed by ``places`` digits and the end of a number, and nothing else is."""
        step = places + 1
        if len(codes) <= step or _ends(codes[:step]).any() or (codes[-step:] == POINT).any():
            return False
        for start in range(0, len(codes) - step, SLICE):
            part = codes[start : start + SLICE + step]
            if not np.array_equal(part[:-step] == POINT, _ends(part)[places:]):
                return False
        return True

    def _grow(self, block: bytes, codes: Bytes, start: int, stop: int) -> None:
        """Raise ``significant`` while some cell of the slice has more digits than that."""
        part = codes[start:stop]
        digit = _bits((part - 48) < 10)
        first = digit & ~_bits(part == 48)
        mantissa = digit | _bits(part == POINT)
        while self._significant < EXACT:
            hit = _first_window(first, digit, mantissa, self._significant + 1)
            if hit < 0:
                return
            found = _digits_at(block, start + hit)
            if found <= self._significant:  # the digits of an exponent
                self._significant = max(self._significant, _most_digits(block[start:stop]))
                return
            self._significant = found


def _ends(codes: Bytes) -> Mask:
    """Return where a number has just ended, from the second byte on; there are no exponents here."""
    mantissa: Mask = (codes - POINT) < 12  # the slash between point and digits is in no number
    ends: Mask = mantissa[:-1] > mantissa[1:]
    return ends


def _bits(mask: Mask) -> int:
    """Return a mask as one integer, place i in bit i: shifts and ands of it cost next to nothing."""
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")


def _first_window(first: int, digit: int, mantissa: int, length: int) -> int:
    """Return where a significant digit begins a number of at least ``length`` digits, or -1.

    Either that many digits in a row, or one character more with a point among them: a cell has one point.
    """
    for mask, size in ((digit, length), (mantissa, length + 1)):
        found = _runs(mask, size) & first
        if found:
            return (found & -found).bit_length() - 1
    return -1


def _runs(mask: int, size: int) -> int:
    """Return where ``size`` bits in a row begin, in log2(size) steps."""
    have = 1
    while have < size:
        step = min(have, size - have)
        mask &= mask >> step
        have += step
    return mask


def _digits_at(block: bytes, place: int) -> int:
    """Return the digits of the mantissa from this place on; 0 inside an exponent."""
    if re.search(rb"[eE][+-]?\d*\Z", block[max(place - 8, 0) : place]):
        return 0
    match = re.compile(rb"[0-9.]+").match(block, place)
    return 0 if match is None else len(match.group().replace(b".", b""))


def _most_digits(block: bytes) -> int:
    found = re.findall(rb"(?<![eE0-9.])(?<![eE][+-])[0.]*([1-9][0-9.]*)", block)
    return max((len(each.replace(b".", b"")) for each in found), default=0)

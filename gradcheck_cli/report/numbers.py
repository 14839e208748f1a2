"""The one place where a number becomes text: short, never cut, never saying what is not so.

Rounding may not move a number across the line that a reader compares it with: a margin above 1
is never shown as 1, a tolerance that "would have passed" is rounded up, 3e-08 is never 0.000000,
and two numbers shown side by side keep enough digits for their difference to be seen.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Context, Decimal

DIGITS = 3  # significant digits of an error: more would be noise in a table
VALUE_DIGITS = 4  # of an entry of a tensor
ROUND_TRIP = 17  # significant digits after which every float64 is told apart
VISIBLE_SHARE = 0.05  # the shown difference is within this part of the true one


def number(value: float, digits: int = DIGITS) -> str:
    """Return a float with so many significant digits: ``3e-08``, ``0.25``, ``0``, ``nan``."""
    return "0" if value == 0 else f"{value:.{digits}g}"


def count(value: int) -> str:
    """Return a whole number with thousands separators: ``16,384,000``."""
    return f"{value:,}"


def short(value: int) -> str:
    """Return a count in at most five characters: ``8192``, ``16M``."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= 10 * size:
            return f"{value // size}{unit}"
    return str(value)


def many(value: int, one: str, more: str) -> str:
    """Return a count with its noun: 1 row, 2,000 rows."""
    return f"{count(value)} {one if value == 1 else more}"


def amount(value: float) -> str:
    """Return a divisor or the like: ``5,120`` where it is whole, else nine digits."""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return count(int(value))
    return number(value, 9)


def margin(value: float) -> str:
    """Return error / allowed, ``0.41``, ``37.2``, ``1.2e+05``, on the right side of 1."""
    if not math.isfinite(value) or value in (0, 1):
        return number(value)
    digits = 3 if 10 <= abs(value) < 999.5 else 2
    while digits < ROUND_TRIP and not _same_side(float(number(value, digits)), value):
        digits += 1
    return number(value, digits)


def at_least(value: float) -> str:
    """Return two digits rounded up, so that the number shown is enough: 3.21e-05 to ``3.3e-05``."""
    if not math.isfinite(value) or value in (0, float(f"{value:.2g}")):
        return number(value, 2)
    text = f"{float(Context(prec=2, rounding=ROUND_CEILING).plus(Decimal(value))):.2g}"
    return text if value <= float(text) < math.inf else repr(value)


def apart(first: float, second: float, digits: int = DIGITS) -> tuple[str, str]:
    """Return two numbers with as many digits as it takes to see how far apart they are."""
    gap = first - second
    if gap == 0 or not math.isfinite(gap):
        return number(first, digits), number(second, digits)
    while digits < ROUND_TRIP and not _shows(gap, number(first, digits), number(second, digits)):
        digits += 1
    return number(first, digits), number(second, digits)


def share(part: int, whole: int) -> str:
    """Return a percentage that is 0 or 100 only when it is: ``2.5%``, ``<0.1%``, ``>99.9%``."""
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1%"
    if 99.9 < percent < 100:
        return ">99.9%"
    return f"{number(percent, 3)}%"


def seconds(value: float) -> str:
    """Return a time: ``0.12 s``, ``83.4 s``, ``1,204 s``."""
    return f"{value:,.0f} s" if value >= 999.5 else f"{number(value, 2 if value < 10 else 3)} s"


def index(position: tuple[int, ...]) -> str:
    """Return where an entry is, in the tensor's own layout: ``[3, 7]``."""
    return f"[{', '.join(str(int(i)) for i in position)}]" if position else "scalar"


def shape(lengths: tuple[int, ...]) -> str:
    """Return a shape: ``512 x 10``."""
    return " x ".join(str(int(n)) for n in lengths) if lengths else "scalar"


def _same_side(shown: float, value: float) -> bool:
    return (shown > 1) == (value > 1) and (shown < 1) == (value < 1)


def _shows(gap: float, first: str, second: str) -> bool:
    return abs(float(first) - float(second) - gap) <= VISIBLE_SHARE * abs(gap)

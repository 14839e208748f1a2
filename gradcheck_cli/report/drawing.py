"""Pictures of errors as SVG: where an export fails, rows downwards, classes to the right, and how many ulps.

A map is five paths, one for each shade, so that thousands of parts stay small. Text and lines take the
colour of what is around them, which may be dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from gradcheck_cli.outcome import Picture
from gradcheck_cli.report import numbers
from gradcheck_cli.report.parts import buckets, shares
from gradcheck_cli.visible import visible

_WIDTH, _HEIGHT = 420, 240
_LEFT, _BELOW, _ABOVE = 60, 34, 16  # room for numbers around a picture
SHADES = ((0.01, "#fed976"), (0.1, "#feb24c"), (0.5, "#fd8d3c"), (1.0, "#e31a1c"), (math.inf, "#800026"))
"""Below which share of failing entries a part has which colour; the last is for parts that fail whole."""

_NAMES = ("below 1 %", "below 10 %", "below 50 %", "below 100 %", "all of it")
_BAR, _ROUNDED = "#b10026", "#7f8c99"
_HALF = 2  # bars from the left that one rounding explains


def heat_map(picture: Picture) -> str:
    """Return where the tensor fails, nothing where it does not."""
    if not any(map(any, picture.failing)):
        return ""
    parts = list(shares(picture))
    tall, wide = len(parts), len(parts[0])
    across, down = (_WIDTH - _LEFT - 2) / wide, (_HEIGHT - _BELOW - 2) / tall
    shapes = "".join(
        f'<path fill="{colour}" d="{path}"/>'
        for (_, colour), path in zip(SHADES, _paths(parts), strict=True)
        if path
    )
    name = escape(visible(picture.name), quote=True)
    plane = (
        f'<g transform="translate({_LEFT} 1) scale({across:.4f} {down:.4f})" shape-rendering="crispEdges">'
        f"{shapes}</g>"
        f'<path class="frame" d="M{_LEFT} 1h{_WIDTH - _LEFT - 2}v{_HEIGHT - _BELOW - 2}H{_LEFT}z"/>'
    )
    caption = f"where {name} fails: share of each part, {picture.axes}"
    return _figure(plane + _axes(picture), caption, _legend(parts))


def _paths(parts: Sequence[Sequence[float]]) -> list[str]:
    """Return for each shade the outline of its parts; neighbours in a row are one rectangle."""
    paths = ["" for _ in SHADES]
    for row, line in enumerate(parts):
        shades = [_shade(each) for each in line]
        start = 0
        for column in range(1, len(shades) + 1):
            if column < len(shades) and shades[column] == shades[start]:
                continue
            shade = shades[start]
            if shade is not None:
                paths[shade] += f"M{start} {row}h{column - start}v1h{start - column}z"
            start = column
    return paths


def _shade(share: float) -> int | None:
    """Return which colour a part has; none where nothing fails."""
    return next(at for at, (end, _) in enumerate(SHADES) if share < end) if share else None


def _axes(picture: Picture) -> str:
    """Return the first and the last row and class."""
    last_row, last_class = numbers.count(picture.rows - 1), numbers.count(picture.classes - 1)
    bottom, below = _HEIGHT - _BELOW, _HEIGHT - _BELOW + 14
    return (
        _word(_LEFT - 6, 12, "0", "end")
        + _word(_LEFT - 6, bottom - 2, last_row, "end")
        + _word(_LEFT, below, "0", "start")
        + _word(_WIDTH - 2, below, last_class, "end")
    )


def _legend(parts: Sequence[Sequence[float]]) -> str:
    """Return the shades that are in the picture, each with its meaning."""
    there = sorted({shade for line in parts for each in line if (shade := _shade(each)) is not None})
    return " ".join(
        f'<span><svg width="10" height="10"><rect width="10" height="10" fill="{SHADES[each][1]}"/></svg> '
        f"{_NAMES[each]}</span>"
        for each in there
    )


def histogram(picture: Picture) -> str:
    """Return how many entries have errors of which size in ulps, on a logarithmic scale."""
    found = buckets(picture)
    if not found:
        return ""
    most = math.log10(1 + max(count for _, count in found))
    bars = "".join(_bars(found, most))
    line = _HEIGHT - _BELOW
    axis = f'<path class="frame" d="M0 {line}h{_WIDTH}"/>'
    name = escape(visible(picture.name), quote=True)
    caption = f"errors of {name} in ulps: entries up to the number below, on a logarithmic scale"
    return _figure(bars + axis, caption)


def _bars(found: Sequence[tuple[str, int]], most: float) -> Iterator[str]:
    """Yield the bars, each with its count above it and its name below."""
    wide, room = _WIDTH / len(found), _HEIGHT - _BELOW - _ABOVE
    for place, (name, count) in enumerate(found):
        colour = _ROUNDED if place < _HALF else _BAR
        tall = room * math.log10(1 + count) / most if most else 0.0
        top, middle = _HEIGHT - _BELOW - tall, (place + 0.5) * wide
        if count:
            yield (
                f'<rect fill="{colour}" x="{(place + 0.1) * wide:.1f}" y="{top:.1f}" '
                f'width="{0.8 * wide:.1f}" height="{tall:.1f}"/>'
            )
            yield _word(middle, top - 4, numbers.short(count), "middle")
        yield _word(middle, _HEIGHT - _BELOW + 14, name, "middle")


def _word(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _figure(drawn: str, caption: str, legend: str = "") -> str:
    return (
        f'<figure><svg role="img" aria-label="{caption}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}">{drawn}</svg>'
        f"<figcaption>{caption}{'<br>' if legend else ''}{legend}</figcaption></figure>\n"
    )

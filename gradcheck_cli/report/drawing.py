"""Pictures of errors as SVG: where they are, and how large."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gradcheck_cli.report import numbers
from gradcheck_cli.summary import real

_WIDTH, _HEIGHT = 384.0, 240.0
_DECADES = 6.0  # between the palest and the darkest colour at most


def heat_map(picture: Mapping[str, Any]) -> str:
    """Return the largest error of each part of a tensor, rows downwards, classes to the right."""
    cells = [[real(each) for each in row] for row in picture["largest"]]
    shown = [math.log10(each) for row in cells for each in row if 0.0 < each < math.inf]
    high = max(shown, default=0.0)
    low = max(min(shown, default=high), high - _DECADES)
    wide, tall = _WIDTH / len(cells[0]), _HEIGHT / len(cells)
    boxes = "".join(
        f'<rect x="{column * wide:.2f}" y="{row * tall:.2f}" width="{wide + 0.3:.2f}" '
        f'height="{tall + 0.3:.2f}" fill="{_colour(each, low, high)}"/>'
        for row, line in enumerate(cells)
        for column, each in enumerate(line)
    )
    name = str(picture["check"])
    caption = (
        f"{_known(name)}: largest error of each part, "
        f"{numbers.many(int(picture['rows']), 'row', 'rows')} down, "
        f"{numbers.many(int(picture['classes']), 'class', 'classes')} across; from 1e{low:.1f} (pale) to "
        f"1e{high:.1f} (dark), white is exact, black is not a number"
    )
    return (
        f'<figure><svg role="img" width="{_WIDTH:.0f}" height="{_HEIGHT:.0f}" '
        f'viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}">{boxes}</svg><figcaption>{caption}</figcaption></figure>\n'
    )


def histogram(picture: Mapping[str, Any]) -> str:
    """Return how many errors lie in each decade, on a scale of powers."""
    counts = {int(decade): int(count) for decade, count in picture["decades"]}
    if not counts:
        return ""
    decades = range(min(counts), max(counts) + 1)
    most = math.log10(max(counts.values()) + 1)
    wide = _WIDTH / len(decades)
    bars = []
    for place, decade in enumerate(decades):
        count = counts.get(decade, 0)
        tall = (_HEIGHT - 30) * math.log10(count + 1) / most
        bars.append(
            f'<rect x="{place * wide:.2f}" y="{_HEIGHT - 15 - tall:.2f}" width="{wide * 0.9:.2f}" '
            f'height="{tall:.2f}" fill="#b2182b">'
            f"<title>{numbers.count(count)} from 1e{decade}</title></rect>"
            f'<text x="{(place + 0.45) * wide:.2f}" y="{_HEIGHT - 3:.0f}" '
            f'text-anchor="middle">{decade}</text>'
        )
    caption = (
        f"{_known(str(picture['check']))}: entries by the power of ten of their error, "
        "on a logarithmic scale; "
        f"{numbers.count(int(picture['exact']))} are exact"
    )
    return (
        f'<figure><svg role="img" width="{_WIDTH:.0f}" height="{_HEIGHT:.0f}" '
        f'viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}">{"".join(bars)}</svg>'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _known(name: str) -> str:
    """Return the name of a check, which has letters and hyphens only, whoever wrote the report."""
    return "".join(each for each in name if each.isalnum() or each == "-")


def _colour(error: float, low: float, high: float) -> str:
    """Return white for exact, pale to dark red by decades, black for what is no number."""
    if error == 0.0:
        return "#ffffff"
    if not math.isfinite(error):
        return "#000000"
    share = 1.0 if high == low else min(max((math.log10(error) - low) / (high - low), 0.0), 1.0)
    red, green, blue = (round(pale + share * (dark - pale)) for pale, dark in _ENDS)
    return f"#{red:02x}{green:02x}{blue:02x}"


_ENDS = ((254, 103), (229, 0), (217, 13))
"""The palest and the darkest red, by channel."""

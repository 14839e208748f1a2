"""Pictures of errors for a terminal: where they are, two rows of parts to a line, and how large in ulps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum

from rich.color import Color
from rich.style import Style
from rich.text import Text

from gradcheck_cli.outcome import Outcome, Picture
from gradcheck_cli.report import numbers
from gradcheck_cli.report.parts import buckets, coarse, shares

HEADING, ASIDE = "bold", "dim"
_TALLEST, _WIDEST = 8, 48  # parts of a map
_ROOM = 6  # cells of a bucket
_TOP, _BOTTOM, _BOTH = "▀", "▄", "█"
_BARS = " ▁▂▃▄▅▆▇█"
_SHADES = " .:+#"
_PALE, _DARK = (254, 217, 118), (177, 0, 38)


class Palette(Enum):
    """What the terminal can show: colours, blocks without colours, or neither."""

    COLOURS = "colours"
    BLOCKS = "blocks"
    ASCII = "ascii"


def pictures(outcome: Outcome, palette: Palette) -> Iterator[list[Text]]:
    """Yield for each picture its map and its histogram; they fit 60 cells."""
    for each in outcome.pictures:
        yield [*heat_map(each, palette), *histogram(each, palette)]


def heat_map(picture: Picture, palette: Palette) -> list[Text]:
    """Return the parts of a tensor, coloured by the share of their entries that fails."""
    picture = coarse(picture, _TALLEST, _WIDEST)
    failing = sum(map(sum, picture.failing))
    if not failing:
        return []
    parts = list(shares(picture))
    worst = max(map(max, parts))
    least = min(each for row in parts for each in row if each)
    cells = max(1, min(3, _WIDEST // len(parts[0])))
    starts = [-(-row * picture.rows // len(parts)) for row in range(0, len(parts), 2)]
    label = max(len(numbers.count(each)) for each in (*starts, picture.rows - 1))
    pairs = [(row, parts[at + 1] if at + 1 < len(parts) else []) for at, row in enumerate(parts)][::2]
    lines = [
        Text.assemble(
            (f"{numbers.count(start).rjust(label)}  ", ASIDE), *_line(upper, lower, worst, palette, cells)
        )
        for start, (upper, lower) in zip(starts, pairs, strict=True)
    ]
    last = numbers.count(picture.classes - 1)
    across = "0" + last.rjust(max(cells * len(parts[0]) - 1, len(last) + 1))
    part = f"{_percent(least)} to {_percent(worst)} of a marked part fails" if least < worst else ""
    told = part or f"{_percent(worst)} of each marked part fails"
    return [
        Text(f"where {picture.name} fails: {picture.axes}", style=HEADING),
        *lines,
        Text(" " * (label + 2) + across, style=ASIDE),
        Text(" " * (label + 2) + told, style=ASIDE),
    ]


def _percent(share: float) -> str:
    return numbers.share(round(share * 10**6), 10**6) if share >= 1e-6 else "<0.1%"


def _line(
    upper: Sequence[float], lower: Sequence[float], worst: float, palette: Palette, cells: int
) -> Iterator[Text]:
    lower = lower or [0.0] * len(upper)
    for top, bottom in zip(upper, lower, strict=True):
        if palette is Palette.ASCII:
            share = max(top, bottom)
            place = 0 if not share else 1 + min(int(share / worst * (len(_SHADES) - 1)), len(_SHADES) - 2)
            yield Text(_SHADES[place] * cells)
            continue
        block = {(True, True): _BOTH, (True, False): _TOP, (False, True): _BOTTOM}.get(
            (top > 0, bottom > 0), " "
        )
        if palette is Palette.BLOCKS:
            yield Text(block * cells)
        elif block == _BOTH:
            style = Style(color=_colour(top / worst), bgcolor=_colour(bottom / worst))
            yield Text(_TOP * cells, style=style)
        else:
            yield Text(block * cells, style=Style(color=_colour(max(top, bottom) / worst)))


def _colour(share: float) -> Color:
    """Return from pale to dark; a share of the largest, on a scale on which small ones are told apart."""
    at = share**0.5
    return Color.from_rgb(*(pale + at * (dark - pale) for pale, dark in zip(_PALE, _DARK, strict=True)))


def histogram(picture: Picture, palette: Palette) -> list[Text]:
    """Return how many entries have errors of which size in ulps."""
    found = buckets(picture)
    if not found:
        return []
    counts = [count for _, count in found]
    if palette is Palette.ASCII:
        shown = ["#" * _height(count, max(counts), 5) for count in counts]
    else:
        shown = [_BARS[_height(count, max(counts), 8)] * 3 for count in counts]
    style = "red" if palette is Palette.COLOURS else ""
    return [
        Text(f"errors of {picture.name} in ulps, bars up to the number below", style=HEADING),
        Text("".join(each.rjust(_ROOM) for each in shown).rstrip(), style=style),
        Text("".join(numbers.short(each).rjust(_ROOM) for each in counts)),
        Text("".join(name.rjust(_ROOM) for name, _ in found), style=ASIDE),
    ]


def _height(count: int, most: int, steps: int) -> int:
    """Return the height of a bar, on which counts that differ by thousands are all seen."""
    return 0 if not count else max(1, round(steps * (count.bit_length() / most.bit_length())))

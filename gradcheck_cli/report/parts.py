"""A picture of errors in numbers: shares of its parts, and entries by the size of their error in ulps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gradcheck_cli.outcome import Picture

_BUCKETS = 5  # of the histogram above 1 ulp
_ENDLESS = 1000  # octave of errors that are infinite or no numbers
_SPELLED = 13  # largest power of 2 that is written out


def coarse(picture: Picture, height: int, width: int) -> Picture:
    """Return the picture in at most so many parts: those that have the same part in it are one."""
    if not picture.failing:
        return picture
    tall, wide = len(picture.failing), len(picture.failing[0])
    counts = [[0] * min(width, wide) for _ in range(min(height, tall))]
    across = _joined(wide, min(width, wide))
    for at, row in enumerate(picture.failing):
        into = counts[at * len(counts) // tall]
        for to, count in zip(across, row, strict=True):
            into[to] += count
    return replace(picture, failing=tuple(map(tuple, counts)))


def _joined(parts: int, fewer: int) -> list[int]:
    """Return for each part which of fewer it goes to; a part begins at the first class it holds."""
    starts = [each * parts // fewer for each in range(fewer)]
    return [sum(start <= at for start in starts) - 1 for at in range(parts)]


def shares(picture: Picture) -> Iterator[list[float]]:
    """Yield of each row of parts the shares of their entries that fail."""
    height, width = len(picture.failing), len(picture.failing[0])
    for at, row in enumerate(picture.failing):
        rows = -(-(at + 1) * picture.rows // height) - -(-at * picture.rows // height)
        yield [
            count / (rows * ((to + 1) * picture.classes // width - to * picture.classes // width))
            for to, count in enumerate(row)
        ]


def buckets(picture: Picture) -> list[tuple[str, int]]:
    """Return names and counts: no error, up to 1/2 and up to 1 ulp, and powers above as wide as it takes."""
    known = {each: count for each, count in picture.octaves if each is not None and each < _ENDLESS}
    endless = sum(count for each, count in picture.octaves if each is not None and each >= _ENDLESS)
    top = max(known, default=0)
    step = max(1, -(-top // _BUCKETS))
    ends = [-1, 0, *(step * each for each in range(1, _BUCKETS + 1) if step * (each - 1) < top)]
    found = [("0", dict(picture.octaves).get(None, 0))]
    below = float("-inf")
    for end in ends:
        name = "1/2" if end < 0 else str(2**end) if end <= _SPELLED else f"2^{end}"
        found.append((name, sum(count for each, count in known.items() if below < each <= end)))
        below = end
    return (found + [("more", endless)] * bool(endless)) if picture.octaves else []

"""Outcome of a check → a drawn picture: where each export fails, and how large its errors are in ulps."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from gradcheck_cli.outcome import Outcome, Picture
from gradcheck_cli.report.layout import wrap
from gradcheck_cli.report.parts import buckets, shares
from gradcheck_cli.report.sentence import sentence, word


def drawn(outcome: Outcome, form: str) -> bytes:
    """Return a map and a histogram for each exported tensor, as PNG or SVG.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional and slow
    from matplotlib.figure import Figure  # noqa: PLC0415

    count = len(outcome.pictures)
    figure = Figure(figsize=(10, 1 + 3 * count), layout="constrained")
    FigureCanvasAgg(figure)
    places: Any = figure.subplots(count, 2, squeeze=False)
    for (left, right), each in zip(places, outcome.pictures, strict=True):
        _map(figure, left, each)
        _bars(right, each)
    told = wrap(f"{word(outcome.verdict)}  {sentence(outcome)}", 100)
    figure.suptitle("\n".join(told).replace("$", r"\$"), fontsize="medium")  # a dollar begins mathematics
    out = BytesIO()
    figure.savefig(out, format=form, metadata={"Date": None} if form == "svg" else None)
    return out.getvalue()


def _map(figure: Any, axes: Any, picture: Picture) -> None:
    axes.set(xlabel="class", ylabel="row", title=f"share of {picture.name} that fails")
    cells = [[100.0 * each for each in row] for row in shares(picture)] or [[0.0]]
    extent = (0, picture.classes, picture.rows, 0)
    shown = axes.imshow(cells, aspect="auto", extent=extent, cmap="YlOrRd", vmin=0, interpolation="nearest")
    figure.colorbar(shown, ax=axes, label="%")


def _bars(axes: Any, picture: Picture) -> None:
    found = buckets(picture)
    axes.bar([name for name, _ in found], [count for _, count in found], color="#b10026")
    axes.set(xlabel="ulps, up to", ylabel="entries", title=f"errors of {picture.name}")
    axes.set_yscale("symlog", linthresh=1)

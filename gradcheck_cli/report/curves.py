"""Error against step: a plot of characters, a table with the predicted bounds, CSV, and a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

from rich.text import Text

from gradcheck_cli.outcome import Curve, Outcome
from gradcheck_cli.report import numbers
from gradcheck_cli.report.layout import Column, fit, rows, wrap

HEADING = "bold"
ASIDE = "dim"
MARKS = {
    "forward-difference": "f", "complex": "i", "directional": "d", "central": "c", "richardson": "r",
    "whole-row-forward": "x", "whole-row-central": "o",
}  # fmt: skip
"""In the order they are drawn: what comes later covers what came before."""

BEST, PLATEAU = "*", "~"
_TOP_DECADE, _BOTTOM_DECADE = 0, -18
_CELLS = 2  # of a step
_MARGIN = 8  # cells to the left of the plot


def curves(outcome: Outcome, width: int | None) -> list[list[Text]]:
    """Return the sections that show the curves of an outcome, none where there are none."""
    if not outcome.curves:
        return []
    return [_plot(outcome.curves, width), _summary(outcome.curves, width), _table(outcome.curves, width)]


def _plot(shown: Sequence[Curve], width: int | None) -> list[Text]:
    """Return the largest errors, a character each, on axes of decades; a step has two cells if they fit."""
    steps = shown[0].steps
    wide = _CELLS if width is None or width >= _MARGIN + _CELLS * len(steps) else 1
    height, across = _TOP_DECADE - _BOTTOM_DECADE + 1, wide * len(steps)
    cells = [[" "] * across for _ in range(height)]
    by_name = {each.name: each for each in shown}
    for name, mark in MARKS.items():
        for position, error in enumerate(by_name[name].max_error):
            cells[_line(error)][wide * (len(steps) - 1 - position)] = mark
    for name in ("whole-row-forward", "whole-row-central"):
        curve = by_name[name]
        cells[_line(curve.max_error[curve.best])][wide * (len(steps) - 1 - curve.best)] = BEST
    lines = [Text("largest error against step", style=HEADING)]
    for number, row in enumerate(cells):
        decade = _TOP_DECADE - number
        label = f"1e{decade:+03d}" if decade % 3 == 0 else ""
        lines.append(Text(f"{label:>6} |" + "".join(row).rstrip()))
    lines.append(Text(" " * 7 + "+" + "-" * across))
    lines.append(Text(" " * _MARGIN + _axis(steps, wide)))
    legend = ", ".join(f"{mark} {name}" for name, mark in reversed(MARKS.items()))
    told = wrap(f"{legend}; {BEST} best of the whole-row differences", width)
    return [*lines, *(Text(line, style=ASIDE) for line in told)]


def _line(error: float) -> int:
    """Return the line of an error: its decade, cut to those of the plot."""
    if not error < math.inf:
        return 0
    decade = _BOTTOM_DECADE if error <= 0 else round(math.log10(error))
    return _TOP_DECADE - min(max(decade, _BOTTOM_DECADE), _TOP_DECADE)


def _axis(steps: Sequence[float], wide: int) -> str:
    """Return the labels below the plot; steps grow to the right, and the largest comes first."""
    line = [" "] * (wide * len(steps) + 4)
    for position, step in enumerate(steps):
        decade = math.log10(step)
        if abs(decade - round(decade)) < 1e-9 and round(decade) % 3 == 0:
            label = f"1e{round(decade):+03d}"
            start = wide * (len(steps) - 1 - position)
            line[start : start + len(label)] = label
    return "".join(line).rstrip()


def _summary(shown: Sequence[Curve], width: int | None) -> list[Text]:
    best = [(each, each.best) for each in shown]
    columns = [
        Column("method", [each.name for each in shown], right=False),
        Column("best step", [numbers.number(each.steps[at]) for each, at in best]),
        Column("max error", [numbers.number(each.max_error[at]) for each, at in best]),
        Column("median", [numbers.number(each.median_error[at]) for each, at in best], rank=2),
        Column("predicted", [numbers.number(each.bound[at]) for each, at in best], rank=1),
        Column("plateau", [_plateau(each) for each in shown], rank=3, right=False),
    ]
    heading, *lines = rows(fit(columns, width)[0])
    told = "predicted: proven bound of the largest error; plateau: steps within ten times the best"
    return [
        Text(heading, style=HEADING), *map(Text, lines),
        *(Text(line, style=ASIDE) for line in wrap(told, width)),
    ]  # fmt: skip


def _plateau(curve: Curve) -> str:
    first, last = curve.plateau
    return f"{numbers.number(curve.steps[last])} to {numbers.number(curve.steps[first])}"


def _table(shown: Sequence[Curve], width: int | None) -> list[Text]:
    """Return measured and predicted errors at each decade, the best step and the plateau marked."""
    decades = range(0, len(shown[0].steps), 2)
    columns = [Column("step", [numbers.number(shown[0].steps[at]) for at in decades])]
    for rank, name in enumerate(reversed(MARKS), start=1):
        curve = next(each for each in shown if each.name == name)
        columns.append(Column(name, [_marked(curve, at) for at in decades], rank=2 * rank))
        bounds = [numbers.number(curve.bound[at], 2) for at in decades]
        columns.append(Column("predicted", bounds, rank=2 * rank + 1))  # goes before its method does
    kept, dropped = fit(columns, width)
    heading, *lines = rows(kept)
    told = f"{BEST} best step, {PLATEAU} plateau; every second step, --format csv has all"
    if dropped:
        told += f"; too narrow for {len(dropped)} columns"
    return [
        Text(heading, style=HEADING), *map(Text, lines),
        *(Text(line, style=ASIDE) for line in wrap(told, width)),
    ]  # fmt: skip


def _marked(curve: Curve, at: int) -> str:
    """Return a largest error with its mark; the best step may lie between two of the table's."""
    first, last = curve.plateau
    mark = BEST if at in (curve.best, curve.best + 1 - (curve.best + 1) % 2) else " "
    if mark == " " and first <= at <= last:
        mark = PLATEAU
    return f"{numbers.number(curve.max_error[at], 2)} {mark}"


def csv(outcome: Outcome) -> Iterator[str]:
    """Yield the lines of a CSV file: every method at every step."""
    yield "method,step,max_error,median_error,predicted,best,plateau"
    for curve in outcome.curves:
        first, last = curve.plateau
        columns = (curve.steps, curve.max_error, curve.median_error, curve.bound)
        for at, values in enumerate(zip(*columns, strict=True)):
            flags = f"{int(at == curve.best)},{int(first <= at <= last)}"
            yield f"{curve.name}," + ",".join(map(repr, values)) + f",{flags}"


def picture(outcome: Outcome, form: str) -> bytes:
    """Return the curves drawn by matplotlib, as PNG or SVG.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional and slow
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    for curve in outcome.curves:
        (line,) = axes.loglog(curve.steps, [max(each, 1e-18) for each in curve.max_error], label=curve.name)
        axes.loglog(curve.steps, curve.bound, linestyle=":", linewidth=0.8, color=line.get_color())
        axes.plot(
            curve.steps[curve.best], max(curve.max_error[curve.best], 1e-18), marker="*", markersize=10,
            color=line.get_color(),
        )  # fmt: skip
    axes.set(xlabel="step h", ylabel="largest error", ylim=(1e-18, 10), title="finite differences")
    axes.grid(visible=True, linewidth=0.3)
    axes.legend(title="dotted: predicted bound", fontsize="small")
    out = BytesIO()
    figure.savefig(out, format=form, metadata={"Date": None} if form == "svg" else None)
    return out.getvalue()

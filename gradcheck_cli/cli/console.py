"""Where reports are printed: the only place that writes to standard output."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from gradcheck_cli.cli.exits import ReaderGone, unwritable
from gradcheck_cli.errors import OutputError
from gradcheck_cli.outcome import Outcome
from gradcheck_cli.records import dataclass

if TYPE_CHECKING:
    from rich.text import Text


@dataclass(frozen=True)
class Manner:
    """How the user wants to be told."""

    form: str
    quiet: int
    verbose: bool
    color: str
    top: int


def show(outcome: Outcome, manner: Manner, *, pictured: bool = False) -> None:
    """Print the outcome as asked; with its pictures on a page, after a failure on a terminal, or where told.

    A person's view whose reader leaves (``| head``) keeps the true verdict; a machine's report that
    nobody reads to its end is no report, and the process ends by SIGPIPE.
    """
    if manner.quiet >= 2:
        return
    failed = looked_at(manner) and outcome.exit_code == 1
    if not (pictured or failed or manner.form == "html"):
        outcome = replace(outcome, pictures=())
    try:
        pour(_pieces(outcome, manner), for_people=manner.form == "table" or manner.quiet == 1)
    except OutputError as error:
        raise OutputError(f"{error}; the verdict is {outcome.verdict.value.upper()}") from error


def put(text: str, *, for_people: bool) -> None:
    """Write a whole report to standard output."""
    pour([text], for_people=for_people)


def pour(pieces: Iterable[str], *, for_people: bool) -> None:
    """Write a report to standard output, piece by piece, as :func:`show` says."""
    try:
        for piece in pieces:
            sys.stdout.write(piece)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not for_people:
            raise ReaderGone from None
    except OSError as error:
        raise unwritable(error) from error


def _pieces(outcome: Outcome, manner: Manner) -> Iterable[str]:
    """Return the report; where every entry of a matrix is in it, it is never there as a whole."""
    if manner.quiet:
        from gradcheck_cli.report.line import line  # noqa: PLC0415 - start-up

        return [line(outcome) + "\n"]
    if manner.form != "table":
        from gradcheck_cli.report.single import single  # noqa: PLC0415

        return single(manner.form, outcome)
    return [_table(outcome, manner)]


def _table(outcome: Outcome, manner: Manner) -> str:
    """Return the report as the terminal should get it; a pipe gets it as wide as it needs to be."""
    from gradcheck_cli.report.picture import Palette  # noqa: PLC0415 - start-up
    from gradcheck_cli.report.table import render  # noqa: PLC0415

    palette = Palette.COLOURS if _coloured(manner.color) else Palette.BLOCKS
    palette = palette if _has_blocks() else Palette.ASCII
    return painted(
        lambda width: render(outcome, width=width, top=manner.top, verbose=manner.verbose, palette=palette),
        manner.color,
    )


def wants_pictures(manner: Manner) -> bool:
    """Tell whether the report would show the pictures of a failure."""
    return manner.form == "html" or looked_at(manner)


def looked_at(manner: Manner) -> bool:
    """Tell whether the report is a table that goes to a terminal."""
    return manner.form == "table" and not manner.quiet and sys.stdout.isatty()


def _coloured(color: str) -> bool:
    return color == "always" or (color == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))


def _has_blocks() -> bool:
    """Tell whether standard output can encode what pictures are made of."""
    try:
        "▀▄█▁".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def painted(make: Callable[[int | None], Text], color: str) -> str:
    """Return a report as the terminal should get it; a pipe gets it as wide as it needs to be."""
    from rich.console import Console  # noqa: PLC0415 - start-up

    terminal, shown = sys.stdout.isatty(), io.StringIO()
    console = Console(
        file=shown,  # not standard output: Rich flushes its file even where it only captures
        force_terminal=color == "always" or (terminal and color == "auto"),
        no_color=color == "never" or (color == "auto" and bool(os.environ.get("NO_COLOR"))),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )
    width = console.width if terminal else None
    console.print(make(width), soft_wrap=True)
    return shown.getvalue()

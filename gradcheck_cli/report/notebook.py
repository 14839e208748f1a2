"""Outcome → HTML for a notebook's cell: the report of the terminal, with its colours."""

from __future__ import annotations

import io

from rich.console import Console

from gradcheck_cli.outcome import Outcome
from gradcheck_cli.report.table import render

_FRAME = '<pre style="font-family:monospace;line-height:1.3;overflow-x:auto">{code}</pre>'


def to_html(outcome: Outcome, width: int) -> str:
    """Return the report as one element; what came from a file or its name is escaped."""
    console = Console(
        file=io.StringIO(), record=True, width=width, force_terminal=True, highlight=False, markup=False,
        emoji=False,
    )  # fmt: skip
    console.print(render(outcome, width=width, top=outcome.settings["top"]), soft_wrap=True)
    return console.export_html(inline_styles=True, code_format=_FRAME)

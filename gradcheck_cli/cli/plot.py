"""``--plot``: an outcome drawn to a file, by matplotlib, which is imported here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gradcheck_cli.errors import OutputError, UsageError
from gradcheck_cli.outcome import Outcome
from gradcheck_cli.visible import visible

Draw = Callable[[Outcome, str], bytes]
"""Makes a picture in a form, png or svg."""


def plot_path(typed: str | None) -> Path | None:
    """Return where a picture goes, if one is asked for."""
    if typed is not None and Path(typed).suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"--plot {typed}: the name must end in .png or .svg")
    return None if typed is None else Path(typed)


def plot(outcome: Outcome, path: Path, draw: Draw) -> None:
    """Write the picture."""
    try:
        drawn = draw(outcome, path.suffix.lower()[1:])
    except ImportError as error:
        raise UsageError("--plot needs matplotlib: pip install 'softgrad[plot]'") from error
    try:
        path.write_bytes(drawn)
    except OSError as error:
        raise OutputError(f"--plot {visible(str(path))}: cannot be written: {error.strerror}") from error

"""A progress bar on stderr for work that takes longer than about a second, on a terminal only."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

_PATIENCE = 1.0  # seconds before the bar appears
_PERIOD = 0.2  # seconds between two looks at the count


@contextlib.contextmanager
def bar(rows: int, done: Callable[[], int]) -> Iterator[None]:
    """Show how many of the rows are done while the context is open."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    watcher = threading.Timer(_PATIENCE, _draw, (rows, done, over))
    watcher.daemon = True
    watcher.start()
    try:
        yield
    finally:
        watcher.cancel()
        over.set()
        watcher.join()


def _draw(rows: int, done: Callable[[], int], over: threading.Event) -> None:
    from rich.console import Console  # noqa: PLC0415 - only where a bar is drawn
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (
        TextColumn("checking"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    began = time.monotonic() - _PATIENCE
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=rows, rate="")
        while not over.wait(_PERIOD):
            finished = done()
            rate = f"{finished / (time.monotonic() - began):,.0f} rows/s"
            progress.update(task, completed=finished, rate=rate)

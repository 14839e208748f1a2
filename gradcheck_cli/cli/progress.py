"""A progress bar on stderr for work that takes longer than about a second, on a terminal only."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

_PATIENCE = 1.0  # seconds before the bar appears
_PERIOD = 0.1  # seconds between two looks at the count


@contextlib.contextmanager
def bar() -> Iterator[Callable[[int], Callable[[int], None]] | None]:
    """Yield what opens a bar for a number of rows, or None where nobody would see it."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    counter = _Counter()
    watcher = threading.Thread(target=counter.watch, name="softgrad-progress", daemon=True)
    watcher.start()
    try:
        yield counter.begin
    finally:
        counter.done.set()
        watcher.join()


class _Counter:
    """Counts finished rows; threads only add, and the watcher alone draws."""

    def __init__(self) -> None:
        self.rows = 0
        self.finished = 0
        self.lock = threading.Lock()
        self.done = threading.Event()

    def begin(self, rows: int) -> Callable[[int], None]:
        """Set the number of rows, and return what is told of finished ones."""
        self.rows = rows
        return self.add

    def add(self, rows: int) -> None:
        """Count rows as finished."""
        with self.lock:
            self.finished += rows

    def watch(self) -> None:
        """Draw the bar once the work has lasted, until it is done."""
        began = time.monotonic()
        if self.done.wait(_PATIENCE):
            return
        from rich.console import Console  # noqa: PLC0415 - only where a bar is drawn
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        columns = (
            TextColumn("checking"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=self.rows or None, rate="")
            while not self.done.wait(_PERIOD):
                rate = self.finished / (time.monotonic() - began)
                progress.update(
                    task, completed=self.finished, total=self.rows or None, rate=f"{rate:,.0f} rows/s"
                )

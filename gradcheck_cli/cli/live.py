"""How a batch is seen while it runs: a bar and the failures as they come, on a terminal only."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gradcheck_cli.visible import visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from gradcheck_cli.batch.case import Case
    from gradcheck_cli.summary import Head, Summary

_PERIOD = 0.1  # seconds between two drawings
_NAME = 30  # characters of the case last done


class Live:
    """Watches a batch; off a terminal it only says what happened to a worker."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._drawn = 0.0
        self._failed = 0
        self._last = ""
        self._began = time.monotonic()
        self._new = 0

    def __enter__(self) -> Live:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._draw()  # the last that was drawn may be a period old
            self._progress.stop()

    def begin(self, summary: Summary) -> None:
        """Show the bar; cases that a journal had are done."""
        if not self._shown:
            return
        from rich.console import Console  # noqa: PLC0415 - only where a bar is drawn
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}", markup=False),
        )
        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        # Drawn from here, never from a thread: workers are forked while it is shown.
        self._progress = Progress(*columns, console=console, transient=True, auto_refresh=False)
        self._failed = summary.counts["fail"]
        self._task = self._progress.add_task(
            "", total=summary.planned, completed=summary.done, failed="", rate="", last=""
        )
        self._progress.start()

    def finished(self, head: Head) -> None:
        """Count a case; one that did not pass is told at once."""
        self._new += 1
        if self._progress is None or self._task is None:
            return
        if head.verdict == "fail":
            self._failed += 1
        if head.verdict != "pass":
            from gradcheck_cli.report.cases import line  # noqa: PLC0415 - only then

            self._progress.console.print(line(head), soft_wrap=True)
        self._last = visible(head.case, _NAME)
        self._progress.advance(self._task)
        self.tick()

    def again(self, case: Case, reason: str) -> None:
        """Say that a case is tried once more."""
        told = f"softgrad: {visible(case.name)}: {visible(reason)}"
        if self._progress is not None:
            self._progress.console.print(told, soft_wrap=True)
            return
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(told + "\n")

    def tick(self) -> None:
        """Draw, if that is due."""
        if time.monotonic() - self._drawn >= _PERIOD:
            self._draw()

    def _draw(self) -> None:
        """Draw what is known now."""
        if self._progress is None or self._task is None:
            return
        self._drawn = time.monotonic()
        rate = f"{self._new / max(self._drawn - self._began, 1e-9):,.0f} cases/s"
        fields: dict[str, Any] = {"failed": f"{self._failed} failed", "rate": rate, "last": self._last}
        self._progress.update(self._task, **fields)
        self._progress.refresh()

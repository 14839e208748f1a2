"""The progress bar: on a terminal, for work that lasts, and gone when it is over."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest

from gradcheck_cli.cli import progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _drawn(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, patience: float, work: float) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "_PATIENCE", patience)
    monkeypatch.setattr(progress, "_PERIOD", 0.02)
    monkeypatch.setenv("TERM", "xterm")
    with progress.bar(1000, lambda: 250):
        time.sleep(work)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())


def test_long_work_on_a_terminal_shows_share_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _drawn(monkeypatch, _Terminal(), 0.0, 1.0)
    assert "checking" in shown
    assert "25 %" in shown
    assert re.search(r"[\d,]+ rows/s", shown)


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _drawn(monkeypatch, _Terminal(), 5.0, 0.1) == ""


def test_a_pipe_is_shown_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _drawn(monkeypatch, io.StringIO(), 0.0, 0.3) == ""


def test_a_closed_standard_error_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with progress.bar(10, lambda: 0):
        pass

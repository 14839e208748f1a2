"""Work spread over processes: all of it is done once, the first failure is told, the dead are noticed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from gradcheck_cli.errors import InputError, SoftgradError
from gradcheck_cli.workers import Counter, FailedPiece, spread


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("pieces", [1, 3, 20_000])
def test_every_piece_is_done_once_in_ascending_order(processes: int, pieces: int) -> None:
    counter = Counter(processes)

    def work(numbers: Iterator[int]) -> list[int]:
        taken = []
        for number in numbers:
            taken.append(number)
            counter.add(2)
        return taken

    results = spread(work, pieces, counter, nullcontext())
    assert all(taken == sorted(taken) for taken in results)
    assert sorted(number for taken in results for number in taken) == list(range(pieces))
    assert counter.total() == 2 * pieces


def test_the_lowest_failure_is_told() -> None:
    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            if number % 5 == 3:
                raise FailedPiece(number, f"piece {number}")

    with pytest.raises(InputError, match=r"^piece 3$"):
        spread(work, 400, Counter(3), nullcontext())


def test_nobody_goes_on_after_a_failure() -> None:
    counter = Counter(2)

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            if number == 5:
                raise FailedPiece(number, "piece 5")
            counter.add(1)
            time.sleep(0.02)

    with pytest.raises(InputError, match=r"^piece 5$"):
        spread(work, 5000, counter, nullcontext())
    assert counter.total() < 100


def test_O13_every_process_is_forked_before_a_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, fork = [], os.fork

    def counted() -> int:
        threads.append(threading.active_count())
        return fork()

    @contextlib.contextmanager
    def watch() -> Iterator[None]:
        thread = threading.Timer(0.01, lambda: None)
        thread.start()
        yield
        thread.join()

    before = threading.active_count()
    monkeypatch.setattr(os, "fork", counted)
    assert sum(spread(sum, 50, Counter(3), watch())) == sum(range(50))
    assert threads == [before, before]


def test_a_killed_process_is_noticed() -> None:
    parent = os.getpid()

    def work(numbers: Iterator[int]) -> None:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        for _ in numbers:
            pass

    with pytest.raises(SoftgradError, match="signal 9"):
        spread(work, 10, Counter(2), nullcontext())


def test_our_own_bug_in_a_process_is_told_with_its_traceback() -> None:
    parent = os.getpid()

    def work(numbers: Iterator[int]) -> None:
        if os.getpid() != parent:
            raise ZeroDivisionError("planted")
        for _ in numbers:
            pass

    with pytest.raises(RuntimeError, match="planted"):
        spread(work, 10, Counter(2), nullcontext())


def test_no_room_for_a_child_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", full)
    assert spread(list, 7, Counter(3), nullcontext()) == [list(range(7))]


def test_a_child_out_of_memory_is_told_as_such() -> None:
    parent = os.getpid()

    def work(numbers: Iterator[int]) -> None:
        if os.getpid() != parent:
            raise MemoryError
        for _ in numbers:
            pass

    with pytest.raises(MemoryError):
        spread(work, 10, Counter(2), nullcontext())


def test_children_end_with_their_parent(tmp_path: Path) -> None:
    """A killed parent leaves nobody working on: its children stop at their next piece."""
    code = (
        "import os, sys, time, contextlib; from gradcheck_cli.workers import Counter, spread\n"
        "parent = os.getpid()\n"
        "def work(numbers):\n"
        "    for _ in numbers:\n"
        "        if os.getpid() == parent: os.kill(parent, 9)\n"
        "        time.sleep(0.05)\n"
        f"        open({str(tmp_path / 'alive')!r}, 'w').write(str(time.time()))\n"
        "spread(work, 1000, Counter(2), contextlib.nullcontext())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL
    time.sleep(0.5)
    last = (tmp_path / "alive").stat().st_mtime if (tmp_path / "alive").exists() else 0.0
    assert time.time() - last > 0.3

"""Work spread over processes: all of it is done once, the first failure is told, the dead are noticed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

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

    results = spread(work, pieces, processes, counter)
    assert all(taken == sorted(taken) for taken in results)
    assert sorted(number for taken in results for number in taken) == list(range(pieces))
    assert counter.total() == 2 * pieces


def test_the_lowest_failure_is_told() -> None:
    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            if number % 5 == 3:
                raise FailedPiece(number, f"piece {number}")

    with pytest.raises(InputError, match=r"^piece 3$"):
        spread(work, 400, 3, Counter(3))


def test_a_killed_process_is_noticed() -> None:
    parent = os.getpid()

    def work(numbers: Iterator[int]) -> None:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        for _ in numbers:
            pass

    with pytest.raises(SoftgradError, match="signal 9"):
        spread(work, 10, 2, Counter(2))


def test_our_own_bug_in_a_process_is_told_with_its_traceback() -> None:
    parent = os.getpid()

    def work(numbers: Iterator[int]) -> None:
        if os.getpid() != parent:
            raise ZeroDivisionError("planted")
        for _ in numbers:
            pass

    with pytest.raises(RuntimeError, match="planted"):
        spread(work, 10, 2, Counter(2))

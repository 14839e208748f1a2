"""A walk over every row for the diagnosis, block by block and on as many processors as the check had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from gradcheck_cli.blocks import Block, Room, work_out
from gradcheck_cli.engine import silent
from gradcheck_cli.errors import InputError
from gradcheck_cli.grid import Grid
from gradcheck_cli.problem import Problem
from gradcheck_cli.workers import Counter, FailedPiece, spread

_WORTH_A_PROCESS = 1 << 19
"""Entries from which one more process saves more than its fork costs."""


class Onlooker(Protocol):
    """What one process learns from the blocks that it takes."""

    def take(self, block: Block) -> None:
        """Look at a block; its room is the next one's."""

    def record(self) -> Any:
        """Return what was learnt as plain numbers, for another process."""


def over_every_row(
    problem: Problem, grid: Grid, processes: int, onlooker: Callable[[Room], Onlooker]
) -> list[Any]:
    """Return what the onlooker of each process learnt; the processes share the blocks.

    Raises
    ------
    InputError
        If a file changed since it was checked.
    """
    counter = Counter(min(processes, 1 + problem.rows * problem.classes // _WORTH_A_PROCESS))

    def work(blocks: Iterator[int]) -> Any:
        room = Room.of(problem, grid, depth=True)
        looking = onlooker(room)
        with np.errstate(all="ignore"):
            for number in blocks:
                try:
                    block = work_out(problem, grid.rows_of(number), grid, room)
                except InputError as error:
                    raise FailedPiece(number, str(error)) from error
                looking.take(block)
        return looking.record()

    return spread(work, grid.blocks, counter, silent(problem.rows, counter.total))

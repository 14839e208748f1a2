"""One large case on a cluster: its blocks of rows are findings, which merge in any order."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from gradcheck_cli.batch.case import Case
from gradcheck_cli.batch.kinds import KINDS, open_inputs, settings_of, with_settings
from gradcheck_cli.batch.pool import too_late
from gradcheck_cli.batch.result import How, Late, Result, result_by
from gradcheck_cli.errors import InputError
from gradcheck_cli.tensors import locate
from gradcheck_cli.visible import visible

LARGE = 256 << 20
"""Bytes of logits from which a case is worth spreading."""

_PARTS = 4  # for each thread of the workers

_TICK = 0.02  # seconds between two looks at what is done

Stamps = dict[str, tuple[int, int]]
"""By path, size and time of change of a file."""


def is_wide(case: Case) -> bool:
    """Tell whether a case is worth spreading; only check has findings that merge."""
    if case.refusal is not None or KINDS[case.command] is not KINDS["check"]:
        return False
    path = dict(case.files)["logits"]
    try:
        return os.stat(locate(path).path).st_size >= LARGE  # noqa: PTH116
    except (OSError, ValueError):
        return False


def examine_part(record: dict[str, Any], stamps: Stamps, first: int, last: int) -> dict[str, Any]:
    """Return, as plain numbers, the findings on the pieces from first to before last, on the worker.

    Raises
    ------
    InputError
        If the files are not those that the sender sees, or a row has no softmax.
    """
    from gradcheck_cli.check import order_of  # noqa: PLC0415 - start-up
    from gradcheck_cli.engine import examine_some  # noqa: PLC0415
    from gradcheck_cli.problem import pose  # noqa: PLC0415

    case = Case.of_record(record)
    for path, stamp in stamps.items():
        if _stamp(path) != stamp:
            raise InputError(f"{visible(path)}: a worker of the cluster sees another file than this machine")
    settings = settings_of(case.command, dict(case.options))
    with contextlib.ExitStack() as opened:
        tensors, scalars = open_inputs(case, settings, opened)
        problem = pose(tensors, scalars, settings)
        found = examine_some(order_of(problem, settings), range(first, last)).record()
        for tensor in problem.tensors:
            tensor.check_unchanged()
    return found


def wide_result(client: Any, case: Case, number: int, how: How, timeout: float | None = None) -> Result:
    """Return what a case comes to whose rows are worked on everywhere, for so many seconds at most."""
    return result_by(lambda: _outcome(client, case, how, timeout), case, number, how)


def _outcome(client: Any, case: Case, how: How, timeout: float | None) -> Any:
    from gradcheck_cli.check import check  # noqa: PLC0415 - start-up

    settings = settings_of(case.command, dict(case.options))
    with contextlib.ExitStack() as opened:
        tensors, scalars = open_inputs(case, settings, opened)
        examiner = _examiner(client, case, timeout)
        outcome = check(tensors, scalars, settings, drawn=how.pictures, examiner=examiner)
    return with_settings(outcome, case)


def _examiner(client: Any, case: Case, timeout: float | None) -> Callable[[Any, int], Any]:
    """Return what goes through the rows on the cluster, in place of processes of this machine."""

    def examine(order: Any, _: int) -> Any:
        from gradcheck_cli.engine import Examination  # noqa: PLC0415 - start-up

        pieces = 1 + order.task.grid.blocks
        threads = sum(each["nthreads"] for each in client.scheduler_info(n_workers=-1)["workers"].values())
        parts = min(pieces, _PARTS * max(1, threads))
        edges = [part * pieces // parts for part in range(parts + 1)]
        stamps = {path: stamp for _, path in case.files if (stamp := _stamp(path)) is not None}
        futures = [
            client.submit(examine_part, case.record(), stamps, first, last, pure=False)
            for first, last in pairwise(edges)
        ]
        try:
            _wait(futures, timeout)
            found = [Examination.of_record(record) for record in client.gather(futures)]
        finally:
            client.cancel(futures, force=True)
        examination = found[0]
        for each in found[1:]:
            examination = examination.merge(each, order.top)
        return examination

    return examine


def _wait(futures: list[Any], timeout: float | None) -> None:
    """Wait for the parts of a case; those that are begun when the time is over run on for nothing."""
    if timeout is None:
        return
    end = time.monotonic() + timeout
    while not all(each.done() for each in futures):
        if time.monotonic() >= end:
            raise Late(too_late(timeout))
        time.sleep(_TICK)


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(locate(path).path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns

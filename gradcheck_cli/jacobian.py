"""The Jacobian of one row's softmax on one screen: logits in, outcome out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from gradcheck_cli.account import inputs
from gradcheck_cli.cautions import cautions
from gradcheck_cli.choices import MatrixSettings
from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.engine import Progress, examine, silent
from gradcheck_cli.findings import Entry, Finding
from gradcheck_cli.grid import Grid
from gradcheck_cli.matrix.judging import (
    Entrywise,
    ExportedMatrix,
    MatrixOrder,
    audit,
    forward,
    own_checks,
)
from gradcheck_cli.matrix.problem import MatrixProblem, pose
from gradcheck_cli.numeric import jacobian as formulas
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Indices
from gradcheck_cli.outcome import Check, Data, Matrix, Outcome, Streamed
from gradcheck_cli.tensors import Tensor
from gradcheck_cli.verdict import believed, judged
from gradcheck_cli.workers import processors

READABLE = 12
"""Classes up to which a matrix is shown in full; beyond, those of the largest probabilities."""

OWN = {
    "difference": "truncation of the central difference and float64 rounding",
    "columns": "float64 rounding of 1 - a",
    "symmetry": "truncation of the central difference and float64 rounding",
    "hessian": "truncation of the second difference of logsumexp and float64 rounding",
}


def jacobian(
    tensors: Mapping[str, Tensor],
    settings: MatrixSettings,
    progress: Progress = silent,
    *,
    whole: bool = False,
) -> Outcome:
    """Return what the Jacobian of a row's softmax is, and what checking it shows.

    Parameters
    ----------
    tensors
        By role: logits, and perhaps an exported jacobian.
    settings
        Which row, and how to judge.
    progress
        Shows how far it is; silent by default.
    whole
        Give every entry with the outcome, streamed: rows are worked out while the tensors are open.

    Raises
    ------
    InputError, UsageError
        If the tensors pose no problem that can be checked.
    """
    began = time.perf_counter()
    problem = pose(tensors, settings)
    tolerance = Tolerance.asked(settings.rtol, settings.atol)
    put_through: tuple[Entrywise | ExportedMatrix, ...] = own_checks(problem)
    if problem.export is not None:
        put_through = (*put_through, ExportedMatrix(problem, problem.export, tolerance))
    order = MatrixOrder(problem, put_through, settings.top, Grid.of(problem), progress)
    found = examine(order, settings.threads or processors()).findings
    checks = believed(_own(problem, found, settings), _exported(problem, found, tolerance))
    for tensor in problem.tensors:
        tensor.check_unchanged()
    return Outcome(
        command="jacobian",
        inputs=inputs(problem.tensors, problem.exports),
        settings=settings.in_force(),
        data=Data(problem.logits.count, problem.classes, problem.axis, 0, None, "softmax layer"),
        checks=checks,
        seconds=time.perf_counter() - began,
        warnings=cautions(problem, found, judged_by_bounds=tolerance is None),
        matrix=_matrix(problem, tolerance, whole=whole),
    )


def _own(problem: MatrixProblem, found: Mapping[str, Finding], settings: MatrixSettings) -> list[Check]:
    """Return softgrad's checks of itself."""
    sample = audit(problem, settings.seed, settings.top)

    def in_logits(entry: Entry) -> tuple[tuple[int, ...], int | None]:
        return problem.logits.index_of(entry.row, entry.column), None

    checks = [judged("forward", forward(problem, settings.top), in_logits, tolerance="float64 rounding")]
    checks += [judged(name, found[name], _in_matrix, tolerance=words) for name, words in OWN.items()]
    checks.insert(
        2,
        judged(
            "audit", sample, _in_matrix, tolerance="five-point truncation and the rounding of whole rows",
            coverage=f"seeded sample, by brute force (seed {settings.seed})",
        ),
    )  # fmt: skip
    sums = judged(
        "invariants", found["invariants"], _by_row, tolerance="float64 rounding", coverage="every row"
    )
    return [*checks, sums]


def _in_matrix(entry: Entry) -> tuple[tuple[int, ...], int | None]:
    return (entry.row, entry.column), None


def _by_row(entry: Entry) -> tuple[tuple[int, ...], int | None]:
    return (entry.row,), None


def _exported(
    problem: MatrixProblem, found: Mapping[str, Finding], tolerance: Tolerance | None
) -> list[Check]:
    if problem.export is None:
        return []
    rows = problem.export.rows

    def place(entry: Entry) -> tuple[tuple[int, ...], int | None]:
        return rows.index_of(problem.first + entry.row, entry.column), None

    words = tolerance.words if tolerance else problem.export.tolerance
    return [judged("jacobian", found["jacobian"], place, tolerance=words)]


def readable(shown: Matrix) -> Matrix:
    """Return no more classes of a matrix than a person reads, those with the largest probabilities."""
    streamed = {name: plane for name, plane in vars(shown).items() if isinstance(plane, Streamed)}
    if not streamed:
        return shown
    chosen = _chosen(shown.probabilities)
    planes: dict[str, Any] = {
        name: np.stack([plane.row(int(k))[chosen] for k in chosen]) for name, plane in streamed.items()
    }
    return replace(shown, classes=chosen, probabilities=shown.probabilities[chosen], **planes)


def _chosen(probabilities: Floats) -> Indices:
    """Return the classes that are shown to people."""
    if len(probabilities) <= READABLE:
        return np.arange(len(probabilities))
    return np.sort(np.argsort(-probabilities, kind="stable")[:READABLE])


def _matrix(problem: MatrixProblem, tolerance: Tolerance | None, *, whole: bool) -> Matrix:
    """Return the matrix to show: all of it, or the classes with the largest probabilities."""
    at, count = problem.at, problem.classes
    chosen = np.arange(count) if whole else _chosen(at.a)
    difference, *_ = own_checks(problem)
    export = None if problem.export is None else ExportedMatrix(problem, problem.export, tolerance)

    @lru_cache(maxsize=1)  # the planes are asked for the same row one after the other
    def row(k: int) -> list[Floats]:
        return [each[chosen] for each in _row(problem, k, difference, export)]

    def streamed(number: int) -> Streamed:
        return Streamed(count, lambda k: row(k)[number])

    if whole:
        return Matrix(problem.index, chosen, at.a, *map(streamed, range(4 if export is None else 6)))
    picked = np.array([row(int(k)) for k in chosen]).swapaxes(0, 1)
    return Matrix(problem.index, chosen, at.a[chosen], *picked)


def _row(
    problem: MatrixProblem, k: int, difference: Entrywise, export: ExportedMatrix | None
) -> list[Floats]:
    """Return a row of each plane: right, by difference, their error, its bound, and the export with its."""
    rows = range(k, k + 1)
    with np.errstate(all="ignore"):
        right = formulas.rows_of(problem.at, rows, np.empty((1, problem.classes)))
        got = difference.got(rows)
        planes = [right, got, np.abs(got - right), difference.allowed(rows, right)]
        if export is not None:
            theirs = export.got(rows)
            planes += [theirs, export.allowed(rows, right, theirs)]
    return [plane[0] for plane in planes]

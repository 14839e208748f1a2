"""READ FIRST. The main job on one screen: problem and settings in, outcome out.

files -> tensors -> problem -> blocks of rows -> findings -> verdict; the report is made from the outcome.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

import numpy as np

from gradcheck_cli.account import inputs
from gradcheck_cli.aftermath import Judged, diagnosed, pictured, saved, unseen
from gradcheck_cli.cautions import cautions
from gradcheck_cli.comparisons import Comparison, Tolerance
from gradcheck_cli.engine import Examination, Examiner, Order, Progress, comparisons_for, examine, silent
from gradcheck_cli.exports import Scalar
from gradcheck_cli.findings import Entry, Finding, Look, Sides, compare
from gradcheck_cli.grades import Grade
from gradcheck_cli.grid import Grid
from gradcheck_cli.intentions import mistaken
from gradcheck_cli.numeric.accuracy import any_order
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.outcome import Check, Data, Outcome, Verdict
from gradcheck_cli.problem import Problem, pose
from gradcheck_cli.records import dataclass
from gradcheck_cli.settings import Settings, step_of
from gradcheck_cli.tensors import Tensor
from gradcheck_cli.verdict import believed, judged
from gradcheck_cli.walks import Task, Total
from gradcheck_cli.workers import processors

OWN = {
    "difference": ("truncation of the central difference and float64 rounding", "every entry"),
    "chain": ("float64 rounding", "each row's label entry, and the factor its other entries share"),
    "invariants": ("float64 rounding", "every row"),
}
"""softgrad's checks of itself: where their allowance comes from, and what they cover."""

SECOND = (
    "truncation of a difference of gradients and float64 rounding",
    "every entry of 2 Hessian-vector products a row (random signs, seed {seed})",
)
"""The same of the check of second derivatives."""

_FEW_LABELS = 1 << 10
"""Labels that are read together, because that costs no more than to read one."""

LEAST_KEPT = 8
"""Worst entries that are kept, however few are to be shown: the diagnosis begins with them."""


def check(  # noqa: PLR0913 - what is checked, how, and how that is watched, kept and spread
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Scalar],
    settings: Settings,
    progress: Progress = silent,
    save_to: str | None = None,
    *,
    drawn: bool = False,
    examiner: Examiner = examine,
) -> Outcome:
    """Return what checking the exported tensors against the truth shows.

    Parameters
    ----------
    tensors
        By role: logits and labels, and whatever was exported (grad, probs, log-probs, loss,
        grad-probs), class-weights, upstream.
    scalars
        Numbers given in place of a tensor: upstream, loss.
    settings
        The loss convention and how to judge.
    progress
        Shows how far it is; silent by default.
    save_to
        A folder for a few failing rows, if any fail.
    drawn
        Whether somebody wants to see where the errors are.
    examiner
        Goes through the rows; by default processes of this machine.

    Raises
    ------
    InputError, UsageError
        If the tensors pose no problem that can be checked.
    """
    began = time.perf_counter()
    problem = pose(tensors, scalars, settings)
    tolerance, order = Tolerance.asked(settings.rtol, settings.atol), order_of(problem, settings, progress)
    examination = examiner(order, settings.threads or processors())
    placing = _Placing(problem)
    checks = believed(
        _own(problem, examination, settings, placing), _exported(problem, examination, settings, placing)
    )
    failed = tuple(each.name for each in checks if each.exported and each.verdict is Verdict.FAIL)
    findings, total = examination.findings, examination.total
    case = Judged(problem, tensors, scalars, settings, tolerance, findings, failed, total)
    diagnosis, facts = diagnosed(case)
    warnings = mistaken(problem)
    warnings += cautions(problem, examination.findings, judged_by_bounds=tolerance is None)
    warnings += unseen(case)
    for tensor in problem.tensors:
        tensor.check_unchanged()
    return Outcome(
        command="check",
        inputs=inputs(problem.tensors, problem.exports),
        settings=settings.in_force() | _handed_in(tensors, scalars),
        data=data_of(problem),
        checks=checks,
        warnings=warnings,
        diagnosis=diagnosis,
        facts=facts,
        saved=saved(case, save_to),
        pictures=pictured(case) if drawn else (),
        seconds=time.perf_counter() - began,
    )


def order_of(problem: Problem, settings: Settings, progress: Progress = silent) -> Order:
    """Return what is to be done to a problem, by one process or by many."""
    tolerance, stated = Tolerance.asked(settings.rtol, settings.atol), problem.stated_loss
    difference, more = _studied(settings)
    task = Task(
        problem,
        (*comparisons_for(problem, tolerance, difference), *more),
        None if stated is None else stated.arithmetic,
        Grid.of(problem),
    )
    return Order(task, max(settings.top, LEAST_KEPT), settings.seed, progress)


def _own(problem: Problem, examination: Examination, settings: Settings, placing: _Placing) -> list[Check]:
    """Return softgrad's checks of itself: the ruler is measured before anything is judged by it."""
    place, by_row, top = placing.entry, placing.row, settings.top
    checks = [
        judged(
            "forward",
            examination.findings["forward"],
            place,
            top=top,
            tolerance="float64 rounding",
            coverage=f"seeded sample of rows, recomputed by another way (seed {settings.seed})",
        )
    ]
    for name, (tolerance, coverage) in (OWN | _studied_words(settings)).items():
        finding = examination.findings[name]
        everywhere = (name == "difference" and settings.method != "directional") or (
            name == "chain" and not _sparse(problem)
        )
        if finding.entries or name != "chain":  # a chain needs a probability that -y/a can be taken of
            where, covered = (place, "every entry") if everywhere else (by_row, coverage)
            checks.append(judged(name, finding, where, top=top, tolerance=tolerance, coverage=covered))
    if settings.order == 2:
        tolerance, covered = SECOND[0], SECOND[1].format(seed=settings.seed)
        hessian = examination.findings["hessian"]
        checks.append(judged("hessian", hessian, place, top=top, tolerance=tolerance, coverage=covered))
    checks.insert(
        2,
        judged(
            "audit",
            examination.findings["audit"],
            place,
            top=top,
            tolerance="five-point truncation and the rounding of whole-row losses",
            coverage=f"seeded sample, by brute force (seed {settings.seed})",
        ),
    )
    return checks


def _studied(settings: Settings) -> tuple[Comparison | None, tuple[Comparison, ...]]:
    """Return the difference by another method than the default, and what checks second derivatives."""
    if settings.as_usual and settings.order == 1:
        return None, ()
    from gradcheck_cli import stencils  # noqa: PLC0415 - start-up: for study, and rarely asked for

    more = (stencils.Curvature(settings.seed),) if settings.order == 2 else ()
    return stencils.difference_by(settings.method, step_of(settings.step), settings.seed), more


def _studied_words(settings: Settings) -> dict[str, tuple[str, str]]:
    """Return where the allowance of another method comes from, and what it covers."""
    if settings.as_usual:
        return {}
    from gradcheck_cli import stencils  # noqa: PLC0415 - as above

    return {"difference": stencils.words_of(settings.method, settings.seed)}


def _sparse(problem: Problem) -> bool:
    """Tell whether the target weight of a row lies on its label alone."""
    return not (problem.soft or problem.loss.smoothing)


def _exported(
    problem: Problem, examination: Examination, settings: Settings, placing: _Placing
) -> list[Check]:
    """Return the checks of what was handed in."""
    tolerance = Tolerance.asked(settings.rtol, settings.atol)
    words = tolerance.words if tolerance else None
    checks = [
        judged(
            export.name,
            examination.findings[export.name],
            placing.row if export.name == "loss" else placing.entry,
            top=settings.top,
            tolerance=words or export.tolerance,
        )
        for export in problem.exports
    ]
    if problem.stated_loss is not None and examination.total is not None:
        finding = _stated_loss(problem, problem.stated_loss, examination.total, tolerance)
        said = words or problem.stated_loss.tolerance
        checks.append(judged("loss", finding, _nowhere, top=settings.top, tolerance=said))
    return checks


def _nowhere(_: Entry) -> tuple[tuple[int, ...], int | None]:
    """Return the place of a scalar, which has no index."""
    return (), None


def _stated_loss(problem: Problem, stated: Scalar, total: Total, tolerance: Tolerance | None) -> Finding:
    """Compare the reduced loss: rows' allowances, their sum in any order, storage, and printing."""
    expected = np.array([[total.loss.value()]])
    allowed = np.empty((1, 1))
    if tolerance is not None:
        tolerance.spread(expected, allowed)
    else:
        u = stated.compute.unit
        size = abs(float(expected[0, 0]))
        allowed[...] = total.allowed.value() + u * (any_order(problem.rows) + 4.0) * size
        allowed += (stated.grid.unit if stated.grid is not stated.compute else 0.0) * size + stated.rounding
        allowed += stated.grid.smallest_subnormal
    got = np.array([[stated.value]])
    with np.errstate(all="ignore"):
        look = Look(lambda _: (0, 0), None if stated.rounding else stated.grid, 1)
        finding = compare(Sides(got, expected, allowed), look, np.empty((1, 1)), np.empty((1, 1)))
    return replace(finding, grade=Grade(Model.NONE))  # one number says nothing of how it was summed


@dataclass(frozen=True, eq=False)
class _Placing:
    """Turns a row and column into an index of the logits' layout and the row's label."""

    problem: Problem
    labels: dict[int, int] = field(default_factory=dict)  # by row: the worst entries often share theirs

    def entry(self, entry: Entry) -> tuple[tuple[int, ...], int | None]:
        """Return the place of an entry."""
        return self.problem.logits.index_of(entry.row, entry.column), self._label(entry.row)

    def row(self, entry: Entry) -> tuple[tuple[int, ...], int | None]:
        """Return the place of what is one for the whole row."""
        return self.problem.logits.index_of(entry.row), self._label(entry.row)

    def _label(self, row: int) -> int | None:
        if self.problem.soft:
            return None
        if row not in self.labels:
            few = self.problem.rows <= _FEW_LABELS
            rows = range(self.problem.rows) if few else range(row, row + 1)
            labels = np.empty(len(rows), dtype=np.int64)
            self.problem.targets.read(rows.start, rows.stop, labels)
            self.labels.update(zip(rows, labels.tolist(), strict=True))
        return self.labels[row]


def _handed_in(tensors: Mapping[str, Tensor], scalars: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return the settings that are numbers or files: upstream, class weights, a stated loss."""
    given: dict[str, Any] = {}
    for role in ("upstream", "class-weights", "loss"):
        if role in scalars:
            given[role.replace("-", "_")] = scalars[role].value
        elif role != "loss" or role in tensors:
            given[role.replace("-", "_")] = tensors[role].name if role in tensors else None
    return given


def data_of(problem: Problem) -> Data:
    """Return the record of the problem."""
    return Data(
        rows=problem.rows,
        classes=problem.classes,
        axis=problem.axis,
        ignored_rows=problem.ignored_rows,
        divisor=problem.divisor,
        targets="distributions" if problem.soft else "class labels",
    )

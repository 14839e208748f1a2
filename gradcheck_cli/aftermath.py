"""What comes after the verdict: the bug behind a failure, what the data hides, and failing rows to keep.

Nothing here is imported in earnest before it is needed: a check that passes pays for the look at what its
data could not have shown, and for no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gradcheck_cli.comparisons import Exported, Tolerance
from gradcheck_cli.exports import Scalar
from gradcheck_cli.findings import Finding, failing_rows
from gradcheck_cli.grid import Grid
from gradcheck_cli.outcome import Diagnosis, Fact, Picture, Saved, Warning  # noqa: A004 - JSON's word
from gradcheck_cli.problem import PLANES, Problem
from gradcheck_cli.records import dataclass
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import Tensor
from gradcheck_cli.walks import Task, Total
from gradcheck_cli.workers import processors

if TYPE_CHECKING:
    from gradcheck_cli.diagnosis.situation import Situation


@dataclass(frozen=True, eq=False)
class Judged:
    """A problem, what it was posed from, and what the exports came to."""

    problem: Problem
    tensors: Mapping[str, Tensor]
    scalars: Mapping[str, Scalar]
    settings: Settings
    tolerance: Tolerance | None
    findings: Mapping[str, Finding]
    failed: tuple[str, ...]  # exports
    total: Total | None = None  # the loss of all rows, where one was stated

    def situation(self, name: str) -> Situation | None:
        """Return the situation of an exported tensor, if there is one of that name."""
        exports = [each for each in self.problem.exports if each.name == name]
        if not exports:
            return None
        from gradcheck_cli.diagnosis.situation import Situation  # noqa: PLC0415 - only for what is there

        return Situation(self.problem, self.settings, exports[0], self.tolerance)


def diagnosed(judged: Judged) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    """Return which bug each failed export is, the gradient first, and where it fails."""
    named: tuple[Diagnosis, ...] = ()
    told: tuple[Fact, ...] = ()
    for name in sorted(judged.failed, key=lambda each: each != "grad"):
        situation = judged.situation(name)
        diagnosis, facts = _of_total(judged) if situation is None else _diagnosed(judged, situation)
        named, told = named + diagnosis, told + facts
    return named, told


def _of_total(judged: Judged) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    """Return which bug a stated loss is that failed."""
    stated, total = judged.problem.stated_loss, judged.total
    if stated is None or total is None:
        return (), ()
    from gradcheck_cli.diagnosis.total import Stated, diagnose  # noqa: PLC0415 - only after a failure

    processes = judged.settings.threads or processors()
    sums = total.loss.value(), total.allowed.value()
    return diagnose(Stated(judged.problem, judged.settings, stated, judged.tolerance, *sums), processes)


def _diagnosed(judged: Judged, situation: Situation) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    from gradcheck_cli.diagnosis.diagnose import Evidence, diagnose  # noqa: PLC0415 - only after a failure

    findings = judged.findings[situation.export.name]
    worst = tuple(dict.fromkeys(entry.row for entry in findings.worst))
    processes = judged.settings.threads or processors()
    return diagnose(Evidence(situation, judged.tensors, judged.scalars, worst, processes))


def unseen(judged: Judged) -> tuple[Warning, ...]:
    """Return which bugs of a gradient the data could not have shown."""
    situation = judged.situation("grad")
    if situation is None:
        return ()
    from gradcheck_cli.diagnosis.weakness import weaknesses  # noqa: PLC0415 - only for a gradient

    return tuple(each.warning for each in weaknesses(situation))


def saved(judged: Judged, folder: str | None) -> Saved | None:
    """Save the rows of the worst failing entries of every export, if any failed and a folder is given."""
    found = judged.findings
    rows = failing_rows(found[name] for name in judged.failed if name in found)  # a stated loss has no rows
    if folder is None or not rows:
        return None
    from gradcheck_cli.failure import save  # noqa: PLC0415 - only after a failure

    return save(judged.problem, judged.settings, rows, folder)


def pictured(judged: Judged) -> tuple[Picture, ...]:
    """Return where the exports of the logits' shape fail, and how large their errors are."""
    from gradcheck_cli.engine import Order  # noqa: PLC0415 - only for who looks
    from gradcheck_cli.pictures import pictures  # noqa: PLC0415

    problem = judged.problem
    planes = [each for each in problem.exports if each.name in PLANES]
    again = tuple(Exported(each, judged.tolerance) for each in planes if each.name in judged.failed)
    order = Order(Task(problem, again, None, Grid.of(problem)), 0, 0, glance=False)
    shapes = dict.fromkeys((each.name for each in planes), (problem.rows, problem.classes))
    return pictures(shapes, judged.findings, judged.failed, [order] if again else [])

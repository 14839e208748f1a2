"""What comes after the verdict: the bug behind a failure, what the data hides, and failing rows to keep.

Nothing here is imported in earnest before it is needed: a check that passes pays for the look at what its
data could not have shown, and for no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.exports import Scalar
from gradcheck_cli.findings import Finding
from gradcheck_cli.outcome import Diagnosis, Fact, Picture, Saved, Warning  # noqa: A004 - JSON's word
from gradcheck_cli.problem import Problem
from gradcheck_cli.records import dataclass
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import Tensor
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

    @property
    def situation(self) -> Situation | None:
        """Return the situation of the exported gradient, if there is one."""
        from gradcheck_cli.diagnosis.situation import Situation  # noqa: PLC0415 - only for a gradient

        grads = [each for each in self.problem.exports if each.name == "grad"]
        return Situation(self.problem, self.settings, grads[0], self.tolerance) if grads else None


def diagnosed(judged: Judged) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    """Return which bug a failed gradient is, and where it fails; nothing where it did not fail."""
    situation = judged.situation if "grad" in judged.failed else None
    if situation is None:
        return (), ()
    from gradcheck_cli.diagnosis.diagnose import Evidence, diagnose  # noqa: PLC0415 - only after a failure

    worst = tuple(dict.fromkeys(entry.row for entry in judged.findings["grad"].worst))
    processes = judged.settings.threads or processors()
    return diagnose(Evidence(situation, judged.tensors, judged.scalars, worst, processes))


def unseen(judged: Judged) -> tuple[Warning, ...]:
    """Return which bugs of a gradient the data could not have shown."""
    situation = judged.situation
    if situation is None:
        return ()
    from gradcheck_cli.diagnosis.weakness import weaknesses  # noqa: PLC0415 - only for a gradient

    return tuple(each.warning for each in weaknesses(situation))


def saved(judged: Judged, folder: str | None) -> Saved | None:
    """Save the rows of the worst failing entries of every export, if any failed and a folder is given."""
    failing = [
        entry
        for name in judged.failed
        if name in judged.findings  # a stated loss has no rows
        for entry in judged.findings[name].worst
        if not entry.margin <= 1.0
    ]
    if folder is None or not failing:
        return None
    from gradcheck_cli.failure import save  # noqa: PLC0415 - only after a failure

    failing.sort(key=lambda entry: entry.rank)
    rows = list(dict.fromkeys(entry.row for entry in failing))
    return save(judged.problem, judged.settings, rows, folder)


def pictured(judged: Judged) -> tuple[Picture, ...]:
    """Return where the exports fail, and how large their errors are."""
    from gradcheck_cli.pictures import pictures  # noqa: PLC0415 - only for who looks

    return pictures(judged.problem, judged.tolerance, judged.findings, judged.failed)

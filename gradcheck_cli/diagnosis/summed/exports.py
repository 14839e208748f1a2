"""Each failed gradient of a linear layer diagnosed: dE/dz as `check` does it, the others as sums."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcheck_cli.choices import LinearSettings
from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.dense.problem import LinearProblem
from gradcheck_cli.dense.rows import logits_share
from gradcheck_cli.diagnosis import diagnose as logits
from gradcheck_cli.diagnosis.diagnose import Evidence
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.summed.diagnose import diagnose
from gradcheck_cli.diagnosis.summed.sums import Rough
from gradcheck_cli.diagnosis.summed.suspects import Layer
from gradcheck_cli.exports import Export
from gradcheck_cli.findings import Finding
from gradcheck_cli.numeric.precision import FLOAT64, Precision
from gradcheck_cli.outcome import Diagnosis, Fact
from gradcheck_cli.workers import processors


def diagnosed(
    problem: LinearProblem, settings: LinearSettings, failed: Sequence[str], found: Mapping[str, Finding]
) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    """Return the bugs of each failed gradient, and where it fails."""
    bugs: list[Diagnosis] = []
    facts: list[Fact] = []
    tolerance, rough = Tolerance.asked(settings.rtol, settings.atol), None
    of_check = settings.of_check(problem.head.axis)
    for name in failed:
        export = problem.export(name)
        if export is None:
            continue
        if name == "grad":
            situation = Situation(problem.head, of_check, _blurred(problem, export), tolerance)
            worst = tuple(dict.fromkeys(entry.row for entry in found[name].worst))
            tensors = {each.role: each for each in problem.head.tensors}
            evidence = Evidence(situation, tensors, {}, worst, settings.threads or processors())
            more, places = logits.diagnose(evidence)
        else:
            layer = Layer(problem, Situation(problem.head, of_check, export, tolerance), tolerance)
            rough = rough or Rough(layer)
            more, places = diagnose(layer, rough)
        bugs += more
        facts += places
    return tuple(bugs), tuple(facts)


def _blurred(problem: LinearProblem, export: Export) -> Export:
    """Return the export of dE/dz as one whose logits were rounded: by what their own sums may be off by.

    As so many bits of the largest logit of each row, in the row where that is the fewest.
    """
    share, worst = logits_share(problem, export), 0.0
    step = max(1, (1 << 18) // problem.classes)
    for start in range(0, problem.rows, step):
        stop = min(start + step, problem.rows)
        z = np.empty((stop - start, problem.classes))
        problem.logits.read(start, stop, z)
        largest = np.where(np.isfinite(z), np.abs(z), 0.0).max(axis=1)
        with np.errstate(all="ignore"):
            worst = max(worst, float(np.nanmax(problem.reach[start:stop] / largest)))
    off = share * worst + (export.grid.unit if export.grid.half else 0.0)
    digits = max(1, math.floor(-math.log2(off))) if 0.0 < off < 1.0 else 1
    return replace(export, logits=Precision("what x W gives", digits, FLOAT64.smallest_normal))

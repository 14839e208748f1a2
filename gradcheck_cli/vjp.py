"""The softmax layer alone on one screen: logits and upstream gradient in, outcome out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gradcheck_cli.account import inputs
from gradcheck_cli.cautions import cautions
from gradcheck_cli.choices import LayerSettings
from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.engine import Examination, Progress, examine, silent
from gradcheck_cli.findings import Entry, Finding, failing_rows
from gradcheck_cli.grid import Grid
from gradcheck_cli.layer.audit import audit
from gradcheck_cli.layer.judging import LayerOrder, comparisons_for
from gradcheck_cli.layer.problem import LayerProblem, pose
from gradcheck_cli.numeric.methods import Method
from gradcheck_cli.outcome import (
    Check,
    Data,
    Diagnosis,
    Fact,
    Outcome,
    Picture,
    Saved,
    Verdict,
    Warning,  # noqa: A004 - the word of the JSON contract
)
from gradcheck_cli.settings import step_of
from gradcheck_cli.stencils import words_of
from gradcheck_cli.tensors import Tensor
from gradcheck_cli.verdict import believed, judged
from gradcheck_cli.workers import processors

LEAST_KEPT = 8
"""Worst entries that are kept, however few are to be shown: the diagnosis begins with them."""

_SAMPLE = "seeded sample"


def vjp(
    tensors: Mapping[str, Tensor],
    settings: LayerSettings,
    progress: Progress = silent,
    save_to: str | None = None,
    *,
    drawn: bool = False,
) -> Outcome:
    """Return what checking the backward of a softmax layer against the truth shows.

    Parameters
    ----------
    tensors
        By role: logits and upstream, and whatever was exported (grad, probs, log-probs).
    settings
        Which layer it is and how to judge.
    progress
        Shows how far it is; silent by default.
    save_to
        Folder that a few failing rows are written to, if any fail.
    drawn
        Whether somebody wants to see where the errors are.

    Raises
    ------
    InputError, UsageError
        If the tensors pose no problem that can be checked.
    """
    began = time.perf_counter()
    problem = pose(tensors, settings)
    tolerance = Tolerance.asked(settings.rtol, settings.atol)
    method = Method.asked(settings.method, step_of(settings.step))
    comparisons = comparisons_for(problem, method, settings.seed, tolerance)
    order = LayerOrder(problem, comparisons, max(settings.top, LEAST_KEPT), Grid.of(problem), progress)
    examination = examine(order, settings.threads or processors())
    checks = believed(_own(problem, examination, settings), _exported(problem, examination, tolerance))
    diagnosis, facts = _diagnosed(problem, examination, checks, settings)
    for tensor in problem.tensors:
        tensor.check_unchanged()
    return Outcome(
        command="vjp",
        inputs=inputs(problem.tensors, problem.exports),
        settings=settings.in_force(),
        data=_data(problem, examination),
        checks=tuple(replace(each, worst=each.worst[: settings.top]) for each in checks),
        seconds=time.perf_counter() - began,
        warnings=cautions(problem, examination.findings, judged_by_bounds=tolerance is None)
        + _unseen(problem),
        diagnosis=diagnosis,
        facts=facts,
        saved=_saved(problem, settings, examination, checks, save_to),
        pictures=_pictured(order, examination, checks) if drawn else (),
    )


def _pictured(order: LayerOrder, examination: Examination, checks: Sequence[Check]) -> tuple[Picture, ...]:
    """Return where the exports fail, and how large their errors are."""
    from gradcheck_cli.pictures import pictures  # noqa: PLC0415 - only for who looks

    problem = order.problem
    failed = [each.name for each in checks if each.exported and each.verdict is Verdict.FAIL]
    again = replace(order, comparisons=tuple(each for each in order.comparisons if each.name in failed))
    shapes = dict.fromkeys((each.name for each in problem.exports), (problem.rows, problem.classes))
    return pictures(shapes, examination.findings, failed, [again] if failed else [])


def _diagnosed(
    problem: LayerProblem, examination: Examination, checks: Sequence[Check], settings: LayerSettings
) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    """Return which bug a failed gradient is, and where it fails; nothing where it did not fail."""
    if not any(each.name == "grad" and each.verdict is Verdict.FAIL for each in checks):
        return (), ()
    from gradcheck_cli.diagnosis.pulled.diagnose import diagnose  # noqa: PLC0415 - only after a failure
    from gradcheck_cli.diagnosis.pulled.piece import Layer  # noqa: PLC0415

    (grad,) = (each for each in problem.exports if each.name == "grad")
    worst = tuple(dict.fromkeys(entry.row for entry in examination.findings["grad"].worst))
    layer = Layer(problem, grad, Tolerance.asked(settings.rtol, settings.atol))
    return diagnose(layer, worst, settings.threads or processors())


def _saved(
    problem: LayerProblem,
    settings: LayerSettings,
    examination: Examination,
    checks: Sequence[Check],
    folder: str | None,
) -> Saved | None:
    """Save the rows of the worst failing entries of every export, if any failed and a folder is given."""
    failed = [each.name for each in checks if each.exported and each.verdict is Verdict.FAIL]
    rows = failing_rows(examination.findings[name] for name in failed)
    if folder is None or not rows:
        return None
    from gradcheck_cli.failure import save_layer  # noqa: PLC0415 - only after a failure

    return save_layer(problem, settings, rows, folder)


def _unseen(problem: LayerProblem) -> tuple[Warning, ...]:
    """Return which bugs of a gradient the data could not have shown."""
    grad = [each for each in problem.exports if each.name == "grad"]
    if not grad:
        return ()
    from gradcheck_cli.diagnosis.pulled.weakness import weaknesses  # noqa: PLC0415 - only for a gradient

    return tuple(each.warning for each in weaknesses(problem, grad[0]))


def _gone(problem: LayerProblem, examination: Examination) -> int:
    """Return how many rows are wholly masked: there is nothing to sum."""
    return problem.rows - examination.findings["invariants"].entries


def _own(problem: LayerProblem, examination: Examination, settings: LayerSettings) -> list[Check]:
    """Return softgrad's checks of itself: the ruler is measured before anything is judged by it."""
    place, by_row = _placing(problem), _placing(problem, rows_only=True)
    sample, seed = audit(problem, settings.seed, settings.top), settings.seed
    found, but = examination.findings, " not wholly masked" if _gone(problem, examination) else ""
    words, covered = words_of(settings.method, seed)
    if but and settings.method != "directional":
        covered = f"every entry of the rows{but}"
    return [
        judged(
            "forward", sample.forward, place, tolerance="float64 rounding",
            coverage=f"{_SAMPLE} of rows, recomputed by another way (seed {seed})",
        ),
        judged(
            "difference", found["difference"], by_row if settings.method == "directional" else place,
            tolerance=words, coverage=covered,
        ),
        judged(
            "audit", sample.differences, place,
            tolerance="five-point truncation and the rounding of whole rows",
            coverage=f"{_SAMPLE}, by brute force (seed {seed})",
        ),
        judged(
            "invariants", found["invariants"], by_row, tolerance="float64 rounding",
            coverage=f"every row{but}",
        ),
    ]  # fmt: skip


def _exported(problem: LayerProblem, examination: Examination, tolerance: Tolerance | None) -> list[Check]:
    """Return the checks of what was handed in."""
    gone = _gone(problem, examination)
    left_out = gone if problem.masked_rows == "ignore" else 0
    coverage = f"every entry but those of {left_out:,} wholly masked rows" if left_out else "every entry"
    return [
        judged(
            export.name,
            _without(examination.findings[export.name], left_out * problem.classes),
            _placing(problem),
            tolerance=tolerance.words if tolerance else export.tolerance,
            coverage=coverage,
        )
        for export in problem.exports
    ]


def _without(finding: Finding, entries: int) -> Finding:
    """Return a finding that does not count entries that were passed over."""
    return replace(finding, entries=finding.entries - entries)


def _placing(
    problem: LayerProblem, *, rows_only: bool = False
) -> Callable[[Entry], tuple[tuple[int, ...], int | None]]:
    """Return what turns a row and column into an index of the logits' layout; a row has no label."""

    def place(entry: Entry) -> tuple[tuple[int, ...], int | None]:
        return problem.logits.index_of(entry.row, None if rows_only else entry.column), None

    return place


def _data(problem: LayerProblem, examination: Examination) -> Data:
    return Data(
        rows=problem.rows,
        classes=problem.classes,
        axis=problem.axis,
        ignored_rows=_gone(problem, examination),
        divisor=None,
        targets="log-softmax layer" if problem.log else "softmax layer",
    )

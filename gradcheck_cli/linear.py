"""A linear layer under softmax cross-entropy on one screen: inputs, labels and weight in, outcome out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gradcheck_cli.account import inputs
from gradcheck_cli.cautions import cautions
from gradcheck_cli.check import OWN
from gradcheck_cli.choices import LinearSettings
from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.dense.audit import Extent
from gradcheck_cli.dense.directions import COUNT, Directions
from gradcheck_cli.dense.judging import LinearOrder, LinearTask, comparisons_for
from gradcheck_cli.dense.problem import LinearProblem, posed
from gradcheck_cli.dense.rows import Stretches
from gradcheck_cli.dense.weights import WeightOrder, sampled
from gradcheck_cli.engine import Job, Progress, examine, silent
from gradcheck_cli.exports import Export, Scalar
from gradcheck_cli.findings import Entry, Finding
from gradcheck_cli.grid import Grid
from gradcheck_cli.outcome import (
    Check,
    Data,
    Diagnosis,
    Fact,
    Outcome,
    Picture,
    Verdict,
    Warning,  # noqa: A004 - the word of the JSON contract
)
from gradcheck_cli.tensors import Rows, Tensor
from gradcheck_cli.verdict import believed, judged
from gradcheck_cli.workers import processors

_ROUNDING = "truncation of the central difference and float64 rounding"
Place = Callable[[Entry], tuple[tuple[int, ...], int | None]]


def linear(
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Scalar],
    settings: LinearSettings,
    progress: Progress = silent,
    *,
    drawn: bool = False,
) -> Outcome:
    """Return what checking the gradients of a linear layer against the truth shows.

    Parameters
    ----------
    tensors
        By role: inputs, labels, weight, perhaps bias, class-weights, upstream, and whatever was exported
        (grad-weight, grad-bias, grad-inputs, grad, logits).
    scalars
        Numbers given in place of a tensor: upstream.
    settings
        The layer, the loss convention and how to judge.
    progress
        Shows how far it is; silent by default.
    drawn
        Whether somebody wants to see where the errors are.

    Raises
    ------
    InputError, UsageError
        If the tensors pose no problem that can be checked.
    """
    began = time.perf_counter()
    tolerance = Tolerance.asked(settings.rtol, settings.atol)
    with posed(tensors, scalars, settings) as problem:
        differenced = sampled(problem, settings.seed)
        found = _examined(problem, differenced, settings, progress)
        own = _own(problem, found, settings, differenced)
        checks = believed(own, _exported(problem, found, tolerance))
        diagnosis, facts = _diagnosed(problem, found, checks, settings)
        for tensor in problem.tensors:
            tensor.check_unchanged()
        return Outcome(
            command="linear",
            inputs=inputs(problem.tensors, problem.exports),
            settings=settings.in_force() | _handed_in(tensors, scalars),
            data=_data(problem),
            checks=checks,
            seconds=time.perf_counter() - began,
            warnings=cautions(problem, found, judged_by_bounds=tolerance is None, sums=_sums(problem))
            + _unseen(problem, settings),
            diagnosis=diagnosis,
            facts=facts,
            pictures=_pictured(problem, found, checks, settings) if drawn else (),
        )


def _pictured(
    problem: LinearProblem, found: Mapping[str, Finding], checks: Sequence[Check], settings: LinearSettings
) -> tuple[Picture, ...]:
    """Return where the exports fail, and how large their errors are."""
    from gradcheck_cli.pictures import pictures  # noqa: PLC0415 - only for who looks

    wide, features, rows = problem.classes, problem.features, problem.rows
    every = {"logits": (rows, wide), "grad": (rows, wide), "grad-inputs": (rows, features)}
    every |= {"grad-weight": (features, wide), "grad-bias": (1, wide)}
    shapes = {each.name: every[each.name] for each in problem.exports}
    failed = [each.name for each in checks if each.exported and each.verdict is Verdict.FAIL]
    of_rows, of_weight = _orders(problem, frozenset(), settings, silent)
    again = tuple(each for each in of_rows.task.comparisons if each.name in failed)
    jobs: list[Job] = [replace(of_rows, task=replace(of_rows.task, comparisons=again))] if again else []
    jobs += [replace(of_weight, directions=None)] if {"grad-weight", "grad-bias"} & set(failed) else []
    return pictures(shapes, found, failed, jobs)


def _sums(problem: LinearProblem) -> dict[str, tuple[int, str]]:
    """Return how many terms are added up on the way to each export, and what they are."""
    examples, features, classes = problem.rows, problem.features, problem.classes
    logits = f"{features:,} inputs"
    of_rows = max(features, classes), f"{logits} or {classes:,} classes"
    of_all = max(examples, *of_rows[:1]), f"{examples:,} examples, {of_rows[1]}"
    found = {"logits": (features, logits), "grad": of_rows, "grad-inputs": of_rows}
    return found | {"grad-weight": of_all, "grad-bias": of_all}


def _diagnosed(
    problem: LinearProblem, found: Mapping[str, Finding], checks: Sequence[Check], settings: LinearSettings
) -> tuple[tuple[Diagnosis, ...], tuple[Fact, ...]]:
    """Return which bugs the failed gradients are, and where they fail; nothing where none failed."""
    wrong = [each.name for each in checks if each.exported and each.verdict is Verdict.FAIL]
    failed = [name for name in wrong if name != "logits"]
    if not failed:
        return (), ()
    from gradcheck_cli.diagnosis.summed.exports import diagnosed  # noqa: PLC0415 - only after a failure

    return diagnosed(problem, settings, failed, found)


def _unseen(problem: LinearProblem, settings: LinearSettings) -> tuple[Warning, ...]:
    """Return which bugs of the gradients the data could not have shown."""
    if all(each.name == "logits" for each in problem.exports):
        return ()
    from gradcheck_cli.diagnosis.summed.weakness import weaknesses  # noqa: PLC0415 - only for a gradient

    return tuple(each.warning for each in weaknesses(problem, settings))


def _orders(
    problem: LinearProblem, differenced: frozenset[int], settings: LinearSettings, progress: Progress
) -> tuple[LinearOrder, WeightOrder]:
    """Return what is done to the rows of the examples, and to those of the weight."""
    tolerance, head = Tolerance.asked(settings.rtol, settings.atol), problem.head
    task = LinearTask(head, comparisons_for(problem, tolerance), None, Grid.of(head).tiled)
    of_rows = LinearOrder(task, settings.top, settings.seed, progress, features=problem.features)
    summed = tuple(each for each in problem.exports if each.name in ("grad-weight", "grad-bias"))
    stretches = Stretches(problem, summed if tolerance is None else ())
    directions = Directions.drawn(problem, settings.seed) if len(differenced) < problem.features else None
    return of_rows, WeightOrder(
        problem, stretches, differenced, directions, tolerance, settings.top, settings.seed, progress
    )


def _examined(
    problem: LinearProblem, differenced: frozenset[int], settings: LinearSettings, progress: Progress
) -> dict[str, Finding]:
    """Return the findings on the rows of the examples, and on those of the weight."""
    of_rows, of_weight = _orders(problem, differenced, settings, progress)
    processes = settings.threads or processors()
    found = examine(of_rows, processes).findings | examine(of_weight, processes).findings
    if of_weight.directions is not None:
        found["directions"] = of_weight.directions.compared(problem, of_weight.stretches, settings.top)
    return found


def _own(
    problem: LinearProblem, found: Mapping[str, Finding], settings: LinearSettings, moved: frozenset[int]
) -> list[Check]:
    """Return softgrad's checks of itself: the ruler is measured before anything is judged by it."""
    logits, seed = problem.logits, settings.seed
    at, by_row = _at(logits), _at(logits, rows_only=True)
    checks = [
        judged(
            "forward", found["forward"], at, tolerance="float64 rounding",
            coverage=f"seeded sample of rows, recomputed by another way (seed {seed})",
        ),
        judged("difference", found["difference"], at, tolerance=OWN["difference"][0]),
        judged(
            "audit", found["audit"], at,
            tolerance="five-point truncation and the rounding of whole-row losses",
            coverage=f"seeded sample, by brute force (seed {seed})",
        ),
    ]  # fmt: skip
    checks += [
        judged(name, found[name], by_row, tolerance=OWN[name][0], coverage=OWN[name][1])
        for name in ("chain", "invariants")
        if found[name].entries
    ]
    every = len(moved) == problem.features
    part = f"seeded sample of {len(moved):,} of {problem.features:,} inputs (seed {seed})"
    words = f"{COUNT} random directions of all weights at once (seed {seed})"
    directions = [
        judged("directions", found["directions"], _in_bias, tolerance=_ROUNDING, coverage=words)
        for _ in range(not every)
    ]
    return [
        *checks,
        judged(
            "weight-difference", found["weight-difference"], _in_weight(problem), tolerance=_ROUNDING,
            coverage="every entry" if every else part,
        ),
        *directions,
        judged(
            "weight-audit", found["weight-audit"], _in_weight(problem),
            tolerance="five-point truncation and the rounding of whole-row losses",
            coverage=Extent.of(problem, seed).words(problem, seed),
        ),
        judged("bias-difference", found["bias-difference"], _in_bias, tolerance=_ROUNDING),
        judged("inputs-difference", found["inputs-difference"], _at(problem.inputs), tolerance=_ROUNDING),
    ]  # fmt: skip


def _exported(
    problem: LinearProblem, found: Mapping[str, Finding], tolerance: Tolerance | None
) -> list[Check]:
    """Return the checks of what was handed in."""

    def place(export: Export) -> Place:
        if export.name == "grad-weight":
            return _in_weight(problem)
        return _in_bias if export.name == "grad-bias" else _at(export.rows)

    return [
        judged(
            each.name,
            found[each.name],
            place(each),
            tolerance=tolerance.words if tolerance else each.tolerance,
        )
        for each in problem.exports
    ]


def _at(rows: Rows, *, rows_only: bool = False) -> Place:
    def place(entry: Entry) -> tuple[tuple[int, ...], int | None]:
        return rows.index_of(entry.row, None if rows_only else entry.column), None

    return place


def _in_weight(problem: LinearProblem) -> Place:
    """Return where an entry is in the weight's own layout."""

    def place(entry: Entry) -> tuple[tuple[int, ...], int | None]:
        index = (entry.row, entry.column)
        return (index if problem.layout == "io" else index[::-1]), None

    return place


def _in_bias(entry: Entry) -> tuple[tuple[int, ...], int | None]:
    return (entry.column,), None


def _handed_in(tensors: Mapping[str, Tensor], scalars: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return the settings that are numbers or files."""
    upstream = scalars["upstream"].value if "upstream" in scalars else None
    given: dict[str, Any] = {"upstream": upstream}
    for role in ("upstream", "class-weights"):
        if role in tensors:
            given[role.replace("-", "_")] = tensors[role].path
    return {"class_weights": None} | given


def _data(problem: LinearProblem) -> Data:
    head = problem.head
    targets = "distributions" if head.soft else "class labels"
    return Data(head.rows, head.classes, head.axis, head.ignored_rows, head.divisor, targets)

"""What a verdict on the exports could not see, and what it saw that is no error: the report's warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from gradcheck_cli.exports import Export
from gradcheck_cli.findings import Finding
from gradcheck_cli.grades import Grade
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.outcome import Warning  # noqa: A004 - the word of the JSON contract
from gradcheck_cli.tensors import Rows
from gradcheck_cli.verdict import few_strained

_WIDE = 1e-3
"""Share of an entry from which the bound of a sum is worth a warning."""

_HIDES = 0.01
"""Share of an entry from which it is worth a warning that rounded logits hide it."""


_LONG_SUM = 256
"""Terms from which on the order of a sum shows."""

Sum = tuple[int, str]
"""How many terms the longest sum on the way to an export has, and what they are."""


class Judged(Protocol):
    """A problem with exports, of any command."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def logits(self) -> Rows:
        """The logits."""

    @property
    def exports(self) -> tuple[Export, ...]:
        """What is judged."""


def cautions(
    problem: Judged,
    findings: Mapping[str, Finding],
    *,
    judged_by_bounds: bool,
    sums: Mapping[str, Sum] | None = None,
) -> tuple[Warning, ...]:
    """Return the warnings about the exports; about bounds only where they are what judges.

    `sums` says, by export, what is added up where that is not the classes alone.
    """
    told = []
    for export in problem.exports:
        added = (sums or {}).get(export.name, (problem.classes, f"{problem.classes:,} classes"))
        told += [
            Warning(code, f"{export.name}: {words}")
            for code, words in _of_export(problem, export, findings[export.name], added, judged_by_bounds)
        ]
    return tuple(told)


def _of_export(
    problem: Judged,
    export: Export,
    finding: Finding,
    added: Sum,
    judged_by_bounds: bool,  # noqa: FBT001 - one caller
) -> Iterator[tuple[str, str]]:
    if judged_by_bounds:
        yield from _of_bounds(problem, export, finding)
        yield from _of_logits(problem, export, finding)
        yield from _of_grade(added, export, finding.grade)
    if finding.grade.flushed:
        yield "underflow", _underflow(export, finding.grade)


def _of_bounds(problem: Judged, export: Export, finding: Finding) -> Iterator[tuple[str, str]]:
    if finding.vague:
        yield (
            "nothing-sure",
            f"in {finding.vague:,} of {problem.rows:,} rows {export.compute.name} arithmetic may cost "
            "a sixth of an entry and more (logits far from 0 under a temperature, softcap or z-loss, or very "
            "many classes), so nothing can be said of them; a float64 export can be judged, and --rtol with "
            "--atol judges without bounds",
        )
    cost = (problem.classes - 1) * export.compute.unit
    if cost > _WIDE:
        yield (
            "wide-bound",
            f"{export.compute.name} sums of {problem.classes:,} classes in any order may cost "
            f"{100 * cost:.2g} % of an entry; smaller errors are not seen",
        )


def _of_logits(problem: Judged, export: Export, finding: Finding) -> Iterator[tuple[str, str]]:
    """Say what rounded logits hide, or that the logits may have been rounded."""
    logits, grade = problem.logits.tensor.dtype, finding.grade
    if export.logits is not None and grade.hides > _HIDES:
        share = f"up to {100 * grade.hides:.2g} % of an entry" if grade.hides < 1.0 else "an entry whole"
        rows = f" (in {grade.hidden:,} of {problem.rows:,} rows)" if grade.hidden else ""
        yield (
            "logits-rounded",
            f"the rounding of the logits to {export.logits.name} hides {share}{rows}; export the logits "
            "as the exporter had them",
        )
    if (
        finding.failing
        and export.logits is None
        and logits in ("bfloat16", "float16")
        and not export.grid.half
    ):
        yield (
            "logits-rounded",
            f"the logits are stored in {logits}, but {export.name} in {export.grid.name}: if the exporter "
            f"worked on more exact logits, say --logits-rounded {logits}",
        )


def _of_grade(added: Sum, export: Export, grade: Grade) -> Iterator[tuple[str, str]]:
    """Say which accuracy is worth a second look."""
    if few_strained(grade) and export.native is not None:
        where = f"in {grade.strained_rows:,} of {grade.rows:,} rows"
        yield (
            "few-entries-strained",
            f"{grade.strained:,} of {grade.nonzero:,} entries ({where}) need {export.native.name} "
            "arithmetic, all others are float32 arithmetic rounded once: --compute-dtype float32 if the "
            "kernel computes so (then these are wrong), "
            f"--compute-dtype {export.native.name} if it does not",
        )
    terms, words = added
    if grade.model is Model.ANY_ORDER and terms > _LONG_SUM:
        yield (
            "summation-order",
            f"only sums in order explain it: {words} added one by one in "
            f"{export.compute.name} lose what adding in lanes or a tree keeps",
        )
    if grade.model is Model.FUSED_LSE:
        yield (
            "fused-lse",
            "only exp(z - lse) with a rounded lse explains it, whose error grows with the logits; subtract "
            "the maximum first, log S after it",
        )


def _underflow(export: Export, grade: Grade) -> str:
    return (
        f"{grade.flushed:,} of {grade.nonzero:,} entries are too small for {export.grid.name} and stored "
        "as 0: they carry no gradient (a loss scale keeps them)"
    )

"""``softgrad jacobian``: one row's Jacobian, shown and checked."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from gradcheck_cli.choices import MatrixSettings
from gradcheck_cli.cli.console import show
from gradcheck_cli.cli.options import (
    FORMATS,
    GroupedCommand,
    file_option,
    output_options,
    reading_options,
    report_option,
    settings_options,
)
from gradcheck_cli.cli.reports import ENTIRE, Reports
from gradcheck_cli.cli.typed import (
    Roles,
    handed_in,
    manner_of,
    opened_as,
    reading_of,
    refuse_idle,
)

if TYPE_CHECKING:
    from gradcheck_cli.cli.console import Manner
    from gradcheck_cli.outcome import Outcome
    from gradcheck_cli.reading import Reading

EXPORTED = "What was exported"
JUDGED = ("jacobian",)
ROLES = Roles("jacobian", ("logits",), JUDGED)

EPILOG = """\b
Examples:
  softgrad jacobian logits.npy --row 3
      the Jacobian of row 3, next to its finite differences
  softgrad jacobian logits.npy --row 3 --format csv > jacobian.csv
      every entry, with error and bound
  softgrad jacobian logits.npy --row 3 --jacobian J.npy
      is the exported matrix right for its precision?

\b
Exit status: 0 every check passed, 1 an exported tensor is wrong,
2 it could not be checked, 3 a bug in softgrad."""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@click.argument("logits")
@file_option("--jacobian", "A Jacobian to judge: of the row, (K, K), or of all rows.", group=EXPORTED)
@settings_options(MatrixSettings)
@reading_options
@output_options(*FORMATS)
@report_option
def jacobian(  # noqa: PLR0913 - one parameter for each thing a user can type
    logits: str,
    *,
    form: str,
    report: tuple[str, ...],
    quiet: int,
    verbose: bool,
    color: str,
    **typed: Any,
) -> int:
    """Show and check the Jacobian of the softmax of one row of LOGITS.

    Its entries are a_j (1 - a_j) on the diagonal and -a_k a_j off it. Each is held against finite
    differences of the softmax, against the column form (e_k - a) a_k, and, since it is the Hessian of
    logsumexp, against second differences of that. NPY, NPZ, safetensors or text, found by content; of a
    bundle with logits and jacobian both are taken.
    """
    files = {"logits": logits} | handed_in(JUDGED, typed)
    manner = manner_of(form, quiet, verbose=verbose, color=color, top=typed["top"])
    reading = reading_of(typed)
    with Reports(report, "jacobian", files, typed) as reports:
        return _shown(files, MatrixSettings(**typed), reading, manner, reports).exit_code


def _shown(
    files: dict[str, str], settings: MatrixSettings, reading: Reading, manner: Manner, reports: Reports
) -> Outcome:
    """Open the files, check them, and show the outcome while they are open; numpy is imported from here on.

    A report with every entry reads the exported matrix once more.
    """
    from gradcheck_cli.cli.progress import bar  # noqa: PLC0415 - start-up
    from gradcheck_cli.jacobian import jacobian as examine  # noqa: PLC0415
    from gradcheck_cli.jacobian import readable  # noqa: PLC0415

    with contextlib.ExitStack() as opened:
        tensors = opened_as(files, ROLES, reading, opened)
        refuse_idle(vars(settings), judged="jacobian" in tensors)
        whole = manner.form in ENTIRE or reports.ask_for(ENTIRE)
        outcome = examine(tensors, settings, bar, whole=whole)
        outcome = replace(outcome, settings=outcome.settings | reading.in_force())
        brief = outcome if outcome.matrix is None else replace(outcome, matrix=readable(outcome.matrix))
        reports.write(outcome, brief)
        show(outcome if manner.form in ENTIRE else brief, manner)
        for tensor in tensors.values():
            tensor.check_unchanged()
    return outcome

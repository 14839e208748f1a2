"""``softgrad sweep``: the error of finite differences against their step."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from gradcheck_cli.choices import SweepSettings
from gradcheck_cli.cli.console import show
from gradcheck_cli.cli.grouped import OUTPUT
from gradcheck_cli.cli.options import (
    GroupedCommand,
    file_option,
    output_options,
    reading_options,
    settings_options,
)
from gradcheck_cli.cli.plot import plot, plot_path
from gradcheck_cli.cli.typed import Roles, handed_in, manner_of, opened_as, reading_of
from gradcheck_cli.settings import LOSS

if TYPE_CHECKING:
    from gradcheck_cli.outcome import Outcome
    from gradcheck_cli.reading import Reading

ROLES = Roles("sweep", ("logits", "labels"), ("class-weights",))

EPILOG = """\b
Examples:
  softgrad sweep logits.npy labels.npy
      which step is best, by which method, and how good is it?
  softgrad sweep logits.npy labels.npy --plot steps.png
      the same as a picture (needs matplotlib)
  softgrad sweep logits.npy labels.npy --format csv > steps.csv
      every method at every step

\b
Exit status: 0 every error is within its bound, 2 it could not be
checked or is not, 3 a bug in softgrad."""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@click.argument("logits")
@click.argument("labels", required=False)
@file_option("--class-weights", "Weight of each class.", group=LOSS)
@settings_options(SweepSettings)
@reading_options
@file_option(
    "--plot", "Draw the curves to this file, too; needs matplotlib.", group=OUTPUT, metavar="FILE.png|svg"
)
@output_options("table", "json", "jsonl", "csv")
def sweep(  # noqa: PLR0913 - one parameter for each thing a user can type
    logits: str, labels: str | None, *, form: str, quiet: int, verbose: bool, color: str, **typed: Any
) -> int:
    """Show the error of finite differences of the loss of LOGITS and LABELS against their step.

    Two methods are what most people write, differences of a whole row's loss, whose error is a V: truncation
    on the right, cancellation on the left. The others take the change of the loss in closed form and have
    no left side. Each error is held against its proven bound. Files are found by content; a bundle, one file
    with logits and labels by their usual names, is enough alone.
    """
    files = ROLES.of(logits, labels) | handed_in((*ROLES.others, "plot"), typed)
    picture = plot_path(files.pop("plot", None))
    manner = manner_of(form, quiet, verbose=verbose, color=color, top=1)
    reading = reading_of(typed)
    outcome = _swept(files, SweepSettings(**typed), reading)
    if picture is not None:
        from gradcheck_cli.report import curves  # noqa: PLC0415 - start-up

        plot(outcome, picture, curves.picture)
    show(outcome, manner)
    return outcome.exit_code


def _swept(files: dict[str, str], settings: SweepSettings, reading: Reading) -> Outcome:
    """Open the files and sweep; numpy is imported from here on."""
    from gradcheck_cli.sweep import sweep as examine  # noqa: PLC0415 - start-up

    with contextlib.ExitStack() as opened:
        tensors = opened_as(files, ROLES, reading, opened)
        outcome = examine(tensors, settings)
    return replace(outcome, settings=outcome.settings | reading.in_force())

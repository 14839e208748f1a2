"""``softgrad check``: what was typed becomes tensors, numbers and settings; the outcome is shown."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from gradcheck_cli.cli.console import show, wants_pictures
from gradcheck_cli.cli.grouped import OUTPUT, GroupedOption
from gradcheck_cli.cli.options import (
    FORMATS,
    GroupedCommand,
    file_option,
    output_options,
    reading_options,
    report_option,
    settings_options,
    show_settings_option,
)
from gradcheck_cli.cli.reports import Reports
from gradcheck_cli.cli.typed import handed_in, manner_of, reading_of, refuse_empty_name, refuse_idle
from gradcheck_cli.errors import UsageError
from gradcheck_cli.settings import LOSS, Settings

if TYPE_CHECKING:
    from pathlib import Path

    from gradcheck_cli.exports import Scalar
    from gradcheck_cli.outcome import Outcome
    from gradcheck_cli.reading import Reading

EXPORTED = "What the exporter wrote, each judged against the truth"
JUDGED = ("grad", "probs", "log-probs", "loss", "grad-probs")
NUMBERS = ("upstream", "loss")
"""Roles that a plain number can stand in for."""
ROLES = ("logits", "labels", *JUDGED, "upstream", "class-weights")
"""What is looked for in a bundle."""

EPILOG = """\b
Examples:
  softgrad check logits.npy labels.npy
      verify softmax, loss and gradient by finite differences, every entry
  softgrad check logits.npy labels.npy --grad dlogits.npy
      is the gradient that the kernel wrote right for its precision?
  softgrad check dump.npz
      logits, labels and whatever else is in it, by their usual names
  softgrad check z.npy y.npy --grad dz.npy --reduction sum --upstream g.npy
      a summed loss with one upstream gradient for each row

\b
Exit status: 0 every check passed, 1 an exported tensor is wrong,
2 it could not be checked, 3 a bug in softgrad."""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@click.argument("logits", type=click.Path())
@click.argument("labels", type=click.Path(), required=False)
@file_option("--grad", "Gradient of the loss at the logits.", group=EXPORTED)
@file_option("--probs", "Softmax of the logits.", group=EXPORTED)
@file_option("--log-probs", "Log-softmax of the logits.", group=EXPORTED)
@file_option(
    "--loss",
    "The loss without upstream: a number, a file of one, or of one undivided loss for each row.",
    group=EXPORTED,
    metavar="FILE|NUMBER",
)
@file_option("--grad-probs", "Gradient of the loss at the probabilities.", group=EXPORTED)
@file_option(
    "--upstream",
    "dE/d(loss): a number such as a loss scale, or one value for each row. [default: 1]",
    group=LOSS,
    metavar="FILE|NUMBER",
)
@file_option("--class-weights", "Weight of each class; the mean then divides by their sum.", group=LOSS)
@settings_options(Settings)
@reading_options
@click.option(
    "--save-failure", "save_to", cls=GroupedOption, metavar="DIR",
    help="Write a few failing rows to a folder, with a command line that fails on them alone.",
)  # fmt: skip
@click.option(
    "--show", "pictured", cls=GroupedOption, is_flag=True,
    help="Draw where the errors are and how large, on a pass or in a pipe too; a failure on a terminal is "
    "drawn anyway.",
)  # fmt: skip
@file_option("--plot", "Draw the same to this file; needs matplotlib.", group=OUTPUT, metavar="FILE.png|svg")
@output_options(*FORMATS)
@report_option
@show_settings_option
def check(  # noqa: PLR0913 - one parameter for each thing a user can type
    logits: str,
    labels: str | None,
    *,
    form: str,
    report: tuple[str, ...],
    quiet: int,
    verbose: bool,
    color: str,
    save_to: str | None,
    pictured: bool,
    **typed: Any,
) -> int:
    """Check softmax + cross-entropy of LOGITS and LABELS, and what was exported with them.

    LOGITS holds one row of class scores for each example (any further axes; see --axis), LABELS one
    class index for each row, or target distributions in the logits' own shape. Files are NPY, NPZ,
    safetensors or CSV/TSV text, found by content; FILE:MEMBER names one tensor of several, - is
    standard input. A bundle, one file with logits, labels and more by their usual names, is enough
    alone.
    """
    files = {"logits": logits} if labels is None else {"logits": logits, "labels": labels}
    files |= handed_in(ROLES[2:], typed)
    plotted = _plotted(typed)
    manner = manner_of(form, quiet, verbose=verbose, color=color, top=typed["top"])
    if pictured and (quiet or form != "table"):
        raise UsageError("--show draws into the table: leave out -q and --format")
    options = dict(typed)
    reading = reading_of(typed)
    with Reports(report, "check", files, options) as reports:
        drawn = pictured or plotted is not None or wants_pictures(manner) or reports.pictured
        outcome = _checked(files, Settings(**typed), reading, save_to, drawn=drawn)
        _picture(outcome, plotted, asked=pictured)
        reports.write(outcome)
    show(outcome, manner, pictured=pictured)
    return outcome.exit_code


def _plotted(typed: dict[str, Any]) -> Path | None:
    """Return where ``--plot`` draws to, if it was typed."""
    named = handed_in(("plot",), typed).get("plot")
    if named is None:
        return None
    from gradcheck_cli.cli.plot import plot_path  # noqa: PLC0415 - start-up

    return plot_path(named)


def _picture(outcome: Outcome, path: Path | None, *, asked: bool) -> None:
    """Draw to a file where that is asked for; refuse to where there is nothing to draw."""
    if (asked or path is not None) and not outcome.pictures:
        flag = "--show" if path is None else "--plot"
        raise UsageError(f"{flag} has no effect without a tensor of the logits' shape to judge (--grad ...)")
    if path is not None:
        from gradcheck_cli.cli.plot import plot  # noqa: PLC0415 - start-up
        from gradcheck_cli.report.plotted import drawn  # noqa: PLC0415

        plot(outcome, path, drawn)


def _name(role: str) -> str:
    return role.upper() if role in ("logits", "labels") else f"--{role}"


def _checked(
    files: dict[str, str], settings: Settings, reading: Reading, save_to: str | None, *, drawn: bool
) -> Outcome:
    """Open the files and check them; numpy is imported from here on."""
    from gradcheck_cli.bundles import open_bundle, open_inputs  # noqa: PLC0415 - start-up
    from gradcheck_cli.check import check as examine  # noqa: PLC0415
    from gradcheck_cli.cli.progress import bar  # noqa: PLC0415

    scalars = _scalars(files, settings)
    files = {role: text for role, text in files.items() if role not in scalars}
    with contextlib.ExitStack() as opened:
        tensors = {}
        if "labels" not in files:
            roles = [role for role in ROLES if role not in {*files, *scalars} - {"logits"}]
            tensors = open_bundle(files.pop("logits"), roles, reading, opened)
        tensors |= open_inputs(files, reading, opened)
        reading.refuse_idle(tensors, text=any(each.dtype == "text" for each in tensors.values()))
        refuse_idle(vars(settings), judged=any(role in JUDGED for role in (*tensors, *scalars)))
        outcome = examine(tensors, scalars, settings, bar, save_to, drawn=drawn)
    return replace(outcome, settings=outcome.settings | reading.in_force())


def _scalars(files: dict[str, str], settings: Settings) -> dict[str, Scalar]:
    """Return the inputs that are plain numbers; what is neither a number nor a file is refused."""
    from gradcheck_cli.exports import Scalar  # noqa: PLC0415 - start-up
    from gradcheck_cli.tensors import locate  # noqa: PLC0415

    scalars = {}
    for role, text in files.items():
        refuse_empty_name(_name(role), text)
        if role in NUMBERS:
            with contextlib.suppress(ValueError):
                scalars[role] = Scalar.parse(text, settings.compute_dtype)
                continue
            if not locate(text).exists:
                raise UsageError(f"--{role} {text}: neither a number nor a file")
    return scalars

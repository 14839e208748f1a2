"""``softgrad vjp``: the softmax layer alone; what was typed becomes tensors and settings."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from gradcheck_cli.choices import LayerSettings
from gradcheck_cli.cli.console import show, wants_pictures
from gradcheck_cli.cli.grouped import GroupedOption
from gradcheck_cli.cli.options import (
    FORMATS,
    GroupedCommand,
    file_option,
    output_options,
    reading_options,
    report_option,
    settings_options,
)
from gradcheck_cli.cli.reports import Reports
from gradcheck_cli.cli.typed import (
    Roles,
    handed_in,
    manner_of,
    opened_as,
    reading_of,
    refuse_idle,
)

if TYPE_CHECKING:
    from gradcheck_cli.outcome import Outcome
    from gradcheck_cli.reading import Reading

EXPORTED = "What the layer wrote, each judged against the truth"
JUDGED = ("grad", "probs", "log-probs")

PLACES = ("logits", "upstream")


def _roles(*, log: bool) -> Roles:
    """Return the parts that files play; of the two outputs a bundle may hold, the layer has one."""
    return Roles("vjp", PLACES, ("grad", "log-probs" if log else "probs"))


EPILOG = """\b
Examples:
  softgrad vjp scores.npy dprobs.npy
      verify the layer's backward by finite differences, every entry
  softgrad vjp scores.npy dprobs.npy --grad dscores.npy --probs probs.npy
      is the attention kernel's softmax right, forward and backward?
  softgrad vjp dump.npz
      logits, upstream and whatever else is in it, by their usual names
  softgrad vjp z.npy dlogp.npy --log --grad dz.npy --axis 1
      a log-softmax along axis 1

\b
Exit status: 0 every check passed, 1 an exported tensor is wrong,
2 it could not be checked, 3 a bug in softgrad."""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@click.argument("logits")
@click.argument("upstream", required=False)
@file_option("--grad", "Gradient at the logits (bottom_diff).", group=EXPORTED)
@file_option("--probs", "Softmax of the logits (top_data).", group=EXPORTED)
@file_option("--log-probs", "With --log: log-softmax of the logits (top_data).", group=EXPORTED)
@settings_options(LayerSettings)
@reading_options
@click.option(
    "--save-failure", "save_to", cls=GroupedOption, metavar="DIR",
    help="Write a few failing rows to a folder, with a command line that fails on them alone.",
)  # fmt: skip
@output_options(*FORMATS)
@report_option
def vjp(  # noqa: PLR0913 - one parameter for each thing a user can type
    logits: str,
    upstream: str | None,
    *,
    form: str,
    report: tuple[str, ...],
    quiet: int,
    verbose: bool,
    color: str,
    save_to: str | None,
    **typed: Any,
) -> int:
    """Check the backward of a softmax layer: LOGITS, and the gradient UPSTREAM at its output.

    With a = softmax(LOGITS) along an axis and t = UPSTREAM (top_diff), the gradient at the logits is
    (t - sum(t a)) a, and under --log t - a sum(t). Both files have the same shape, of any number of axes:
    NPY, NPZ, safetensors or text, found by content; a bundle, one file with both by their usual names, is
    enough alone. -inf marks a masked class.
    """
    files = _roles(log=typed["log"]).of(logits, upstream) | handed_in(JUDGED, typed)
    manner = manner_of(form, quiet, verbose=verbose, color=color, top=typed["top"])
    reading = reading_of(typed)
    with Reports(report, "vjp", files, typed) as reports:
        drawn = wants_pictures(manner) or reports.pictured
        outcome = _checked(files, LayerSettings(**typed), reading, save_to, drawn=drawn)
        reports.write(outcome)
    show(outcome, manner)
    return outcome.exit_code


def _checked(
    files: dict[str, str], settings: LayerSettings, reading: Reading, save_to: str | None, *, drawn: bool
) -> Outcome:
    """Open the files and check them; numpy is imported from here on."""
    from gradcheck_cli.cli.progress import bar  # noqa: PLC0415 - start-up
    from gradcheck_cli.vjp import vjp as examine  # noqa: PLC0415

    with contextlib.ExitStack() as opened:
        tensors = opened_as(files, _roles(log=settings.log), reading, opened)
        refuse_idle(vars(settings), judged=any(role in tensors for role in JUDGED))
        outcome = examine(tensors, settings, bar, save_to, drawn=drawn)
    return replace(outcome, settings=outcome.settings | reading.in_force())

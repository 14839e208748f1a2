"""``softgrad linear``: a linear layer under softmax cross-entropy."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from gradcheck_cli.choices import LinearSettings
from gradcheck_cli.cli.console import show, wants_pictures
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
    refuse_empty_name,
    refuse_idle,
)
from gradcheck_cli.errors import UsageError
from gradcheck_cli.settings import LAYER, LOSS

if TYPE_CHECKING:
    from gradcheck_cli.outcome import Outcome
    from gradcheck_cli.reading import Reading

EXPORTED = "What the exporter wrote, each judged against the truth"
JUDGED = ("grad-weight", "grad-bias", "grad-inputs", "grad", "logits")
GIVEN = ("weight", "bias", "upstream", "class-weights")

ROLES = Roles("linear", ("inputs", "labels"), (*GIVEN, *JUDGED))

EPILOG = """\b
Examples:
  softgrad linear x.npy labels.npy --weight W.npy --bias b.npy
      verify every partial derivative at W, b and x by finite differences
  softgrad linear x.npy labels.npy --weight W.npy --grad-weight dW.npy
      is the gradient of the output projection right for its precision?
  softgrad linear dump.npz
      inputs, labels, weight and whatever else is in it, by their usual names
  softgrad linear x.npy labels.npy --weight W.npy --weight-layout oi
      a square weight of torch.nn.Linear, z = x W^T

\b
Exit status: 0 every check passed, 1 an exported tensor is wrong,
2 it could not be checked, 3 a bug in softgrad."""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@click.argument("inputs")
@click.argument("labels", required=False)
@file_option("--weight", "Weight of the layer (needed, unless a bundle has it).", group=LAYER)
@file_option("--bias", "Bias of the layer, one number for each class.", group=LAYER)
@file_option("--grad-weight", "Gradient of the loss at the weight, in its layout.", group=EXPORTED)
@file_option("--grad-bias", "Gradient of the loss at the bias.", group=EXPORTED)
@file_option("--grad-inputs", "Gradient of the loss at the inputs.", group=EXPORTED)
@file_option("--grad", "Gradient of the loss at the logits.", group=EXPORTED)
@file_option("--logits", "The logits, x W + b.", group=EXPORTED)
@file_option(
    "--upstream",
    "dE/d(loss): a number such as a loss scale, or one value for each row. [default: 1]",
    group=LOSS,
    metavar="FILE|NUMBER",
)
@file_option("--class-weights", "Weight of each class; the mean then divides by their sum.", group=LOSS)
@settings_options(LinearSettings)
@reading_options
@output_options(*FORMATS)
@report_option
def linear(  # noqa: PLR0913 - one parameter for each thing a user can type
    inputs: str,
    labels: str | None,
    *,
    form: str,
    report: tuple[str, ...],
    quiet: int,
    verbose: bool,
    color: str,
    **typed: Any,
) -> int:
    """Check the gradients of z = x W + b under softmax + cross-entropy of z and LABELS.

    INPUTS holds one row of features for each example (any further axes before the last), LABELS one class
    index for each, or target distributions. With a = softmax(z) the gradient at the weight is the sum of
    x (a - y) over the examples, at the bias that of a - y, and (a - y) W^T at the inputs. Files are found
    by content: NPY, NPZ, safetensors, text; a bundle, one file with inputs, labels, weight and more by their
    usual names, is enough alone.
    """
    files = ROLES.of(inputs, labels) | handed_in(ROLES.others, typed)
    if labels is not None and "weight" not in files:
        raise UsageError("--weight is missing: which weight makes the logits? (--weight W.npy)")
    manner = manner_of(form, quiet, verbose=verbose, color=color, top=typed["top"])
    reading = reading_of(typed)
    with Reports(report, "linear", files, typed) as reports:
        drawn = wants_pictures(manner) or reports.pictured
        outcome = _checked(files, LinearSettings(**typed), reading, drawn=drawn)
        reports.write(outcome)
    show(outcome, manner)
    return outcome.exit_code


def _checked(files: dict[str, str], settings: LinearSettings, reading: Reading, *, drawn: bool) -> Outcome:
    """Open the files and check them; numpy is imported from here on."""
    from gradcheck_cli.cli.progress import bar  # noqa: PLC0415 - start-up
    from gradcheck_cli.exports import Scalar  # noqa: PLC0415
    from gradcheck_cli.linear import linear as examine  # noqa: PLC0415
    from gradcheck_cli.tensors import locate  # noqa: PLC0415

    with contextlib.ExitStack() as opened:
        scalars = {}
        if "upstream" in files:
            refuse_empty_name("--upstream", files["upstream"])
            with contextlib.suppress(ValueError):
                scalars["upstream"] = Scalar.parse(files["upstream"], settings.compute_dtype)
            if not scalars and not locate(files["upstream"]).exists:
                raise UsageError(f"--upstream {files['upstream']}: neither a number nor a file")
        roles = replace(ROLES, others=tuple(role for role in ROLES.others if role not in scalars))
        named = {role: text for role, text in files.items() if role not in scalars}
        tensors = opened_as(named, roles, reading, opened)
        refuse_idle(vars(settings), judged=any(role in tensors for role in JUDGED))
        outcome = examine(tensors, scalars, settings, bar, drawn=drawn)
    return replace(outcome, settings=outcome.settings | reading.in_force())

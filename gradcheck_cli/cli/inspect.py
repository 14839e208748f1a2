"""``softgrad inspect``: what is in tensor files, before anything is checked."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any

import click

from gradcheck_cli.cli.console import put
from gradcheck_cli.cli.exits import say
from gradcheck_cli.cli.grouped import GroupedOption
from gradcheck_cli.cli.options import (
    GroupedCommand,
    reading_options,
)
from gradcheck_cli.errors import InputError
from gradcheck_cli.reading import Reading

EPILOG = """\b
Examples:
  softgrad inspect dump.npz
      every tensor of a bundle: type, shape, range, what it may be
  softgrad inspect logits.npy labels.csv model.safetensors:grad
      several files, or one tensor of many
  softgrad inspect bits.npy --dtype bits=bfloat16
      bits that were saved as integers

\b
Exit status: 0 everything was read, 2 something could not be."""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@reading_options
@click.option(
    "-f", "--format", "form", cls=GroupedOption, type=click.Choice(("table", "json")),
    default="table", show_default=True, help="What is written to standard output.",
)  # fmt: skip
def inspect(files: tuple[str, ...], *, form: str, **typed: Any) -> int:
    """Show the tensors in each FILE: type, shape, order, counts of finite values, NaN and infinities, range.

    Where names or values suggest a role (logits, labels, grad, ...), it is named, with the reason. Files are
    read in blocks, whatever their size. What cannot be read is told on standard error; the rest is shown
    all the same.
    """
    reading = Reading(**{each.name: typed[each.name] for each in fields(Reading)})
    from gradcheck_cli.inspection import inspect as look  # noqa: PLC0415 - start-up
    from gradcheck_cli.inspection import names_of  # noqa: PLC0415
    from gradcheck_cli.report.contents import table, to_json  # noqa: PLC0415

    found = [look(text, reading) for text in files]
    reading.refuse_idle(
        {name for each in found for name in names_of(each)}, text=any(each.format == "text" for each in found)
    )
    if form == "json":
        put(to_json(found), for_people=False)
    else:
        import shutil  # noqa: PLC0415 - start-up

        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        put(table(found, width), for_people=True)
    errors = [error for each in found for error in each.errors]
    for error in errors:
        say(f"softgrad: error: {error}")
    return InputError.exit_code if errors else 0

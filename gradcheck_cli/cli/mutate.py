"""``softgrad mutate``: the known bugs planted in the right gradient of the user's data."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradcheck_cli.cli.console import painted, put
from gradcheck_cli.cli.grouped import GroupedOption
from gradcheck_cli.cli.options import (
    GroupedCommand,
    file_option,
    settings_options,
)
from gradcheck_cli.errors import UsageError
from gradcheck_cli.settings import COMPUTE_DTYPES, LOSS, RULES, Settings

if TYPE_CHECKING:
    from gradcheck_cli.mutate import Mutation, Wish

PLANTED = "What is planted"

EPILOG = """\b
Examples:
  softgrad mutate logits.npy labels.npy
      which of the known bugs would a check of this data catch, and name?
  softgrad mutate logits.npy labels.npy --grad-dtype bfloat16 --also allclose --also assert_close
      the same for bfloat16 gradients, next to what other rules would say
  softgrad mutate logits.npy labels.npy --bug label-shifted --write mutants
      write one of them as mutants/label-shifted.npy

\b
Exit status: 0 the bugs were planted, whatever became of them,
2 they could not be, 3 a bug in softgrad."""


@click.command(cls=GroupedCommand, epilog=EPILOG, short_help="Would the known bugs be caught in this data?")
@click.argument("logits")
@click.argument("labels")
@click.option(
    "--grad-dtype",
    "dtype", cls=GroupedOption, group=PLANTED, type=click.Choice(COMPUTE_DTYPES), default="float32",
    show_default=True, help="Precision that the gradients are stored in.",
)  # fmt: skip
@click.option(
    "--bug", cls=GroupedOption, group=PLANTED, metavar="CODE", multiple=True,
    help="Plant this bug alone; may be repeated. Default: every one that the data admits.",
)  # fmt: skip
@click.option(
    "--also", cls=GroupedOption, group=PLANTED, type=click.Choice(RULES), multiple=True,
    help="Show what this rule would have said; may be repeated.",
)  # fmt: skip
@click.option(
    "--write", "folder", cls=GroupedOption, group=PLANTED, metavar="DIR",
    help="Write the wrong gradients as DIR/CODE.npy.",
)  # fmt: skip
@file_option("--upstream", "dE/d(loss): a number, or one value for each row. [default: 1]", group=LOSS,
             metavar="FILE|NUMBER")  # fmt: skip
@file_option("--class-weights", "Weight of each class; the mean then divides by their sum.", group=LOSS)
@settings_options(Settings)
@click.option(
    "-f", "--format", "form", cls=GroupedOption, type=click.Choice(("table", "json", "jsonl")),
    default="table", show_default=True, help="What is written to standard output.",
)  # fmt: skip
@click.option(
    "--color", cls=GroupedOption, type=click.Choice(("auto", "always", "never")), default="auto",
    show_default=True, help="When to colour the report; auto heeds NO_COLOR.",
)  # fmt: skip
def mutate(  # noqa: PLR0913 - one parameter for each thing a user can type
    logits: str,
    labels: str,
    *,
    dtype: str,
    bug: tuple[str, ...],
    also: tuple[str, ...],
    folder: str | None,
    form: str,
    color: str,
    **typed: Any,
) -> int:
    """Plant the known bugs in the right gradient of LOGITS and LABELS, and check each.

    For every bug: whether a check at these settings would catch it, whether it would be named, and why not.
    A bug that passes is one that this data cannot show.
    """
    files = {"logits": logits, "labels": labels}
    for role in ("upstream", "class-weights"):
        values = typed.pop(role.replace("-", "_"))
        if len(values) > 1:
            raise UsageError(f"--{role} is given {len(values)} times: one is needed")
        if values:
            files[role] = values[0]
    settings = Settings(**typed)
    from gradcheck_cli.mutate import Wish  # noqa: PLC0415 - start-up

    found = _mutated(files, settings, Wish(dtype, bug, also, folder))
    put(_text(found, form, color), for_people=form == "table")
    return 0


def _text(found: Mutation, form: str, color: str) -> str:
    if form == "table":
        from gradcheck_cli.report.mutation import render  # noqa: PLC0415 - start-up

        return painted(lambda width: render(found, width=width), color)
    from gradcheck_cli.report.document import mutation_to_json  # noqa: PLC0415

    return mutation_to_json(found, indent=2 if form == "json" else None) + "\n"


def _mutated(files: dict[str, str], settings: Settings, wish: Wish) -> Mutation:
    from gradcheck_cli.exports import Scalar  # noqa: PLC0415 - start-up
    from gradcheck_cli.mutate import mutate as plant  # noqa: PLC0415
    from gradcheck_cli.tensors import open_tensor  # noqa: PLC0415

    with contextlib.ExitStack() as opened:
        tensors, scalars = {}, {}
        for role, text in files.items():
            if role == "upstream":
                with contextlib.suppress(ValueError):
                    scalars[role] = Scalar.parse(text, settings.compute_dtype)
                    continue
                if not Path(text).exists():
                    raise UsageError(f"--{role} {text}: neither a number nor a file")
            tensors[role] = opened.enter_context(open_tensor(text, role=role))
        return plant(tensors, scalars, settings, wish, _progress())


def _progress() -> Any:
    """Return what names each bug on standard error once it is done, if that is a terminal."""
    if not (sys.stderr is not None and sys.stderr.isatty()):
        return lambda _: None
    return lambda fate: click.echo(f"\r\x1b[K{fate.code}", err=True, nl=False)

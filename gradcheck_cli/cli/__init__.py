"""The command line: click commands, consoles, and the exit code, which is set here and nowhere else.

Nothing here imports numpy or rich before a command has something to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from gradcheck_cli.cli.check import check
from gradcheck_cli.cli.exits import run
from gradcheck_cli.cli.inspect import inspect

EPILOG = """\b
Examples:
  softgrad check logits.npy labels.npy --grad dlogits.npy
  softgrad check logits.csv labels.csv --format json | jq .verdict

\b
Exit status: 0 every check passed, 1 an exported tensor is wrong,
2 it could not be checked, 3 a bug in softgrad."""


class Commands(click.Group):
    """The group of commands; a file where a command is expected is most likely meant for check."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or say what was probably meant."""
        if self.get_command(ctx, args[0]) is None and Path(args[0]).exists():
            raise click.UsageError(
                f"No such command {args[0]!r}. Did you mean: softgrad check {args[0]} ...?", ctx
            )
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(package_name="softgrad", message="softgrad %(version)s")
def softgrad() -> None:
    """Tell whether an exported softmax / cross-entropy gradient is right."""


softgrad.add_command(check)
softgrad.add_command(inspect)


def main() -> NoReturn:
    """Run the command line and exit."""
    run(softgrad)


__all__ = ["main", "softgrad"]

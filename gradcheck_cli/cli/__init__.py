"""The command line: click commands, consoles, and the exit code, which is set here and nowhere else.

Nothing here imports numpy or rich before a command has something to do.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from gradcheck_cli.cli.exits import run

COMMANDS = {
    "check": "Softmax + cross-entropy.",
    "vjp": "The softmax layer alone, backward.",
    "linear": "A linear layer under softmax-CE.",
    "jacobian": "The Jacobian of one row's softmax.",
    "sweep": "Finite differences: error against step.",
    "mutate": "Would the known bugs be caught in this data?",
    "batch": "Many cases: folders, bundles, a manifest.",
    "merge": "Shard results: one report.",
    "inspect": "What is in a tensor file.",
}
"""Each command with a word on it; it is in the module of its name, which is imported when it is called."""

EPILOG = """\b
Examples:
  softgrad check logits.npy labels.npy --grad dlogits.npy
  softgrad check logits.csv labels.csv --format json | jq .verdict
  softgrad vjp scores.npy dprobs.npy --grad dscores.npy
  softgrad linear x.npy labels.npy --weight W.npy --grad-weight dW.npy
  softgrad jacobian logits.npy --row 3
  softgrad sweep logits.npy labels.npy
  softgrad mutate logits.npy labels.npy

\b
Exit status: 0 every check passed, 1 an exported tensor is wrong,
2 it could not be checked, 3 a bug in softgrad."""


class Commands(click.Group):
    """The group of commands; a file where a command is expected is most likely meant for check."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"gradcheck_cli.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands with a word on each, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

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
@click.pass_context
def softgrad(ctx: click.Context) -> None:
    """Tell whether an exported softmax / cross-entropy gradient is right."""
    from gradcheck_cli.cli.configuration import configured  # noqa: PLC0415 - start-up

    ctx.obj, ctx.default_map = configured(softgrad)


def main() -> NoReturn:
    """Run the command line and exit."""
    run(softgrad)


__all__ = ["COMMANDS", "main", "softgrad"]

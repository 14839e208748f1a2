"""The command line: click commands, consoles, and the exit code, which is set here and nowhere else.

Nothing here imports numpy or rich before a command has something to do.
"""

from __future__ import annotations

from importlib import import_module
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
Manual:
  softgrad help check         everything about a command
  softgrad help conventions   losses of PyTorch, JAX, Keras, ONNX, ... in flags

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
        if cmd_name == "help":
            return help_on
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
        name = args[0]
        if self.get_command(ctx, name) is None and (meant := _meant(name)) is not None:
            raise click.UsageError(f"No such command {name!r}. Did you mean: {meant} ...?", ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the options before the command; one of check's is most likely meant for it."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            check = self.get_command(ctx, "check")
            if check is not None and any(error.option_name in each.opts for each in check.params):
                told = f"{error.option_name} stands after a command, as in: softgrad check LOGITS LABELS"
                raise click.UsageError(f"{told} {error.option_name} ...", ctx) from error
            raise


def _meant(name: str) -> str | None:
    """Return the command line that a word which is no command most likely begins."""
    from difflib import get_close_matches  # noqa: PLC0415 - start-up
    from pathlib import Path  # noqa: PLC0415

    if Path(name).exists():
        return f"softgrad check {name}"

    near = get_close_matches(name.lower(), [*COMMANDS, "help", "conventions"], 1)
    if near == ["conventions"]:
        return "softgrad help conventions"
    return f"softgrad {near[0]}" if near else None


@click.command("help")
@click.argument("command", required=False)
@click.pass_context
def help_on(ctx: click.Context, command: str | None) -> int:
    """Show the man page of COMMAND as plain text, without it the summary; "conventions" is a page too."""
    from shutil import get_terminal_size  # noqa: PLC0415 - start-up

    from gradcheck_cli.cli.console import put  # noqa: PLC0415
    from gradcheck_cli.cli.manual import TOPICS, WIDEST, manual  # noqa: PLC0415

    above = ctx.parent
    if command in (None, "help") and above is not None:
        put(above.get_help() + "\n", for_people=True)
        return 0
    if command not in (None, "softgrad", *COMMANDS, *TOPICS):
        near = _meant(str(command))
        meant = (
            f" Did you mean: {near.replace('help ', '').replace('softgrad', 'softgrad help')}?"
            if near
            else ""
        )
        raise click.UsageError(f"No such command {command!r}.{meant}", above)
    page = "" if command in (None, "softgrad") else str(command)
    put(manual(page, min(get_terminal_size().columns, WIDEST)) + "\n", for_people=True)
    return 0


def _tell_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - of click
    """Print the version, and whether the loops were compiled."""
    if not asked or ctx.resilient_parsing:
        return
    from importlib.metadata import version  # noqa: PLC0415 - start-up

    from gradcheck_cli.cli.console import put  # noqa: PLC0415
    from gradcheck_cli.numeric.compiled import loops  # noqa: PLC0415

    put(
        f"softgrad {version('softgrad')} ({'NumPy alone' if loops() is None else 'compiled loops'})\n",
        for_people=False,
    )
    ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_tell_version,
    help="Show the version, whether with compiled loops, and exit.",
)
@click.pass_context
def softgrad(ctx: click.Context) -> None:
    """Tell whether an exported softmax / cross-entropy gradient is right."""
    from gradcheck_cli.cli.configuration import configured  # noqa: PLC0415 - start-up

    ctx.obj, ctx.default_map = configured(softgrad)


def main() -> NoReturn:
    """Run the command line and exit."""
    run(softgrad)


__all__ = ["COMMANDS", "main", "softgrad"]

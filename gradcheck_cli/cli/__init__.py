"""The command line: click commands, consoles, and the exit code, which is set here and nowhere else.

Nothing here imports numpy or rich before a command has something to do.
"""

from __future__ import annotations

import click

from gradcheck_cli.cli.check import check
from gradcheck_cli.cli.exits import run

EPILOG = """\b
Examples:
  softgrad check logits.npy labels.npy --grad dlogits.npy
  softgrad check logits.csv labels.csv --format json | jq .verdict

\b
Exit status: 0 every check passed, 1 an exported tensor is wrong,
2 it could not be checked, 3 a bug in softgrad."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(package_name="softgrad", message="softgrad %(version)s")
def softgrad() -> None:
    """Tell whether an exported softmax / cross-entropy gradient is right."""


softgrad.add_command(check)


def main() -> None:
    """Run the command line and exit."""
    run(softgrad)


__all__ = ["main", "softgrad"]

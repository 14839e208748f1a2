"""Where the command begins: before anything else is imported, an interrupt ends it without a word."""

from __future__ import annotations

import signal
from typing import NoReturn

# Python answers Ctrl-C with KeyboardInterrupt, and a traceback where nobody catches it yet. Until
# cli.exits does, there is nothing to tidy up, so the signal may do what it does to any program. One that
# was started with the interrupt ignored (nohup, a job in the background) keeps ignoring it.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> NoReturn:
    """Run the command line and exit."""
    from gradcheck_cli.cli import main as run  # noqa: PLC0415 - after the signal

    run()


if __name__ == "__main__":
    main()

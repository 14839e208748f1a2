"""From what happened to an exit code, in one place.

Click and Rich exit 1 for their own errors, for Ctrl-C and for a closed pipe; 1 must mean "an exported
tensor is wrong" and nothing else, so click runs without its standalone mode and everything is mapped
here.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from gradcheck_cli.errors import OutputError, SoftgradError
from gradcheck_cli.visible import visible

INTERNAL_ERROR = 3
_REPORT = (
    "softgrad: this is a bug in softgrad, not in your data: "
    "please report it with the traceback above and the command line"
)


class Terminated(BaseException):
    """SIGTERM arrived; not an Exception, so that nothing on the way swallows it."""


class ReaderGone(BaseException):
    """The reader of a machine report closed its end: die as other filters do."""


def run(command: click.Command) -> NoReturn:
    """Run a click command and exit with the code of the contract (design: 0, 1, 2, 3, signals)."""
    _answer_signals()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(command)
    except (KeyboardInterrupt, click.Abort):
        _die_by(signal.SIGINT)
    except Terminated:
        _die_by(signal.SIGTERM)
    except (ReaderGone, BrokenPipeError):
        _die_by(signal.SIGPIPE)
    except click.exceptions.NoArgsIsHelpError as asked:
        _say_plainly(asked.format_message())
        code = asked.exit_code
    except click.ClickException as error:
        code = _say_usage(error)
    except SoftgradError as error:
        say(f"softgrad: error: {error}")
        code = error.exit_code
    except MemoryError:
        say("softgrad: error: out of memory")
        code = SoftgradError.exit_code
    except Exception:  # noqa: BLE001 - whatever else it is, it is softgrad's own fault
        sys.excepthook(*sys.exc_info())
        say(_REPORT)
        code = INTERNAL_ERROR
    _leave(code)


def _answer_signals() -> None:
    """Let an interrupt and a termination unwind what runs; what was ignored from outside stays ignored."""
    with contextlib.suppress(ValueError):  # not in the main thread of a host program
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see __main__
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
            signal.signal(signal.SIGTERM, _terminate)


def _run(command: click.Command) -> int:
    if sys.stdout is None:
        raise OutputError("standard output is closed: there is nowhere to write the report")
    result = command.main(prog_name="softgrad", standalone_mode=False)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(error) from error
    return result if isinstance(result, int) else 0


def unwritable(error: OSError) -> OutputError:
    """Return what to say when standard output takes no more."""
    return OutputError(f"cannot write the report to standard output: {error.strerror or error}")


def say(line: str) -> None:
    """Write one line to stderr."""
    _say_plainly(visible(line))


def _say_plainly(text: str) -> None:
    """Write our own text to stderr; a closed stderr must not change the exit code."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _say_usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    say(f"softgrad: error: {' '.join(error.format_message().split())}{hint}")
    return SoftgradError.exit_code


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def _die_by(signum: int) -> NoReturn:
    """End by the real signal, so that shells and CI see 128 + n."""
    _silence_stdout()
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # the signal is blocked by whoever started us


def _leave(code: int) -> NoReturn:
    """Exit; what the interpreter would still flush into a broken stream must not turn into exit 120.

    All files are closed by now, so that a last search for garbage, a tenth of a small check, finds nothing.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _silence_stdout()
    gc.freeze()
    sys.exit(code)


def _silence_stdout() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

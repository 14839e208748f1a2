"""What one case came to, as a line of JSON and the head that a table needs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from gradcheck_cli.batch.case import Case
from gradcheck_cli.batch.kinds import examine
from gradcheck_cli.errors import SoftgradError
from gradcheck_cli.outcome import Outcome
from gradcheck_cli.records import dataclass
from gradcheck_cli.report.document import SCHEMA, document, pictured, softgrad_version
from gradcheck_cli.report.sentence import sentence
from gradcheck_cli.report.single import named
from gradcheck_cli.summary import Head
from gradcheck_cli.visible import visible


@dataclass(frozen=True)
class Result:
    """One case: its head, and the line of a JSON-lines report without its end (empty if nobody reads it)."""

    head: Head
    line: bytes

    @classmethod
    def of(cls, found: Mapping[str, Any], *, line: bool = True) -> Result:
        """Return the result that a document amounts to."""
        return cls(Head.of_document(found), to_line(found) if line else b"")


class Late(SoftgradError):
    """A case takes longer than it may."""


@dataclass(frozen=True)
class How:
    """How every case is run."""

    threads: int = 1
    pictures: bool = False  # whether a failing case is drawn for an HTML report
    lines: bool = True  # whether anything but the heads is to be reported


def to_line(found: Mapping[str, Any]) -> bytes:
    """Return a document as one line of JSON, without its end."""
    return json.dumps(found, allow_nan=False, ensure_ascii=True, separators=(",", ":")).encode()


def result_of(case: Case, number: int, how: How) -> Result:
    """Return what a case came to, whatever happens in it."""
    return result_by(lambda: examine(case, how.threads, drawn=how.pictures), case, number, how)


def result_by(examine_it: Callable[[], Outcome], case: Case, number: int, how: How) -> Result:
    """Return what a case came to that is examined in a way of its own."""
    began = time.perf_counter()
    try:
        outcome = examine_it()
        found = named(case.name, number, sentence(outcome), document(outcome))
        drawn = pictured(outcome) if found["verdict"] == "fail" else {}
        return Result.of(found | drawn, line=how.lines)
    except Late as error:
        told, cause = str(error), "timeout"
    except SoftgradError as error:
        told, cause = str(error), "input"
    except MemoryError:
        told, cause = "out of memory", "memory"
    except Exception as error:  # noqa: BLE001 - the others go on, and the report says so
        told, cause = f"a bug in softgrad: {type(error).__name__}: {error} ({_place(error)})", "bug"
    return failed(case, number, told, cause=cause, seconds=time.perf_counter() - began)


def failed(case: Case, number: int, told: str, *, cause: str, seconds: float) -> Result:
    """Return the result of a case that could not be checked."""
    found = {
        "case": case.name,
        "number": number,
        "schema": SCHEMA,
        "softgrad": softgrad_version(),
        "command": case.command,
        "verdict": "error",
        "error": visible(told),
        "cause": cause,
        "seconds": seconds,
    }
    return Result.of(found)


def _place(error: BaseException) -> str:
    """Return where an exception was raised: file and line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"

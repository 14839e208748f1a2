"""A batch → workflow commands, which GitHub shows as annotations of a run.

GitHub shows ten errors a step and drops the rest without a word: nine are given, and how many more there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gradcheck_cli.report import numbers
from gradcheck_cli.report.words import counted, headline, said, verdict_of
from gradcheck_cli.summary import VERDICTS, Summary
from gradcheck_cli.visible import visible

ANNOTATED = 9


def github(documents: Iterable[Mapping[str, Any]], summary: Summary) -> Iterator[str]:
    """Yield a line for each annotation; wrong cases come before those that could not be checked."""
    del documents  # the summary has what is told of them
    heads = sorted(summary.failures, key=lambda head: VERDICTS.index(head.verdict))
    for head in heads[:ANNOTATED]:
        yield _command("error", f"softgrad: {head.case}", said(head))
    more = summary.done - summary.counts["pass"] - len(heads[:ANNOTATED])
    if more:
        cases = numbers.many(more, "more case", "more cases")
        yield _command("error", "softgrad", f"{cases} did not pass; {headline(summary)}")
    level = "notice" if verdict_of(summary) == "pass" else "warning"
    yield _command(level, "softgrad", counted(summary))


def _command(level: str, title: str, message: str) -> str:
    """Return one workflow command; what is in it can neither end it nor begin another."""
    return f"::{level} title={_property(title)}::{_data(message)}\n"


def _data(text: str) -> str:
    plain = visible(text)  # no line end is left in it
    return plain.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

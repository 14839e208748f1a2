"""Results of shards, as JSON or JSON lines, back to one batch; what is missing or cut off is refused."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NoReturn

from gradcheck_cli.batch.result import Result
from gradcheck_cli.batch.run import shard_of
from gradcheck_cli.batch.store import Store
from gradcheck_cli.errors import InputError, UsageError
from gradcheck_cli.records import dataclass
from gradcheck_cli.report.document import SCHEMA
from gradcheck_cli.report.single import alone
from gradcheck_cli.summary import VERDICTS, Summary
from gradcheck_cli.tensors.source import open_source
from gradcheck_cli.visible import visible

_MOST = 1 << 62  # numbers of cases

_READERS = ("junit", "csv", "html")
"""Formats that between them read everything of a case that any report reads."""

LINE_LIMIT = 256 << 20
"""Bytes of one line; a case has a few thousand, and a whole batch on one line may have many."""


@dataclass(frozen=True)
class _Part:
    """What the summary of one file says."""

    path: str
    cases: int
    not_run: int
    shard: tuple[int, int] | None


def merge(paths: Iterable[str], store: Store) -> Summary:
    """Put the results of several runs into the store, and return their summary.

    Results of shards come in the order they would have had in one run; those of other runs one after the
    other.

    Raises
    ------
    InputError, UsageError
        If a file is no whole report, a shard is missing, or a case comes twice.
    """
    summary, seen = Summary(0), dict[str, str]()
    parts = []
    for path in paths:
        end, before = None, len(seen)
        for found in _objects(path):
            if "summary" in found:
                end = found["summary"]
                continue
            _place(path, found, seen)
            _keep(path, found, len(seen) - 1, store, summary)
        parts.append(_part(path, end, len(seen) - before))
    _refuse_missing(parts)
    if all(each.shard is None for each in parts):
        store.as_they_came()
    summary.planned = summary.done + sum(each.not_run for each in parts)
    return summary


def _keep(path: str, found: dict[str, Any], order: int, store: Store, summary: Summary) -> None:
    number = found.get("number")
    result = _result(path, found)
    store.add(number if isinstance(number, int) and 0 <= number < _MOST else order, result.line)
    summary.add(result.head)


def _place(path: str, found: Mapping[str, Any], seen: dict[str, str]) -> None:
    """Note where a case comes from; one that comes twice would be counted twice."""
    name = str(found.get("case"))
    if name in seen:
        both = visible(path) if seen[name] == path else f"{visible(seen[name])} and {visible(path)}"
        raise UsageError(f"{both}: the case {visible(name)} comes twice")
    seen[name] = path


def _objects(path: str) -> Iterator[dict[str, Any]]:
    """Yield the cases of a report and its summary last, whichever way it is written."""
    source = open_source(path)
    try:
        with os.fdopen(os.dup(source.fd), "rb") as file:
            first = file.read(1)
            file.seek(0)
            if not first:
                source.refuse("is empty (0 bytes): the run that should have written it did not finish")
            yield from _lines(path, file)
    finally:
        source.close()


def _lines(path: str, file: IO[bytes]) -> Iterator[dict[str, Any]]:
    line = file.readline(LINE_LIMIT)
    with contextlib.suppress(ValueError, RecursionError):
        whole = _loads(line)
        if "cases" not in whole:
            yield from _each(path, file, whole)
            return
    rest = file.read(LINE_LIMIT)
    try:
        whole = _loads(line + rest)
        cases = whole["cases"]
    except (ValueError, KeyError, TypeError, RecursionError):
        _refuse(path, 1)
    yield from cases if isinstance(cases, list) else _refuse(path, 1)
    yield {"summary": whole.get("summary")}


def _each(path: str, file: IO[bytes], first: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file that has one on each line."""
    yield first
    order = 1
    while line := file.readline(LINE_LIMIT):
        order += 1
        try:
            yield _loads(line)
        except (ValueError, RecursionError):
            _refuse(path, order)


def _loads(text: bytes) -> dict[str, Any]:
    found = json.loads(text, parse_constant=_no_constant)
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004 - of the text, not of an argument
    return found


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _refuse(path: str, line: int) -> NoReturn:
    raise InputError(
        f"{visible(path)}, line {line}: not a result of softgrad batch --format json or jsonl (cut off?)"
    )


def _result(path: str, found: dict[str, Any]) -> Result:
    """Return a case as a result, after everything that a report reads of it has been read once."""
    try:
        words = (found["case"], found["command"], found.get("message", found.get("error")))
        if found["schema"] != SCHEMA or found["verdict"] not in VERDICTS or not _all_text(words):
            raise ValueError("of another kind")
        result = Result.of(found)
        if not (0.0 <= result.head.seconds < _MOST and _all_text(result.head.code)):
            raise ValueError("of another kind")
        for form in _READERS:
            "".join(alone(form, found)).encode()
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        name = visible(str(found.get("case", "?")), 80)
        raise InputError(f"{visible(path)}, case {name}: not a result of this version's kind") from error
    return result


def _all_text(words: Iterable[Any]) -> bool:
    return all(isinstance(each, str) for each in words)


def _part(path: str, end: Any, cases: int) -> _Part:
    """Return what a file's summary says; a file without one was cut off."""
    try:
        shard = end["shard"]
        part = _Part(
            path,
            int(end["cases"]),
            int(end["not_run"]),
            None if shard is None else shard_of(f"{shard[0]}/{shard[1]}"),
        )
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{visible(path)}: has no summary at its end: the report was cut off") from error
    if part.cases != cases:
        raise InputError(f"{visible(path)}: has {cases} cases, but its summary says {part.cases}")
    return part


def _refuse_missing(parts: list[_Part]) -> None:
    """Refuse shards of which one is missing, or one is there twice."""
    shards = [each.shard for each in parts if each.shard is not None]
    if not shards:
        return
    if len(shards) < len(parts):
        raise UsageError("some of the results are of shards and some are not: they are not of one run")
    if len({of for _, of in shards}) > 1:
        raise UsageError("the results are of shards of different runs: I/N with more than one N")
    missing = sorted(set(range(1, shards[0][1] + 1)) - {part for part, _ in shards})
    if missing:
        listed = ", ".join(map(str, missing[:20]))
        raise InputError(f"the results of shard {listed} of {shards[0][1]} are missing")

"""A batch in numbers: what each case came to, counted, and the worst of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradcheck_cli.outcome import SELF_CHECKS

VERDICTS = ("pass", "fail", "inconclusive", "error")
CAUSES = ("input", "timeout", "crash", "memory", "bug")
"""Why a case could not be checked; all but the first may be different another time."""

KEPT = 1000
"""Heads of failing cases that are kept for a table; a report for programs has them all."""


@dataclass(frozen=True)
class Head:
    """What a table says of one case."""

    case: str
    number: int  # of the case among all
    verdict: str
    message: str
    seconds: float = 0.0
    margin: float | None = None  # the worst of what was exported
    check: str | None = None  # where that is
    code: tuple[str, ...] = ()  # of the best diagnosis, and of those it needs
    judged: bool = False  # whether an exported tensor was there to judge
    cause: str | None = None  # of an error

    def record(self) -> dict[str, Any]:
        """Return the head as plain values."""
        return dict(vars(self))

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Head:
        """Return the head that :meth:`record` wrote down."""
        return cls(**{**record, "code": tuple(record["code"])})

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Head:
        """Return the head of one case of a JSON report."""
        judged = [each for each in document.get("checks", ()) if each["name"] not in SELF_CHECKS]
        worst = max(judged, key=lambda each: _rank(real(each["max_margin"])), default=None)
        best = next(iter(document.get("diagnosis", ())), None)
        return cls(
            case=document["case"],
            number=document.get("number", 0),
            verdict=document["verdict"],
            message=document.get("message", document.get("error", "")),
            seconds=real(document.get("seconds", 0.0)),
            margin=None if worst is None else real(worst["max_margin"]),
            check=None if worst is None else worst["name"],
            code=() if best is None else (best["code"], *best.get("together_with", ())),
            judged=bool(judged),
            cause=document.get("cause"),
        )


def real(value: Any) -> float:
    """Return a number of the JSON contract, whose strings stand for what is not finite."""
    return float(value)  # "NaN", "Infinity" and "-Infinity" are words that float knows


def _rank(margin: float) -> float:
    return math.inf if math.isnan(margin) else margin


@dataclass
class Summary:
    """Counts of verdicts and diagnoses; it grows as cases finish, and holds no more than KEPT heads."""

    planned: int  # cases that were to be run
    counts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    unjudged: int = 0  # passed without an exported tensor to judge
    seconds: float = 0.0
    worst: Head | None = None
    heads: list[Head] = field(default_factory=list)  # of cases that did not pass
    shard: tuple[int, int] | None = None  # which part of how many

    def add(self, head: Head) -> None:
        """Count one case."""
        self.counts[head.verdict] += 1
        self.codes.update(head.code)
        self.seconds += head.seconds
        if head.cause is not None:
            self.causes[head.cause] += 1
        if head.verdict == "pass" and not head.judged:
            self.unjudged += 1
        if head.margin is not None and (self.worst is None or self._before(head, self.worst)):
            self.worst = head
        if head.verdict != "pass":
            self.heads.append(head)
            if len(self.heads) >= 2 * KEPT:  # those that come first in the order of the cases stay
                self.heads = self.failures

    @staticmethod
    def _before(head: Head, other: Head) -> bool:
        own, its = _rank(head.margin or 0.0), _rank(other.margin or 0.0)
        return (-own, head.number) < (-its, other.number)

    @property
    def done(self) -> int:
        """Return how many cases have been run."""
        return self.counts.total()

    @property
    def failures(self) -> list[Head]:
        """Return the heads of cases that did not pass: wrong ones first, in the order of the cases."""
        return sorted(self.heads, key=lambda head: (VERDICTS.index(head.verdict), head.number))[:KEPT]

    @property
    def exit_code(self) -> int:
        """1 where something is wrong, 3 for a bug in softgrad, 2 where a case was not decided, else 0."""
        if self.counts["fail"]:
            return 1
        if self.causes["bug"]:
            return 3
        return 0 if self.done == self.planned == self.counts["pass"] and self.done else 2

    def document(self) -> dict[str, Any]:
        """Return the summary of the JSON contract."""
        worst = self.worst
        return {
            "cases": self.done,
            **{verdict: self.counts[verdict] for verdict in VERDICTS},
            "not_run": self.planned - self.done,
            "nothing_judged": self.unjudged,
            "diagnosis": dict(sorted(self.codes.items(), key=lambda item: (-item[1], item[0]))),
            "worst": None if worst is None else {"case": worst.case, "check": worst.check,
                                                 "max_margin": _word(worst.margin)},
            "shard": None if self.shard is None else list(self.shard),
        }  # fmt: skip


def _word(value: float | None) -> Any:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")

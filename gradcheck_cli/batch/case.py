"""One case of a batch: what to check, under which options; plain values, so that it can travel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradcheck_cli.records import dataclass


@dataclass(frozen=True)
class Case:
    """The files of one case by role, and the options that are not the defaults."""

    name: str
    command: str
    files: tuple[tuple[str, str], ...]  # role and path, or role and number where a number can stand in
    options: tuple[tuple[str, Any], ...] = ()  # by their name in JSON
    refusal: str | None = None  # why it cannot be checked, if that is known before it is run

    def record(self) -> dict[str, Any]:
        """Return the case as plain values, for a journal or another machine."""
        return {
            "name": self.name,
            "command": self.command,
            "files": dict(self.files),
            "options": dict(self.options),
            "refusal": self.refusal,
        }

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Case:
        """Return the case that :meth:`record` wrote down."""
        return cls(
            record["name"],
            record["command"],
            tuple(record["files"].items()),
            tuple(record["options"].items()),
            record["refusal"],
        )


Cases = Sequence[Case] | Mapping[int, Case]
"""Cases by their numbers."""


@dataclass(frozen=True)
class Found:
    """What was found under the paths given: cases in their order, and files that belong to none."""

    cases: tuple[Case, ...]
    unused: tuple[str, ...] = ()

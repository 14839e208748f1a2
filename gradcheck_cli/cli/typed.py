"""What was typed, taken apart the same way for every command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from gradcheck_cli.cli.console import Manner
from gradcheck_cli.errors import UsageError
from gradcheck_cli.reading import Reading
from gradcheck_cli.records import dataclass
from gradcheck_cli.settings import flag_of

if TYPE_CHECKING:
    from gradcheck_cli.tensors import Tensor


def handed_in(roles: Iterable[str], typed: dict[str, Any]) -> dict[str, str]:
    """Take the files out of what was typed, and return them by role."""
    files = {}
    for role in roles:
        values = typed.pop(role.replace("-", "_"))
        if len(values) > 1:
            raise UsageError(f"--{role} is given {len(values)} times: one file is judged at a time")
        if values:
            files[role] = values[0]
    return files


def refuse_idle(typed: Mapping[str, Any], *, judged: bool) -> None:
    """Refuse options on how to judge where nothing is there to be judged."""
    if judged:
        return
    for name in ("rtol", "atol", "compute_dtype"):
        if typed[name] is not None:
            raise UsageError(
                f"{flag_of(name)} has no effect without an exported tensor to judge (--grad ...)"
            )


def manner_of(form: str, quiet: int, *, verbose: bool, color: str, top: int) -> Manner:
    """Return how the user wants to be told."""
    if quiet and form != "table":
        raise UsageError(f"-q and --format {form} contradict each other: give only one of them")
    return Manner(form, quiet, verbose, color, top)


def refuse_empty_name(name: str, text: str) -> None:
    """Refuse an empty file name, mostly an unset variable of a shell."""
    if not text:
        raise UsageError(f"{name} '': the file name is empty (an unset variable?)")


def reading_of(typed: dict[str, Any]) -> Reading:
    """Take how files are read out of what was typed."""
    return Reading(**{each.name: typed.pop(each.name) for each in fields(Reading)})


@dataclass(frozen=True)
class Roles:
    """The parts that files play in a command: which are typed without a flag, and what a bundle may hold."""

    command: str
    places: tuple[str, ...]
    others: tuple[str, ...]

    def of(self, first: str, second: str | None) -> dict[str, str]:
        """Return the files typed without a flag, by role; there is no second where the first is a bundle."""
        given = (first, second)
        return {role: text for role, text in zip(self.places, given, strict=True) if text is not None}


def opened_as(
    files: Mapping[str, str], roles: Roles, reading: Reading, opened: ExitStack
) -> dict[str, Tensor]:
    """Return the tensors of files by role.

    Where only the first of those without a flag was typed, it is a bundle, which holds the others and
    whatever no flag names; where there is only one such, it may be.
    """
    from gradcheck_cli.bundles import holds, open_bundle, open_inputs  # noqa: PLC0415 - start-up

    for role, text in files.items():
        refuse_empty_name(role.upper() if role in roles.places else f"--{role}", text)
    tensors: dict[str, Tensor] = {}
    given, first = dict(files), roles.places[0]
    parts = (*roles.places, *roles.others)
    if roles.places[-1] not in files or (len(roles.places) == 1 and holds(files[first], parts, reading)):
        wanted = [role for role in parts if role == first or role not in files]
        tensors = open_bundle(given.pop(first), wanted, reading, opened, command=roles.command)
    tensors |= open_inputs(given, reading, opened)
    reading.refuse_idle(tensors, text=any(each.dtype == "text" for each in tensors.values()))
    return tensors

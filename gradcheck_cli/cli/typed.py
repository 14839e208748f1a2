"""What was typed, taken apart the same way for every command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from gradcheck_cli.cli.console import Manner
from gradcheck_cli.errors import UsageError
from gradcheck_cli.reading import Reading
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


def opened_as(
    files: Mapping[str, str], places: Iterable[str], reading: Reading, opened: ExitStack
) -> dict[str, Tensor]:
    """Return the tensors of files by role; those in `places` were not given by a flag."""
    from gradcheck_cli.bundles import open_inputs  # noqa: PLC0415 - start-up

    for role, text in files.items():
        refuse_empty_name(role.upper() if role in places else f"--{role}", text)
    tensors = open_inputs(files, reading, opened)
    reading.refuse_idle(tensors, text=any(each.dtype == "text" for each in tensors.values()))
    return tensors

"""The commands that a case can be put through. A new one is an entry in KINDS.

What a command needs is told by roles; its function gets open tensors, numbers and settings, and returns an
outcome.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from gradcheck_cli.choices import LayerSettings, LinearSettings
from gradcheck_cli.errors import UsageError
from gradcheck_cli.reading import CONTENT, Reading
from gradcheck_cli.records import dataclass
from gradcheck_cli.settings import Settings, flag_of
from gradcheck_cli.visible import visible

if TYPE_CHECKING:
    from gradcheck_cli.batch.case import Case
    from gradcheck_cli.exports import Scalar
    from gradcheck_cli.outcome import Outcome
    from gradcheck_cli.tensors import Tensor

_READING = frozenset(each.name for each in fields(Reading))


class Work(Protocol):
    """What a command does."""

    def __call__(
        self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Scalar], settings: Any, *, drawn: bool
    ) -> Outcome:
        """Return what tensors and numbers, by role, come to; with pictures where they are wanted."""


@dataclass(frozen=True)
class Kind:
    """What a command takes, and what it does."""

    needs: tuple[str, ...]
    takes: tuple[str, ...]  # roles that may be there besides
    numbers: tuple[str, ...]  # roles that a number can stand in for
    settings: type[Any]
    work: Work

    @property
    def roles(self) -> tuple[str, ...]:
        """Return every role, what is needed first."""
        return (*self.needs, *self.takes)

    @property
    def options(self) -> frozenset[str]:
        """Return the names of the options: how to judge, and how to read."""
        return frozenset(each.name for kind in (self.settings, Reading) for each in fields(kind))


def _check(
    tensors: Mapping[str, Tensor], scalars: Mapping[str, Scalar], settings: Any, *, drawn: bool
) -> Outcome:
    from gradcheck_cli.check import check  # noqa: PLC0415 - start-up
    from gradcheck_cli.engine import examine_one_of_many  # noqa: PLC0415

    return check(tensors, scalars, settings, drawn=drawn, examiner=examine_one_of_many)


def _vjp(
    tensors: Mapping[str, Tensor], scalars: Mapping[str, Scalar], settings: Any, *, drawn: bool
) -> Outcome:
    from gradcheck_cli.vjp import vjp  # noqa: PLC0415 - start-up

    if scalars:  # none of its roles can be a number
        raise UsageError(f"vjp takes no number for {', '.join(scalars)}")
    return vjp(tensors, settings, drawn=drawn)


def _linear(
    tensors: Mapping[str, Tensor], scalars: Mapping[str, Scalar], settings: Any, *, drawn: bool
) -> Outcome:
    from gradcheck_cli.linear import linear  # noqa: PLC0415 - start-up

    return linear(tensors, scalars, settings, drawn=drawn)


KINDS: dict[str, Kind] = {
    "check": Kind(
        ("logits", "labels"),
        ("grad", "probs", "log-probs", "loss", "grad-probs", "upstream", "class-weights"),
        ("upstream", "loss"),
        Settings,
        _check,
    ),
    "linear": Kind(
        ("inputs", "labels", "weight"),
        ("bias", "grad-weight", "grad-bias", "grad-inputs", "grad", "logits", "upstream", "class-weights"),
        ("upstream",),
        LinearSettings,
        _linear,
    ),
    "vjp": Kind(("logits", "upstream"), ("grad", "probs", "log-probs"), (), LayerSettings, _vjp),
}
"""By the name of the command."""


def kind_of(roles: frozenset[str]) -> str | None:
    """Return the command that files of these roles are meant for: the first whose needs they meet."""
    return next((name for name, kind in KINDS.items() if roles.issuperset(kind.needs)), None)


def settings_of(command: str, options: Mapping[str, Any]) -> Any:
    """Return the settings of a case; options that another command has are left out.

    Raises
    ------
    UsageError
        If they contradict each other or lie outside their limits.
    """
    kind = KINDS[command]
    reading_of(options)
    known = {each.name for each in fields(kind.settings)}
    return kind.settings(**{name: value for name, value in options.items() if name in known})


def reading_of(options: Mapping[str, Any]) -> Reading:
    """Return how the files of a case are read.

    Raises
    ------
    UsageError
        If an option about it cannot be meant.
    """
    told = {name: value for name, value in options.items() if name in _READING}
    if not told:
        return CONTENT
    if isinstance(told.get("dtype"), list):  # as JSON and TOML have it
        told["dtype"] = tuple(told["dtype"])
    return Reading(**told)


def load(commands: Iterable[str]) -> None:
    """Import what commands need, once, before processes are forked that all need it."""
    for command in sorted(set(commands)):
        import_module(f"gradcheck_cli.{command}")


def examine(case: Case, threads: int, *, drawn: bool = False) -> Outcome:
    """Return what checking a case shows, on so many processors unless its options say otherwise.

    Raises
    ------
    SoftgradError
        If it cannot be checked.
    """
    from gradcheck_cli.errors import InputError  # noqa: PLC0415 - the usual way is without

    if case.refusal is not None:
        raise InputError(case.refusal)
    settings = _settings(case, threads)
    with contextlib.ExitStack() as opened:
        tensors, scalars = open_inputs(case, settings, opened)
        outcome = KINDS[case.command].work(tensors, scalars, settings, drawn=drawn)
    return with_settings(outcome, case)


def _settings(case: Case, threads: int) -> Any:
    """Return the settings of a case, on so many processors unless its options say otherwise."""
    try:
        return _settings_for(case.command, case.options, threads)
    except TypeError:  # a list among the values, which cannot be looked up
        return _settings_for.__wrapped__(case.command, case.options, threads)


@lru_cache(maxsize=64)
def _settings_for(command: str, options: tuple[tuple[str, Any], ...], threads: int) -> Any:
    settings = settings_of(command, dict(options))
    return replace(settings, threads=settings.threads or threads)


def with_settings(outcome: Outcome, case: Case) -> Outcome:
    """Return the outcome with all settings of its case: how to read, and the threads that were asked for."""
    options = dict(case.options)
    told = {**reading_of(options).in_force(), "threads": options.get("threads")}
    return replace(outcome, settings={**outcome.settings, **told})


def open_inputs(
    case: Case, settings: Any, opened: contextlib.ExitStack
) -> tuple[dict[str, Tensor], dict[str, Scalar]]:
    """Return the tensors and the numbers of a case by role; the tensors are closed with ``opened``.

    Logits without labels are a bundle, whose members are paired by their usual names.
    """
    from gradcheck_cli import bundles  # noqa: PLC0415 - start-up
    from gradcheck_cli.exports import Scalar  # noqa: PLC0415
    from gradcheck_cli.tensors import locate  # noqa: PLC0415

    kind, reading = KINDS[case.command], reading_of(dict(case.options))
    files, scalars = dict(case.files), {}
    for role in [each for each in kind.numbers if each in files]:
        with contextlib.suppress(ValueError):
            scalars[role] = Scalar.parse(files[role], settings.compute_dtype)
            del files[role]
            continue
        if not locate(files[role]).exists:
            raise UsageError(f"{flag_of(role)} {visible(files[role])}: neither a number nor a file")
    tensors = {}
    if {"logits", "labels"} <= set(kind.needs) and "labels" not in files:
        roles = [role for role in kind.roles if role not in {*files, *scalars} - {"logits"}]
        tensors = bundles.open_bundle(files.pop("logits"), roles, reading, opened)
    tensors |= bundles.open_inputs(files, reading, opened)
    reading.refuse_idle(tensors, text=True)  # --header is for those cases of a batch that are text
    return tensors, scalars

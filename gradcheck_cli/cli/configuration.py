"""Options that are set once for a project: softgrad.toml, or [tool.softgrad] of pyproject.toml.

The nearest file counts, from the working folder up to the top of the repository. A flag wins over the
environment, the environment over the file, the file over the default. A table named after a command holds
for that command alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import click
from click.core import ParameterSource

from gradcheck_cli.cli.grouped import GroupedOption, variable_of
from gradcheck_cli.errors import UsageError
from gradcheck_cli.visible import visible

VARIABLE = "SOFTGRAD_CONFIG"
"""Names the file in place of the search; empty for none."""

OWN, SHARED = "softgrad.toml", "pyproject.toml"
_LIMIT = 1 << 20  # bytes of a configuration file

Tables = dict[str, dict[str, Any]]
"""By command, then by the name of the parameter."""


def configured(group: click.Group) -> tuple[str | None, Tables]:
    """Return the file that holds here, if there is one, and what it says to each command.

    Raises
    ------
    UsageError
        If it cannot be read, or says something that no command understands.
    """
    found = _found()
    if found is None:
        return None, {}
    path, table = found
    commands = _commands(group)
    tables: Tables = {name: {} for name in commands}
    own = {key: value for key, value in table.items() if key in commands}
    for key, value in table.items():
        if key in own:
            continue
        takers = [name for name in commands if _option(commands[name], key) is not None]
        if not takers:
            raise UsageError(f"{visible(path)}: {visible(key)!r} is no option that can be set in a file")
        for name in takers:
            _set(path, tables[name], commands[name], key, value)
    for name, options in own.items():
        if not isinstance(options, Mapping):
            raise UsageError(f"{visible(path)}: {name} must be a table, [{name}]")
        for key, value in options.items():
            _set(path, tables[name], commands[name], key, value)
    return path, tables


def _commands(group: click.Group) -> dict[str, click.Command]:
    """Return every command by its name; they are imported now, but only where there is a file."""
    ctx = click.Context(group)
    found = ((name, group.get_command(ctx, name)) for name in group.list_commands(ctx))
    return {name: command for name, command in found if command is not None}


def _set(path: str, table: dict[str, Any], command: click.Command, key: str, value: Any) -> None:
    """Enter a value, checked as if it had been typed."""
    option = _option(command, key)
    where = f"{visible(path)}: {visible(key)}"
    if option is None or option.name is None:
        raise UsageError(f"{where} is no option of softgrad {command.name} that can be set in a file")
    if isinstance(value, bool) != option.is_flag or isinstance(value, (dict, list)):
        raise UsageError(f"{where}: must be {'true or false' if option.is_flag else 'one value, no list'}")
    try:
        option.type.convert(value if option.is_flag else str(value), option, None)
    except click.BadParameter as error:
        raise UsageError(f"{where}: {error.message}") from error
    table[option.name] = value


def _option(command: click.Command, key: str) -> GroupedOption | None:
    """Return the option of a command that a key stands for, with dashes or underscores."""
    flag = "--" + key.replace("_", "-")
    for each in command.params:
        if isinstance(each, GroupedOption) and each.configurable and flag in each.opts:
            return each
    return None


def _found() -> tuple[str, Mapping[str, Any]] | None:
    """Return the nearest file that has something to say, and what it says."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return (named, _read(named, required=True) or {}) if named else None
    for folder in _folders():
        for name in (OWN, SHARED):
            path = os.path.join(folder, name)
            table = _read(path)
            if table is not None:
                return path, table
        if os.path.exists(os.path.join(folder, ".git")):
            return None
    return None


def _folders() -> Iterator[str]:
    """Yield the working folder and those above it; nothing if it is gone."""
    try:
        folder = os.getcwd()
    except OSError:
        return
    yield folder
    while (above := os.path.dirname(folder)) != folder:
        folder = above
        yield folder


def _read(path: str, *, required: bool = False) -> Mapping[str, Any] | None:
    """Return the table of a file; None where there is no file, or it has none."""
    try:
        raw = _bytes(path) if required or os.path.isfile(path) else None
    except OSError as error:
        raise UsageError(f"{visible(path)}: cannot be read: {error.strerror}") from error
    shared = os.path.basename(path) == SHARED
    if raw is None or (shared and b"softgrad" not in raw):  # most have none, and TOML is slow to import
        return None
    if len(raw) > _LIMIT:
        raise UsageError(f"{visible(path)}: more than {_LIMIT} bytes are no configuration")
    import tomllib  # noqa: PLC0415 - start-up

    try:
        whole = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{visible(path)}: not valid TOML: {visible(str(error), 200)}") from error
    tool = whole.get("tool", {}) if shared else None
    table = whole if tool is None else (tool.get("softgrad") if isinstance(tool, dict) else None)
    return table if isinstance(table, dict) else None


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def shown(ctx: click.Context, path: str | None) -> Iterator[str]:
    """Yield a line for each option that can be set: what holds, and who said so."""
    options = [each for each in ctx.command.params if isinstance(each, GroupedOption) and each.configurable]
    flags = [max(each.opts, key=len) for each in options]
    values = [_told(ctx.params.get(each.name or "")) for each in options]
    wide, long = max(map(len, flags)), max(map(len, values))
    for option, flag, value in zip(options, flags, values, strict=True):
        yield f"{flag:<{wide}}  {value:<{long}}  {_source(ctx, option, path)}\n"


def _told(value: Any) -> str:
    return (
        "(not set)"
        if value is None
        else visible(str(value).lower() if isinstance(value, bool) else str(value))
    )


def _source(ctx: click.Context, option: GroupedOption, path: str | None) -> str:
    source = ctx.get_parameter_source(option.name or "")
    if source is ParameterSource.COMMANDLINE:
        return "command line"
    if source is ParameterSource.ENVIRONMENT:
        return variable_of(option)
    return visible(path) if source is ParameterSource.DEFAULT_MAP and path is not None else "default"

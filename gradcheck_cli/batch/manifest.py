"""TOML manifests: ``[defaults]`` and one ``[[case]]`` after the other; mistakes are named by line and key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, NoReturn

from gradcheck_cli.batch.case import Case
from gradcheck_cli.batch.kinds import KINDS, Kind, settings_of
from gradcheck_cli.errors import InputError, UsageError
from gradcheck_cli.reading import Reading
from gradcheck_cli.records import dataclass
from gradcheck_cli.visible import visible

LIMIT = 64 << 20
"""Bytes of a manifest; a hundred thousand cases have about 20 million."""

_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


@dataclass(frozen=True)
class _Manifest:
    """A manifest as it was read."""

    path: str
    text: str
    data: Mapping[str, Any]

    def refuse(self, reason: str, table: str, order: int = 0, key: str | None = None) -> NoReturn:
        """Raise the one line that says where a mistake is: line and key."""
        line = _line(self.text, table, order, key)
        place = f", line {line}" if line else ""
        named = f", {visible(key)}" if key is not None else ""
        raise InputError(f"{visible(self.path)}{place}{named}: {reason}")


def read_manifest(
    path: str, options: Mapping[str, Any], defaults: Mapping[str, Any], *, outside: bool
) -> Iterator[Case]:
    """Yield the cases of a manifest in its order.

    ``options`` win over what it says, ``defaults`` give way. A file outside the manifest's folder makes a
    case that is refused, unless ``outside`` allows it.

    Raises
    ------
    InputError
        If it is no manifest, or something in it cannot be meant.
    """
    manifest = _read(path)
    for key in manifest.data:
        if key not in ("defaults", "case"):
            manifest.refuse("a manifest has [defaults] and [[case]] only", "", key=key)
    own, cases = manifest.data.get("defaults", {}), manifest.data.get("case", [])
    if not isinstance(own, dict):
        manifest.refuse("write a table, [defaults]", "", key="defaults")
    if not (isinstance(cases, list) and all(isinstance(each, dict) for each in cases)):
        manifest.refuse("write [[case]] before each case", "", key="case")
    known = set().union(*(kind.options for kind in KINDS.values()))
    for key, value in own.items():
        if key != "command" and _plain(key) not in known:
            manifest.refuse("is no option of a case", "defaults", key=key)
        _check_type(manifest, ("defaults", 0, key), value)
    shared = {_plain(key): value for key, value in own.items()}
    for order, table in enumerate(cases):
        yield _Reader(manifest, order, table).case({**defaults, **shared}, options, outside=outside)


@dataclass(frozen=True)
class _Reader:
    """Reads one ``[[case]]``."""

    manifest: _Manifest
    order: int
    table: Mapping[str, Any]

    def case(self, shared: Mapping[str, Any], options: Mapping[str, Any], *, outside: bool) -> Case:
        """Return the case under the options of the whole manifest and those that were typed."""
        command = self.table.get("command", shared.get("command", "check"))
        if command not in KINDS:
            self._refuse(f"{visible(str(command), 40)!r} is none of {', '.join(KINDS)}", "command")
        kind, name = KINDS[command], self.table.get("name", f"case {self.order + 1}")
        if not isinstance(name, str) or not name:
            self._refuse("must be a string that is not empty", "name")
        files, own = self._files(kind), self._own(kind)
        found = {**shared, **own, **options}
        chosen = {key: value for key, value in found.items() if key in kind.options}
        try:
            settings_of(command, chosen)
        except UsageError as error:
            self._refuse(str(error))
        refusal = None if outside else self._outside(files)
        return Case(name, command, tuple(files.items()), tuple(chosen.items()), refusal)

    def _files(self, kind: Kind) -> dict[str, str]:
        """Return the inputs by role: files with their folder, numbers as they stand."""
        files = {}
        for key, value in self.table.items():
            role = key.replace("_", "-")
            if role not in kind.roles:
                continue
            if isinstance(value, (int, float)) and not isinstance(value, bool) and role in kind.numbers:
                files[role] = repr(value)
            elif not isinstance(value, str) or not value:
                self._refuse("must name a file" + (" or be a number" if role in kind.numbers else ""), key)
            else:
                files[role] = self._path(value)
        for role in kind.needs:
            bundle = role == "labels" and "logits" in kind.needs and "logits" in files  # enough alone
            if role not in files and not bundle:
                self._refuse(f"there is no {role}")
        return files

    def _path(self, value: str) -> str:
        """Return a file with the manifest's folder; one on another machine stays as it is."""
        if _REMOTE.match(value):
            return value
        path = os.path.join(os.path.dirname(self.manifest.path), value)  # noqa: PTH118, PTH120
        return "./-" if path == "-" else path  # a file: nobody types into a batch

    def _own(self, kind: Kind) -> dict[str, Any]:
        """Return the options that the case itself gives."""
        own = {}
        for key, value in self.table.items():
            if key.replace("_", "-") in kind.roles or key in ("name", "command"):
                continue
            if _plain(key) not in kind.options:
                self._refuse(f"is no file and no option of {self.table.get('command', 'check')}", key)
            _check_type(self.manifest, ("case", self.order, key), value)
            own[_plain(key)] = value
        return own

    def _outside(self, files: Mapping[str, str]) -> str | None:
        """Return why the case is refused if a file lies outside the manifest's folder."""
        from gradcheck_cli.tensors import locate  # noqa: PLC0415 - start-up

        home = os.path.realpath(os.path.dirname(self.manifest.path) or ".")  # noqa: PTH120
        for path in files.values():
            real = os.path.realpath(locate(path).path)
            if _REMOTE.match(path) or os.path.commonpath([home, real]) != home:
                return (
                    f"{visible(path)}: lies outside the folder of {visible(self.manifest.path)} and was not "
                    "read (--allow-outside allows it)"
                )
        return None

    def _refuse(self, reason: str, key: str | None = None) -> NoReturn:
        self.manifest.refuse(reason, "case", self.order, key)


def _read(path: str) -> _Manifest:
    import tomllib  # noqa: PLC0415 - slow to import, and folders need none

    from gradcheck_cli.tensors.source import open_source  # noqa: PLC0415 - numpy comes with it

    source = open_source(path)
    try:
        if source.size > LIMIT:
            source.refuse(f"{source.size} bytes are too many for a manifest (at most {LIMIT})")
        raw = source.head(source.size)
    finally:
        source.close()
    try:
        text = raw.decode("utf-8")
        return _Manifest(path, text, tomllib.loads(text))
    except UnicodeDecodeError as error:
        raise InputError(f"{visible(path)}: byte {error.start} is not UTF-8, as TOML must be") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{visible(path)}: not valid TOML: {visible(str(error), 200)}") from error


def _plain(key: str) -> str:
    """Return an option's name in JSON: ``label-smoothing`` to ``label_smoothing``."""
    return key.replace("-", "_")


def _check_type(manifest: _Manifest, place: tuple[str, int, str], value: Any) -> None:
    """Refuse a value of the wrong type; limits are the settings' own affair."""
    table, order, key = place
    kinds = {each.name: str(each.type).split(" | ")[0] for kind in KINDS.values() for each in _fields(kind)}
    wanted = kinds.get(_plain(key), "str")
    if wanted.startswith("tuple"):
        if not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            manifest.refuse("must be a list of strings", table, order, key)
        return
    fits = isinstance(value, _TYPES.get(wanted, (object,))) and (wanted == "bool") == isinstance(value, bool)
    if not fits:
        names = {"int": "a whole number", "float": "a number", "str": "a string", "bool": "true or false"}
        manifest.refuse(f"must be {names.get(wanted, wanted)}", table, order, key)


def _fields(kind: Kind) -> list[Any]:
    return [each for record in (kind.settings, Reading) for each in fields(record)]


def _line(text: str, table: str, order: int, key: str | None) -> int | None:
    """Return the line of a key of a table, or of the table's own heading; TOML's parser keeps none."""
    heading = {"case": r"\[\[\s*case\s*\]\]", "defaults": r"\[\s*defaults\s*\]", "": None}[table]
    wanted = None if key is None else re.compile(rf"""\s*(\[\[?\s*)?["']?{re.escape(key)}["']?\s*[=.\]]""")
    inside, start, seen = heading is None, None, -1
    for number, line in enumerate(text.splitlines(), 1):
        if heading is not None and re.match(r"\s*\[", line):
            seen += bool(re.match(rf"\s*{heading}", line))
            inside = bool(re.match(rf"\s*{heading}", line)) and seen == order
            start = number if inside else start
        if inside and wanted is not None and wanted.match(line):
            return number
    return start

"""Paths to cases: folders searched for files that belong together, bundles, manifests.

Files belong together by their usual names: those of a folder (``logits.npy``, ``labels.npy``), or those with
a stem before the name (``step12_logits.npy``, ``step12.labels.npy``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import Any

from gradcheck_cli.batch.case import Case, Found
from gradcheck_cli.batch.kinds import KINDS, kind_of, settings_of
from gradcheck_cli.batch.manifest import read_manifest
from gradcheck_cli.errors import InputError, UsageError
from gradcheck_cli.names import split
from gradcheck_cli.records import dataclass
from gradcheck_cli.visible import visible

TENSORS = (".npy", ".csv", ".tsv", ".txt")
BUNDLES = (".npz", ".safetensors")
_SHOWN = 5  # files in a message


@dataclass(frozen=True)
class Told:
    """What was said besides the paths."""

    options: Mapping[str, Any]  # typed: they win over what a manifest says
    defaults: Mapping[str, Any]  # from the environment and configuration files: a manifest wins over them
    allow_outside: bool = False
    _known: dict[str, tuple[tuple[str, Any], ...]] = field(default_factory=dict, repr=False, compare=False)

    def options_of(self, command: str) -> tuple[tuple[str, Any], ...]:
        """Return the options of a case that no manifest speaks of; what cannot be meant is refused."""
        if command not in self._known:  # once for thousands of cases
            told = {**self.defaults, **self.options}
            options = {name: value for name, value in told.items() if name in KINDS[command].options}
            settings_of(command, options)
            self._known[command] = tuple(options.items())
        return self._known[command]


def discover(paths: Iterable[str], told: Told) -> Found:
    """Return the cases under the paths, in the order of the paths; within a folder sorted by name.

    Raises
    ------
    InputError, UsageError
        If a path is nothing to look into, a manifest is wrong, or there is no case at all.
    """
    cases: list[Case] = []
    unused: list[str] = []
    for path in paths:
        found = _under(path, told)
        cases += found.cases
        unused += found.unused
    _refuse_none(cases, unused)
    _refuse_twins(cases)
    return Found(tuple(cases), tuple(unused))


def _under(path: str, told: Told) -> Found:
    if not path:
        raise UsageError("PATH '': the name is empty (an unset variable?)")
    if os.path.isdir(path):  # noqa: PTH112 - names that are not UTF-8 stay as they are
        return _in_folder(path, told)
    if not os.path.lexists(path):
        raise InputError(f"{visible(path)}: no such file or folder")
    if path.endswith(".toml"):
        return Found(tuple(read_manifest(path, told.options, told.defaults, outside=told.allow_outside)))
    if path.endswith(BUNDLES):
        return Found((_bundle(path, told),))
    raise InputError(
        f"{visible(path)}: a folder, a bundle ({', '.join(BUNDLES)}) or a manifest (.toml) is needed; "
        "softgrad check takes the files of one case"
    )


def _in_folder(top: str, told: Told) -> Found:
    """Return the cases of a folder and of the folders in it."""
    cases, unused = [], []
    for folder, below, files in os.walk(top, onerror=_unreadable):
        below.sort()
        for stem, members in sorted(_grouped(folder, files).items()):
            case = _case(os.path.normpath(os.path.join(folder, stem)), members, told)  # noqa: PTH118
            if case is None:
                unused += [path for paths in members.values() for path in paths]
            else:
                cases.append(case)
    return Found(tuple(cases), tuple(unused))


def _unreadable(error: OSError) -> None:
    raise InputError(f"{visible(str(error.filename))}: cannot be searched: {error.strerror}") from error


def _grouped(folder: str, files: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Return by stem, then by role, the paths of the tensors in a folder; a bundle is a stem of its own."""
    groups: dict[str, dict[str, list[str]]] = {}
    for name in sorted(files):
        path = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118 - pathlib is three times as slow
        if name.endswith(BUNDLES):
            groups.setdefault(name, {})["bundle"] = [path]
            continue
        bare = _bare(name)
        named = None if bare is None else split(bare)
        if named is not None:
            stem, role = named
            groups.setdefault(stem.rstrip("._-"), {}).setdefault(role, []).append(path)
    return groups


def _bare(name: str) -> str | None:
    """Return a file name without its suffix, if it is one of tensors'."""
    plain = name.removesuffix(".gz")
    return next((plain.removesuffix(suffix) for suffix in TENSORS if plain.endswith(suffix)), None)


def _case(name: str, members: Mapping[str, list[str]], told: Told) -> Case | None:
    """Return the case that files amount to, or None where there is nothing to check in them."""
    if "bundle" in members:
        return _bundle(members["bundle"][0], told)
    command = kind_of(frozenset(members))
    if command is None and "logits" not in members:
        return None
    chosen = command or "check"
    known = {role: members[role] for role in KINDS[chosen].roles if role in members}
    files = tuple((role, paths[0]) for role, paths in known.items())
    case = Case(name, chosen, files, told.options_of(chosen))
    several = next(((role, paths) for role, paths in known.items() if len(paths) > 1), None)
    if several is not None:
        listed = " and ".join(visible(os.path.basename(path)) for path in several[1][:_SHOWN])  # noqa: PTH119
        return replace(case, refusal=f"{visible(name)}: {listed} are all usual names of the {several[0]}")
    if command is None:
        wanted = [role for role in KINDS[chosen].needs if role not in members]
        return replace(
            case, refusal=f"{visible(members['logits'][0])}: there are no {' or '.join(wanted)} beside it"
        )
    return case


def _bundle(path: str, told: Told) -> Case:
    """Return the case of a bundle: logits without labels, as ``softgrad check BUNDLE`` has it."""
    return Case(os.path.normpath(path), "check", (("logits", path),), told.options_of("check"))


def _refuse_none(cases: list[Case], unused: list[str]) -> None:
    """Refuse to verify nothing."""
    if cases:
        return
    hint = f"; {len(unused)} files have usual names, but none is logits" if unused else ""
    raise InputError(
        "no case was found: a case is logits and labels side by side, logits.npy and labels.npy or "
        f"NAME_logits.npy and NAME_labels.npy (npy, csv, tsv, txt){hint}"
    )


def _refuse_twins(cases: list[Case]) -> None:
    for name in _twice(case.name for case in cases):
        raise UsageError(f"two cases are named {visible(name)}: reports could not tell them apart")


def _twice(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)

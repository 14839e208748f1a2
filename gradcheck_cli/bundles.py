"""The tensors of one case: each in a file of its own, or all in one bundle, paired by their usual names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from gradcheck_cli.errors import InputError, UsageError
from gradcheck_cli.names import USUAL, role_of
from gradcheck_cli.reading import Reading
from gradcheck_cli.tensors import Container, Tensor, locate, open_container, open_tensor
from gradcheck_cli.tensors.location import STANDARD_INPUT
from gradcheck_cli.visible import visible

NEEDED = {
    "check": ("logits", "labels"),
    "vjp": ("logits", "upstream"),
    "linear": ("inputs", "labels", "weight"),
    "jacobian": ("logits",),
    "sweep": ("logits", "labels"),
}
"""By command, the roles that a bundle has to hold to be enough alone."""

_TYPED = {"linear": "INPUTS LABELS --weight FILE", "vjp": "LOGITS UPSTREAM"}  # others: LOGITS LABELS
_SHOWN = 8  # names of members in a message


def open_inputs(files: Mapping[str, str], reading: Reading, opened: ExitStack) -> dict[str, Tensor]:
    """Return the tensors of files by role, each closed with ``opened``.

    Raises
    ------
    InputError, UsageError
        If a file cannot be read, or an option about reading is for none of them.
    """
    locations = [locate(text) for text in files.values()]
    if sum(each.path == "-" for each in locations) > 1:
        raise UsageError("standard input (-) can be only one of the inputs")
    tensors = {
        role: opened.enter_context(open_tensor(text, role=role, reading=reading))
        for role, text in files.items()
    }
    found: dict[str, Tensor] = {}
    for tensor in tensors.values():  # members named one by one are all of one file
        if found.setdefault(tensor.path, tensor).source.stamp != tensor.source.stamp:
            tensor.source.refuse("replaced while it was opened; run again when its writer has finished")
    return tensors


def open_bundle(
    text: str, roles: Sequence[str], reading: Reading, opened: ExitStack, *, command: str = "check"
) -> dict[str, Tensor]:
    """Return the tensors of a bundle that play one of the roles, by their usual names.

    Raises
    ------
    InputError
        If one that the command needs is not among them, or two members have usual names of one role.
    UsageError
        If the file is no bundle.
    """
    location = locate(text)
    with open_container(location, reading) as container:
        if location.member is not None or not container.members:
            raise UsageError(f"{visible(text)}: {_not_enough(command)}")
        paired = pair(container, roles, NEEDED[command])
        tensors = {
            role: opened.enter_context(container.tensor(member, role, reading))
            for role, member in paired.items()
        }
        left = [name for name in (*container.members, *container.others) if name not in paired.values()]
    if left:
        note = f"the file also holds {_listed(left)}: not used"
        first = next(iter(tensors))
        tensors[first] = replace(tensors[first], notes=(*tensors[first].notes, note))
    return tensors


def _not_enough(command: str) -> str:
    """Say what is missing where one tensor was given alone."""
    held, typed = NEEDED[command], _TYPED.get(command, "LOGITS LABELS")
    missing = "no UPSTREAM is" if "upstream" in held else "no LABELS are"
    return (
        f"{missing} given; write softgrad {command} {typed} (only a bundle, an npz or safetensors file with "
        f"{', '.join(held[:-1])} and {held[-1]}, is enough alone)"
    )


def holds(text: str, roles: Sequence[str], reading: Reading) -> bool:
    """Tell whether a file of this machine is a bundle that has members by usual names for all these roles."""
    location = locate(text)
    if location.member is not None or location.remote or location.path == STANDARD_INPUT:
        return False
    with open_container(location, reading) as container:
        found = {role_of(name) for name in container.members}
    return found.issuperset(roles)


def pair(container: Container, roles: Sequence[str], needed: Sequence[str]) -> dict[str, str]:
    """Return by role the member that plays it, in the order of the roles."""
    paired = {}
    for role in roles:
        members = [name for name in container.members if role_of(name) == role]
        if len(members) > 1:
            container.source.refuse(
                f"{_listed(members)} are all usual names of the {role}; name one, as FILE:MEMBER"
            )
        if members:
            paired[role] = members[0]
    for role in needed:
        if role in roles and role not in paired:
            raise InputError(
                f"{container.source.name}: has no {role} by a usual name ({', '.join(USUAL[role])}), but "
                f"{_listed(container.members)}: name {'both' if len(needed) == 2 else 'each'}, as FILE:MEMBER"
            )
    return paired


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(visible(name, 40) for name in names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

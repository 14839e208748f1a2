"""Which container a file is, told by its content and never by its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, Protocol

from gradcheck_cli.names import role_of
from gradcheck_cli.reading import CONTENT, Reading
from gradcheck_cli.tensors.location import STANDARD_INPUT, Location, locate
from gradcheck_cli.tensors.npy import MAGIC as NPY_MAGIC
from gradcheck_cli.tensors.npy import Npy
from gradcheck_cli.tensors.source import Source, open_source
from gradcheck_cli.tensors.tensor import Tensor
from gradcheck_cli.visible import visible

_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
_SHOWN = 12  # names in a message
_NUL = b"\0"


class Container(Protocol):
    """A file that was recognised: the names of its tensors, none where it is one tensor itself."""

    format: str
    source: Source
    members: tuple[str, ...]
    others: tuple[str, ...]  # members that are no tensors

    def tensor(self, member: str | None, role: str, reading: Reading) -> Tensor:
        """Return a tensor, which has a descriptor of its own."""


def open_tensor(text: str, *, role: str, reading: Reading = CONTENT) -> Tensor:
    """Open ``FILE`` or ``FILE:MEMBER`` for the part it plays (logits, labels, grad, ...) in a check."""
    location = locate(text)
    with open_container(location, reading) as container:
        return container.tensor(member_of(container, location.member, role), role, reading)


@contextmanager
def open_container(location: Location, reading: Reading) -> Iterator[Container]:
    """Open a file and tell what it is; tensors taken from it outlive it."""
    if location.path == STANDARD_INPUT:
        from gradcheck_cli.tensors.stream import standard_input  # noqa: PLC0415 - most read files

        source = standard_input(location.path, reading, _sniff)
    elif location.remote:
        from gradcheck_cli.tensors.stream import remote_file  # noqa: PLC0415

        source = remote_file(location.path, reading, _sniff)
    else:
        source = open_source(location.path)
    try:
        yield _container(source, reading.input_format)
    finally:
        source.close()


def _container(source: Source, asked: str | None) -> Container:
    """Return what reads this content. A new container is one module and one line in ``_format``."""
    head = source.head(512)
    if not head:
        source.refuse("is empty (0 bytes)")
    form = asked or _format(source, head)
    if form == "npy":
        return Npy(source)
    if form == "npz":
        from gradcheck_cli.tensors.npz import Npz  # noqa: PLC0415 - most are NPY

        return Npz(source)
    if form == "safetensors":
        from gradcheck_cli.tensors.safetensors import Safetensors  # noqa: PLC0415

        return Safetensors(source)
    from gradcheck_cli.tensors.text import Text  # noqa: PLC0415

    return Text(source)


def _format(source: Source, head: bytes) -> str:
    """Return the format that the first bytes tell."""
    if head.startswith(NPY_MAGIC[: len(head)]):
        return "npy"
    if head.startswith(_ZIP_MAGICS):
        return "npz"
    if head[8:9] == b"{" and _NUL in head[:8]:
        return "safetensors"
    from gradcheck_cli.tensors.foreign import refuse_foreign  # noqa: PLC0415

    refuse_foreign(source, head)
    if source.path.lower().endswith(".npy"):
        source.refuse(f"not an NPY file ({source.size} bytes): it does not begin with the NPY signature")
    return "text"


def _sniff(source: Source, head: bytes) -> None:
    """Refuse the beginning of a stream that no format has, before its end is waited for."""
    if _format(source, head) == "text" and not head.startswith(b"\x1f\x8b") and _NUL in head:
        source.refuse("holds neither text nor any format that is known (it has NUL bytes)")


def member_of(container: Container, asked: str | None, role: str) -> str | None:
    """Return the member that is meant, or say which there are."""
    if not container.members:
        if asked is not None:
            container.source.refuse(f"has no members ({container.format}): leave out :{visible(asked, 60)}")
        return None
    if asked is not None:
        return _named(container, asked)
    if len(container.members) == 1:
        return container.members[0]
    fitting = [name for name in container.members if role_of(name) == role]
    if len(fitting) == 1:
        return fitting[0]
    return _refuse(container, f"holds {len(container.members)} tensors; say which, as in FILE:NAME")


def _named(container: Container, asked: str) -> str:
    for name in (asked, asked.removesuffix(".npy")):
        if name in container.members:
            return name
    if asked in container.others:
        container.source.refuse(f"its member {visible(repr(asked), 60)} is no tensor")
    return _refuse(container, f"has no member {visible(repr(asked), 60)}")


def _refuse(container: Container, reason: str) -> NoReturn:
    names = ", ".join(visible(name, 40) for name in container.members[:_SHOWN])
    more = len(container.members) - _SHOWN
    container.source.refuse(f"{reason} ({names}{f' and {more} more' if more > 0 else ''})")

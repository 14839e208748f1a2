"""Files that are one tensor, without members."""

from __future__ import annotations

from gradcheck_cli.reading import Reading
from gradcheck_cli.tensors.dtypes import name_for
from gradcheck_cli.tensors.npy import MAGIC as NPY_MAGIC
from gradcheck_cli.tensors.npy import open_npy
from gradcheck_cli.tensors.source import Source
from gradcheck_cli.tensors.tensor import Tensor


class Npy:
    """An NPY file."""

    format = "npy"
    members: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __init__(self, source: Source) -> None:
        self.source = source
        if not source.head(len(NPY_MAGIC)).startswith(NPY_MAGIC[: max(source.size, 1)]):
            source.refuse(f"not an NPY file ({source.size} bytes): it does not begin with the NPY signature")

    def tensor(self, member: str | None, role: str, reading: Reading) -> Tensor:
        """Return the tensor; ``member`` is None."""
        part = self.source.part(member)
        try:
            return open_npy(part, role, reading.dtype_of(role, member))
        except BaseException:
            part.close()
            raise


class Text:
    """A text of numbers, packed by gzip or not."""

    format = "text"
    members: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __init__(self, source: Source) -> None:
        self.source = source

    def tensor(self, member: str | None, role: str, reading: Reading) -> Tensor:
        """Return the tensor, copied once into a spool; ``member`` is None."""
        from gradcheck_cli.tensors.text import open_text  # noqa: PLC0415 - slow to import, and most are NPY

        if reading.dtype_of(role) is not None:
            asked = f"--dtype {name_for(self.source, role)}={reading.dtype_of(role)}"
            self.source.refuse(f"{asked}: a text has no bits to take as another type")
        part = self.source.part(member)
        try:
            return open_text(part, role, reading)
        except BaseException:
            part.close()
            raise

"""What every container becomes: numbers of one type at an offset of a descriptor."""

from __future__ import annotations

from types import TracebackType
from typing import IO, Any

import numpy as np

from gradcheck_cli.records import dataclass
from gradcheck_cli.tensors.decimals import Decimals
from gradcheck_cli.tensors.source import Source, read_into


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """Stored numbers with random access; nothing of them is held in memory.

    ``order`` is what the container says; ``layout`` is how the numbers at ``fd`` really lie, which differs
    where they were copied into a spool.
    """

    role: str
    path: str
    dtype: str  # of the container: float32, bfloat16, int64, text
    shape: tuple[int, ...]
    source: Source
    stored: np.dtype[Any]  # of the bytes at fd; unsigned integers where dtype is bfloat16 or float8
    offset: int = 0
    order: str = "C"
    layout: str = "C"
    notes: tuple[str, ...] = ()
    decimals: Decimals | None = None
    spool: IO[bytes] | None = None

    @property
    def fd(self) -> int:
        """The descriptor that the numbers are read from."""
        return self.source.data if self.spool is None else self.spool.fileno()

    @property
    def member(self) -> str | None:
        """The member of the archive that this is, if it is one."""
        return self.source.member

    @property
    def name(self) -> str:
        """The path, and the member where there is one, as they are shown."""
        return self.source.name

    def read_into(self, buffer: np.ndarray[Any, Any], element: int) -> None:
        """Fill ``buffer`` with the stored bytes from the element at that place in the file."""
        try:
            start = self.offset + (self.source.start if self.spool is None else 0)
            whole = read_into(self.fd, buffer, start + element * self.stored.itemsize)
        except OSError as error:
            self.source.refuse(f"cannot be read: {error.strerror}", cause=error)
        if not whole:
            self.source.refuse("truncated while it was read; run again when its writer has finished")

    def check_unchanged(self) -> None:
        """Refuse a file that was written to since it was opened; one replaced by a rename is fine."""
        self.source.check_unchanged()

    def close(self) -> None:
        """Close the file and its spool."""
        self.source.close()
        if self.spool is not None:
            self.spool.close()

    def __enter__(self) -> Tensor:
        """Return the tensor itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

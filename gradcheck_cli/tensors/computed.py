"""A tensor that softgrad works out itself, kept where a file's numbers would be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.tensors.spool import new_spool, write_at
from gradcheck_cli.tensors.tensor import Tensor


@contextmanager
def computed(
    of: Tensor, role: str, shape: tuple[int, ...], blocks: Iterator[NDArray[np.float64]]
) -> Iterator[Tensor]:
    """Yield a float64 tensor whose blocks, one after the other, are its numbers in C order.

    It goes by the name of the tensor it is worked out of, and lies in a temporary file without a name.
    """
    spool = new_spool(of.name)
    try:
        offset = 0
        for block in blocks:
            offset = write_at(of.name, spool, block, offset)
        yield Tensor(
            role=role,
            path=f"{role} of {of.path}",
            dtype="float64",
            shape=shape,
            source=of.source,
            stored=np.dtype(np.float64),
            spool=spool,
        )
    finally:
        spool.close()

"""Files for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Put = Callable[..., str]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Return what writes bytes to a file and says where."""

    def write(data: bytes, name: str = "x.npy") -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return write

"""Results on disk until the reports are written: memory does not grow with the number of cases."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Iterator
from typing import Any

from gradcheck_cli.errors import OutputError


class Store:
    """Lines by the number of their case, in a file without a name."""

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile(prefix=".softgrad-")  # noqa: SIM115 - it lives as long as the store
        except OSError as error:
            raise OutputError(f"no temporary file for the results: {error.strerror} (set TMPDIR)") from error
        self._sorted = True
        self._places = array("q")  # number, offset, size; one after the other

    def add(self, number: int, line: bytes) -> None:
        """Keep the line of a case."""
        try:
            self._places.extend((number, self._file.seek(0, 2), len(line)))
            self._file.write(line)
        except OSError as error:
            told = f"cannot keep the results in a temporary file: {error.strerror} (set TMPDIR)"
            raise OutputError(told) from error

    def as_they_came(self) -> None:
        """Yield lines in the order of their arrival from now on: numbers of several batches mean nothing."""
        self._sorted = False

    def lines(self) -> Iterator[bytes]:
        """Yield the lines in the order of the cases."""
        places = list(zip(self._places[::3], self._places[1::3], self._places[2::3], strict=True))
        for _, offset, size in sorted(places) if self._sorted else places:
            self._file.seek(offset)
            yield self._file.read(size)

    def documents(self) -> Iterator[dict[str, Any]]:
        """Yield the cases as they stand in a JSON report, in their order."""
        return map(json.loads, self.lines())

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

"""What an argument names: a file, a member of one, standard input, or a file on another machine."""

from __future__ import annotations

import os
import re

from gradcheck_cli.records import dataclass

STANDARD_INPUT = "-"

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_URL_MEMBER = re.compile(r"(.+?\.(?:npz|safetensors)):(.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Location:
    """A file and, where one is named, its member."""

    path: str
    member: str | None = None

    @property
    def remote(self) -> bool:
        """Whether the file is reached through fsspec."""
        return _URL.match(self.path) is not None and not os.path.exists(self.path)  # noqa: PTH110

    @property
    def exists(self) -> bool:
        """Whether there is anything to open, as far as that can be told without opening it."""
        return self.path == STANDARD_INPUT or self.remote or os.path.lexists(self.path)


def locate(text: str) -> Location:
    """Return what ``FILE`` or ``FILE:MEMBER`` names; a file that has colons in its name comes first."""
    if os.path.lexists(text):
        return Location(text)
    if _URL.match(text):
        found = _URL_MEMBER.fullmatch(text)
        return Location(text) if found is None else Location(found[1], found[2])
    cuts = [place for place, character in enumerate(text) if character == ":"]
    for cut in reversed(cuts):
        if text[:cut] == STANDARD_INPUT or os.path.lexists(text[:cut]):
            return Location(text[:cut], text[cut + 1 :])
    return Location(text)

"""Report files: whole or not at all, and found unwritable before hours of work, not after."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from gradcheck_cli.errors import OutputError, UsageError
from gradcheck_cli.records import dataclass
from gradcheck_cli.visible import visible

FORMATS = ("json", "jsonl", "junit", "github", "markdown", "csv", "html")
_PREFIX, _SUFFIX = ".softgrad-", ".tmp"
_STALE = 24 * 3600  # seconds after which a temporary file of a killed run is taken away


@dataclass(frozen=True)
class Destination:
    """One ``--report FORMAT=FILE``."""

    form: str
    path: str

    def probe(self) -> None:
        """Refuse a place that cannot be written to, by writing there."""
        try:
            if not _is_plain(self.path):
                with Path(self.path).open("ab"):
                    return
            handle, temporary = _temporary(self.path)
            os.close(handle)
            Path(temporary).unlink()
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, pieces: Iterable[str]) -> None:
        """Write the report beside its place and put it there in one step; a device is written to at once."""
        try:
            if not _is_plain(self.path):
                with Path(self.path).open("w", encoding="utf-8") as file:
                    file.writelines(pieces)
                return
            _replace(self.path, pieces)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> OutputError:
        folder = Path(self.path).parent
        missing = isinstance(error, FileNotFoundError) and not folder.exists()
        reason = f"there is no folder {visible(str(folder))}" if missing else error.strerror or error
        return OutputError(f"{visible(self.path)}: cannot write the report: {reason}")


def destinations(texts: Iterable[str]) -> list[Destination]:
    """Return what ``--report`` names, probed.

    Raises
    ------
    UsageError
        If one is not FORMAT=FILE, or two are the same file.
    OutputError
        If one cannot be written.
    """
    found: list[Destination] = []
    for text in texts:
        form, _, path = text.partition("=")
        if form not in FORMATS or not path:
            raise UsageError(f"--report {text}: write FORMAT=FILE, with one of {', '.join(FORMATS)}")
        if path == "-":
            raise UsageError(f"--report {text}: use --format {form} for standard output")
        if any(os.path.realpath(each.path) == os.path.realpath(path) for each in found):
            raise UsageError(f"--report {text}: two reports cannot go to the same file")
        found.append(Destination(form, path))
    for each in found:
        each.probe()
    return found


def _is_plain(path: str) -> bool:
    """Tell whether there is a regular file, or nothing yet; a link counts as what it leads to."""
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except FileNotFoundError:
        return True


def _temporary(path: str) -> tuple[int, str]:
    import tempfile  # noqa: PLC0415 - start-up

    folder = Path(path).resolve().parent
    _sweep(folder)
    return tempfile.mkstemp(prefix=_PREFIX, suffix=_SUFFIX, dir=folder)


def _sweep(folder: Path) -> None:
    """Take away what killed runs left behind more than a day ago."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE:
                        Path(entry.path).unlink()


def _replace(path: str, pieces: Iterable[str]) -> None:
    target = Path(path).resolve()  # the link stays, what it leads to is replaced
    handle, temporary = _temporary(str(target))
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
            file.flush()
            os.fchmod(file.fileno(), _mode(target))
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _mode(target: Path) -> int:
    """Return the permissions of the file that is replaced, or those a new file gets."""
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask

"""Compile the loops while softgrad is being installed; where that cannot be, it does with NumPy alone."""

from __future__ import annotations

import binascii
import contextlib
import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

HERE = "gradcheck_cli/numeric/compiled"
ALWAYS = "-std=c11 -O3 -fopenmp-simd -ffp-contract=off -fno-math-errno -fno-trapping-math -fPIC -shared"
EITHER = ("-DEVERY_PROCESSOR -mprefer-vector-width=512", "")
"""With a copy of each loop for every kind of x86 processor, or where that cannot be said, plainly."""


class NotCompiledError(Exception):
    """There will be no loops, for this reason."""


class CompiledLoops(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the library into the wheel, and makes it one for this platform."""

    _made: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say on failure what is lost.

        The library goes beside the sources as well, where they can be written: what is run or tested there is
        what was installed then, to the last digit.
        """
        if os.environ.get("SOFTGRAD_COMPILED") == "0":
            return
        folder = Path(self.root, HERE)
        try:
            self._made = tempfile.mkdtemp()
            library = compiled(folder / "loops.c", Path(self._made))
            with contextlib.nullcontext() if version == "editable" else contextlib.suppress(OSError):
                shutil.copyfile(library, folder / "loops.so.new")
                (folder / "loops.so.new").replace(folder / "loops.so")  # another process may use the old one
        except (NotCompiledError, OSError, ValueError) as reason:
            self.app.display_warning(f"softgrad will do with NumPy alone, and be slower: {reason}")
            return
        if version != "editable":
            build_data["force_include"][str(library)] = f"{HERE}/loops.so"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Clean up."""
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)


def compiled(source: Path, folder: Path) -> Path:
    """Compile the loops and return the library.

    Raises
    ------
    NotCompiledError, OSError or ValueError
        Where that did not work; ValueError for a CC that is no command.
    """
    compiler = shlex.split(os.environ.get("CC") or "cc")
    stamp = f"-DSOURCE={binascii.crc32(source.read_bytes())}u"
    said = ""
    for number, how in enumerate(EITHER):
        library = folder / f"{number}.so"
        command = [*compiler, *ALWAYS.split(), *how.split(), stamp, str(source), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode == 0 and _works(library):
            return library
        said = next(iter(done.stderr.strip().splitlines()), "what was compiled cannot be used")
    raise NotCompiledError(said)


def _works(library: Path) -> bool:
    """Tell whether the library has its functions; compilers have said so of names that nobody finds."""
    try:
        loaded = ctypes.CDLL(str(library))
    except OSError:
        return False
    return all(hasattr(loaded, f"softgrad_{name}") for name in ("extremes", "exponentials", "beyond"))


def _platform() -> str:
    """Return this platform's tag; that of no libc but the one here."""
    tags = (tag.platform for tag in sys_tags())
    return next(each for each in tags if not each.startswith(("manylinux", "musllinux")))

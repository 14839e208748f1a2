"""Compile the loops while softgrad is being installed; without a compiler it does with NumPy alone."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
import zlib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path("gradcheck_cli/numeric/compiled")
ALWAYS = "-std=c11 -O3 -fopenmp-simd -ffp-contract=off -fno-math-errno -fno-trapping-math -fPIC -shared"
EITHER = ("-DEVERY_PROCESSOR -mprefer-vector-width=512", "")
"""With a copy of each loop for every kind of x86 processor, or where that cannot be said, plainly."""


class CompiledLoops(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the library into the wheel, and makes it one for this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile, and say on failure what is lost."""
        library = Path(self.root, HERE, "loops.so")
        library.unlink(missing_ok=True)
        if os.environ.get("SOFTGRAD_COMPILED") == "0":
            return
        if not compiled(library.with_name("loops.c"), library):
            self.app.display_warning("no C compiler: softgrad will do with NumPy alone, and be slower")
            return
        build_data["artifacts"].append(f"/{HERE}/loops.so")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def compiled(source: Path, library: Path) -> bool:
    """Compile the loops, and tell whether that worked."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if os.name != "posix" or shutil.which(compiler[0]) is None:
        return False
    stamp = f"-DSOURCE={zlib.crc32(source.read_bytes())}u"
    with tempfile.TemporaryDirectory() as folder:
        for number, how in enumerate(EITHER):
            made = Path(folder, f"{number}.so")
            command = [*compiler, *ALWAYS.split(), *how.split(), stamp, str(source), "-o", str(made), "-lm"]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0 and _works(made):
                shutil.copyfile(made, library)
                return True
    return False


def _works(library: Path) -> bool:
    """Tell whether the library has its functions; compilers have said so of names that nobody finds."""
    try:
        return hasattr(ctypes.CDLL(str(library)), "softgrad_extremes")
    except OSError:
        return False

"""Fuzzing guided by coverage: ``python -m tests.fuzz [-max_total_time=600] [CORPUS]``, by hand.

Needs atheris (``pip install atheris``), which is no dependency of the tests. A crash is written to a file
``crash-...``; what it shows belongs into ``tests/mutants.py`` or a test of its own.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["gradcheck_cli"]):
    from gradcheck_cli.inspection import inspect
    from gradcheck_cli.reading import CONTENT
    from tests.test_fuzz import verdict_of

from tests.containers import npy_of
from tests.mutants import ARRAYS, Seed, mutants, seeds

FOLDER = Path(tempfile.mkdtemp(prefix="softgrad-fuzz-"))
ROLES = (*ARRAYS, None)


def one_input(data: bytes) -> None:
    """Check a file whose first byte says which role it plays."""
    role = ROLES[data[0] % len(ROLES)] if data else None
    verdict_of(Seed("fuzz", role, b""), data[1:], FOLDER)
    inspect(str(FOLDER / "mutant"), CONTENT)


def mutate(data: bytes, size: int, seed: int) -> bytes:
    """Return what libFuzzer makes of the data, or now and then a mutant of ours, which knows the formats."""
    if seed % 8:
        return bytes(atheris.Mutate(data, size))
    made, mutant = next(mutants(np.random.default_rng(seed), 1))
    return (bytes([ROLES.index(made.role)]) + mutant)[:size]


def main() -> None:
    """Fuzz until stopped."""
    warnings.simplefilter("error")
    for role, array in ARRAYS.items():
        (FOLDER / f"{role}.npy").write_bytes(npy_of(array))
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for seed in seeds():
        (corpus / seed.name).write_bytes(bytes([ROLES.index(seed.role)]) + seed.data)
    atheris.Setup([*sys.argv, str(corpus)], one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

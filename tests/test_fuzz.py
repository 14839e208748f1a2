"""Thousands of damaged files, each a verdict or one line: nothing else may come out, and soon.

``python -m tests.fuzz`` does the same guided by coverage, for as long as it is left alone.
"""

from __future__ import annotations

import resource
import time
import warnings
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from gradcheck_cli.bundles import open_bundle, open_inputs
from gradcheck_cli.check import check
from gradcheck_cli.errors import SoftgradError
from gradcheck_cli.inspection import inspect
from gradcheck_cli.names import USUAL
from gradcheck_cli.outcome import Verdict
from gradcheck_cli.reading import CONTENT
from gradcheck_cli.settings import Settings
from tests.containers import npy_of
from tests.mutants import ARRAYS, Seed, mutants, seeds

MUTANTS = 3000
PATIENCE = 2.0  # seconds for one, on a busy machine
MEMORY = 256 << 10  # KiB that all of them may add


def verdict_of(seed: Seed, data: bytes, folder: Path) -> str:
    """Return the verdict on a file in its role, or ``refused``; anything else is raised."""
    (folder / "mutant").write_bytes(data)
    settings = Settings(threads=1)
    try:
        with ExitStack() as opened:
            if seed.role is None:
                tensors = open_bundle(str(folder / "mutant"), tuple(USUAL), CONTENT, opened)
            else:
                files = {role: str(folder / f"{role}.npy") for role in ARRAYS}
                tensors = open_inputs(files | {seed.role: str(folder / "mutant")}, CONTENT, opened)
            return check(tensors, {}, settings).verdict.value
    except SoftgradError as error:
        message = str(error)
        assert message.isprintable(), repr(message)
        return "refused"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the right files beside which a mutant is checked."""
    for role, array in ARRAYS.items():
        (tmp_path / f"{role}.npy").write_bytes(npy_of(array))
    return tmp_path


@pytest.mark.parametrize("seed", seeds(), ids=lambda seed: seed.name)
def test_every_seed_is_valid(folder: Path, seed: Seed) -> None:
    assert verdict_of(seed, seed.data, folder) == Verdict.PASS.value


@pytest.mark.parametrize("part", range(4))
def test_a_mutant_is_a_verdict_or_one_line(folder: Path, part: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, (seed, data) in enumerate(mutants(np.random.default_rng(part), MUTANTS // 4)):
            began = time.perf_counter()
            try:
                found[verdict_of(seed, data, folder)] += 1
            except Exception as error:  # noqa: BLE001 - that there is none is what is tested
                pytest.fail(f"mutant {number} of {seed.name}: {error!r}\n{data!r}")
            assert time.perf_counter() - began < PATIENCE, f"mutant {number} of {seed.name}"
    assert found["refused"] > MUTANTS // 40
    assert found["pass"] + found["fail"] > MUTANTS // 40  # of a quarter of them
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


def test_inspecting_a_mutant_is_an_answer(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, (seed, data) in enumerate(mutants(np.random.default_rng(99), MUTANTS // 4)):
            (folder / "mutant").write_bytes(data)
            try:
                found = inspect(str(folder / "mutant"), CONTENT)
            except Exception as error:  # noqa: BLE001 - that there is none is what is tested
                pytest.fail(f"mutant {number} of {seed.name}: {error!r}\n{data!r}")
            assert found.errors or found.tensors

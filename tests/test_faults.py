"""Every fault of the catalogue has a test that bears its id.

N: NPY. Z, G: zip, gzip. S: safetensors. C: delimited text. L, X: labels, values. F, O: files, operation.
R: what a report repeats. An id stands in a test's name (``test_N14_...``) or in the id of its parameters.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LAST = {"N": 30, "Z": 15, "G": 3, "S": 14, "C": 29, "L": 12, "X": 8, "F": 8, "O": 15, "R": 12}
"""The last number of each letter."""

IDS = [f"{letter}{number:02}" for letter, last in LAST.items() for number in range(1, last + 1)]


def _held() -> set[str]:
    """Return the ids that tests bear."""
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"def (test_\w+)", text):
            found.update(re.findall(r"(?<=_)[A-Z]\d\d(?=_|$)", name))
        if path != Path(__file__):
            found.update(re.findall(r"\"([A-Z]\d\d)(?:-[\w-]+)?\"", text))  # ids of parameters
    return found


@pytest.mark.parametrize("fault", IDS)
def test_the_fault_has_a_test(fault: str) -> None:
    assert fault in _held()


def test_an_id_is_told_from_other_words() -> None:
    assert "N14" in _held()
    assert "N99" not in _held()

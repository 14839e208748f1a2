"""The form of the catalogue: every bug documented, planted, in words that its parameters fill."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradcheck_cli.diagnosis.beside import BESIDE
from gradcheck_cli.diagnosis.bug import CONVENTION, DEFECT, ROUNDING, Bug
from gradcheck_cli.diagnosis.catalogue import EVERY
from tests.diagnosis.plants import PLANTS

MAN = Path(__file__).parent.parent.parent / "man"
PAGE = (MAN / "softgrad-check.1").read_text(encoding="utf-8")
PATTERNS = {"all-zero", "clipped", "offset-overflow", "transposed"}
"""Bugs that show in where a file fails, and have no entry."""

OWN_TESTS = {
    "mean-over-batch", "soft-target-sum-ignored", "smoothing-weighted-otherwise", "low-precision-rmw",
    "fused-lse", "low-precision", "underflow", "clamped-probability", "masked-row",
}  # fmt: skip
"""Bugs that are planted in data of their own, in test_particular_data.py."""


def _described() -> set[str]:
    section = PAGE.partition(".Sh WHICH BUG IT IS\n")[2].partition(".Sh ")[0]
    return set(re.findall(r"^\.Cm (\S+) [,.]$", section.replace("\\-", "-"), re.MULTILINE))


BESIDE_THE_GRADIENT = [bug for known in BESIDE.values() for section in known for bug in section]
"""Bugs of the other exports, planted in test_beside.py."""


def test_the_man_page_names_every_bug_and_no_other() -> None:
    assert _described() == {bug.code for bug in (*EVERY, *BESIDE_THE_GRADIENT)} | PATTERNS


def test_every_bug_is_planted() -> None:
    assert {code for plant in PLANTS for code in plant.codes} | OWN_TESTS >= {bug.code for bug in EVERY}


@pytest.mark.parametrize("bug", [*EVERY, *BESIDE_THE_GRADIENT], ids=lambda bug: f"{bug.code}-{bug.slot}")
def test_an_entry_says_what_it_is_and_what_to_do(bug: Bug) -> None:
    assert bug.kind in (DEFECT, CONVENTION, ROUNDING)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", bug.code)
    assert bug.formula
    assert bug.happened[0].islower() or not bug.happened[0].isalpha()
    assert not bug.happened.endswith(".")
    assert len(bug.advice) > 20

"""Results that somebody changed: they are refused in one line or reported, and nothing else happens."""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradcheck_cli.batch.merge import merge
from gradcheck_cli.batch.result import to_line
from gradcheck_cli.batch.run import Plan, local, run
from gradcheck_cli.batch.store import Store
from gradcheck_cli.errors import SoftgradError
from gradcheck_cli.report.cases import render
from gradcheck_cli.report.forms import pieces
from tests.batch.test_run import Silent

FORMS = ("json", "jsonl", "junit", "github", "markdown", "csv", "html")


@pytest.fixture
def results(plan: Plan, tmp_path: Path) -> Path:
    """Return the JSON lines of a small batch."""
    return written(plan, tmp_path)


@pytest.fixture
def wrong(plan: Plan, tmp_path: Path) -> Path:
    """Return the JSON lines of the case that fails, alone."""
    return written(replace(plan, cases=plan.cases[3:4]), tmp_path)


def written(plan: Plan, tmp_path: Path) -> Path:
    """Run a plan and return the file of its JSON lines."""
    pictured = replace(plan, how=replace(plan.how, pictures=True))
    watch, path = Silent(), tmp_path / "results.jsonl"
    with contextlib.closing(Store()) as store:
        summary = run(pictured, local(pictured, watch), store, watch, None)
        path.write_text("".join(pieces("jsonl", store.documents(), summary)))
    return path


def outcome(path: Path) -> str:
    """Merge a file and write every report; return what happened."""
    with contextlib.closing(Store()) as store:
        try:
            summary = merge([str(path)], store)
        except SoftgradError:
            return "refused"
        for form in FORMS:
            assert "".join(pieces(form, store.documents(), summary))
        assert render(summary).plain
    return "reported"


def test_untouched_results_are_reported(results: Path) -> None:
    assert outcome(results) == "reported"


def test_results_with_flipped_torn_and_doubled_bytes_never_break_a_report(results: Path) -> None:
    whole, rng, seen = results.read_bytes(), random.Random(5), set()
    for _ in range(150):
        data = bytearray(whole)
        place = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[place] = rng.randrange(256)
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            data[place:place] = data[place : place + rng.randrange(200)]
        else:
            del data[place : place + rng.randrange(200)]
        results.write_bytes(data)
        seen.add(outcome(results))
    assert seen == {"refused", "reported"}


VALUES: list[Any] = [None, -1, 1 << 70, "x\x1b", [], [None], {"a": 1}]


def test_no_value_in_the_place_of_another_breaks_a_report(wrong: Path) -> None:
    lines = [json.loads(line) for line in wrong.read_text().splitlines()]
    failing, end = lines[0], lines[-1]["summary"]
    assert failing["verdict"] == "fail"
    for place in (failing, failing["checks"][-1], failing["checks"][-1]["worst"][0], failing["pictures"][0],
                  failing["inputs"]["logits"], end):  # fmt: skip
        for key, before in list(place.items()):
            for value in VALUES:
                place[key] = value
                wrong.write_bytes(b"\n".join(map(to_line, lines)) + b"\n")
                assert outcome(wrong) in ("refused", "reported")
            place[key] = before
    wrong.write_bytes(b"\n".join(map(to_line, lines)) + b"\n")
    assert outcome(wrong) == "reported"

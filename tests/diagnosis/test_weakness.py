"""What the data could not have shown is said, on a pass too, and on one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcheck_cli.outcome import Outcome, Verdict
from gradcheck_cli.report.table import render
from tests.conftest import Examine
from tests.diagnosis import plants
from tests.diagnosis.plants import Array, Data


def _lacking(outcome: Outcome) -> set[str]:
    return {each.code for each in outcome.warnings if each.lacks is not None}


def _checked(examine: Examine, d: Data, **more: Array) -> Outcome:
    settings: dict[str, Any] = {"reduction": "none"} if "upstream" in more else {}
    right = d.v * (d.a - d.y) * d.upstream[:, None] if "upstream" in more else d.right
    outcome = examine(d.z, d.stored, settings, grad=right, **more)
    assert outcome.verdict is Verdict.PASS
    return outcome


def test_friendly_data_lacks_little(examine: Examine) -> None:
    d = plants.friendly()
    assert _lacking(_checked(examine, d, upstream=d.upstream)) == {"small-logits"}


def test_weak_data_lacks_much(examine: Examine) -> None:
    d = plants.weak()
    lacking = _lacking(_checked(examine, d, upstream=d.upstream))
    assert lacking >= {"no-ignored-row", "uniform-upstream", "no-confident-row", "small-logits"}


def test_without_an_upstream_nothing_of_it_shows(examine: Examine) -> None:
    assert "no-upstream" in _lacking(_checked(examine, plants.friendly()))


def test_without_a_gradient_nothing_is_said(examine: Examine) -> None:
    d = plants.weak()
    assert _lacking(examine(d.z, d.stored)) == set()


def test_rows_as_many_as_classes(examine: Examine) -> None:
    assert "square" in _lacking(_checked(examine, plants.adversarial()))


def test_columns_that_fill_their_blocks(examine: Examine) -> None:
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(3, 256)), np.array([0, 255, 7])
    right = (plants.softmax(z) - np.eye(256)[labels]) / 3
    lacking = _lacking(examine(z, labels, {}, grad=right))
    assert "full-blocks" in lacking
    assert "no-label-at-the-ends" not in lacking


@pytest.mark.parametrize("labels", [[1, 2, 1], [0, 1, 2]])
def test_labels_that_reach_no_end(examine: Examine, labels: list[int]) -> None:
    z = np.random.default_rng(1).normal(size=(3, 4))
    outcome = examine(z, np.array(labels), {}, grad=(plants.softmax(z) - np.eye(4)[labels]) / 3)
    assert "no-label-at-the-ends" in _lacking(outcome)


def test_what_is_hidden_is_a_bug_of_the_catalogue(examine: Examine) -> None:
    """A bug that is said to hide does hide: planted in weak data, it passes or ties."""
    d = plants.weak()
    outcome = _checked(examine, d)
    (said,) = [each.message for each in outcome.warnings if each.code == "no-ignored-row"]
    assert "ignored-rows-not-zeroed" in said
    (plant,) = [each for each in plants.PLANTS if each.title == "ignored-rows-not-zeroed"]
    assert examine(d.z, d.stored, {}, grad=plant.make(d)).verdict is Verdict.PASS


def test_a_report_says_it_on_one_line(examine: Examine) -> None:
    outcome = _checked(examine, plants.weak())
    short, long = str(render(outcome)), str(render(outcome, verbose=True))
    assert short.count("\nunseen ") == 1
    assert "would not show" not in short
    assert long.count("would not show") == len(_lacking(outcome))

"""Every bug of the catalogue, planted in three kinds of data: what is named is what was planted."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.outcome import Outcome, Verdict
from tests.conftest import Examine
from tests.diagnosis import plants
from tests.diagnosis.plants import PLANTS, Array, Data, Plant

STORED: dict[str, Any] = {"float64": np.float64, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16}


def judge(examine: Examine, data: Data, plant: Plant, dtype: str = "float32") -> Outcome:
    """Return the outcome of checking a planted bug."""
    with np.errstate(all="ignore"):
        wrong = plant.make(data).astype(STORED[dtype])
    more: dict[str, Array] = {}
    if "upstream" in plant.exported:
        more["upstream"] = data.upstream
    if "class_weights" in plant.exported:
        more["class_weights"] = data.weights
    return examine(data.z, data.stored, plant.settings, grad=wrong, **more)


def named(outcome: Outcome) -> set[str]:
    """Return the codes of the best explanation."""
    return {each.code for each in outcome.diagnosis if each.tied_with is None}


def told(outcome: Outcome) -> list[str]:
    """Return the codes of all explanations."""
    return [each.code for each in outcome.diagnosis]


def _truth(plant: Plant, outcome: Outcome) -> bool:
    """Tell whether the planted bug is among those told, or one that gives the same numbers on weak data."""
    return set(plant.codes) <= set(told(outcome)) or plant.same in told(outcome)


def where_it_fits(data: Data) -> list[Any]:
    return [pytest.param(plant, id=plant.title) for plant in PLANTS if plant.needs(data)]


@pytest.mark.parametrize("plant", where_it_fits(plants.friendly()))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_friendly_data_names_the_bug(examine: Examine, plant: Plant, dtype: str) -> None:
    outcome = judge(examine, plants.friendly(), plant, dtype)
    assert outcome.verdict is Verdict.FAIL
    assert named(outcome) == set(plant.codes), outcome.diagnosis


@pytest.mark.parametrize("plant", where_it_fits(plants.adversarial()))
def test_adversarial_data_names_the_bug(examine: Examine, plant: Plant) -> None:
    """64 rows and 64 classes: a factor may have two reasons, and then both must be told."""
    outcome = judge(examine, plants.adversarial(), plant)
    assert outcome.verdict is Verdict.FAIL
    assert set(plant.codes) <= set(told(outcome)), outcome.diagnosis
    assert named(outcome) == set(plant.codes) or len(told(outcome)) > len(plant.codes)


@pytest.mark.parametrize("plant", where_it_fits(plants.weak()))
def test_weak_data_names_the_bug_or_says_that_it_cannot_tell(examine: Examine, plant: Plant) -> None:
    outcome = judge(examine, plants.weak(), plant)
    assert not told(outcome) or _truth(plant, outcome), outcome.diagnosis


@pytest.mark.parametrize("plant", where_it_fits(plants.friendly()))
def test_sixteen_bits_do_not_bring_a_wrong_name(examine: Examine, plant: Plant) -> None:
    outcome = judge(examine, plants.friendly(), plant, "bfloat16")
    assert not told(outcome) or _truth(plant, outcome), outcome.diagnosis

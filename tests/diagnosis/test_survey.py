"""The survey by quotients against the same survey entry by entry: it finds the same failures and claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcheck_cli.comparisons import Tolerance
from gradcheck_cli.diagnosis import count, hypothesis
from gradcheck_cli.diagnosis.claim import Claim
from gradcheck_cli.diagnosis.sample import draw
from gradcheck_cli.diagnosis.situation import Situation
from gradcheck_cli.diagnosis.solve import solve
from gradcheck_cli.diagnosis.survey import Survey, survey
from gradcheck_cli.diagnosis.view import Sight
from gradcheck_cli.problem import pose
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import open_tensor
from tests.diagnosis import plants
from tests.diagnosis.plants import PLANTS, Array, Data, Plant
from tests.diagnosis.test_no_wrong_name import DAMAGE

COUNTS = (
    "entries", "failing", "at_label", "in_ignored", "not_numbers", "zeros", "ignored_rows", "confident_rows",
    "all_confident", "unexplained",
)  # fmt: skip


@contextmanager
def situation(folder: Path, d: Data, settings: dict[str, Any], **exported: Array) -> Iterator[Situation]:
    """Yield the situation of an exported gradient."""
    arrays = {"logits": d.z, "labels": d.stored, **{k.replace("_", "-"): v for k, v in exported.items()}}
    with ExitStack() as opened, np.errstate(all="ignore"):
        tensors = {}
        for role, array in arrays.items():
            np.save(folder / f"{role}.npy", array)
            tensors[role] = opened.enter_context(open_tensor(str(folder / f"{role}.npy"), role=role))
        asked = Settings(**settings)
        problem = pose(tensors, {}, asked)
        yield Situation(problem, asked, problem.exports[0], Tolerance.asked(asked.rtol, asked.atol))


def both(of: Situation, monkeypatch: pytest.MonkeyPatch) -> tuple[Survey, Survey]:
    """Return the survey by quotients and entry by entry, with every explanation of a sample as a claim."""
    solution = solve(draw(of, (), 0))
    claims = [Claim(each.hypothesis, each.loose) for each in solution.explanations]
    quick = survey(of, claims, 1, solution.factor)
    monkeypatch.setattr(count, "outlined", lambda *_: False)
    monkeypatch.setattr(hypothesis, "explained", lambda changed, *_: np.zeros(len(changed.got), dtype=bool))
    return quick, survey(of, claims, 1, solution.factor)


def same(quick: Survey, slow: Survey) -> None:
    for name in COUNTS:
        assert getattr(quick, name) == getattr(slow, name), name
    assert (quick.nonzero > 0) == (slow.nonzero > 0)
    assert np.array_equal(quick.rows, slow.rows)
    assert np.array_equal(quick.columns, slow.columns)
    assert (quick.factor[0] <= quick.factor[1]) == (slow.factor[0] <= slow.factor[1])


def _fitting(data: Data) -> list[Any]:
    return [pytest.param(plant, id=plant.title) for plant in PLANTS if plant.needs(data)]


@pytest.mark.parametrize("plant", _fitting(plants.adversarial()))
@pytest.mark.parametrize("tolerance", [{}, {"rtol": 1e-5, "atol": 1e-9}], ids=["proven", "asked"])
def test_a_planted_bug_is_surveyed_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant, tolerance: dict[str, float]
) -> None:
    d = plants.adversarial()
    with np.errstate(all="ignore"):
        exported = {"grad": plant.make(d).astype(np.float32)}
    if "upstream" in plant.exported:
        exported["upstream"] = d.upstream
    if "class_weights" in plant.exported:
        exported["class_weights"] = d.weights
    with situation(tmp_path, d, {**plant.settings, **tolerance}, **exported) as of:
        same(*both(of, monkeypatch))


@pytest.mark.parametrize("data", [plants.friendly, plants.adversarial], ids=lambda each: each.__name__)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_surveyed_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, seed: int, data: Callable[[int], Data]
) -> None:
    d = data(seed + 20)
    wrong = np.asarray(DAMAGE[damage](d, np.random.default_rng(seed)), dtype=np.float32)
    with situation(tmp_path, d, {}, grad=wrong) as of:
        same(*both(of, monkeypatch))


@pytest.mark.parametrize("size", [1e-7, 1e-6, 3e-6, 1e-5, 1e-4])
def test_errors_near_what_is_allowed_are_surveyed_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: float
) -> None:
    """Between the least and the most of a row every entry has its own bound."""
    d = plants.adversarial(5)
    wrong = (d.right * (1.0 + size * np.random.default_rng(1).normal(size=d.z.shape))).astype(np.float32)
    with situation(tmp_path, d, {}, grad=wrong) as of:
        same(*both(of, monkeypatch))


@pytest.mark.parametrize(
    "code", ["sum-for-mean", "onehot-not-subtracted", "label-off-by-one", "padded-lanes"]
)
def test_what_is_one_number_a_row_needs_no_closer_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    d = plants.friendly()
    plant = next(each for each in PLANTS if each.codes == (code,))
    with situation(tmp_path, d, {}, grad=plant.make(d).astype(np.float32)) as of:
        solution = solve(draw(of, (), 0))
        claims = [Claim(each.hypothesis, each.loose) for each in solution.explanations]
        assert claims
        monkeypatch.setattr(Sight, "view", property(lambda _: pytest.fail("looked closer")))
        found = survey(of, claims, 1, solution.factor)
    assert found.failing > 0
    assert not any(found.unexplained)

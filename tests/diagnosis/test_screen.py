"""What is worked out for many hypotheses or rows at once against the same for each of them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcheck_cli.diagnosis import numerics
from gradcheck_cli.diagnosis.sample import draw
from gradcheck_cli.diagnosis.screen import Passed, Screen
from gradcheck_cli.diagnosis.solve import _pairs, _Solver
from gradcheck_cli.diagnosis.view import Rows, View
from gradcheck_cli.numeric.precision import BFLOAT16, FLOAT16, FLOAT32, Precision
from tests.conftest import Examine
from tests.diagnosis import plants
from tests.diagnosis.plants import PLANTS, Data, Plant
from tests.diagnosis.test_survey import situation


def _ends(each: Passed) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    return tuple(map(id, each.changes)), tuple(map(id, each.rows)), each.alone


@pytest.mark.parametrize("data", [plants.friendly, plants.adversarial], ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    "plant", [each for each in PLANTS if not each.exported and not each.settings], ids=lambda each: each.title
)
def test_pairs_pass_together_as_they_do_alone(tmp_path: Path, plant: Plant, data: Any) -> None:
    d: Data = data()
    with np.errstate(all="ignore"), situation(tmp_path, d, {}, grad=plant.make(d).astype(np.float32)) as of:
        solver = _Solver(draw(of, (), 0))
        pairs = _pairs(solver.changes)
        assert len(pairs) > 60
        together = [_ends(each) for each in solver.screen.passed(pairs)]
        single = Screen(solver.sample, solver.rows)
        alone = [_ends(each) for pair in pairs for each in single.passed([pair])]
    assert together == alone


@pytest.mark.parametrize("most", [1, 3, 9])
def test_rows_that_lie_close_are_the_rows_alone(tmp_path: Path, most: int) -> None:
    d = plants.adversarial()
    chosen = [9, 3, 4, 5, 1, 8, 40, 2, 41]
    with np.errstate(all="ignore"), situation(tmp_path, d, {}, grad=d.right.astype(np.float32)) as of:
        views = list(Rows(of, 16).gathered(chosen, most))
        alone: list[View] = [Rows(of, 1).view(range(row, row + 1)) for row in chosen]
    assert [len(view.got) for view in views] == [most] * (len(chosen) // most)
    for name in ("got", "right", "allowed", "counted", "own_a", "pivot"):
        joined = np.concatenate([getattr(view, name) for view in views])
        assert np.array_equal(joined, np.concatenate([getattr(view, name) for view in alone])), name
    numbers = np.concatenate([view.recipe.numbers for view in views])
    assert numbers.tolist() == chosen


@pytest.mark.parametrize("grid", [FLOAT16, BFLOAT16, FLOAT32], ids=lambda each: each.name)
@pytest.mark.parametrize("off", [0.01, 0.3, 3.0, 30.0, 300.0])
def test_no_logarithm_changes_what_low_precision_excuses(tmp_path: Path, grid: Precision, off: float) -> None:
    d = plants.adversarial()
    rng = np.random.default_rng(0)
    wrong = d.right * (1.0 + off * grid.unit * rng.normal(size=d.z.shape))
    with np.errstate(all="ignore"), situation(tmp_path, d, {}, grad=wrong) as of:
        recipe = Rows(of, len(d.z)).view(range(len(d.z))).recipe
        plane, size = recipe.gradient()
        got, _ = numerics._nearly(grid)(recipe, plane, size)
        depth = -np.log(np.maximum(recipe.a, 1e-300)) + np.log(d.z.shape[1])
        excused = np.expm1(np.minimum(grid.unit * (4.0 * depth + 16.0), 1.0)) * size
        if grid.half:
            excused = np.minimum(excused, np.abs(plane).max(axis=1, keepdims=True) / 6.0)
        near = np.abs(recipe.got - plane) <= excused + 8.0 * grid.smallest_subnormal
    assert np.array_equal(got, np.where(near, recipe.got, plane))


@pytest.mark.parametrize("code", ["ignored-rows-not-zeroed", "label-misread", "label-off-by-one"])
def test_a_bug_in_one_column_of_many_is_named(examine: Examine, code: str) -> None:
    """Hypotheses are tried in some columns of long rows: that of the bug must be one of them."""
    rng = np.random.default_rng(3)
    rows, classes = 24, 9000
    labels = rng.integers(0, classes, rows)
    ignored = np.arange(rows) % 7 == 2
    z = (2.0 * rng.normal(size=(rows, classes))).astype(np.float16).astype(np.float64)
    d = Data(z, labels, ignored, np.ones(rows), np.ones(classes))
    plant = next(each for each in PLANTS if each.codes == (code,) and not each.name)
    outcome = examine(d.z, d.stored, {}, grad=plant.make(d).astype(np.float32))
    assert [each.code for each in outcome.diagnosis] == [code]

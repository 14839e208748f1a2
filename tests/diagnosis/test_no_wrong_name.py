"""What must get no name: gradients that are right, and damage that follows no known formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.diagnosis.fit import by_chance
from gradcheck_cli.outcome import Verdict
from tests.conftest import Examine
from tests.diagnosis import plants
from tests.diagnosis.plants import Array, Data

Generator = np.random.Generator
KINDS: dict[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def _entries(d: Data, rng: Generator, count: int) -> Array:
    out = d.right.copy()
    picked = rng.choice(out.size, count, replace=False)
    out.reshape(-1)[picked] = rng.normal(size=count) * 0.05
    return out


def _swapped(d: Data, rng: Generator) -> Array:
    out = d.right.copy()
    first, second = rng.choice(out.size, 2, replace=False)
    flat = out.reshape(-1)
    flat[[first, second]] = flat[[second, first]] + 0.01
    return out


def _columns(d: Data, rng: Generator) -> Array:
    out: Array = d.right[:, rng.permutation(d.z.shape[1])]
    return out


DAMAGE: dict[str, Callable[[Data, Generator], Any]] = {
    "one entry": lambda d, rng: _entries(d, rng, 1),
    "seven entries": lambda d, rng: _entries(d, rng, 7),
    "a third of the entries": lambda d, rng: _entries(d, rng, d.z.size // 3),
    "noise of a part": lambda d, rng: d.right * (1 + 0.2 * rng.normal(size=d.z.shape)),
    "noise": lambda d, rng: d.right + 0.01 * rng.normal(size=d.z.shape),
    "another tensor": lambda _, rng: rng.normal(size=_.z.shape),
    "rows times noise": lambda d, rng: d.right * rng.uniform(0.3, 3.0, (len(d.z), 1)),
    "columns times noise": lambda d, rng: d.right * rng.uniform(0.3, 3.0, d.z.shape[1]),
    "an odd factor": lambda d, rng: d.right * rng.uniform(0.3, 0.31),
    "two entries swapped": _swapped,
    "columns permuted": _columns,
    "a power": lambda d, _: np.sign(d.right) * np.abs(d.right) ** 1.1,
    "an offset": lambda d, rng: d.right + rng.uniform(0.001, 0.002),
    "other logits": lambda d, rng: d.v * (plants.softmax(d.z + 0.1 * rng.normal(size=d.z.shape)) - d.y) / d.n,
    "a mixture": lambda d, rng: np.where(rng.random(d.z.shape) < 0.5, d.right, d.right * d.n),
    "some NaN": lambda d, rng: np.where(rng.random(d.z.shape) < 0.02, np.nan, d.right),
}


@pytest.mark.parametrize("data", [plants.friendly, plants.adversarial, plants.weak], ids=lambda f: f.__name__)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_without_a_formula_gets_no_name(
    examine: Examine, damage: str, seed: int, data: Callable[[int], Data]
) -> None:
    d = data(seed + 10)
    wrong: Array = DAMAGE[damage](d, np.random.default_rng(seed)).astype(np.float32)
    outcome = examine(d.z, d.stored, {}, grad=wrong)
    harmless = np.array_equal(wrong, d.right.astype(np.float32))  # a permutation may be none
    assert outcome.verdict is (Verdict.PASS if harmless else Verdict.FAIL)
    assert [each.code for each in outcome.diagnosis] == []


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_sixteen_bits_excuse_no_name(examine: Examine, damage: str, kind: str) -> None:
    d = plants.friendly(4)
    with np.errstate(all="ignore"):
        wrong = DAMAGE[damage](d, np.random.default_rng(5)).astype(KINDS[kind])
    outcome = examine(d.z, d.stored, {}, grad=wrong)
    assert [each.code for each in outcome.diagnosis] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [plants.friendly, plants.adversarial, plants.weak], ids=lambda f: f.__name__)
def test_a_right_gradient_gets_none(examine: Examine, kind: str, data: Callable[[], Data]) -> None:
    d = data()
    outcome = examine(d.z, d.stored, {}, grad=d.right.astype(KINDS[kind]))
    assert outcome.verdict is Verdict.PASS
    assert (outcome.diagnosis, outcome.facts) == ((), ())


@pytest.mark.parametrize(
    ("factor", "interval", "vague"),
    [
        (2.0, (1.95, 2.05), False), (2.0, (1.8, 2.1), True), (17.0, (16.96, 17.04), False),
        (17.0, (16.5, 17.5), True), (0.5, (0.49, 0.51), False), (0.5, (0.45, 0.55), True),
        (1 / 17, (1 / 17.04, 1 / 16.96), False), (1 / 17, (1 / 18, 1 / 16), True),
    ],
)  # fmt: skip
def test_copies_and_parts_are_named_only_where_their_number_is_told(
    factor: float, interval: tuple[float, float], *, vague: bool
) -> None:
    assert by_chance(factor, interval) is vague
    assert by_chance(-factor, (-interval[1], -interval[0])) is vague

"""Where a gradient fails is said in words, named or not; also in files too large to be looked at whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradcheck_cli.diagnosis import patterns, where
from gradcheck_cli.outcome import Outcome
from tests.conftest import Examine
from tests.diagnosis import plants
from tests.diagnosis.plants import Array, Data


def large(seed: int = 0, rows: int = 3000, classes: int = 40) -> Data:
    """Return data of more rows than the first look takes in."""
    rng = np.random.default_rng(seed)
    z = (2.0 * rng.normal(size=(rows, classes))).astype(np.float16).astype(np.float64)
    labels = rng.integers(0, classes, rows)
    return Data(z, labels, rng.random(rows) < 0.2, rng.uniform(0.5, 2.0, rows), np.ones(classes))


def unpadded() -> Data:
    """Return the same without ignored rows."""
    return replace(large(), ignored=np.zeros(3000, dtype=bool))


def said(outcome: Outcome) -> dict[str, str]:
    """Return the facts by their codes."""
    return {each.code: each.message for each in outcome.facts}


def codes(outcome: Outcome) -> list[str]:
    return [each.code for each in outcome.diagnosis if each.tied_with is None]


def _noisy(right: Array, where_: Any) -> Array:
    out = right.copy()
    out[where_] += 0.01 * np.random.default_rng(9).normal(size=out[where_].shape)
    return out


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("code", "make"),
    [
        ("sum-for-mean", lambda d: d.right * d.n),
        ("label-shifted", lambda d: plants.shifted(d, 1)),
        ("ignored-rows-not-zeroed", lambda d: (d.a - d.y) / d.n),
        ("mean-of-means", lambda d: plants.in_quarters(d, mean=True)),
        ("stale-rows", lambda d: plants.unwritten(d, 3)),
        ("tail-columns", lambda d: plants.tail(d, 8)),
        ("wrong-axis", lambda d: d.v * (plants.softmax(d.z, 0) - d.y) / d.n),
    ],
)
def test_bugs_are_named_from_a_part_and_confirmed_on_all(
    examine: Examine, code: str, make: plants.Make, threads: int
) -> None:
    d = large()
    outcome = examine(d.z, d.stored, {"threads": threads}, grad=make(d).astype(np.float32))
    assert codes(outcome) == [code]


def test_one_entry_that_does_not_fit_refutes_a_name(examine: Examine) -> None:
    """A sum for a mean, but for one entry in a row that the first look does not take in."""
    d = large()
    for row in (1234, 1235, 1236):  # not all of them are in the sample
        wrong = d.right * d.n
        wrong[row] = np.where(d.v[row] > 0, 7.0, 0.0)
        outcome = examine(d.z, d.stored, {}, grad=wrong)
        assert codes(outcome) == ([] if d.v[row] > 0 else ["sum-for-mean"])


def test_number_of_processes_changes_nothing(examine: Examine) -> None:
    d = large(1, 9000, 130)
    wrong = _noisy(d.right, np.s_[4000:, 128:]).astype(np.float32)
    one, two = (examine(d.z, d.stored, {"threads": threads}, grad=wrong) for threads in (1, 2))
    assert (one.diagnosis, one.facts) == (two.diagnosis, two.facts)


def test_the_last_columns(examine: Examine) -> None:
    rng = np.random.default_rng(2)
    z, labels = rng.normal(size=(6, 50257)), rng.integers(0, 50257, 6)
    right = plants.softmax(z) / 6
    right[np.arange(6), labels] -= 1 / 6
    outcome = examine(z, labels, {}, grad=_noisy(right, np.s_[:, 50220:]))
    assert said(outcome)["in-columns"] == "37 of 50,257 columns fail: all from 50,220 on"


def test_a_tail_that_fills_a_block(examine: Examine) -> None:
    d = large()
    outcome = examine(d.z, d.stored, {}, grad=_noisy(d.right, np.s_[:, 32:]))
    assert "the tail of the last block of 32?" in said(outcome)["in-columns"]
    right_elsewhere = np.where(d.v > 0, _noisy(d.right, np.s_[:, 32:]), 0.0)
    assert codes(examine(d.z, d.stored, {}, grad=right_elsewhere)) == ["tail-columns"]


def test_ignored_rows(examine: Examine) -> None:
    d = large()
    outcome = examine(d.z, d.stored, {}, grad=_noisy(d.right, d.ignored))
    ignored = int(d.ignored.sum())
    assert said(outcome)["in-ignored-rows"].endswith(f"in ignored rows: {ignored:,} of {ignored:,} fail")


def test_confident_rows_and_the_label(examine: Examine) -> None:
    d = plants.friendly()
    sure = (d.a * d.y).sum(axis=1) > 0.99
    wrong = d.right + 0.01 * d.y * d.v * sure[:, None]
    outcome = examine(d.z, d.stored, {}, grad=wrong)
    assert "at-label" in said(outcome)
    assert "in-confident-rows" in said(outcome)


def test_runs_of_rows(examine: Examine) -> None:
    d = unpadded()
    outcome = examine(d.z, d.stored, {}, grad=_noisy(d.right, np.s_[10:25]))
    assert said(outcome)["in-rows"] == "15 of 3,000 rows fail: 10 .. 24"
    last = examine(d.z, d.stored, {}, grad=_noisy(d.right, np.s_[2990:]))
    assert said(last)["in-rows"] == "10 of 3,000 rows fail: all from 2,990 on"


def test_an_offset_that_wraps(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry number 2^31 is out of reach of a test, so 2^16 stands in for it."""
    for module in (patterns, where):
        monkeypatch.setattr(module, "_OFFSETS", {2**16: "2^16"})
    d = unpadded()
    outcome = examine(d.z, d.stored, {}, grad=_noisy(d.right, np.s_[2**16 // 40 :]))
    assert codes(outcome) == ["offset-overflow"]
    assert "where the entry number passes 2^16" in outcome.diagnosis[0].message


def test_infinities_and_zeros(examine: Examine) -> None:
    d = plants.friendly()
    wrong = d.right.copy()
    wrong[3, 4], wrong[6, 7] = np.nan, np.inf
    assert "not-numbers" in said(examine(d.z, d.stored, {}, grad=wrong))
    wrong = d.right.copy()
    wrong[[3, 8, 20], [0, 1, 2]] = 0.0
    assert said(examine(d.z, d.stored, {}, grad=wrong))["zeros"] == "all 3 failing entries got exactly 0"


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((479.999, 480.001), "480.00"),
        ((0.6, 0.7), "0.65"),
        ((-1.00001, -0.99999), "-1.0000"),
        ((2e5, 2e5), "200,000"),
    ],
)
def test_a_factor_shows_the_digits_that_are_sure(interval: tuple[float, float], text: str) -> None:
    assert where.ratio(interval) == text

"""The same result whatever the block size and the thread count; failures are those of the first row."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest

from gradcheck_cli import engine, grid, walks
from gradcheck_cli.errors import InputError
from gradcheck_cli.numeric import difference
from gradcheck_cli.outcome import Outcome
from tests.conftest import Examine, named


def _data(rows: int = 300, classes: int = 17) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(11)
    logits = (rng.normal(size=(rows, classes)) * 4).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    labels[::7] = -100
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs = e / e.sum(axis=1, keepdims=True)
    grad = probs.copy()
    grad[np.arange(rows), labels % classes] -= 1
    grad[labels == -100] = 0
    grad /= np.float32((labels != -100).sum())
    grad[17:250:31, 3] *= np.float32(1.01)
    return {"logits": logits, "labels": labels, "grad": grad, "probs": probs}


def _comparable(outcome: Outcome) -> Any:
    return outcome.checks, outcome.data, outcome.inputs, outcome.verdict


@pytest.mark.parametrize("entries", [1, 40, 100, 1000, 1 << 20])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"softcap": 9.0, "z_loss": 0.01}])
def test_block_size_and_threads_change_nothing(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, entries: int, threads: int, settings: dict[str, Any]
) -> None:
    data = _data()
    logits, labels = data.pop("logits"), data.pop("labels")
    usual = examine(logits, labels, settings | {"threads": 1}, loss=2.5, **data)
    monkeypatch.setattr(grid, "TILE_ENTRIES", entries)
    monkeypatch.setattr(engine, "_WORTH_A_PROCESS", 1)
    again = examine(logits, labels, settings | {"threads": threads}, loss=2.5, **data)
    assert _comparable(again) == _comparable(usual)


@pytest.mark.parametrize("parts", [2, 5])
def test_the_margin_of_a_glance_does_not_depend_on_the_pieces(parts: int, examine: Examine) -> None:
    """A larger relative error in the label's column, whose bound is wider, once hid the margin of others."""
    rng = np.random.default_rng(3)

    def in_parts(order: engine.Order, _: int) -> engine.Examination:
        cuts = np.linspace(0, 1 + order.grid.blocks, parts + 1).astype(int)
        each = [engine.examine_some(order, range(*cut)) for cut in itertools.pairwise(cuts.tolist())]
        return functools.reduce(lambda one, other: one.merge(other, order.top), each)

    logits, labels = 3.0 * rng.normal(size=(20_000, 5)), rng.integers(0, 5, 20_000)
    whole = examine(logits, labels)
    assert examine(logits, labels, examiner=in_parts).checks == whole.checks


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_undefined_row_is_named(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, bad: float, threads: int
) -> None:
    monkeypatch.setattr(grid, "TILE_ENTRIES", 34)
    monkeypatch.setattr(engine, "_WORTH_A_PROCESS", 1)
    data = _data()
    for row in (101, 57, 299, 58):
        data["logits"][row, 2] = bad
    with pytest.raises(InputError, match=rf"logits.npy, entry \[57, 2\]: logit {bad}"):
        examine(data["logits"], data["labels"], {"threads": threads})


def test_a_row_of_minus_infinity_is_refused(examine: Examine) -> None:
    data = _data()
    data["logits"][5] = -np.inf
    with pytest.raises(InputError, match=r"row \[5\]: every class is masked"):
        examine(data["logits"], data["labels"])


def test_a_masked_label_is_refused(examine: Examine) -> None:
    data = _data()
    data["logits"][8, data["labels"][8]] = -np.inf
    with pytest.raises(InputError, match=r"row \[8\]: its label is a masked class"):
        examine(data["logits"], data["labels"])


def test_smoothing_over_a_masked_class_is_refused(examine: Examine) -> None:
    data = _data()
    data["logits"][8, (data["labels"][8] + 1) % 17] = -np.inf
    with pytest.raises(InputError, match=r"row \[8\]: a class with target weight"):
        examine(data["logits"], data["labels"], {"label_smoothing": 0.1})


def test_a_mask_under_a_softcap_is_refused(examine: Examine) -> None:
    data = _data()
    data["logits"][8, 2] = -np.inf
    with pytest.raises(InputError, match=r"row \[8\]: a masked class \(-inf\) under --softcap"):
        examine(data["logits"], data["labels"], {"softcap": 5.0})


@pytest.mark.parametrize("settings", [{}, {"temperature": 3.0}, {"reduction": "sum"}])
@pytest.mark.parametrize("top", [0, 1, 50])
@pytest.mark.parametrize("classes", [7, 40])
def test_a_glance_changes_nothing(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], top: int, classes: int
) -> None:
    """Passing over what is unremarkable gives the same statistics as comparing every entry in full."""
    data = _data(900, classes)
    logits, labels = data.pop("logits"), data.pop("labels")
    monkeypatch.setattr(grid, "TILE_ENTRIES", 400)
    glanced = examine(logits, labels, settings | {"top": top}, **data)
    monkeypatch.setattr(walks.Task, "plain", False)
    closely = examine(logits, labels, settings | {"top": top}, **data)
    assert closely.verdict is glanced.verdict
    for name in ("grad", "probs", "chain"):
        assert named(closely, name) == named(glanced, name)
    for one, other in zip(closely.checks, glanced.checks, strict=True):
        assert (one.name, one.verdict, one.entries) == (other.name, other.verdict, other.entries)


@pytest.mark.parametrize(
    ("settings", "each"), [({"label_smoothing": 0.1}, 1), ({"softcap": 9.0}, 1), ({}, 2)]
)
def test_the_difference_is_computed_once_where_nothing_is_screened(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], each: int
) -> None:
    """Without a rate every tile is compared in full; only a screened tile may need filling again."""
    calls = []
    once = difference.central

    def counted(*args: Any) -> Any:
        calls.append(args)
        return once(*args)

    monkeypatch.setattr(difference, "central", counted)
    data = _data()
    examine(data["logits"], data["labels"], settings | {"threads": 1})
    assert len(calls) <= each

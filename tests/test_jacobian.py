"""The Jacobian of a row as a whole: the right matrix passes, planted bugs fail, the ruler is measured."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli import engine, grid
from gradcheck_cli.choices import MatrixSettings
from gradcheck_cli.errors import InputError, UsageError
from gradcheck_cli.jacobian import READABLE, jacobian
from gradcheck_cli.numeric import jacobian as formulas
from gradcheck_cli.outcome import Outcome, Verdict
from gradcheck_cli.tensors import open_tensor
from tests import layer_oracle, oracle
from tests.conftest import named

Array = np.ndarray[Any, Any]
Examine = Callable[..., Outcome]
STORED = {"float64": np.float64, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """Return what checks arrays as if they came from files."""

    def run(
        z: Any, settings: dict[str, Any] | None = None, exported: Any = None, *, whole: bool = False
    ) -> Outcome:
        arrays = {"logits": z} | ({} if exported is None else {"jacobian": exported})
        with contextlib.ExitStack() as opened:
            tensors = {}
            for role, array in arrays.items():
                np.save(tmp_path / f"{role}.npy", array)
                tensors[role] = opened.enter_context(open_tensor(str(tmp_path / f"{role}.npy"), role=role))
            return jacobian(tensors, MatrixSettings(**(settings or {})), whole=whole)

    return run


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.max())
    a: Array = e / e.sum()
    return a


def _of(a: Array) -> Array:
    right: Array = np.diag(a) - np.outer(a, a)
    return right


def _right(z: Array) -> Array:
    return _of(_softmax(z))


def _logits() -> Array:
    rng = np.random.default_rng(9)
    return (2 * rng.normal(size=(4, 7))).astype(np.float16).astype(np.float64)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_the_oracle_passes_and_a_part_in_10_12_fails(
    examine: Examine, scale: float, temperature: float
) -> None:
    z = scale * _logits()
    z[2, 3] = -np.inf
    truth = oracle.as_float64(layer_oracle.jacobian(z[2], temperature))
    settings = {"row": 2, "temperature": temperature}
    assert examine(z, settings, truth).verdict is Verdict.PASS
    place = np.unravel_index(np.abs(truth).argmax(), truth.shape)
    truth[place] *= 1 + 3e-12
    outcome = examine(z, settings, truth)
    assert outcome.exit_code == 1
    assert named(outcome, "jacobian").worst[0].index == place


BUGS: dict[str, Callable[[Array], Array]] = {
    "cross terms left out": lambda a: np.diag(a - a * a),
    "a on the diagonal": lambda a: np.diag(a * a) + _of(a),
    "sign of the cross terms": lambda a: np.abs(_of(a)),
    "sign": lambda a: -_of(a),
    "only the cross terms": lambda a: -np.outer(a, a),
    "rows scaled": lambda a: _of(a) * a[:, None],
    "log-softmax": lambda a: np.eye(len(a)) - a[None, :],
    "one entry 1 % off": lambda a: _of(a) * (1 + 0.01 * (_of(a) >= _of(a).max())),
    "NaN": lambda a: np.where(_of(a) >= _of(a).max(), np.nan, _of(a)),
}


@pytest.mark.parametrize("dtype", STORED)
def test_the_right_matrix_passes(examine: Examine, dtype: str) -> None:
    z = _logits()
    assert examine(z, {"row": 1}, _right(z[1]).astype(STORED[dtype])).verdict is Verdict.PASS


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_fails(examine: Examine, bug: str, dtype: str) -> None:
    if dtype in ("bfloat16", "float16") and bug == "one entry 1 % off":
        pytest.skip("1 % is within what 16-bit arithmetic may cost")
    z = _logits()
    wrong = BUGS[bug](_softmax(z[1])).astype(STORED[dtype])
    assert examine(z, {"row": 1}, wrong).exit_code == 1


@pytest.mark.parametrize("dtype", STORED)
def test_a_matrix_that_was_rounded_once_is_correctly_rounded(examine: Examine, dtype: str) -> None:
    z = _logits()
    check = named(examine(z, {"row": 1}, _right(z[1]).astype(STORED[dtype])), "jacobian")
    known = "tree" if dtype == "float64" else "correctly rounded"  # softgrad itself is no better than float64
    assert (check.verdict, check.explained_by) == (Verdict.PASS, known)
    assert check.ulp_entries == 49


CLASSES = 1025


@pytest.mark.parametrize(("lanes", "words"), [(1, "any order"), (8, "lanes"), (64, "tree")])
def test_the_order_of_a_sum_is_named(examine: Examine, lanes: int, words: str) -> None:
    """A float32 sum of 1 and a thousand numbers of a little under half an ulp grows in no lane that has 1."""
    e = np.full(CLASSES, 2.0**-24 * 0.98, dtype=np.float32)
    e[0] = 1.0
    columns = np.resize(e[: CLASSES // lanes * lanes], (CLASSES // lanes, lanes))
    total = np.add.accumulate(columns)[-1].astype(np.float64).sum() + float(
        e[CLASSES // lanes * lanes :].sum()
    )
    a = (e / np.float32(total)).astype(np.float64)
    others = np.concatenate([[a[1:].sum()], 1.0 - a[1:]])
    exported = -np.outer(a, a)
    exported[np.diag_indices(CLASSES)] = a * others
    outcome = examine(np.log(e.astype(np.float64))[None, :], None, exported.astype(np.float32))
    assert (outcome.verdict, named(outcome, "jacobian").explained_by) == (Verdict.PASS, words)
    assert ("summation-order" in [each.code for each in outcome.warnings]) == (words == "any order")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_arithmetic_in_16_bits_is_named(examine: Examine, dtype: str) -> None:
    z, kind = _logits(), STORED[dtype]
    e = np.exp((z[1] - z[1].max()).astype(kind))
    a = e / np.add.accumulate(e)[-1]
    exported = -(a[:, None] * a[None, :])
    exported[np.diag_indices(7)] = a - a * a
    check = named(examine(z, {"row": 1}, exported.astype(kind)), "jacobian")
    assert (check.verdict, check.explained_by) == (Verdict.PASS, "native half")


def test_a_tolerance_grades_nothing_and_no_model_explains_what_fails(examine: Examine) -> None:
    z = _logits()
    wrong = _right(z[1]).astype(np.float32) * np.float32(1.01)
    check = named(examine(z, {"row": 1}, wrong), "jacobian")
    assert (check.verdict, check.explained_by) == (Verdict.FAIL, None)
    check = named(examine(z, {"row": 1, "rtol": 0.1, "atol": 0.1}, wrong), "jacobian")
    assert (check.verdict, check.explained_by) == (Verdict.PASS, None)


def test_logits_that_were_rounded_afterwards(examine: Examine) -> None:
    z = (3 * np.random.default_rng(13).normal(size=(1, 6))).astype(np.float32)
    right, stored = _right(z[0]).astype(np.float32), z.astype(ml_dtypes.bfloat16)
    assert examine(stored, None, right).exit_code == 1
    assert examine(stored, {"logits_rounded": "bfloat16"}, right).verdict is Verdict.PASS
    assert examine(stored, {"logits_rounded": "bfloat16"}, -right).exit_code == 1


def test_a_jacobian_of_another_row_fails(examine: Examine) -> None:
    z = _logits()
    assert examine(z, {"row": 1}, _right(z[2])).exit_code == 1


def test_the_row_is_found_in_a_jacobian_of_all_rows(examine: Examine) -> None:
    z = _logits().reshape(2, 2, 7)
    whole = np.array([[_right(row) for row in part] for part in z])
    assert examine(z, {"row": 3}, whole).verdict is Verdict.PASS
    whole[1, 1, 4, 2] += 1e-9
    assert named(examine(z, {"row": 3}, whole), "jacobian").worst[0].index == (1, 1, 4, 2)
    assert examine(z, {"row": 2}, whole).verdict is Verdict.PASS


def test_the_row_along_another_axis(examine: Examine) -> None:
    z = _logits()
    outcome = examine(z.T.copy(), {"row": 2, "axis": 0}, _right(z[2]))
    assert outcome.verdict is Verdict.PASS
    assert outcome.matrix is not None
    assert outcome.matrix.row == (2,)


def test_few_classes_are_shown_in_full_and_many_by_the_likeliest(examine: Examine) -> None:
    few = examine(_logits()).matrix
    assert few is not None
    assert few.analytic.shape == (7, 7)
    assert np.abs(few.analytic - _right(_logits()[0])).max() < 1e-15
    rng = np.random.default_rng(10)
    z = rng.normal(size=(1, 50))
    some, whole = examine(z).matrix, examine(z, whole=True).matrix
    assert some is not None
    assert whole is not None
    chosen = np.sort(np.argsort(-z[0])[:READABLE])
    assert some.classes.tolist() == chosen.tolist()
    assert np.abs(np.array(list(whole.analytic)) - _right(z[0])).max() < 1e-15
    assert (some.difference == np.array(list(whole.difference))[np.ix_(chosen, chosen)]).all()
    assert (some.error <= some.allowed).all()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("entries", [1, 100, 1 << 20])
def test_block_size_and_threads_change_nothing(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, entries: int, threads: int
) -> None:
    rng = np.random.default_rng(11)
    z = rng.normal(size=(1, 60))
    wrong = _right(z[0]).astype(np.float32)
    wrong[7, 9] *= np.float32(1.5)
    usual = examine(z, {"threads": 1}, wrong)
    monkeypatch.setattr(grid, "TILE_ENTRIES", entries)
    monkeypatch.setattr(engine, "_WORTH_A_PROCESS", 1)
    again = examine(z, {"threads": threads}, wrong)
    assert (again.checks, again.verdict) == (usual.checks, usual.verdict)


@pytest.mark.parametrize(
    ("broken", "found_by"),
    [
        ("rows_of", {"difference", "audit", "columns", "symmetry", "hessian"}),
        ("differences_of", {"difference"}),
        ("columns_of", {"columns"}),
        ("transposed_differences_of", {"symmetry"}),
        ("second_differences_of", {"hessian"}),
        ("brute_force", {"audit"}),
    ],
)
def test_a_wrong_formula_is_inconclusive_and_found_by_the_others(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, broken: str, found_by: set[str]
) -> None:
    right = getattr(formulas, broken)

    def wrong(*args: Any) -> Any:
        out = right(*args)
        if isinstance(out, float):
            return out + 1e-7
        out *= 1 + 1e-7
        return out

    monkeypatch.setattr(formulas, broken, wrong)
    z = _logits()
    outcome = examine(z, None, _right(z[0]))
    assert outcome.exit_code == 2
    off = {each.name for each in outcome.checks if each.verdict is Verdict.FAIL}
    assert found_by <= off | {"audit"}
    assert off - {"audit"} == found_by - {"audit"}


@pytest.mark.parametrize(
    ("settings", "exported", "says"),
    [
        ({"row": 4}, None, "--row 4: .* has 4 rows, 0 .. 3"),
        ({"axis": 5}, None, "no such axis"),
        ({}, np.zeros((7, 6)), "of one row has shape .7, 7., of all rows .4, 7, 7."),
        ({}, np.zeros((3, 7, 7)), "has shape .3, 7, 7., but"),
    ],
)
def test_what_does_not_fit_is_refused(
    examine: Examine, settings: dict[str, Any], exported: Any, says: str
) -> None:
    with pytest.raises((InputError, UsageError), match=says):
        examine(_logits(), settings, exported)


@pytest.mark.parametrize(("bad", "says"), [(np.nan, "logit nan"), (-np.inf, "every class is masked")])
def test_a_row_without_softmax_is_refused(examine: Examine, bad: float, says: str) -> None:
    z = _logits()
    z[1] = bad
    assert examine(z).verdict is Verdict.PASS
    with pytest.raises(InputError, match=says):
        examine(z, {"row": 1})

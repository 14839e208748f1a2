"""A glance must find whatever comparing every entry in full would find."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli import engine, grid, walks
from gradcheck_cli.bounds import ACCEPTED, Ladder, Rate, surely_clear
from gradcheck_cli.exports import Export
from gradcheck_cli.findings import Entry, Finding, Tally
from gradcheck_cli.grades import ARITHMETIC
from gradcheck_cli.limits import Limits, Plain, Sizes
from gradcheck_cli.numeric import accuracy, compiled, difference
from gradcheck_cli.numeric.cross_entropy import Loss
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import BFLOAT16, FLOAT32, Precision
from gradcheck_cli.numeric.softmax import Link, Sums
from gradcheck_cli.outcome import Check
from gradcheck_cli.watch_export import WatchExport
from tests.conftest import Examine, named

Array = np.ndarray[Any, Any]


class Case:
    """A random plain problem with a right gradient, in which a few entries are then changed."""

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng([41, number])
        rows, classes = int(rng.integers(1, 90)), int(rng.choice([1, 2, 3, 10, 31, 33, 70]))
        self.z: Array = rng.normal(size=(rows, classes)) * rng.choice([0.01, 1.0, 10.0, 300.0])
        self.labels = rng.integers(0, classes, rows)
        if classes > 2 and rng.random() < 0.4:
            masked = rng.random(self.z.shape) < 0.2
            masked[np.arange(rows), self.labels] = False
            self.z[masked] = -np.inf
        if rows > 1 and rng.random() < 0.5:
            self.labels[1:][rng.random(rows - 1) < 0.3] = -100
        e = np.exp(self.z - self.z.max(axis=1, keepdims=True))
        self.probs: Array = e / e.sum(axis=1, keepdims=True)
        self.upstream = rng.normal(size=rows) * (rng.random(rows) < 0.8)
        counted = self.labels != -100
        y = np.eye(classes)[np.where(counted, self.labels, 0)]
        self.grad: Array = (self.probs - y) * (self.upstream * counted)[:, None]
        self.dtype = str(rng.choice(["float32", "float64", "float16", "bfloat16"]))
        noise = rng.choice([0.0, 2.0**-22, 2.0**-9])
        self.grad, self.probs = (self._stored(each, noise, rng) for each in (self.grad, self.probs))
        for _ in range(int(rng.integers(0, 4))):
            for plane in (self.grad, self.probs):
                at = int(rng.integers(0, rows)), int(rng.integers(0, classes))
                plane[at] = self._changed(plane[at], rng)

    def _stored(self, values: Array, noise: float, rng: np.random.Generator) -> Array:
        """Return values as an exporter stores them who is off by so much."""
        values = values * (1.0 + noise * rng.uniform(-1.0, 1.0, values.shape))
        if self.dtype == "bfloat16":  # as people store it who have no such format
            return values.astype(ml_dtypes.bfloat16).astype(np.float32)
        return values.astype(self.dtype)

    @staticmethod
    def _changed(value: Any, rng: np.random.Generator) -> Any:
        ways = [value * (1 + 10.0 ** rng.uniform(-16, 0)), -value, np.nan, np.inf, value + 1e-12, 0.0]
        return ways[int(rng.integers(0, len(ways)))]


@pytest.mark.usefixtures("road")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(100))
def test_the_same_is_found_as_by_a_close_look(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with np.errstate(all="ignore"):
        case = Case(number)
    tensors = {"upstream": case.upstream, "grad": case.grad, "probs": case.probs}
    settings = {"reduction": "none", "threads": 1 + number % 3}
    if number % 5 == 0:
        settings["compute_dtype"] = ("float32", "bfloat16", "float16")[number // 5 % 3]
    monkeypatch.setattr(grid, "TILE_ENTRIES", int(10 ** (number % 4)))
    monkeypatch.setattr(engine, "_WORTH_A_PROCESS", 1)
    found: list[engine.Examination] = []

    def examiner(order: engine.Order, processes: int) -> engine.Examination:
        found.append(engine.examine(order, processes))
        return found[-1]

    glanced = examine(case.z, case.labels, settings, examiner, **tensors)
    monkeypatch.setattr(walks.Task, "plain", False)
    closely = examine(case.z, case.labels, settings, examiner, **tensors)
    for name in ("grad", "probs"):
        assert _plain(named(glanced, name)) == _plain(named(closely, name))
        assert found[0].findings[name].grade == found[1].findings[name].grade
    assert {each.code for each in glanced.warnings} == {each.code for each in closely.warnings}
    assert named(glanced, "difference").verdict is named(closely, "difference").verdict


def _plain(check: Check) -> Check:
    """Return a check without NaN, which is equal to nothing."""
    worst = tuple(replace(each, got=float(np.nan_to_num(each.got, nan=7e77))) for each in check.worst)
    return replace(check, worst=worst)


class Fault:
    """Makes the finite difference of entry [17, 3] of 60 x 40 wrong by a factor, however it is worked out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
        self._factor = factor
        self._weights: list[float] = []
        right, looped = difference._log_ratio, compiled.Loops.quotients

        def log_ratio(w: Array, move: Any, out: Array, inverse: Any = 1.0) -> None:
            right(w, move, out, inverse)
            self._note(w, inverse)
            out[np.isin(w, self._weights)] *= factor

        def quotients(loops: Any, w: Array, inverse: Array, step: Any, gaps: int) -> Array:
            self._note(w, inverse[:, None])
            found = looped(loops, w, inverse, step, gaps)
            rows, columns = np.nonzero(np.isin(w, self._weights))
            exactly = step.width * inverse[rows]
            found[2, rows] = exactly * factor
            off = found[2, rows] - exactly
            found[3, rows] = np.maximum(found[3, rows], off * w[rows, columns])
            return found

        monkeypatch.setattr(difference, "_log_ratio", log_ratio)
        monkeypatch.setattr(compiled.Loops, "quotients", quotients)
        monkeypatch.setattr(walks, "FIRST", 1)

    def _note(self, w: Array, inverse: Any) -> None:
        """Remember the entry's w, and its a: in other calls it stands alone, or among others."""
        if w.shape == (60, 40):
            self._weights += [w[17, 3], w[17, 3] * np.broadcast_to(inverse, (60, 1))[17, 0]]


@pytest.mark.usefixtures("road")
def test_a_difference_that_is_off_in_one_entry_is_found(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    Fault(monkeypatch, 1 + 1e-13)
    rng = np.random.default_rng(5)
    outcome = examine(rng.normal(size=(60, 40)), np.full(60, 39), {"seed": 1})
    found = named(outcome, "difference")
    assert (found.failing, found.worst[0].index) == (1, (17, 3))


@pytest.mark.usefixtures("road")
def test_the_largest_error_of_a_difference_is_recorded(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error within the ruler's own leaves no row in doubt; the largest is found where w is large."""
    Fault(monkeypatch, 1 + 1.2e-15)
    logits = np.random.default_rng(5).normal(size=(60, 40))
    logits[17, 3], logits[17, 5] = 9.0, 9.1
    found = named(examine(logits, np.full(60, 39), {"seed": 1}), "difference")
    assert (found.failing, found.worst[0].index) == (0, (17, 3))
    assert found.max_abs_error == pytest.approx(found.worst[0].abs_error)
    assert found.max_abs_error > 7e-18


@pytest.mark.usefixtures("road")
def test_a_row_that_allows_no_error_is_not_judged_at_its_label_by_what_is_left_open(examine: Examine) -> None:
    """A row whose scale was a million million times the others' left its label open, and failed there."""
    rng = np.random.default_rng(0)
    rows, classes = 600, 1000
    z, labels, upstream = (
        rng.normal(size=(rows, classes)),
        rng.integers(0, classes, rows),
        np.full(rows, 1e-12),
    )
    upstream[500] = 1.0
    e = np.exp(z - z.max(axis=1, keepdims=True))
    grad = (e / e.sum(axis=1, keepdims=True) - np.eye(classes)[labels]) * upstream[:, None]
    outcome = examine(z, labels, {"reduction": "none"}, grad=grad.astype(np.float32), upstream=upstream)
    assert named(outcome, "grad").failing == 0


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("classes", [20, 50])
def test_a_number_where_0_is_right_is_infinitely_wrong_however_small(examine: Examine, classes: int) -> None:
    """The least number was next to nothing beside the least normal one, which stands for 0."""
    z = np.random.default_rng(0).normal(size=(40, classes))
    z[:, 7] = -800.0
    e = np.exp(z - z.max(axis=1, keepdims=True))
    probs = (e / e.sum(axis=1, keepdims=True)).astype(np.float32).astype(float)
    probs[33, 7] = 5e-324
    settings = {"compute_dtype": "float32"}
    outcome = examine(z, np.zeros(40, dtype=np.int64), settings, probs=probs)
    assert named(outcome, "probs").max_rel_error == np.inf


def test_a_single_entry_that_only_16_bit_arithmetic_explains_is_found(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "TILE_ENTRIES", 400)
    logits = np.random.default_rng(3).normal(size=(200, 40)).astype(np.float32)
    e = np.exp(logits.astype(float) - logits.max(axis=1, keepdims=True))
    grad = (e / e.sum(axis=1, keepdims=True) - np.eye(40)[7]).astype(ml_dtypes.bfloat16).astype(np.float32)
    grad[150, 3] = ml_dtypes.bfloat16(1.015 * grad[150, 3])
    found: list[engine.Examination] = []

    def examiner(order: engine.Order, processes: int) -> engine.Examination:
        found.append(engine.examine(order, processes))
        return found[-1]

    examine(logits, np.full(200, 7), {"reduction": "sum"}, examiner, grad=grad)
    grade = found[0].findings["grad"].grade
    assert (grade.model, grade.strained, grade.strained_rows) == (Model.NATIVE_HALF, 1, 1)
    assert (grade.nonzero, grade.rows) == (logits.size, 200)


LEAST = {**dict.fromkeys(ARITHMETIC, Rate(0.0, 1e-3)), ACCEPTED: Rate(0.0, 1e-2)}


def _recorded(
    grid: Precision,
    *,
    margin: float = 1.0,
    relative: float = 1.0,
    ulps: float = 1e9,
    model: Model = ACCEPTED,
) -> Limits:
    """Return the limits of a gradient of which these errors are on record, besides an absolute one of 1."""
    tally = Tally(grid, 1)
    worst = Entry(0, 0, 1.0, 0.0, 1.0, 1.0, margin)
    tally.add(Finding(1, 0, 1.0, relative, ulps, margin, (worst,)))
    tally.needs(model)
    rows: Any = SimpleNamespace(classes=100)
    native = grid if grid.half else None
    none = np.zeros(1)
    return Limits.of(tally, Export("grad", rows, grid, FLOAT32, native, None), LEAST, Plain(none, none, none))


def _single(limits: Limits, error: float, size: float) -> bool:
    one = np.array([[size]])
    sizes = Sizes(np.array([[error]]), one, None, np.empty_like(one), np.empty_like(one))
    return limits.exceeded(sizes) is not None


@pytest.mark.parametrize("grid", [FLOAT32, BFLOAT16], ids=lambda grid: str(grid.name))
@pytest.mark.parametrize("size", [0.75, 0.51, 1.0 - 2.0**-40, 3e-5])
@pytest.mark.parametrize("share", [0.99, 1.01])
def test_more_than_is_on_record_is_remarkable(grid: Precision, size: float, share: float) -> None:
    ulp = 2.0 ** (np.frexp(size)[1] - grid.digits)
    limits = _recorded(grid, ulps=0.4)
    assert _single(limits, share * 0.4 * ulp, size) == (share > 1.0)
    limits = _recorded(grid, relative=grid.unit / 4.0)
    assert _single(limits, share * size * grid.unit / 4.0, size) == (share > 1.0)
    limits = _recorded(grid, margin=0.01)
    allowed = 1e-2 * size + (ulp / 2.0 if grid.half else 0.0)
    assert _single(limits, share * 0.01 * allowed, size) == (share > 1.0)
    limits = _recorded(grid)
    assert _single(limits, share, 1e6) == (share > 1.0)


def test_what_needs_a_looser_model_is_remarkable() -> None:
    limits = _recorded(FLOAT32, model=Model.TREE)
    assert not _single(limits, 0.99e-3 * 0.75, 0.75)
    assert _single(limits, 1.01e-3 * 0.75, 0.75)


@pytest.mark.parametrize(("relative", "remarkable"), [(0.5, [True, True]), (1.0, [False, True])])
def test_what_is_flushed_is_remarkable_once(relative: float, remarkable: list[bool]) -> None:
    """Of two entries that are off by as much as they are, and twice that, the first is stored as 0."""
    size = np.array([[2.0**-149, 2.0**-149]])
    planes = np.empty((2, 1, 2))
    sizes = Sizes(size * [1.0, 2.0], size, size < [1.0, 0.0], *planes)
    found = _recorded(FLOAT32, relative=relative).exceeded(sizes)
    assert found is not None
    assert found.tolist() == [remarkable]


def test_what_only_16_bit_arithmetic_explains_is_remarkable() -> None:
    """It is counted, however large the errors on record."""
    limits = _recorded(BFLOAT16)
    assert not _single(limits, 0.49 * 2.0**-8, 0.75)
    assert _single(limits, 0.51 * 2.0**-7, 0.75)


@pytest.mark.parametrize(("ulps", "remarkable"), [(3.9, False), (4.1, True)])
def test_more_ulps_at_the_label_than_on_record_are_remarkable(ulps: float, remarkable: bool) -> None:
    tally, size = Tally(FLOAT32, 1), np.array([0.75])
    tally.add(Finding(1, 0, 1.0, 1e-3, 4.0, 1.0, (Entry(0, 0, 1.0, 0.0, 1.0, 1.0, 1.0),)))
    tally.needs(ACCEPTED)
    rows: Any = SimpleNamespace(classes=100)
    watch = WatchExport(Export("grad", rows, FLOAT32, FLOAT32, None, None), Loss(Link()), tally)
    at = SimpleNamespace(magnitude=np.ones(1), sums=SimpleNamespace(own_a=np.ones(1)))
    seen: Any = SimpleNamespace(at=at)
    assert watch._remarkable(seen, size + ulps * 2.0**-24, size) == remarkable


@pytest.mark.parametrize("reach", [1.0, 1e3, 1e6, 1e7])
def test_rows_that_are_surely_clear_are_not_vague(reach: float) -> None:
    rng = np.random.default_rng(8)
    rows, classes = 50, 30
    top, log_total = rng.uniform(-reach, reach, rows), rng.uniform(0.0, np.log(classes), rows)
    none, first = np.zeros(rows), np.zeros(rows, dtype=np.int64)
    link = Link(temperature=0.5)
    sums = Sums(
        top, np.abs(top), np.exp(log_total), none, log_total, first, none, none + 1.0, none + 0.5, classes
    )
    export = Export("grad", SimpleNamespace(classes=classes), FLOAT32, FLOAT32, None, None)  # type: ignore[arg-type]
    at = accuracy.bare(sums, link)
    clear = surely_clear(at, export)
    assert clear == (reach < 1e4)
    assert not (clear and Ladder(at, export).vague().any())


def test_a_glance_sees_rows_of_which_nothing_can_be_said(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "TILE_ENTRIES", 400)
    logits = np.random.default_rng(1).normal(size=(300, 40)).astype(np.float32)
    logits[200] += np.float32(1e8)
    e = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True)) ** 2
    grad = e / e.sum(axis=1, keepdims=True)
    grad[:, 7] -= 1.0
    settings = {"temperature": 0.5, "reduction": "sum"}
    outcome = examine(logits, np.full(300, 7), settings, grad=(2.0 * grad).astype(np.float32))
    assert "nothing-sure" in {each.code for each in outcome.warnings}

"""The compiled loops say what NumPy's passes say, and find all that may exceed a limit."""

from __future__ import annotations

import binascii
import ctypes
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mpmath  # type: ignore[import-untyped,unused-ignore]
import numpy as np
import pytest

from gradcheck_cli.limits import Limits, Sizes
from gradcheck_cli.numeric import compiled, difference
from gradcheck_cli.numeric.compiled import Loops
from gradcheck_cli.numeric.precision import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Precision
from gradcheck_cli.numeric.softmax import Link, exponentials, shift, weigh

Array = np.ndarray[Any, Any]
U = 2.0**-53

SHAPES = [
    (1, 1),
    (7, 1),
    (300, 2),
    (129, 10),
    (1, 17),
    (128, 32),
    (5, 33),
    (3, 127),
    (3, 128),
    (2, 129),
    (2, 1000),
]
"""Rows of few classes lie column by column."""


@pytest.fixture(name="loops")
def _loops() -> Loops:
    found = compiled.loops()
    if found is None:
        pytest.skip("no compiled loops, or none wanted")
    return found


@pytest.fixture(name="build")
def _build(monkeypatch: pytest.MonkeyPatch) -> Any:
    compiled.loops()  # remembered, so that no later test finds what the environment refuses
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    return pytest.importorskip("gradcheck_cli.numeric.compiled.build")


@pytest.fixture
def _looked_for_again() -> Iterator[None]:
    """Forget the loops before the test and after it."""
    compiled.loops.cache_clear()
    yield
    compiled.loops.cache_clear()


@pytest.mark.usefixtures("loops", "_looked_for_again")
def test_a_library_of_other_sources_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits in another order once found nothing beyond them."""
    source = tmp_path / "loops.c"
    source.write_bytes(Path(compiled.SOURCE).read_bytes() + b"\n")
    monkeypatch.setattr(compiled, "SOURCE", str(source))
    assert compiled.loops() is None


def _weights(shape: tuple[int, int], seed: int) -> tuple[Array, Array, Array]:
    """Return w, 0 in the label's column, 1 / S, and the labels, laid out as the engine does."""
    rng = np.random.default_rng([seed, *shape])
    d = rng.normal(size=shape) * rng.choice([0.1, 3.0, 40.0])
    d -= d.max(axis=1, keepdims=True)
    labels = rng.integers(0, shape[1], shape[0])
    w = np.exp(d)
    inverse = 1.0 / w.sum(axis=1)
    w[np.arange(shape[0]), labels] = 0.0
    return _laid_out(w), inverse, labels


def _laid_out(plane: Array) -> Array:
    """Return a plane with what an engine's has, in which it is cut from a longer one."""
    n, classes = plane.shape
    longer = np.empty((n + 3, classes), order="F" if classes <= 32 else "C")
    longer[:n] = plane
    return longer[:n]


def _by_numpy(monkeypatch: pytest.MonkeyPatch, *given: Any) -> difference.Quotients:
    with monkeypatch.context() as patched:
        patched.setattr(compiled, "loops", lambda: None)
        return difference.quotients(*given)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_quotients_are_those_of_numpy(
    shape: tuple[int, int], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    w, inverse, labels = _weights(shape, seed)
    with np.errstate(all="ignore"):
        own = difference.quotients(w, inverse, labels, np.empty_like(w))
        other = _by_numpy(monkeypatch, w, inverse, labels, np.empty_like(w))
    assert own.sums == pytest.approx(other.sums, rel=(shape[1] + 8) * U, abs=1e-300)
    for one, two in ((own.lowest, other.lowest), (own.highest, other.highest)):
        assert one == pytest.approx(two, rel=8 * U)
    assert (own.farthest <= other.farthest + 8 * U * other.exact).all()


@pytest.mark.parametrize("seed", range(6))
def test_a_quotient_is_as_accurate_as_the_ruler_takes_it_to_be(seed: int, road: str) -> None:
    """Against 60 digits: 12u of the difference, as `ruler.difference_error` says, with its truncation."""
    rng = np.random.default_rng([7, seed])
    w = np.exp(-rng.exponential(rng.choice([1.0, 30.0, 100.0]), size=(200, 1)))
    inverse = rng.uniform(1e-5, 1.0, 200) / np.maximum(w[:, 0], 0.5)
    found = difference.quotients(w, inverse, None, np.empty_like(w)).single
    for weight, share, quotient in zip(w[:, 0], inverse, found, strict=True):
        with mpmath.workdps(60):
            a, h = mpmath.mpf(weight) * mpmath.mpf(share), mpmath.mpf(difference.STEP)
            true = (mpmath.log1p(a * mpmath.expm1(h)) - mpmath.log1p(a * mpmath.expm1(-h))) / mpmath.mpf(
                weight
            )
            assert abs(mpmath.mpf(quotient) / true - 1) <= 12 * U, road


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_are_the_same_alone_and_among_others(shape: tuple[int, int]) -> None:
    with np.errstate(all="ignore"):
        w, inverse, labels = _weights(shape, 1)
        whole = difference.quotients(w, inverse, labels, np.empty_like(w))
        for row in range(0, shape[0], 37):
            one = slice(row, row + 1)
            alone = difference.quotients(_laid_out(w[one]), inverse[one], labels[one], np.empty_like(w[one]))
            for name in ("sums", "lowest", "highest", "farthest"):
                assert getattr(alone, name)[0] == getattr(whole, name)[row]


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("shape", [(40, 9), (40, 300)], ids=str)
def test_a_quotient_that_is_none_is_told(shape: tuple[int, int]) -> None:
    w, inverse, labels = _weights(shape, 2)
    w[3, (labels[3] + 1) % shape[1]] = 0.0
    w[5, (labels[5] + 1) % shape[1]] = np.nan
    with np.errstate(all="ignore"):
        found = difference.quotients(w, inverse, labels, np.empty_like(w))
    assert np.flatnonzero(np.isnan(found.off)).tolist() == [3, 5]
    assert np.isnan(found.sums).nonzero()[0].tolist() == [5]


@pytest.mark.parametrize("depth", [0.1, 30.0, 690.0, 745.5, 800.0, 1e30])
def test_exponentials_are_within_two_units(depth: float, loops: Loops) -> None:
    """As accurate as `accuracy.EXP_ULP` takes those of float64 to be, twice; against 60 digits."""
    d = -depth * np.random.default_rng(3).random(400)
    d[:4] = 0.0, -0.0, -depth, -np.inf
    with mpmath.workdps(60):
        for x, w in zip(d, loops.exponential(d), strict=True):
            true = mpmath.exp(x)
            assert abs(mpmath.mpf(w) - true) <= 2 * U * true + mpmath.mpf(2) ** -1075
    assert loops.exponential(d)[[0, 1, 3]].tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("shape", [(1, 33), (4, 127), (3, 128), (3, 129), (2, 1000), (70, 300)], ids=str)
@pytest.mark.parametrize("stored", ["float32", "float64"])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_logits_are_weighed_as_by_numpy(
    shape: tuple[int, int], stored: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(shape)
    z: Any = (rng.choice([1.0, 100.0]) * rng.normal(size=shape)).astype(stored)
    pivot = rng.integers(0, shape[1], shape[0])
    z[0, pivot[0] - 1] = -np.inf
    own, other = np.empty(shape), np.empty(shape)
    found = weigh(z, Link(temperature), pivot, own)
    with monkeypatch.context() as patched:
        patched.setattr(compiled, "loops", lambda: None)
        theirs = weigh(z, Link(temperature), pivot, other)
    assert found[:3].tobytes() == theirs[:3].tobytes()
    assert found[3:] == pytest.approx(theirs[3:], rel=40 * U)
    assert (np.abs(own - other) <= 4 * U * other + 2.0**-1074).all()
    assert (own[np.arange(shape[0]), pivot] == 0.0).all()
    assert own.sum(axis=1) == pytest.approx(found[3], rel=40 * U)
    if stored == "float64":
        weigh(z, Link(temperature), pivot, z)
        assert z.tobytes() == own.tobytes()


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("classes", [10, 300])
def test_a_glance_weighs_as_a_close_look_does(classes: int) -> None:
    """The same bits, in the pivot column too."""
    rng = np.random.default_rng(classes)
    z, pivot = _laid_out(10.0 * rng.normal(size=(50, classes))), rng.integers(0, classes, 50)
    glanced = np.empty_like(z)
    found = weigh(z, Link(0.7), pivot, glanced)
    d = z.copy(order="K")
    shift(d, Link(0.7), None)
    closely = np.empty_like(d)
    rest, own = exponentials(d, pivot, closely)
    rows = np.arange(50)
    assert (rest.tobytes(), own.tobytes()) == (found[3].tobytes(), found[4].tobytes())
    assert found[2].tobytes() == d[rows, pivot].tobytes()
    glanced[rows, pivot] = found[4]
    assert glanced.tobytes(order="A") == closely.tobytes(order="A")


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("stored", ["float32", "float64"])
@pytest.mark.parametrize("column", [0, 50, 99])
@pytest.mark.parametrize("nan", [np.nan, -np.nan])
def test_a_row_with_a_nan_has_no_maximum(stored: str, column: int, nan: float) -> None:
    z: Any = np.zeros((3, 100), stored)
    z[1, column] = nan
    with np.errstate(all="ignore"):
        found = weigh(z, Link(), np.zeros(3, dtype=np.int64), np.empty(z.shape))
    assert np.isnan(found).any(axis=0).tolist() == [False, True, False]
    assert np.isnan(found[:2, 1]).all()


class Planes:
    """Weights and what was got for them, near the limits that hold them."""

    def __init__(self, shape: tuple[int, int], grid: Precision, seed: int) -> None:
        rng = np.random.default_rng([11, seed, *shape])
        self.w = np.exp(-rng.exponential(rng.choice([1.0, 100.0, 700.0]), size=shape))
        self.factor = rng.normal(size=shape[0]) * 10.0 ** rng.integers(-20, 3)
        self.limits = Limits(
            absolute=np.abs(rng.normal(size=shape[0])) * rng.choice([1e-12, 1e9]),
            spacings=float(rng.choice([0.3, 1e6])),
            relative=rng.uniform(0.0, 4.0, shape[0]) * grid.unit * rng.choice([1.0, 1e9]),
            margin=float(rng.choice([0.5, 1e3])) if grid.half else None,
            sloped=rng.uniform(0.5, 2.0, shape[0]) * grid.unit,
            floor=rng.uniform(0.0, 1e-9, shape[0]),
            grid=grid,
            flushed=bool(rng.random() < 0.5),
        )
        off = rng.choice([0.0, 1.0, 1 - 1e-13, 0.999, 1.001, 1.7], size=shape) * rng.choice(
            [-1, 1], size=shape
        )
        right = self.w * self.factor[:, None]
        self.got = right * (1.0 + off * self.limits.relative[:, None])
        strange = rng.random(shape) < 0.02
        self.got[strange] = rng.choice([np.nan, np.inf, 0.0, -0.0, 1e300], size=int(strange.sum()))

    def exceeding(self) -> Array:
        """Return what exceeds the limits, as NumPy's passes say."""
        zero = self.got == 0.0 if self.limits.grid.half else None
        size = np.abs(self.w * self.factor[:, None])
        error = np.abs(self.got - self.w * self.factor[:, None])
        np.maximum(size, FLOAT64.smallest_normal, out=size)
        found = self.limits.exceeded(
            Sizes(error.copy(), size, zero, np.empty_like(size), np.empty_like(size))
        )
        return np.zeros(self.w.shape, bool) if found is None else found & (error != 0.0)

    def told(self, loops: Loops, stored: str, most: int) -> Array | None:
        """Return what the loops say comes near the limits."""
        w = _laid_out(self.w)
        got: Any = _laid_out(self.got) if stored == "float64" else self.got.astype(stored)
        found = loops.beyond(
            w, got, self.limits.of_rows(self.factor), self.limits.of_all(excused=self.limits.grid.half), most
        )
        if found is None:
            return None
        near = np.zeros(self.w.shape, bool)
        near[found] = True
        assert near.sum() == len(found[0]), "a place is told twice"
        return near


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("grid", [FLOAT64, FLOAT32, FLOAT16, BFLOAT16], ids=lambda grid: str(grid.name))
@pytest.mark.parametrize("seed", range(6))
def test_what_exceeds_a_limit_is_told(
    shape: tuple[int, int], grid: Precision, seed: int, loops: Loops
) -> None:
    planes = Planes(shape, grid, seed)
    stored = "float32" if seed % 2 and shape[1] > 32 else "float64"
    with np.errstate(all="ignore"):
        planes.got = planes.got.astype(stored).astype(np.float64)
        exceeding = planes.exceeding()
        near = planes.told(loops, stored, most=planes.w.size)
        a_hair_less = replace(
            planes.limits,
            absolute=planes.limits.absolute * (1 - 1e-13),
            relative=planes.limits.relative * (1 - 1e-13),
            spacings=planes.limits.spacings * (1 - 1e-13),
            margin=None if planes.limits.margin is None else planes.limits.margin * (1 - 1e-13),
        )
        planes.limits = a_hair_less
        nearly = planes.exceeding()
    assert near is not None
    assert not (exceeding & ~near).any()
    right = planes.w * planes.factor[:, None]
    far_down = (np.abs(right) < 2.0**-900) & (planes.got != right)  # nothing is allowed there
    assert not (near & ~nearly & ~far_down).any()


def test_more_than_are_asked_for_are_not_told(loops: Loops) -> None:
    planes = Planes((6, 200), FLOAT32, 0)
    with np.errstate(all="ignore"):
        count = int(planes.told(loops, "float64", most=1200).sum())  # type: ignore[union-attr]
        assert count > 0
        assert planes.told(loops, "float64", most=count) is not None
        assert planes.told(loops, "float64", most=count - 1) is None


def test_planes_that_do_not_lie_alike_are_refused(loops: Loops) -> None:
    w, given = np.ones((40, 50)), np.ones((5, 40))
    limits = compiled.Limits(1.0, 1.0, 1.0, 1.0, 0.0)
    for plane, got, rows in (
        (w[:, ::2], w[:, ::2], given),
        (w, np.asfortranarray(w), given),
        (w, w[:, :49], given),
        (w, w, given[:, ::2]),
        (w, w, given[:4]),
    ):
        with pytest.raises(ValueError, match="lie"):
            loops.beyond(plane, got, rows, limits, 1)
    for broken in (given * np.nan, given * np.inf):
        assert loops.beyond(w, w, broken, limits, 1) is None, "a limit that is none lets nothing pass"
    half: Any = w.astype(np.float16)
    with pytest.raises(ValueError, match="know nothing of float16"):
        loops.beyond(w, half, given, limits, 1)
    with pytest.raises(ValueError, match="lie"):
        loops.extremes(w[:, ::2])
    for m, pivot, says in (
        (np.zeros(39), np.zeros(40, np.int64), "not those of z"),
        (np.zeros(40), np.zeros(39, np.int64), "not those of z"),
        (np.zeros(40), np.full(40, 50), "no class"),
        (np.zeros(40), np.full(40, -1), "no class"),
    ):
        with pytest.raises(ValueError, match=says):
            loops.exponentials(w, m, 1.0, pivot, np.empty((40, 50)))


@pytest.mark.usefixtures("_looked_for_again")
def test_the_loops_can_be_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.VARIABLE, "0")
    assert compiled.loops() is None


@pytest.mark.usefixtures("_looked_for_again")
@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF" + bytes(60)])
def test_a_library_for_another_machine_is_done_without(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "loops.so"
    library.write_bytes(content)
    monkeypatch.setattr(compiled, "LIBRARY", str(library))
    assert compiled.loops() is None


@pytest.mark.parametrize("options", [(), ("-march=native",)], ids=str)
def test_the_bits_do_not_depend_on_the_processor(
    options: tuple[str, ...], build: Any, tmp_path: Path, loops: Loops
) -> None:
    """Compiled for the plainest processor of its kind, and for this one alone."""
    library = tmp_path / "loops.so"
    command = ["cc", *build.ALWAYS.split(), *options, "-DSOURCE=0u", compiled.SOURCE, "-o", str(library)]
    subprocess.run(command, check=True)
    other = Loops(ctypes.CDLL(str(library)))
    down = math.expm1(-difference.STEP)
    step = compiled.Step(math.expm1(difference.STEP) - down, down, 2.0 * difference.STEP)
    for shape in SHAPES:
        w, inverse, _ = _weights(shape, 3)
        assert (
            other.quotients(w, inverse, step, 1).tobytes() == loops.quotients(w, inverse, step, 1).tobytes()
        )
        assert other.exponential(-40.0 * w[:, 0]).tobytes() == loops.exponential(-40.0 * w[:, 0]).tobytes()
        z, m, pivot = np.ascontiguousarray(-9.0 * w), np.zeros(len(w)), np.zeros(len(w), np.int64)
        one, two = np.empty_like(z), np.empty_like(z)
        sums = [
            each.exponentials(z, m, 0.3, pivot, out).tobytes() for each, out in ((loops, one), (other, two))
        ]
        assert (sums[0], one.tobytes()) == (sums[1], two.tobytes())
        assert other.extremes(z).tobytes() == loops.extremes(z).tobytes()
        planes = Planes(shape, BFLOAT16, 3)
        with np.errstate(all="ignore"):
            near, other_near = (planes.told(each, "float64", planes.w.size) for each in (loops, other))
        assert np.array_equal(near, other_near)  # type: ignore[arg-type]


Told = tuple[dict[str, Any], list[str], Path]


def _hook(build: Any, root: Path, version: str = "standard") -> Told:
    """Run the hook on a copy of the sources; return what it tells the build and the user, and the folder."""
    folder: Path = root / build.HERE
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(compiled.SOURCE, folder)
    told: dict[str, Any] = {"force_include": {}}
    warned: list[str] = []
    app = SimpleNamespace(display_warning=warned.append)
    hook = build.CompiledLoops(str(root), {}, None, None, str(root), "wheel", app)
    hook.initialize(version, told)
    for made in told["force_include"]:
        Loops(ctypes.CDLL(made))
    hook.finalize(version, told, "")
    assert not any(Path(made).exists() for made in told["force_include"])
    return told, warned, folder


def test_a_wheel_with_loops_is_one_for_this_platform(build: Any, tmp_path: Path, loops: Loops) -> None:
    told, warned, folder = _hook(build, tmp_path)
    assert list(told["force_include"].values()) == [f"{build.HERE}/loops.so"]
    assert re.fullmatch(r"py3-none-(linux|macosx)_\w+", told["tag"])
    assert (told["pure_python"], warned) == (False, [])
    assert loops.source == binascii.crc32((folder / "loops.c").read_bytes())


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("version", ["standard", "editable"])
def test_what_is_used_in_place_has_its_loops_there(build: Any, tmp_path: Path, version: str) -> None:
    told, warned, folder = _hook(build, tmp_path, version)
    assert (len(told["force_include"]), told["pure_python"], warned) == (version == "standard", False, [])
    Loops(ctypes.CDLL(str(folder / "loops.so")))
    assert sorted(each.name for each in folder.iterdir()) == ["loops.c", "loops.so"]


@pytest.mark.usefixtures("loops")
def test_sources_that_cannot_be_written_cost_a_wheel_nothing(build: Any, tmp_path: Path) -> None:
    (tmp_path / build.HERE / "loops.so.new").mkdir(parents=True)  # in the way
    told, warned, folder = _hook(build, tmp_path)
    assert (len(told["force_include"]), warned) == (1, [])
    assert not (folder / "loops.so").exists()


@pytest.mark.parametrize("cc", ["no-such-compiler", "false", "/", "'cc", "true"])
def test_without_a_compiler_the_wheel_is_one_for_all(
    cc: str, build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", cc)
    told, warned, _ = _hook(build, tmp_path)
    assert told == {"force_include": {}}
    assert len(warned) == 1


def test_loops_that_are_not_wanted_are_not_compiled(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(compiled.VARIABLE, "0")
    assert _hook(build, tmp_path)[:2] == ({"force_include": {}}, [])


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(
    "instead", ["exit 1", 'exec cc -shared -x c /dev/null -o "$made"'], ids=["refused", "nameless"]
)
def test_a_compiler_that_knows_one_processor_only_will_do(
    instead: str, build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that refuses to make copies for several, or makes a library in which no name is found."""
    compiler = tmp_path / "plain-cc"
    compiler.write_text(
        "#!/bin/sh\n"
        'made=; before=; for word; do [ "$before" = -o ] && made=$word; before=$word; done\n'
        f'case "$*" in *-DEVERY_PROCESSOR*) {instead};; esac\n'
        'exec cc "$@"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    told, warned, _ = _hook(build, tmp_path)
    assert (told["pure_python"], len(told["force_include"]), warned) == (False, 1, [])


def test_an_empty_cc_is_none(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loops: Loops
) -> None:
    monkeypatch.setenv("CC", "")
    assert _hook(build, tmp_path)[1] == []
    assert loops.source

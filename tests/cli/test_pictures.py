"""Pictures count what the check counts, part by part, and fit where they are shown."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.text import Text

from gradcheck_cli import pictures as drawing
from gradcheck_cli.check import check
from gradcheck_cli.choices import LayerSettings, LinearSettings
from gradcheck_cli.linear import linear
from gradcheck_cli.outcome import Outcome, Picture
from gradcheck_cli.report.picture import Palette, heat_map, histogram
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import Tensor
from gradcheck_cli.tensors.arrays import tensor_of
from gradcheck_cli.vjp import vjp
from tests.cli.conftest import SAMPLES, Run, command

RNG = np.random.default_rng(5)
SHAPES = [(5, 3), (512, 16), (9000, 7), (4, 70_000), (100, 131)]


def _outcome(arrays: Mapping[str, Any], **settings: Any) -> Outcome:
    with contextlib.ExitStack() as opened:
        return check(_opened(arrays, opened), {}, Settings(threads=1, **settings), drawn=True)


def _opened(arrays: Mapping[str, Any], opened: contextlib.ExitStack) -> dict[str, Tensor]:
    return {role: opened.enter_context(tensor_of(each, role)) for role, each in arrays.items()}


def _case(rows: int, classes: int) -> dict[str, Any]:
    """Return a case with all exports, in float64."""
    logits = RNG.normal(size=(rows, classes))
    labels = RNG.integers(0, classes, rows)
    e = np.exp(logits)
    probs = e / e.sum(axis=1, keepdims=True)
    hot = np.zeros_like(probs)
    hot[np.arange(rows), labels] = 1.0
    return {
        "logits": logits,
        "labels": labels,
        "grad": (probs - hot) / rows,
        "probs": probs,
        "log-probs": np.log(probs),
        "grad-probs": -hot / probs / rows,
    }


def _spoilt(array: Any, share: float = 0.03) -> tuple[Any, Any]:
    """Return an array with some entries off by one, and which: more of them at its end."""
    where = RNG.random(array.shape) < share * np.linspace(0.2, 1.0, array.shape[0])[:, None]
    where[-1, -1] = True
    return array + where, where


def _parts(where: Any) -> Any:
    """Return how many entries are marked in each part, counted one by one."""
    rows, classes = where.shape
    height, width = min(drawing.HEIGHT, rows), min(drawing.WIDTH, classes)
    counts = np.zeros((height, width), dtype=int)
    starts = [each * classes // width for each in range(width)]
    for row, column in zip(*np.nonzero(where), strict=True):
        across = max(at for at, start in enumerate(starts) if start <= column)
        counts[row * height // rows, across] += 1
    return counts


@pytest.mark.parametrize("name", ["grad", "probs", "log-probs", "grad-probs"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_failing_entries_are_counted_in_their_part(shape: tuple[int, int], name: str) -> None:
    case = _case(*shape)
    case[name], where = _spoilt(case[name])
    outcome = _outcome(case)
    (drawn,) = [each for each in outcome.pictures if each.name == name]
    assert np.array_equal(np.array(drawn.failing), _parts(where))
    assert sum(map(sum, drawn.failing)) == next(c.failing for c in outcome.checks if c.name == name)
    assert all(each.failing == () for each in outcome.pictures if each.name != name)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_counted(bad: float) -> None:
    case = _case(64, 40)
    case["grad"][50:, 3] = bad
    (drawn, *_) = _outcome(case).pictures
    where = np.zeros((64, 40), dtype=bool)
    where[50:, 3] = True
    assert np.array_equal(np.array(drawn.failing), _parts(where))


def test_a_tolerance_decides_as_in_the_check() -> None:
    case = _case(512, 16)
    noise = RNG.normal(size=(512, 16)) * 1e-4
    exact = case["grad"]
    case = {"logits": case["logits"], "labels": case["labels"], "grad": exact + noise}
    outcome = _outcome(case, rtol=0.0, atol=1e-4)
    where = np.abs(case["grad"] - exact) > 1e-4
    assert np.array_equal(np.array(outcome.pictures[0].failing), _parts(where))


def test_sixteen_bits_and_axes_in_the_middle() -> None:
    case = _case(90, 12)
    grad, where = _spoilt(case["grad"].astype(np.float16))
    lie = {"logits": case["logits"], "grad": grad.astype(np.float16)}
    lie = {role: each.reshape(9, 10, 12).transpose(0, 2, 1) for role, each in lie.items()}
    outcome = _outcome({**lie, "labels": case["labels"].reshape(9, 10)}, axis=1, normalizer=90.0)
    assert np.array_equal(np.array(outcome.pictures[0].failing), _parts(where))


def test_the_size_of_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = _case(300, 20)
    case["grad"], _ = _spoilt(case["grad"])
    whole = _outcome(case).pictures
    monkeypatch.setattr("gradcheck_cli.grid.TILE_ENTRIES", 140)
    assert _outcome(case).pictures == whole


def test_errors_are_counted_by_octaves_of_an_ulp() -> None:
    case = _case(64, 10)
    exact = case["grad"].astype(np.float32)
    case = {"logits": case["logits"], "labels": case["labels"], "grad": exact * np.float32(1 + 2.0**-13)}
    (drawn,) = _outcome(case).pictures
    assert sum(count for _, count in drawn.octaves) == 640
    assert {each for each, _ in drawn.octaves} <= {9, 10, 11, 12}  # 2^-13 of 2^23 .. 2^24 ulps, and rounding


def _picture(rows: int = 1000, classes: int = 300, most: int = 60) -> Picture:
    failing = RNG.integers(0, most, (min(8, rows), min(48, classes)))
    failing[0, :] = failing[1, 0] = failing[-1, -1] = 0
    return Picture(
        "grad", rows, classes, tuple(map(tuple, failing.tolist())), ((None, 5), (-3, 2), (30, 9**9))
    )


@pytest.mark.parametrize("palette", Palette)
@pytest.mark.parametrize("shape", [(1, 4), (3, 2), (1000, 300), (10**7, 10**6)], ids=str)
def test_pictures_fit_60_cells_and_12_lines(shape: tuple[int, int], palette: Palette) -> None:
    failing = ((1,) * min(48, shape[1]),) * min(8, shape[0])
    drawn = Picture("log-probs", *shape, failing, ((None, 3), (-24, 10**12), (40, 5), (1000, 1)))
    lines = [*heat_map(drawn, palette), *histogram(drawn, palette)]
    assert 0 < len(lines) <= 12
    assert max(cell_len(each.plain) for each in lines) <= 60


def test_signs_are_ascii_where_blocks_cannot_be_encoded() -> None:
    lines = [*heat_map(_picture(), Palette.ASCII), *histogram(_picture(), Palette.ASCII)]
    assert all(each.plain.isascii() for each in lines)


def test_without_colours_the_shape_of_a_block_tells_which_part_fails() -> None:
    drawn = Picture("grad", 4, 3, ((1, 0, 1), (0, 1, 1), (0, 0, 0), (1, 0, 0)), ())
    _, first, second, *_ = heat_map(drawn, Palette.BLOCKS)
    assert (first.plain, second.plain) == ("0  ▀▀▀▄▄▄███", "2  ▄▄▄      ")
    assert _colours(first) == set()


def test_colours_tell_how_much_of_a_part_fails() -> None:
    drawn = Picture("grad", 8, 300, ((3, 0, 1), (2, 1, 1)), ())
    line = heat_map(drawn, Palette.COLOURS)[1]
    assert line.plain == "0  " + "▀" * 3 + "▄" * 3 + "▀" * 3
    assert len(_colours(line)) == 3


def _colours(line: Text) -> set[str]:
    styles = [span.style for span in line.spans if not isinstance(span.style, str)]
    return {str(each) for style in styles for each in (style.color, style.bgcolor) if each is not None}


def test_a_pass_has_no_map() -> None:
    outcome = _outcome(_case(20, 5))
    assert [heat_map(each, Palette.BLOCKS) for each in outcome.pictures] == [[]] * 4
    assert all(histogram(each, Palette.BLOCKS) for each in outcome.pictures)


WRONG = ("check", "logits.npy", "labels.npy", "--grad", "wrong_grad.npy")


def test_nothing_is_drawn_in_a_pipe_unless_it_is_asked_for(in_process: Run) -> None:
    plain, shown = in_process(*WRONG, cwd=SAMPLES).stdout, in_process(*WRONG, "--show", cwd=SAMPLES).stdout
    assert "where grad fails:" not in plain
    assert "where grad fails:" in shown
    kept = [line for line in shown.splitlines() if line in plain.splitlines()]
    assert 9 <= len(shown.splitlines()) - len(kept) <= 14


@pytest.mark.parametrize("words", [("-q",), ("--format", "json"), ("-qq",)])
def test_what_has_no_room_for_pictures_refuses_them(in_process: Run, words: tuple[str, ...]) -> None:
    done = in_process(*WRONG, "--show", *words, cwd=SAMPLES)
    assert done.returncode == 2
    assert "--show draws into the table" in done.stderr


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    ("more", "signs"),
    [({}, "▄"), ({"NO_COLOR": "1"}, "▄"), ({"PYTHONIOENCODING": "ascii"}, "#")],
    ids=["colour", "NO_COLOR", "ascii"],
)
def test_a_terminal_sees_a_failure(width: int, more: dict[str, str], signs: str) -> None:
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(width), **more}
    if not more:
        env.pop("NO_COLOR", None)
    main, side = pty.openpty()
    process = subprocess.Popen([command(), *WRONG], cwd=SAMPLES, env=env, stdout=side, stderr=side)
    os.close(side)
    told = b""
    try:
        while piece := os.read(main, 65536):
            told += piece
    except OSError:  # the other end is closed
        pass
    os.close(main)
    assert process.wait(60) == 1
    shown = Text.from_ansi(told.decode().replace("\r", "")).plain
    drawn = shown.partition("where grad fails:")[2].partition("accuracy")[0]
    assert signs in drawn
    assert "errors of grad in ulps" in drawn
    assert max(map(cell_len, drawn.splitlines())) <= width
    assert (b"\x1b[38;" in told) == (not more)


@pytest.mark.parametrize(("form", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_picture_in_a_file(softgrad: Run, tmp_path: Path, form: str, begins: bytes) -> None:
    pytest.importorskip("matplotlib")
    paths = [SAMPLES / each if each.endswith(".npy") else each for each in WRONG]
    done = softgrad(*paths, "--plot", f"wrong.{form}", "-q")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("\n") == 1
    assert (tmp_path / f"wrong.{form}").read_bytes().startswith(begins)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--plot", "x.pdf"), "--plot x.pdf: the name must end in .png or .svg"),
        (("--plot", "no/x.png"), "--plot no/x.png: cannot be written: No such file"),
    ],
)
def test_a_picture_that_cannot_be_written(in_process: Run, words: tuple[str, ...], said: str) -> None:
    pytest.importorskip("matplotlib")
    done = in_process(*WRONG, *words, cwd=SAMPLES)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("words", [("--show",), ("--plot", "x.png")])
def test_nothing_to_draw_is_said(in_process: Run, words: tuple[str, ...]) -> None:
    done = in_process(*WRONG[:3], *words, cwd=SAMPLES)
    assert done.returncode == 2
    assert f"{words[0]} has no effect without" in done.stderr


def _drawn(outcome: Any, name: str) -> Any:
    (found,) = [each for each in outcome.pictures if each.name == name]
    assert sum(map(sum, found.failing)) == next(c.failing for c in outcome.checks if c.name == name)
    return np.array(found.failing)


@pytest.mark.parametrize("shape", [(40, 12), (300, 130)], ids=str)
def test_a_layer_is_drawn_like_a_loss(shape: tuple[int, int]) -> None:
    z, t = RNG.normal(size=(2, *shape))
    a = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    grad, where = _spoilt((t - (t * a).sum(axis=1, keepdims=True)) * a)
    arrays = {"logits": z, "upstream": t, "grad": grad, "probs": a}
    with contextlib.ExitStack() as opened:
        tensors = _opened(arrays, opened)
        outcome = vjp(tensors, LayerSettings(), drawn=True)
        assert vjp(tensors, LayerSettings()).pictures == ()
    assert np.array_equal(_drawn(outcome, "grad"), _parts(where))
    assert [each.failing for each in outcome.pictures if each.name == "probs"] == [()]


@pytest.mark.parametrize("spoilt", ["logits", "grad", "grad-inputs", "grad-weight", "grad-bias"])
def test_every_export_of_a_linear_layer_is_drawn(spoilt: str) -> None:
    n, features, classes = 70, 21, 9
    x, weight, y = (
        RNG.normal(size=(n, features)),
        RNG.normal(size=(features, classes)),
        np.arange(n) % classes,
    )
    z = x @ weight
    a = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    grad = (a - np.eye(classes)[y]) / n
    right = {"logits": z, "grad": grad, "grad-inputs": grad @ weight.T}
    right |= {"grad-weight": x.T @ grad, "grad-bias": grad.sum(axis=0)}
    wrong, where = _spoilt(np.atleast_2d(right[spoilt]))
    right[spoilt] = wrong.reshape(right[spoilt].shape)
    with contextlib.ExitStack() as opened:
        tensors = _opened({"inputs": x, "labels": y, "weight": weight, **right}, opened)
        outcome = linear(tensors, {}, LinearSettings(), drawn=True)
    assert np.array_equal(_drawn(outcome, spoilt), _parts(where))
    assert {each.name for each in outcome.pictures if each.failing} == {spoilt}


def test_a_page_about_a_layer_has_its_pictures(in_process: Run, tmp_path: Path) -> None:
    files = ["linear_inputs.npy", "linear_labels.npy", "--weight", "linear_weight.npy"]
    files += ["--bias", "linear_bias.npy", "--grad-weight", "wrong_linear_grad_weight.npy"]
    done = in_process("linear", *files, "--report", f"html={tmp_path / 'page.html'}", cwd=SAMPLES)
    assert done.returncode == 1
    assert "where grad-weight fails" not in done.stdout
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "where grad-weight fails: share of each part, features down, classes across" in page

"""The checks from Python: any array gets the verdict that a file with its numbers gets."""

from __future__ import annotations

import doctest
import html
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import ml_dtypes
import numpy as np
import pytest

import gradcheck_cli
from gradcheck_cli import InputError, UsageError, api, assert_gradient, check
from gradcheck_cli.cli import softgrad
from tests.cli.conftest import SAMPLES, command

Arrays = tuple[Any, Any, Any]


def _case(rows: int = 24, classes: int = 7) -> Arrays:
    """Return logits, labels and the right gradient of their mean cross-entropy, in float64."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(rows, classes))
    labels = rng.integers(0, classes, rows)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    grad = e / e.sum(axis=1, keepdims=True)
    grad[np.arange(rows), labels] -= 1
    return logits, labels, grad / rows


class Elsewhere:
    """An array on a device that is not the CPU."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self) -> Any:
        raise AssertionError("memory of a GPU is not to be read")


class Handed:
    """An array that is handed over through DLPack alone."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self) -> Any:
        return self.array.__dlpack__()


def test_the_examples_of_the_documentation_hold() -> None:
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    done = doctest.testmod(api, optionflags=flags)
    assert done.attempted >= 8
    assert done.failed == 0


def test_a_right_gradient_passes_and_a_wrong_one_fails() -> None:
    logits, labels, grad = _case()
    found = check(logits, labels, grad=grad)
    assert found.passed
    assert [each.name for each in found.checks if each.exported] == ["grad"]
    assert not check(logits, labels, grad=grad * (1 + 1e-12)).passed


def test_the_function_stays_the_function_once_the_module_is_imported() -> None:
    importlib.import_module("gradcheck_cli.check")
    assert gradcheck_cli.check is api.check
    assert {"check", "assert_gradient"} <= set(dir(gradcheck_cli))
    with pytest.raises(AttributeError, match="no attribute 'chek'"):
        gradcheck_cli.chek  # noqa: B018 - it is asked for


@pytest.mark.parametrize("first", ["gradcheck_cli.check", "gradcheck_cli.vjp", "gradcheck_cli.api", "sys"])
def test_whatever_was_imported_before(first: str) -> None:
    code = f"import {first}; from gradcheck_cli import check; print(check.__module__, callable(check))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "gradcheck_cli.api True\n"


def test_the_text_of_an_assertion_is_that_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, labels, grad = _case()
    for name, each in {"logits": logits, "labels": labels, "grad": -grad}.items():
        np.save(tmp_path / f"{name}.npy", each)
    monkeypatch.chdir(tmp_path)  # so that no path is too long to be shown whole
    paths = [Path(f"{name}.npy") for name in ("logits", "labels", "grad")]
    words = [command(), "check", *map(str, paths[:2]), "--grad", str(paths[2]), "--threads", "1"]
    told = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    with pytest.raises(AssertionError) as raised:
        assert_gradient(*paths)
    assert re.findall(r"\S+", _without_seconds(str(raised.value))) == re.findall(
        r"\S+", _without_seconds(told)
    )


def _without_seconds(text: str) -> str:
    return re.sub(r"in \S+ s\b", "in # s", text)


def test_the_document_is_that_of_the_command() -> None:
    names = ("logits.npy", "labels.npy", "grad.npy")
    paths = [str(SAMPLES / name) for name in names]
    done = subprocess.run(
        [command(), "check", *paths[:2], "--grad", paths[2], "--format", "json", "--threads", "1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    found = check(*paths[:2], grad=paths[2]).to_dict()
    for each in (told, found):
        del each["seconds"]
        each["settings"] = {name: each["settings"][name] for name in found["settings"]}
    assert json.loads(json.dumps(found)) == told


def test_how_an_outcome_shows_itself() -> None:
    logits, labels, grad = _case()
    found = check(logits, labels, grad=-grad)
    assert repr(found).startswith("FAIL logits: grad: all 168 entries are outside")
    assert "\n" not in repr(found)
    assert str(found).startswith("FAIL  grad: all 168 entries")
    shown = found._repr_html_()
    assert shown.startswith('<div class="softgrad">')
    assert shown.count("<figure>") == 2
    words = " ".join(
        html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", shown, flags=re.DOTALL)).split()
    )
    assert words.startswith(" ".join(repr(found).replace(" logits:", "", 1).partition(";")[0].split()))
    missing = [each for each in str(found).split() if each not in words]
    assert missing == ["-v", "(-v"]  # everything is there


def test_a_pass_shows_how_large_its_errors_are_and_an_assertion_no_picture() -> None:
    logits, labels, grad = _case()
    assert check(logits, labels, grad=grad)._repr_html_().count("<figure>") == 1
    assert "where grad fails" not in str(check(logits, labels, grad=-grad))


def test_a_name_in_html_is_escaped(tmp_path: Path) -> None:
    logits, labels, _ = _case()
    path = tmp_path / "<script>.npy"
    np.save(path, logits)
    assert "<script>" not in check(path, labels)._repr_html_()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_every_type_gets_the_verdict_of_a_file(dtype: str, tmp_path: Path) -> None:
    logits, labels, grad = _case()
    narrow = (grad * 64).astype(getattr(ml_dtypes, dtype, dtype))
    found = check(logits, labels, grad=narrow, upstream=64.0)
    assert found.inputs[-1].dtype == dtype or any(each.dtype == dtype for each in found.inputs)
    np.save(tmp_path / "grad.npy", narrow.view(f"u{narrow.itemsize}") if "8" in dtype[:7] else narrow)
    words = [] if "8" not in dtype[:7] else ["--dtype", f"grad={dtype}"]
    np.save(tmp_path / "z.npy", logits)
    np.save(tmp_path / "y.npy", labels)
    told = _told(tmp_path, "--upstream", "64", *words)
    assert [_numbers(each) for each in found.to_dict()["checks"]] == [_numbers(each) for each in told]


def _told(folder: Path, *words: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [command(), "check", "z.npy", "y.npy", "--grad", "grad.npy", "--format", "json", *words],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    checks: list[dict[str, Any]] = json.loads(done.stdout)["checks"]
    return checks


def _numbers(check_of: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(check_of[name] for name in ("name", "verdict", "entries", "failing", "max_margin"))


@pytest.mark.parametrize(
    "lie",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1].copy()[::-1],
        lambda a: a.astype(a.dtype.newbyteorder(">")),
        lambda a: a.tolist(),
        Handed,
        lambda a: Handed(np.asfortranarray(a)),
    ],
    ids=["fortran", "strided", "reversed", "big-endian", "lists", "dlpack", "dlpack-fortran"],
)
def test_it_does_not_matter_how_numbers_lie(lie: Any) -> None:
    logits, labels, grad = _case()
    plain = check(logits, labels, grad=grad * (1 + 1e-9)).checks
    assert check(lie(logits), labels, grad=lie(grad * (1 + 1e-9))).checks == plain


def test_three_axes_in_fortran_order() -> None:
    rng = np.random.default_rng(0)
    logits, labels = np.asfortranarray(rng.normal(size=(3, 5, 4))), rng.integers(0, 4, (3, 5))
    e = np.exp(logits)
    grad = e / e.sum(axis=-1, keepdims=True) - np.eye(4)[labels]
    assert check(logits, labels, grad=np.asfortranarray(grad), reduction="sum").passed
    assert check(logits, labels, grad=grad, reduction="sum").inputs[0].order == "F"


def test_void_values_of_two_bytes_are_bfloat16_as_in_a_file() -> None:
    logits, labels, grad = _case()
    found = check(logits, labels, grad=grad.astype(ml_dtypes.bfloat16).view("V2"))
    assert found.passed


def test_numbers_in_place_of_arrays() -> None:
    logits, labels, grad = _case()
    single = logits.astype(np.float32)
    rows = np.log(np.exp(single.astype(float)).sum(axis=1)) - single[np.arange(len(labels)), labels].astype(
        float
    )
    loss = float(rows.mean())
    assert check(logits, labels, grad=grad * 8, upstream=8).passed
    assert check(single, labels, loss=float(np.float32(loss))).passed
    assert check(single, labels, loss=loss).passed
    assert check(single, labels, loss=np.float32(loss)).passed
    assert not check(single, labels, loss=float(np.float32(loss * (1 + 1e-5)))).passed


def test_paths_and_arrays_and_bundles_mix(tmp_path: Path) -> None:
    logits, labels, grad = _case()
    np.savez(tmp_path / "dump.npz", logits=logits, labels=labels, grad=grad)
    bundle = tmp_path / "dump.npz"
    assert check(bundle).passed
    assert check(f"{bundle}:logits", labels, grad=grad).passed
    assert not check(bundle, grad=-grad).passed
    with pytest.raises(UsageError, match="labels are missing"):
        check(logits, grad=grad)


def test_nothing_is_written_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    logits, labels, grad = _case()
    check(logits, labels, grad=np.asfortranarray(grad))
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_system_without_files_in_memory_uses_one_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    logits, labels, grad = _case()
    assert check(logits, labels, grad=grad).passed


@pytest.mark.parametrize(
    ("logits", "said"),
    [
        (np.empty((0, 3)), "logits: is empty"),
        (np.float64(1.0), "logits: is a single number"),
        (np.zeros((2, 3), dtype=complex), "holds complex128"),
        (np.array([["a", "b"]]), "holds str"),
        (np.array([[object()]]), "holds object"),
        ([[1.0, 2.0], [3.0]], "a list is neither an array of numbers nor a path"),
        (object(), "a object is neither an array of numbers nor a path"),
        (Elsewhere(), "logits: is in the memory of another device"),
        (np.zeros((2, 3), dtype=np.uint16), r"the bits of bfloat16, or numbers\?"),
        (np.ma.masked_array(np.zeros((2, 3)), mask=True), "masked array"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_array_of_numbers_is_refused(logits: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(logits, np.zeros(2, dtype=int))


def test_options_have_the_names_of_the_command() -> None:
    logits, labels, grad = _case()
    assert check(logits, labels, grad=grad * len(labels), reduction="sum").passed
    with pytest.raises(TypeError, match=r"no option 'reducton'\. Did you mean 'reduction'"):
        check(logits, labels, grad=grad, reducton="sum")
    with pytest.raises(UsageError, match="--reduction total: choose one of"):
        check(logits, labels, grad=grad, reduction="total")
    with pytest.raises(UsageError, match="rtol has no effect"):
        check(logits, labels, rtol=1.0, atol=1.0)


def test_an_assertion_needs_something_to_judge() -> None:
    logits, labels, grad = _case()
    assert_gradient(logits, labels, grad)
    with pytest.raises(UsageError, match="nothing to judge"):
        assert_gradient(logits, labels)


def test_every_file_that_the_command_takes_can_be_handed_over() -> None:
    of_command = softgrad.get_command(click.Context(softgrad), "check")
    assert of_command is not None
    flags = {
        each.name
        for each in of_command.params
        if each.multiple and each.name not in ("dtype", "report", "plot")
    }
    named = set(check.__code__.co_varnames[: check.__code__.co_argcount + check.__code__.co_kwonlyargcount])
    assert flags | {"logits", "labels"} == named


RECIPE = """
import torch
from gradcheck_cli import assert_gradient

class CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, y):
        ctx.save_for_backward(z, y)
        return torch.nn.functional.cross_entropy(z, y)

    @staticmethod
    def backward(ctx, upstream):
        z, y = ctx.saved_tensors
        return upstream * (z.softmax(1) - torch.nn.functional.one_hot(y, z.shape[1])) / len(y), None
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_the_recipe_for_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    given: dict[str, Any] = {}
    exec(RECIPE, given)
    z = torch.randn(32, 50, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    z.requires_grad_()
    y = torch.arange(32)
    given["CrossEntropy"].apply(z, y).backward()
    assert_gradient(z, y, z.grad)
    with pytest.raises(AssertionError):
        assert_gradient(z, y, -z.grad)

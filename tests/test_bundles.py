"""Bundles: one file with logits, labels and more, paired by their usual names."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from gradcheck_cli.bundles import open_bundle, open_inputs
from gradcheck_cli.errors import InputError, UsageError
from gradcheck_cli.names import USUAL, role_of, split
from gradcheck_cli.reading import CONTENT
from gradcheck_cli.tensors import open_tensor

ROLES = tuple(USUAL)
Z = np.arange(6.0).reshape(2, 3)


def paired(path: Path, roles: tuple[str, ...] = ROLES) -> dict[str, str | None]:
    with ExitStack() as opened:
        return {role: each.member for role, each in open_bundle(str(path), roles, CONTENT, opened).items()}


def save(path: Path, **arrays: Any) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file(arrays, path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("labels", ["labels", "targets", "Y", "label"])
@pytest.mark.parametrize("grad", USUAL["grad"])
def test_usual_names_are_paired(tmp_path: Path, suffix: str, labels: str, grad: str) -> None:
    arrays = {"logits": Z, labels: np.array([0, 2]), grad: Z, "log-probs": Z, "step": np.array([1.0])}
    path = save(tmp_path / f"x{suffix}", **arrays)
    assert paired(path) == {"logits": "logits", "labels": labels, "grad": grad, "log-probs": "log-probs"}


def test_what_was_not_used_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", logits=Z, y=np.array([0, 2]), step=np.array([1]), **{"a\nb": Z})
    with ExitStack() as opened:
        tensors = open_bundle(str(path), ROLES, CONTENT, opened)
        assert tensors["logits"].notes == (r"the file also holds step, a\x0ab: not used",)
        assert tensors["labels"].notes == ()


def test_a_role_that_comes_from_elsewhere_is_not_looked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", logits=Z, y=np.array([0, 2]), grad=Z)
    assert "grad" not in paired(path, ("logits", "labels", "probs"))


@pytest.mark.parametrize(
    ("names", "error", "says"),
    [
        (("logits", "labels", "y"), InputError, "labels, y are all usual names of the labels; name one"),
        (
            ("logits", "labels", "grad", "dlogits"),
            InputError,
            "grad, dlogits are all usual names of the grad",
        ),
        (("logits", "z"), InputError, "no labels by a usual name (labels, label, targets, target, y)"),
        (("x", "labels"), InputError, "has no logits by a usual name (logits), but x, labels: name both"),
    ],
)
def test_what_cannot_be_paired_is_said(
    tmp_path: Path, names: tuple[str, ...], error: type[Exception], says: str
) -> None:
    path = save(tmp_path / "x.npz", **dict.fromkeys(names, Z))
    with pytest.raises(error) as caught:
        paired(path)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["x.npy", "x.npz:logits"])
def test_one_tensor_is_no_bundle(tmp_path: Path, text: str) -> None:
    np.save(tmp_path / "x.npy", Z)
    save(tmp_path / "x.npz", logits=Z)
    with pytest.raises(UsageError, match="no LABELS are given; write softgrad check LOGITS LABELS"):
        paired(tmp_path / text)


def test_F06_members_of_a_file_that_was_replaced_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fresh = save(tmp_path / "x.npz", logits=Z, y=np.array([0, 2])), tmp_path / "fresh.npz"
    save(fresh, logits=Z, y=np.array([1, 1]))

    def replaced(*arguments: Any, **options: Any) -> Any:
        tensor = open_tensor(*arguments, **options)
        if fresh.exists():
            fresh.rename(path)
        return tensor

    monkeypatch.setattr("gradcheck_cli.bundles.open_tensor", replaced)
    with pytest.raises(InputError, match=r"x\.npz:y: replaced while it was opened"), ExitStack() as opened:
        open_inputs({"logits": f"{path}:logits", "labels": f"{path}:y"}, CONTENT, opened)


def test_standard_input_is_read_once() -> None:
    with pytest.raises(UsageError, match="can be only one of the inputs"), ExitStack() as opened:
        open_inputs({"logits": "-", "labels": "-:y"}, CONTENT, opened)


@pytest.mark.parametrize(
    ("name", "role"),
    [("Logits", "logits"), ("grad-logits", "grad"), ("LOG_PROBS", "log-probs"), ("weights", None)],
)
def test_capitals_and_hyphens_do_not_count(name: str, role: str | None) -> None:
    assert role_of(name) == role


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("step12_logits", ("step12", "logits")),
        ("step12.logits", ("step12", "logits")),
        ("step12-logits-grad", ("step12", "grad")),
        ("grad", ("", "grad")),
        ("upgrad", None),
        ("a_log_probs", ("a", "log-probs")),
    ],
)
def test_stem_and_role(name: str, found: tuple[str, str] | None) -> None:
    assert split(name) == found


def test_no_usual_name_has_two_roles() -> None:
    names = [name for each in USUAL.values() for name in each]
    assert len(names) == len(set(names))

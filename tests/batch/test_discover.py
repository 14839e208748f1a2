"""Which files belong together, and what is said of those that do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradcheck_cli.batch.case import Case
from gradcheck_cli.batch.discover import Told, discover
from gradcheck_cli.errors import InputError, SoftgradError, UsageError

NOTHING = Told({}, {})


def touch(top: Path, *names: str) -> None:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(b"x")


def found(top: Path, told: Told = NOTHING) -> dict[str, dict[str, str]]:
    """Return by case, relative to the top, the file names by role."""
    cases = discover([str(top)], told).cases
    return {
        os.path.relpath(case.name, top): {role: Path(path).name for role, path in case.files}
        for case in cases
    }


def test_a_folder_is_a_case_and_so_is_each_stem(tmp_path: Path) -> None:
    touch(tmp_path, "run/logits.npy", "run/labels.csv", "run/dlogits.npy")
    touch(tmp_path, "s/step1_logits.npy", "s/step1_targets.npy", "s/step2.logits.npy", "s/step2.y.npy.gz")
    touch(tmp_path, "s/step2.y.txt.gz")
    (tmp_path / "s/step2.y.npy.gz").unlink()
    assert found(tmp_path) == {
        "run": {"logits": "logits.npy", "labels": "labels.csv", "grad": "dlogits.npy"},
        "s/step1": {"logits": "step1_logits.npy", "labels": "step1_targets.npy"},
        "s/step2": {"logits": "step2.logits.npy", "labels": "step2.y.txt.gz"},
    }


def test_cases_come_sorted_and_names_are_paths_as_they_were_typed(tmp_path: Path) -> None:
    for stem in ("b", "a", "c"):
        touch(tmp_path, f"{stem}_logits.npy", f"{stem}_labels.npy")
    names = [case.name for case in discover([str(tmp_path)], NOTHING).cases]
    assert names == [str(tmp_path / stem) for stem in "abc"]


def test_logits_without_labels_are_a_case_that_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a_logits.npy", "b_logits.npy", "b_labels.npy")
    first, second = discover([str(tmp_path)], NOTHING).cases
    assert first.refusal is not None
    assert "no labels beside it" in first.refusal
    assert second.refusal is None


def test_two_files_for_one_role_are_refused_and_both_named(tmp_path: Path) -> None:
    touch(tmp_path, "logits.npy", "labels.npy", "grad.npy", "dlogits.npy")
    (case,) = discover([str(tmp_path)], NOTHING).cases
    assert case.refusal is not None
    assert "dlogits.npy and grad.npy are all usual names of the grad" in case.refusal


def test_files_that_belong_to_no_logits_are_told_and_others_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a_logits.npy", "a_labels.npy", "z_grad.npy", "notes.npy", "logits.png")
    batch = discover([str(tmp_path)], NOTHING)
    assert len(batch.cases) == 1
    assert [Path(path).name for path in batch.unused] == ["z_grad.npy"]


def test_a_bundle_is_a_case_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "dump.npz", "more/step.safetensors")
    assert found(tmp_path) == {
        "dump.npz": {"logits": "dump.npz"},
        "more/step.safetensors": {"logits": "step.safetensors"},
    }
    (alone,) = discover([str(tmp_path / "dump.npz")], NOTHING).cases
    assert alone.name == str(tmp_path / "dump.npz")


def test_what_is_typed_wins_over_what_is_configured(tmp_path: Path) -> None:
    touch(tmp_path, "logits.npy", "labels.npy")
    told = Told({"reduction": "sum"}, {"reduction": "batch", "top": 3})
    (case,) = discover([str(tmp_path)], told).cases
    assert dict(case.options) == {"reduction": "sum", "top": 3}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none", "no such file"),
        ("empty", "no case was found"),
        ("x.npy", "softgrad check takes"),
        ("", "empty"),
    ],
)
def test_a_path_that_is_nothing_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "x.npy")
    with pytest.raises(SoftgradError, match=words):
        discover([str(tmp_path / name) if name else ""], NOTHING)


def test_the_same_case_twice_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "logits.npy", "labels.npy")
    with pytest.raises(UsageError, match="two cases are named"):
        discover([str(tmp_path), str(tmp_path)], NOTHING)


def test_options_that_contradict_each_other_are_refused_before_anything_runs(tmp_path: Path) -> None:
    touch(tmp_path, "logits.npy", "labels.npy")
    with pytest.raises(UsageError, match="--rtol and --atol go together"):
        discover([str(tmp_path)], Told({"rtol": 1e-3}, {}))


def test_a_case_is_the_same_after_travelling() -> None:
    case = Case("n", "check", (("logits", "a"), ("labels", "b")), (("reduction", "sum"),), "why")
    assert Case.of_record(case.record()) == case


MANIFEST = """
[defaults]
reduction = "sum"
atol = 1e-6
rtol = 0

[[case]]
name = "first"
logits = "a.npy"
labels = "b.npy"
loss = 1.5

[[case]]
logits = "a.npy"
labels = "b.npy"
grad = "sub/g.npy"
reduction = "batch"
label-smoothing = 0.1
"""


def test_a_manifest_has_defaults_and_the_options_of_each_case(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(MANIFEST)
    first, second = discover([str(tmp_path / "m.toml")], Told({"top": 1}, {"reduction": "full"})).cases
    assert first.name == "first"
    assert second.name == "case 2"
    assert dict(first.options) == {"reduction": "sum", "atol": 1e-6, "rtol": 0, "top": 1}
    assert dict(second.options)["reduction"] == "batch"
    assert dict(second.options)["label_smoothing"] == 0.1
    assert dict(first.files) == {
        "logits": str(tmp_path / "a.npy"), "labels": str(tmp_path / "b.npy"), "loss": "1.5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('loss = 1.5', 'lost = 1.5'), r"line 11, lost: is no file and no option of check"),
        (('reduction = "batch"', 'reduction = "average"'), r"line 13: --reduction average: choose one of"),
        (('reduction = "batch"', "reduction = 3"), r"line 17, reduction: must be a string"),
        (('label-smoothing = 0.1', "label-smoothing = true"), r"line 18, label-smoothing: must be a number"),
        (('atol = 1e-6', "axis = 1.5"), r"line 4, axis: must be a whole number"),
        (('[defaults]', "[default]"), r"line 2, default: a manifest has"),
        (('name = "first"', 'command = "chek"'), r"line 8, command: 'chek' is none of check"),
        (('name = "first"', "name = 3"), r"line 8, name: must be a string"),
        (('logits = "a.npy"\nlabels = "b.npy"\nloss', "labels = 'b'\nloss"), r"line 7: there is no logits"),
        (('grad = "sub/g.npy"', "grad = 1"), r"line 16, grad: must name a file"),
        (('grad = "sub/g.npy"', "grad ="), r"not valid TOML: .*line 16"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_manifest_is_named_by_line_and_key(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    text = MANIFEST.replace(*change, 1)
    assert text != MANIFEST
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(InputError, match=words):
        discover([str(tmp_path / "m.toml")], NOTHING)


@pytest.mark.parametrize(
    "path",
    ["../secret.npy", "/etc/passwd", "sub/../../secret.npy", "link.npy", "link.npy:logits", "s3://a/b.npy"],
)
def test_R10_a_file_outside_the_folder_of_the_manifest_is_refused_unread(tmp_path: Path, path: str) -> None:
    home = tmp_path / "home"
    touch(tmp_path, "secret.npy", "home/sub/x")
    (home / "link.npy").symlink_to(tmp_path / "secret.npy")
    (home / "m.toml").write_text(f'[[case]]\nlogits = "{path}"\nlabels = "b.npy"\n')
    (case,) = discover([str(home / "m.toml")], NOTHING).cases
    assert case.refusal is not None
    assert "outside the folder" in case.refusal
    (case,) = discover([str(home / "m.toml")], Told({}, {}, allow_outside=True)).cases
    assert case.refusal is None


def test_how_files_are_read_can_stand_in_a_manifest(tmp_path: Path) -> None:
    text = '[[case]]\nlogits = "a.npz:z"\nlabels = "-"\ndtype = ["logits=bfloat16"]\ninput-format = "npz"\n'
    (tmp_path / "m.toml").write_text(text)
    (case,) = discover([str(tmp_path / "m.toml")], NOTHING).cases
    assert dict(case.options) == {"dtype": ["logits=bfloat16"], "input_format": "npz"}
    assert dict(case.files) == {"logits": str(tmp_path / "a.npz:z"), "labels": str(tmp_path / "-")}
    for wrong, words in (('"logits=bfloat16"', "line 4, dtype: must be a list"), ("[3]", "list of strings")):
        (tmp_path / "m.toml").write_text(text.replace('["logits=bfloat16"]', wrong))
        with pytest.raises(InputError, match=words):
            discover([str(tmp_path / "m.toml")], NOTHING)


def test_a_manifest_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(InputError, match="byte 5 is not UTF-8"):
        discover([str(tmp_path / "m.toml")], NOTHING)

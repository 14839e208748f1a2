"""What an argument names: files with odd names, members, standard input, files on other machines."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from gradcheck_cli.errors import InputError
from gradcheck_cli.reading import CONTENT, Reading
from gradcheck_cli.tensors import Location, locate, open_tensor
from tests.containers import Member, entry, npy_of, refused, rows_of, safetensors, zipped
from tests.tensors.conftest import Put

A = np.arange(6.0).reshape(2, 3)
FILES = {
    "npy": npy_of(A),
    "npz": zipped(Member("logits.npy", npy_of(A), 8)),
    "safetensors": safetensors({"logits": entry("F64", [2, 3], 0, 48)}, A.tobytes()),
    "text": b"0,1,2.0\n3,4,5\n",
}
every_format = pytest.mark.parametrize("form", FILES)


@pytest.mark.parametrize(
    ("text", "path", "member"),
    [
        ("x.npz", "x.npz", None),
        ("x.npz:a", "x.npz", "a"),
        ("x.npz:a:b", "x.npz", "a:b"),
        ("x.npz:", "x.npz", ""),
        ("odd:name", "odd:name", None),
        ("odd:name:a", "odd:name", "a"),
        ("none:a", "none:a", None),
        ("-", "-", None),
        ("-:a", "-", "a"),
        ("s3://bucket/x.npz:a/b", "s3://bucket/x.npz", "a/b"),
        ("https://host:8080/x.npy", "https://host:8080/x.npy", None),
        ("https://host:8080/x.safetensors:a", "https://host:8080/x.safetensors", "a"),
    ],
)
def test_file_and_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, path: str, member: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.npz", "odd:name", "odd"):
        Path(name).touch()
    assert locate(text) == Location(path, member)


def test_a_url_that_is_a_file_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s3:").mkdir()
    Path("s3://x.npy").write_bytes(npy_of(A))
    assert not locate("s3://x.npy").remote
    with open_tensor("s3://x.npy", role="logits") as tensor:
        assert tensor.shape == (2, 3)


def test_a_member_of_a_file_that_has_none(put: Put) -> None:
    assert "has no members (npy): leave out :a" in refused(put(npy_of(A)) + ":a")
    assert "has no member ''" in refused(put(FILES["npz"]) + ":")


def test_the_usual_name_of_the_role_is_enough(put: Put) -> None:
    path = put(zipped(*(Member(f"{name}.npy", npy_of(A)) for name in ("logits", "Targets", "step"))))
    with open_tensor(path, role="labels") as tensor:
        assert tensor.name == f"{path}:Targets"
    assert "holds 3 tensors; say which, as in FILE:NAME (logits, Targets, step)" in refused(path, "grad")


class _Stdin:
    """Standard input of this process, for a while."""

    def __init__(self, descriptor: int, *, terminal: bool = False) -> None:
        self._descriptor = descriptor
        self._terminal = terminal

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return what puts bytes into standard input as a pipe."""
    opened = []

    def fill(data: bytes) -> None:
        reading, writing = os.pipe()
        opened.append(reading)
        os.write(writing, data)
        os.close(writing)
        monkeypatch.setattr(sys, "stdin", _Stdin(reading))

    yield fill
    for descriptor in opened:
        os.close(descriptor)


@every_format
def test_F02_every_format_is_read_from_a_pipe(pipe: Any, form: str) -> None:
    pipe(FILES[form])
    with open_tensor("-", role="logits") as tensor:
        np.testing.assert_array_equal(rows_of(tensor), A)
        tensor.check_unchanged()


@every_format
def test_F02_and_in_place_where_it_is_a_file(put: Put, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    with Path(put(FILES[form])).open("rb") as file:
        monkeypatch.setattr(sys, "stdin", file)
        with open_tensor("-", role="logits") as tensor:
            np.testing.assert_array_equal(rows_of(tensor), A)


def test_F02_not_from_the_middle_of_a_file(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(put(b"9,9\n" + FILES["text"])).open("rb", buffering=0) as file:
        file.seek(4)
        monkeypatch.setattr(sys, "stdin", file)
        with open_tensor("-", role="logits") as tensor:
            np.testing.assert_array_equal(rows_of(tensor), A)


@pytest.mark.parametrize(
    ("stdin", "words"), [(None, "standard input is closed"), (_Stdin(0, terminal=True), "is a terminal")]
)
def test_F02_no_standard_input(monkeypatch: pytest.MonkeyPatch, stdin: Any, words: str) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    assert words in refused("-")


def test_F03_an_endless_stream_of_nothing_stops_at_once() -> None:
    with Path("/dev/zero").open("rb") as zeros:
        done = subprocess.run(
            [sys.executable, "-c", "from gradcheck_cli.tensors import open_tensor as o; o('-', role='y')"],
            stdin=zeros, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    assert "holds neither text nor any format that is known" in done.stderr


def test_F03_an_endless_text_stops_at_the_cap() -> None:
    code = (
        "from gradcheck_cli.tensors import open_tensor; from gradcheck_cli.reading import Reading\n"
        "open_tensor('-', role='logits', reading=Reading(max_bytes=1 << 22))"
    )
    with subprocess.Popen(["yes", "1,2,3"], stdout=subprocess.PIPE) as yes:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=yes.stdout,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        yes.kill()
    assert "is longer than 4194304 bytes; pass --max-bytes if that is right" in done.stderr


def test_F03_without_room_for_the_spool(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(FILES["text"])
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    assert "no temporary file to unpack it into" in refused("-")
    pipe(FILES["text"])
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(os, "pwrite", _full)
    assert "No space left on device (set TMPDIR)" in refused("-")


def _full(*_: Any) -> int:
    raise OSError(28, "No space left on device")


@pytest.fixture
def remote() -> Any:
    """Return fsspec's file system in memory, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    return system


@every_format
def test_a_remote_file_is_read(remote: Any, form: str) -> None:
    remote.pipe("/bucket/x.bin", FILES[form])
    with open_tensor("memory://bucket/x.bin", role="logits") as tensor:
        assert tensor.path == "memory://bucket/x.bin"
        np.testing.assert_array_equal(rows_of(tensor), A)
        tensor.check_unchanged()


def test_a_remote_member_is_read(remote: Any) -> None:
    remote.pipe("/x.npz", FILES["npz"])
    with open_tensor("memory://x.npz:logits", role="grad") as tensor:
        assert tensor.name == "memory://x.npz:logits"


def test_a_remote_file_has_a_cap_that_is_known_before_it_is_read(remote: Any) -> None:
    remote.pipe("/x.npy", FILES["npy"])
    assert "is longer than 10 bytes" in refused("memory://x.npy", reading=Reading(max_bytes=10))


def test_a_remote_file_that_is_not_there(remote: Any) -> None:  # noqa: ARG001 - empties the store
    assert refused("memory://x.npy").startswith("memory://x.npy: cannot be read: ")
    assert "cannot be read: Protocol not known: nothing" in refused("nothing://x.npy")
    assert "a file of this machine; give its path alone" in refused("file:///x.npy")


def test_a_remote_file_that_breaks_off(remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.pipe("/x.npy", FILES["npy"])
    monkeypatch.setattr(type(remote), "open", lambda *_: io.BytesIO(FILES["npy"][:-8]))
    size = len(FILES["npy"])
    assert f"ended after {size - 8} of {size} bytes" in refused("memory://x.npy")


def test_without_fsspec_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert "needs fsspec (pip install 'softgrad[remote]')" in refused("s3://bucket/x.npy")


def test_a_forced_format_is_that_format(put: Put) -> None:
    path = put(b"1,2.5\n", "x.npy")
    assert "does not begin with the NPY signature" in refused(path)
    with open_tensor(path, role="logits", reading=Reading(input_format="text")) as tensor:
        assert tensor.shape == (1, 2)
    for form in ("npy", "npz", "safetensors"):
        assert refused(path, reading=Reading(input_format=form))


def test_what_is_forced_is_checked_all_the_same(put: Put) -> None:
    with pytest.raises(InputError, match="not an NPY file"):
        open_tensor(put(FILES["npz"]), role="logits", reading=Reading(input_format="npy"))
    assert CONTENT.input_format is None

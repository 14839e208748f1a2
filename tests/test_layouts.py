"""The same numbers get the same verdict from every writer, in every layout, byte order and container."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from gradcheck_cli.bundles import open_inputs
from gradcheck_cli.check import check
from gradcheck_cli.reading import Reading
from gradcheck_cli.settings import Settings

Array = np.ndarray[Any, Any]


def _npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _npz(array: Array, *, packed: bool) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(stream, tensor=array)
    return stream.getvalue()


def _text(array: Array, separator: str, end: str = "\n") -> bytes:
    """Print every digit; integers as such."""
    table = array.reshape(len(array), -1).tolist()
    return "".join(separator.join(map(repr, row)) + end for row in table).encode()


WRITERS: dict[str, Callable[[Array], bytes]] = {
    "npy": _npy,
    "npy-fortran": lambda array: _npy(np.asfortranarray(array)),
    "npy-big-endian": lambda array: _npy(array.astype(array.dtype.newbyteorder(">"))),
    "npz": lambda array: _npz(array, packed=False),
    "npz-deflated": lambda array: _npz(array, packed=True),
    "npz-fortran": lambda array: _npz(np.asfortranarray(array), packed=True),
    "safetensors": lambda array: save({"tensor": array}),
    "csv": lambda array: _text(array, ","),
    "tsv-crlf": lambda array: _text(array, "\t", "\r\n"),
    "blanks-gz": lambda array: gzip.compress(_text(array, " ")),
    "header": lambda array: (
        b"\xef\xbb\xbf" + _text(np.zeros(array[:1].shape), ";").replace(b"0.0", b"c") + _text(array, ";")
    ),
}
every_writer = st.sampled_from(sorted(WRITERS))


def _case(seed: int, rows: int, classes: int, wrong: float) -> dict[str, Array]:
    """Return a float64 case whose gradient is off by a factor in one entry, or right where that is 1."""
    rng = np.random.default_rng(seed)
    z = 3.0 * rng.normal(size=(rows, classes))
    y = rng.integers(0, classes, rows)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    g = e / e.sum(axis=1, keepdims=True)
    g[np.arange(rows), y] -= 1.0
    g /= rows
    g[rows // 2, classes // 2] *= wrong
    return {"logits": z, "labels": y, "grad": g}


def _told(folder: Path, case: dict[str, Array], writers: dict[str, str], threads: int = 1) -> Any:
    """Return the verdicts of all checks and the worst entries of the gradient."""
    for role, array in case.items():
        (folder / role).write_bytes(WRITERS[writers[role]](array))
    with ExitStack() as opened:
        files = {role: str(folder / role) for role in case}
        outcome = check(open_inputs(files, Reading(), opened), {}, Settings(threads=threads))
    grad = outcome.checks[-1]
    worst = [(each.index, each.got) for each in grad.worst[: grad.failing]]
    return outcome.verdict, [(c.name, c.verdict, c.entries, c.failing) for c in outcome.checks], worst


@given(
    st.tuples(st.integers(1, 9), st.integers(2, 9)),
    st.integers(0, 99),
    st.sampled_from((1.0, 1.0, 1.001, 0.0)),
    st.fixed_dictionaries({"logits": every_writer, "labels": every_writer, "grad": every_writer}),
)
@settings(max_examples=100)
def test_every_writer_gets_the_verdict_of_npy(
    tmp_path_factory: Any, shape: tuple[int, int], seed: int, wrong: float, writers: dict[str, str]
) -> None:
    folder, case = tmp_path_factory.mktemp("layout"), _case(seed, *shape, wrong)
    wanted = _told(folder, case, dict.fromkeys(case, "npy"))
    assert wanted[0].value == ("pass" if wrong == 1.0 else "fail")
    assert _told(folder, case, writers) == wanted


def test_N29_an_order_that_lies_is_a_wrong_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are as many as they should be, so only their values can tell."""
    case = _case(3, 6, 6, 1.0)
    lie = _npy(case["grad"]).replace(b"'fortran_order': False", b"'fortran_order': True ")
    monkeypatch.setitem(WRITERS, "lie", lambda _: lie)
    verdict, checks, _ = _told(tmp_path, case, {"logits": "npy", "labels": "npy", "grad": "lie"})
    assert (verdict.value, checks[-1][3] > 6) == ("fail", True)


@pytest.mark.parametrize(
    "writer", [name for name in WRITERS if name not in ("header", "tsv-crlf", "blanks-gz")]
)
@pytest.mark.parametrize("wrong", [1.0, 1.0001])
def test_N27_and_N28_on_several_processes_and_many_blocks(tmp_path: Path, writer: str, wrong: float) -> None:
    case = _case(5, 1200, 500, wrong)
    wanted = _told(tmp_path, case, dict.fromkeys(case, "npy"))
    assert wanted[1][-1][3] == (wrong != 1.0)
    assert _told(tmp_path, case, dict.fromkeys(case, writer), threads=2) == wanted

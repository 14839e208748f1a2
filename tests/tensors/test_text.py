"""Delimited text: what is refused and why (the rows of faults.md), and that what is read is exact."""

from __future__ import annotations

import gzip
import io
import re
import time
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gradcheck_cli.reading import CONTENT, Reading
from gradcheck_cli.report import layout
from gradcheck_cli.tensors import (
    Decimals,
    Rows,
    Tensor,
    cells,
    lines,
    location,
    npy,
    open_tensor,
    safetensors,
    text,
)
from gradcheck_cli.tensors.cells import NUMBER
from tests import containers

Put = Callable[[bytes], str]


@pytest.fixture
def put(tmp_path: Any) -> Put:
    """Return what writes bytes to a file and says where."""

    def write(data: bytes) -> str:
        (tmp_path / "x.csv").write_bytes(data)
        return str(tmp_path / "x.csv")

    return write


def refused(path: str, role: str = "logits", reading: Reading = CONTENT) -> str:
    """Return the one line that a file is refused with, without its path."""
    message = containers.refused(path, role, reading)
    assert message.startswith(path)
    return message[len(path) :]


def values(tensor: Tensor) -> Any:
    """Return all values as nested lists, in the shape that the tensor has."""
    view = Rows(tensor, None)
    out = np.empty(view.count, tensor.stored)
    view.read(0, view.count, out)
    return out.reshape(tensor.shape).tolist()


def read(path: str, role: str = "logits") -> tuple[Any, tuple[str, ...]]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_tensor(path, role=role) as tensor:
            assert tensor.dtype == "text"
            tensor.check_unchanged()
            return values(tensor), tensor.notes


GRID = [[1.0, 2.5], [3.0, -4.0]]


@pytest.mark.parametrize(
    ("data", "notes"),
    [
        pytest.param(b"1,2.5\n3,-4\n", (), id="plain"),
        pytest.param(b"\xef\xbb\xbf1,2.5\n3,-4\n", (), id="C01"),
        pytest.param(b"1,2.5\r\n3,-4\r\n", (), id="C03-crlf"),
        pytest.param(b"1,2.5\r3,-4\r", (), id="C03-cr"),
        pytest.param(b"1,2.5\r\n3,-4\n\n\n", (), id="C03-mixed-and-blank-end"),
        pytest.param(b"a,b\n1,2.5\n3,-4\n", ("first line taken as a header",), id="C04"),
        pytest.param("é,日本\n1,2.5\n3,-4\n".encode(), ("first line taken as a header",), id="C04-utf8"),
        pytest.param(b"# a,b\n1,2.5\n3,-4\n", ("first line taken as a header",), id="C04-savetxt"),
        pytest.param(b"1;2.5\n3;-4\n", ("separator ';'",), id="C12"),
        pytest.param(b"1\t2.5\n3\t-4\n", ("separator a tab",), id="C12-tab"),
        pytest.param(b"  1   2.5 \n3\t-4\n", ("separator blanks",), id="C12-blanks"),
        pytest.param(b"1, 2.5\n 3 ,-4\n", (), id="C12-padded"),
        pytest.param(b'"1","2.5"\n3,"-4"\n', (), id="C14-quoted"),
        pytest.param(b"1,2.5,\n3,-4,\n", ("separator at the end of every line dropped",), id="C15"),
        pytest.param(b"1,2.5\n3,-4", ("no newline at end of file: check that it is complete",), id="C23"),
        pytest.param(gzip.compress(b"1,2.5\n3,-4\n"), (), id="G02"),
        pytest.param(gzip.compress(b"1,2.5\n") + gzip.compress(b"3,-4\n"), (), id="G01-members"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2, 5, 1 << 20])
def test_accepted(
    put: Put, monkeypatch: pytest.MonkeyPatch, data: bytes, notes: tuple[str, ...], chunk: int
) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", chunk)
    if data.startswith(b"\xef\xbb\xbf"):  # the mark is looked for in the first chunk alone
        monkeypatch.setattr(lines, "CHUNK_BYTES", max(chunk, 3))
    assert read(put(data)) == (GRID, notes)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param("1,2\n".encode("utf-16"), "UTF-16", id="C02"),
        pytest.param("1,2\n".encode("utf-16-le"), r"\x00 at byte 1", id="C02-no-mark"),
        pytest.param(b"0,1,2\n1.5,2,3\n", "line 1: 0 .. 2 is ambiguous", id="C05"),
        pytest.param(b",0,1\n0,1.5,2\n", "first column looks like an index", id="C06"),
        pytest.param(b"1,2\n3\n", "line 2: 1 columns, where the lines before have 2", id="C07"),
        pytest.param(b"1,2\n3,4,5\n", "line 2: 3 columns, where the lines before have 2", id="C08"),
        pytest.param(b"a,b,c\n1,2,3,4\n", "header has 3 columns, line 2 has 4", id="C08-header"),
        pytest.param(b"1\n\n3\n", "line 2: blank line inside the data", id="C09"),
        pytest.param(b"\n1\n", "line 1: blank line", id="C09-first"),
        pytest.param(b"1\n \n3\n", "line 2: a line of nothing but blanks", id="C10"),
        pytest.param(b"1 2\n\t\n3 4\n", "line 2: a line of nothing but blanks", id="C10-blanks"),
        pytest.param(b"1,2\n2#3,4\n", "line 2, column 1: '2#3' has a #", id="C11"),
        pytest.param(b"1\n1.#INF\n", "line 2, column 1: '1.#INF' has a #", id="C11-msvc"),
        pytest.param(b"1,2\n3;4\n", "line 2, column 1: '3;4' is not a number", id="C12"),
        pytest.param(b"1,5;2,5\n3,5;4,5\n", "'1,5' has a decimal comma", id="C13"),
        pytest.param(b"1;2\n3,5;4\n", "line 2, column 1: '3,5' has a decimal comma", id="C13-later"),
        pytest.param(b'1,2\n"1,234",5\n', "line 2, column 1: '\"1' has an open quote", id="C14-thousands"),
        pytest.param(b'1,2\n"3,4\n', "line 2, column 1: '\"3' has an open quote", id="C14-unclosed"),
        pytest.param(b'1,2\n3,4"\n', "line 2, column 2: '4\"' has an open quote", id="C14-stray"),
        pytest.param(b"1,2\n3,4,\n", "line 2: a separator at its end", id="C15-one-row"),
        pytest.param(b"1,2,\n3,4\n", "line 2: no separator at its end", id="C15-but-one"),
        pytest.param(b"1,2\n3,\x004\n", r"\x00 at byte 6", id="C16-nul"),
        pytest.param(b"1,2\r\n3,\x1b4\n", r"\x1b at byte 7", id="C16-escape"),
        pytest.param(b"1,2\n3,4\x1a", r"\x1a at byte 7", id="C16-end"),
        pytest.param(b"1,2\n3,NA\n", "line 2, column 2: 'NA' is a missing value", id="C17-na"),
        pytest.param(b"NA\n1\n", "line 1, column 1: 'NA' is a missing value", id="C17-na-first"),
        pytest.param(b"1,2\nNULL,3\n", "line 2, column 1: 'NULL' is a missing value", id="C17-null"),
        pytest.param(b"1,2\n,3\n", "line 2, column 1: empty cell", id="C17-empty"),
        pytest.param(b"1,2\n0x10,3\n", "line 2, column 1: '0x10' is hexadecimal", id="C18"),
        pytest.param(b"1,2\n3,1e999\n", "column 2: '1e999' is too large", id="C19"),
        pytest.param(b"nan,inf\n3,-1e999\n", "column 2: '-1e999' is too large", id="C19-among-others"),
        pytest.param(b"1,2\n1_000,3\n", "'1_000' groups its digits", id="C20-underscore"),
        pytest.param("1,2\n１,3\n".encode(), "'１' is not a number", id="C20-wide"),
        pytest.param("1,2\n\u00a03,3\n".encode(), "is not a number", id="C20-nbsp"),
        pytest.param(b"1,2\n1d3,3\n", "'1d3' has a Fortran exponent", id="C21-d"),
        pytest.param(b"1,2\n3,1.5f\n", "line 2, column 2: '1.5f' is not a number", id="C21-f"),
        pytest.param(b"1.5f,2\n3,4\n", "line 1, column 1: '1.5f' is not a number", id="C21-first"),
        pytest.param(b"1,2\n1 000,3\n", "'1 000' is more than one number", id="C21-blank"),
        pytest.param("1,2\n\u22121,3\n".encode(), "is not a number", id="C21-minus"),
        pytest.param(b"1,2\n1+2j,3\n", "complex", id="C21-complex"),
        pytest.param(b"1,2\ntensor(1.),3\n", "has brackets", id="C21-tensor"),
        pytest.param(b"[1,2],\n[3,4],\n", "line 1, column 1: '[1' has brackets", id="C21-list"),
        pytest.param(b"1,2\nTrue,3\n", "'True' is a truth value", id="C21-true"),
        pytest.param(b"1,2\n3,\xff\n", "byte 6 is not UTF-8", id="C22"),
        pytest.param(b"caf\xe9,b\n3,4\n", "byte 3 is not UTF-8", id="C22-header"),
        pytest.param(b"\n\n", "no data", id="C24-blank"),
        pytest.param(b"a,b\n", "has a header and no data", id="C24-header"),
        pytest.param(b"1,2\n" + b"3" * 4097 + b",4\n", "has 4097 characters", id="C26-cell"),
        pytest.param(b"0," * (1 << 20) + b"0\n", "the limit is 1048576", id="C26-columns"),
        pytest.param(gzip.compress(b"1,2\n" * 99)[:-9], "cut off", id="G01-truncated"),
        pytest.param(gzip.compress(b"1,2\n") + b"garbage", "followed by other data", id="G01-trailing"),
        pytest.param(gzip.compress(b"\x93NUMPY\x01\x00"), "packed NPY", id="G-npy"),
    ],
)
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_refused(put: Put, monkeypatch: pytest.MonkeyPatch, data: bytes, words: str, chunk: int) -> None:
    if len(data) < 10_000:
        monkeypatch.setattr(lines, "CHUNK_BYTES", chunk)
    assert words in refused(put(data))


def test_C26_and_G03_a_line_without_end(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_LIMIT", 3 << 20)
    assert "line 2 is longer than 3 MiB" in refused(put(gzip.compress(b"1\n" + b"0," * (4 << 20))))


@pytest.mark.parametrize("header", [True, False])
def test_C05_the_user_says_whether_there_is_a_header(put: Put, header: bool) -> None:
    path, told = put(b"0,1,2\n1.5,2,3\n"), Reading(header=header)
    assert "pass --header or --no-header" in refused(path)
    with open_tensor(path, role="logits", reading=told) as tensor:
        assert values(tensor) == [[1.5, 2.0, 3.0]] if header else [[0.0, 1.0, 2.0], [1.5, 2.0, 3.0]]
        assert tensor.notes == (("first line taken as a header (--header)",) if header else ())
    if header:
        assert "has a header and no data" in refused(put(b"1,2\n"), reading=told)
    else:
        assert "line 1, column 1: 'a' is not a number" in refused(put(b"a,b\n1,2\n"), reading=told)


def test_G03_packed_text_stops_at_its_limit(put: Put) -> None:
    path = put(gzip.compress(b"0,1.5\n" * 100_000))
    assert "unpacks to more than 5000 bytes; pass --max-bytes" in refused(
        path, reading=Reading(max_bytes=5000)
    )
    with open_tensor(path, role="grad", reading=Reading(max_bytes=600_000)) as tensor:
        assert tensor.shape == (100_000, 2)


def _patterns(*modules: ModuleType) -> list[re.Pattern[Any]]:
    return [each for module in modules for each in vars(module).values() if isinstance(each, re.Pattern)]


@pytest.mark.parametrize(
    ("patterns", "way", "size"),
    [
        ([*_patterns(cells), *(pattern for pattern, _ in cells._ADVICE)], "fullmatch", cells.CELL_LIMIT),
        (_patterns(location, npy), "fullmatch", 20_000),
        (_patterns(layout, lines, safetensors, text), "findall", 20_000),
    ],
)
def test_R11_no_pattern_takes_long(patterns: list[re.Pattern[Any]], way: str, size: int) -> None:
    """One that backtracks would take hours for the longest text that the code gives it."""
    assert len(patterns) >= 3
    for pattern in patterns:
        for piece in (
            "1" * 9,
            "1.",
            "e+",
            "0x",
            '"',
            "[",
            " ",
            "\\",
            "a:",
            "--a ",
            "1,",
            "\x00",
            "n",
            "1e1",
            "é",
        ):
            subject: Any = piece * (size // len(piece)) + "!"
            began = time.perf_counter()
            getattr(pattern, way)(subject if isinstance(pattern.pattern, str) else subject.encode())
            assert time.perf_counter() - began < 1.0, (pattern.pattern, piece)


@pytest.mark.parametrize("role", ["labels", "logits"])
def test_C10_nothing_but_blanks(put: Put, role: str) -> None:
    """What numpy warns of, and takes for no data, is refused."""
    for data in (b"\t", b"\xef\xbb\xbf\t\n", b" \n \n"):
        assert "line 1: a line of nothing but blanks" in refused(put(data), role)


def test_C16_nothing_unsafe_reaches_a_message(put: Put) -> None:
    assert r"'\u202e1'" in refused(put("1,2\n\u202e1,3\n".encode()))


def test_C17_not_finite(put: Put) -> None:
    found, _ = read(put(b"nan,NaN,-nan\ninf,-INF,+Infinity\n"))
    np.testing.assert_array_equal(found, [[np.nan] * 3, [np.inf, -np.inf, np.inf]])


def test_C19_underflow_is_said(put: Put) -> None:
    found, notes = read(put(b"1.5,0e-999\n2,1e-999\n"))
    assert found == [[1.5, 0.0], [2.0, 0.0]]
    assert notes == ("1e-999 in line 2 is too small and read as 0",)


@pytest.mark.parametrize(
    ("data", "role", "shape"),
    [
        (b"1.5\n2\n3\n", "logits", (3,)),
        (b"1.5,2,3\n", "logits", (1, 3)),
        (b"0,1,2\n", "logits", (1, 3)),
        (b"1,2,3\n", "labels", (3,)),
        (b"1,2,3\n", "class-weights", (3,)),
        (b"0,1,2\n1,2,3\n", "labels", (2, 3)),
        (b"7\n", "logits", (1,)),
        (b"my label\n1\n2\n", "labels", (2,)),
    ],
)
def test_C25_shapes(put: Put, data: bytes, role: str, shape: tuple[int, ...]) -> None:
    with open_tensor(put(data), role=role) as tensor:
        assert tensor.shape == shape


def test_C29_labels_stay_integers(put: Put) -> None:
    found, _ = read(put(b"9007199254740993\n-100\n+3\n"), "labels")
    assert found == [2**53 + 1, -100, 3]


def test_L02_labels_written_as_decimals(put: Put) -> None:
    assert read(put(b"1.0\n2e0\n"), "labels") == (
        [1.0, 2.0],
        ("labels are written as decimals, read as whole numbers",),
    )
    assert "line 2: label 1.5 is not a whole number" in refused(put(b"1\n1.5\n"), "labels")
    assert "line 3: label nan is not a whole number" in refused(put(b"y\n1\nnan\n"), "labels")
    assert "too large" in refused(put(b"1\n9223372036854775808\n"), "labels")
    assert read(put(b"0.25,0.75\n1,0\n"), "labels")[0] == [[0.25, 0.75], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("data", "decimals"),
    [
        (b"1.250,-0.001\n0.000,20.000\n", Decimals(5, 3)),
        (b" 1.250   -0.001\n 0.000   2.000\n", Decimals(4, 3)),
        (b"1.25,nan\n-inf,0.50\n", Decimals(3, 2)),
        (b"0.12,0.5\n", Decimals(2, None)),
        (b"1,0.50\n", Decimals(2, None)),
        (b"1.234e-05,1e+300\n", Decimals(4, None)),
        (b"1e-100,2e+200\n", Decimals(1, None)),
        (b"0.00012345,1.5\n", Decimals(5, None)),
        (b"1.2345678901234567890e-05,1\n", Decimals(17, None)),
        (b"0.1,0.30000000000000004\n", Decimals(17, None)),
        (b"1,2\n3,4\n", Decimals(17, None)),
        (b"nan,nan\n", Decimals(17, None)),
        (b"0.00,0.00\n", Decimals(17, 2)),
        (b"1.25,\r\n2.50,\r\n", Decimals(3, 2)),
    ],
)
def test_decimals(put: Put, data: bytes, decimals: Decimals) -> None:
    with open_tensor(put(data), role="grad") as tensor:
        assert tensor.decimals == decimals


@given(
    st.lists(st.sampled_from(("%.6f", "%.3e", "%.9g", "%d", "%r")), min_size=1, max_size=3), st.integers(1, 9)
)
def test_decimals_are_those_of_the_slow_way(tmp_path_factory: Any, formats: list[str], seed: int) -> None:
    numbers = np.random.default_rng(seed).standard_normal(60) * 50
    cells = [formats[i % len(formats)] % float(x) for i, x in enumerate(numbers)]
    path = tmp_path_factory.mktemp("decimals") / "x.csv"
    path.write_text("\n".join(cells) + "\n")
    digits = [re.split("[eE]", cell)[0].lstrip("-").replace(".", "").lstrip("0") for cell in cells]
    with open_tensor(str(path), role="grad") as tensor:
        assert tensor.decimals is not None
        whole = not any("." in cell for cell in cells)
        assert tensor.decimals.significant == (17 if whole else min(17, max(map(len, digits))))
        places = {len(cell.partition(".")[2]) if "." in cell else None for cell in cells}
        fixed = len(places) == 1 and not any("e" in cell for cell in cells)
        assert tensor.decimals.places == (places.pop() if fixed else None)


@given(
    st.lists(st.lists(st.floats(width=64), min_size=3, max_size=3), min_size=1, max_size=20),
    st.sampled_from(",;\t "),
    st.sampled_from(("\n", "\r\n")),
    st.booleans(),
)
def test_C28_repr_round_trip(
    tmp_path_factory: Any, table: list[list[float]], separator: str, end: str, packed: bool
) -> None:
    data = "".join(separator.join(map(repr, row)) + end for row in table).encode()
    path = tmp_path_factory.mktemp("text") / "x.csv"
    path.write_bytes(gzip.compress(data) if packed else data)
    with open_tensor(str(path), role="grad") as tensor:
        np.testing.assert_array_equal(values(tensor), table)


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters=',"'), max_size=6)


@given(PRINTABLE | st.from_regex(r"[0-9eE+.\-infaty _x]{0,8}", fullmatch=True))
@example("1_0")
@example("0x1p3")
@example("1e5L")
@example("nan(1)")
@example("1.e+5")
@example("+.5")
@example("infinit")
@example("1d5")
def test_numpy_and_the_grammar_agree(cell: str) -> None:
    """The fast way may take no cell that the grammar refuses, nor the other way round."""
    cell = cell.rstrip("\n")
    try:
        np.loadtxt(["1," + cell], delimiter=",", comments=None, encoding="latin1")
        taken = True
    except ValueError:
        taken = False
    assert taken == bool(NUMBER.fullmatch(cell.strip(" ")))


@pytest.mark.parametrize("style", ["%.18e", "%.6f", "%.9g"])
def test_the_same_values_as_numpy_in_many_chunks(
    put: Put, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", 1 << 12)
    array = np.random.default_rng(3).standard_normal((300, 40))
    text = io.BytesIO()
    np.savetxt(text, array, fmt=style, delimiter=",")
    path = put(text.getvalue())
    found, _ = read(path)
    np.testing.assert_array_equal(found, np.loadtxt(path, delimiter=","))


def test_C27_fifty_thousand_columns(put: Put) -> None:
    row = np.random.default_rng(4).standard_normal(50_000)
    text = ",".join(map(repr, row.tolist()))
    with open_tensor(put(f"{text}\n{text}\n".encode()), role="grad") as tensor:
        assert tensor.shape == (2, 50_000)
        np.testing.assert_array_equal(values(tensor)[1], row)


def test_a_fault_far_down_names_its_line(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", 1 << 10)
    data = b"h\n" + b"1.5\n" * 4000
    assert "line 4002, column 1: 'x' is not a number" in refused(put(data + b"x\n"))
    assert "line 4002: blank line inside" in refused(put(data + b"\n1\n"))

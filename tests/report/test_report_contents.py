"""What files hold, shown: no number cut, no text of a user's obeyed, JSON that is strict."""

from __future__ import annotations

import json

import pytest

from gradcheck_cli.inspection import Holding, Inspection
from gradcheck_cli.report.contents import table, to_json

GRAD = Holding(
    member="grad\n\x1b[2J", dtype="float32", shape=(512, 16), order="C", entries=8192, finite=8191, nan=1,
    positive_infinite=0, negative_infinite=0, least=-1.2345678e-07, greatest=2.0, role="grad",
    because="its rows sum to 0", notes=("bits taken as float32 (--dtype)",),
)  # fmt: skip
FOUND = Inspection("x\udcff.npz", "npz", (GRAD, Holding("bad", error="x: no")), ("notes\r.txt",))


@pytest.mark.parametrize("width", [None, 200, 100, 60])
def test_a_column_is_whole_or_named_as_left_out(width: int | None) -> None:
    lines = table([FOUND], width).splitlines()
    heading, row = lines[0], lines[1]
    assert r"x\xff.npz:grad\x0a\x1b[2J" in row
    left_out = next((line for line in lines if line.startswith("(too narrow for")), "")
    for name, value in (
        ("min", "-1.235e-07"),
        ("finite", "8,191"),
        ("looks like", "grad (its rows sum to 0)"),
    ):
        assert (name in heading and value in row) or name in left_out
    assert (left_out == "") == (width in (None, 200))
    assert width is None or len(heading) <= width or width == 60  # what is left has no rank to drop


def test_notes_and_other_members_stand_below() -> None:
    *_, note, others = table([FOUND], None).splitlines()
    assert note.endswith("bits taken as float32 (--dtype)")
    assert others == r"x\xff.npz: holds besides, not as tensors: notes\x0d.txt"
    assert "bad" not in table([FOUND], None)  # told on standard error


def test_nothing_readable_is_an_empty_table() -> None:
    assert table([Inspection("x", error="x: no such file")], 80) == ""


def test_json_is_strict_and_keeps_the_bytes_of_a_name() -> None:
    text = to_json([FOUND])
    assert text.isascii()
    (told,) = json.loads(text, parse_constant=pytest.fail)["files"]
    assert (told["path"], told["path_bytes_b64"]) == (r"x\xff.npz", "eP8ubnB6")
    assert told["tensors"][0]["least"] == -1.2345678e-07
    assert told["tensors"][1]["error"] == "x: no"

"""The JSON contract: strict JSON, every key, NumPy scalars and all."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli.outcome import Outcome, Worst
from gradcheck_cli.report.document import document, to_json, to_jsonl


def strict(text: str) -> dict[str, Any]:
    """Parse as jq and node do: NaN and Infinity are no JSON."""

    def refuse(token: str) -> NoReturn:
        raise AssertionError(token)

    parsed: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return parsed


def test_R08_the_strict_reader_refuses_nan() -> None:
    with pytest.raises(AssertionError, match="NaN"):
        strict("[NaN]")


def test_the_keys_are_those_of_the_contract(failed: Outcome) -> None:
    read = strict(to_json(failed))
    assert list(read) == [
        "schema", "softgrad", "command", "verdict", "inputs", "settings", "data", "checks", "diagnosis",
        "facts", "warnings", "saved", "seconds",
    ]  # fmt: skip
    assert (read["schema"], read["verdict"], read["seconds"]) == (1, "fail", 0.1234)
    assert set(read["inputs"]) == {"logits", "labels", "grad"}
    assert set(read["inputs"]["grad"]) == {"path", "member", "dtype", "grid", "shape", "order", "notes"}
    assert set(read["data"]) == {"rows", "classes", "axis", "ignored_rows", "divisor", "targets"}
    assert set(read["warnings"][0]) == {"code", "message", "lacks"}
    assert read["settings"] == failed.settings


def test_the_keys_of_a_check(failed: Outcome) -> None:
    check = strict(to_json(failed))["checks"][-1]
    assert list(check) == [
        "name", "verdict", "entries", "failing", "max_abs_error", "max_rel_error", "max_ulp_error",
        "max_margin", "required_atol", "required_rtol", "explained_by", "tolerance", "coverage",
        "median_ulp_error", "p99_ulp_error", "ulp_entries", "worst",
    ]  # fmt: skip
    assert check["worst"][0] == {
        "index": [3, 7], "label": 7, "got": 0.2512345, "expected": -0.0001655, "abs_error": 0.2514,
        "allowed": 7.8e-07, "margin": 3.21e5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "written"),
    [(float("nan"), "NaN"), (float("inf"), "Infinity"), (np.float32("-inf"), "-Infinity")],
)
def test_R08_what_json_has_no_number_for_is_a_string(failed: Outcome, value: float, written: str) -> None:
    check = replace(failed.checks[-1], max_margin=value)
    assert strict(to_json(replace(failed, checks=(check,))))["checks"][0]["max_margin"] == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.float32(0.1), float(np.float32(0.1))), (np.float64(0.1), 0.1), (np.int64(3), 3),
        (np.bool_(1), True),
        (np.array([1.5, np.nan]), [1.5, "NaN"]), (np.array(2.0), 2.0), (ml_dtypes.bfloat16(1.5), 1.5),
        (np.longdouble(2), 2.0),
        (None, None), *[(each, each) for each in (True, 1, 0.5)], ((1, 2), [1, 2]), (Path("a"), "a"),
    ],
)  # fmt: skip
def test_numpy_values_become_plain_ones(failed: Outcome, value: Any, written: Any) -> None:
    read = strict(to_json(replace(failed, settings={"it": value})))["settings"]["it"]
    assert read == written
    assert type(read) is type(written)


def test_an_index_may_be_of_numpy_integers(failed: Outcome) -> None:
    worst = Worst((np.int64(3), np.int32(7)), np.int64(7), 1.0, 1.0, 0.0, 1.0, 0.0)  # type: ignore[arg-type]
    check = replace(failed.checks[-1], worst=(worst,))
    read = strict(to_json(replace(failed, checks=(check,))))
    assert read["checks"][0]["worst"][0]["index"] == [3, 7]


def test_R12_floats_survive_the_round_trip(failed: Outcome) -> None:
    check = replace(failed.checks[-1], max_abs_error=0.1 + 0.2)
    assert strict(to_json(replace(failed, checks=(check,))))["checks"][0]["max_abs_error"] == 0.1 + 0.2


def test_R08_and_F07_hostile_names_stay_inside_their_string(failed: Outcome) -> None:
    path = 'a"\n\x1b[2J\u2028\u202e\udcff.npy'
    text = to_jsonl(replace(failed, inputs=(replace(failed.inputs[0], path=path),)))
    assert text.isascii()
    assert "\n" not in text
    told = strict(text)["inputs"]["logits"]
    assert told["path"] == path.replace("\udcff", r"\xff")  # a lone surrogate stops jq and node
    assert base64.b64decode(told["path_bytes_b64"]) == path.encode("utf-8", "surrogateescape")


def test_F07_a_name_in_unicode_needs_no_bytes(failed: Outcome) -> None:
    text = to_jsonl(replace(failed, inputs=(replace(failed.inputs[0], path="日本.npy"),)))
    assert "path_bytes_b64" not in strict(text)["inputs"]["logits"]


def test_one_line_and_many_lines_say_the_same(failed: Outcome) -> None:
    assert strict(to_json(failed)) == strict(to_jsonl(failed)) == document(failed)
    assert to_json(failed).count("\n") > 10

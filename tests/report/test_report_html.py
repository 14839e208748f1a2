"""A page about one check: the verdict first, everything that the table says, and right pictures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from typing import Any

import numpy as np
import pytest

from gradcheck_cli import check
from gradcheck_cli.outcome import Outcome, Picture, Verdict
from gradcheck_cli.report.document import document, pictured
from gradcheck_cli.report.drawing import SHADES, heat_map, histogram
from gradcheck_cli.report.parts import shares
from gradcheck_cli.report.restored import outcome_of
from gradcheck_cli.report.single import single
from gradcheck_cli.report.table import render
from tests.report.conftest import BAD_GRAD, DIFFERENCE, GRAD, outcome

RNG = np.random.default_rng(9)


def words(page: str) -> str:
    """Return what a reader of a page sees."""
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)).split())


def wrong() -> Outcome:
    """Return a failing check with all that a check can find."""
    logits = RNG.normal(size=(300, 7))
    labels = RNG.integers(0, 7, 300)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    grad = softmax - np.eye(7)[labels]
    return check(logits, labels, grad=grad, probs=np.where(softmax > 0.5, np.nan, softmax), loss=3.0)


@pytest.mark.parametrize(
    "found",
    [outcome(DIFFERENCE, GRAD), outcome(DIFFERENCE, BAD_GRAD, rtol=0.1, atol=1.0), wrong()],
    ids=["pass", "fail", "all there is"],
)
def test_a_document_is_an_outcome_again(found: Outcome) -> None:
    told = json.loads(json.dumps(document(found) | pictured(found)))
    again = outcome_of(told)
    assert document(again) | pictured(again) == told
    assert again.pictures == found.pictures
    assert repr(again.checks) == repr(found.checks)  # in which NaN equals NaN
    assert render(again).plain == render(Outcome(**vars(found))).plain


def test_a_document_with_more_in_it_is_an_outcome_too() -> None:
    told = json.loads(json.dumps(document(outcome(GRAD))))
    told["new"] = told["checks"][0]["new"] = told["data"]["new"] = 1
    assert document(outcome_of(told)) == json.loads(json.dumps(document(outcome(GRAD))))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("checks", 0, "entries"), "5"),
        (("checks", 0, "entries"), True),
        (("checks", 0, "verdict"), "perhaps"),
        (("checks", 0, "max_margin"), "high"),
        (("checks",), {}),
        (("inputs", "logits", "shape"), [1 << 70]),
        (("data", "rows"), None),
        (("settings",), None),
    ],
)
def test_a_document_of_another_kind_is_refused(place: tuple[Any, ...], value: object) -> None:
    told = json.loads(json.dumps(document(outcome(GRAD))))
    into = told
    for each in place[:-1]:
        into = into[each]
    into[place[-1]] = value
    with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
        outcome_of(told)


def test_the_page_says_all_that_the_table_says_and_the_verdict_first() -> None:
    found = wrong()
    page = "".join(single("html", found))
    body = words(page.partition("<body")[2].partition(">")[2])
    assert body.startswith("FAIL grad: all 2,100 entries are outside what float64 arithmetic can explain;")
    assert [each for each in str(found).split() if each not in body] == ["-v", "(-v"]
    for told in (*(each.message for each in found.diagnosis), *(each.message for each in found.warnings)):
        assert told in body


@pytest.mark.parametrize("verdict", Verdict)
def test_the_title_tells_the_verdict_to_whoever_has_many_pages_open(verdict: Verdict) -> None:
    page = "".join(single("html", outcome(replace(BAD_GRAD, verdict=verdict))))
    assert f"<title>softgrad: {verdict.value.upper()} grad" in page or verdict is Verdict.PASS
    assert f'<h1><span class="{verdict.value}">{verdict.value.upper()}</span>' in page


def test_every_shade_stands_for_the_share_that_fails() -> None:
    failing = RNG.integers(0, 12, (48, 96)) * (RNG.random((48, 96)) < 0.4)
    drawn = Picture("grad", 48 * 3, 96 * 4, tuple(map(tuple, failing.tolist())), ())
    shown = np.full(failing.shape, -1)
    colours = [colour for _, colour in SHADES]
    for colour, path in re.findall(r'<path fill="(#\w{6})" d="(.*?)"/>', heat_map(drawn)):
        for x, y, wide in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", path):
            assert (shown[int(y), int(x) : int(x) + int(wide)] == -1).all()
            shown[int(y), int(x) : int(x) + int(wide)] = colours.index(colour)
    share = np.array(list(shares(drawn)))
    ends = [end for end, _ in SHADES]
    assert np.array_equal(shown, np.where(share > 0, np.searchsorted(ends, share, side="right"), -1))


def test_parts_that_fail_in_a_row_are_one_rectangle() -> None:
    drawn = Picture("grad", 48, 96, ((1,) * 96,) * 48, ())
    assert len(heat_map(drawn)) < 4000


def test_nothing_is_drawn_where_nothing_is_known() -> None:
    assert heat_map(Picture("grad", 3, 3, (), ())) == histogram(Picture("grad", 3, 3, (), ())) == ""

"""A batch in every format: what hostile names can do to it, and what the reader of each format takes."""

from __future__ import annotations

import csv as reading
import io
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from gradcheck_cli.report.cases import render
from gradcheck_cli.report.document import document
from gradcheck_cli.report.forms import pieces
from gradcheck_cli.report.markdown import LIMIT
from gradcheck_cli.report.sentence import sentence
from gradcheck_cli.report.single import named
from gradcheck_cli.summary import KEPT, Head, Summary
from tests.report.conftest import AUDIT, BAD_GRAD, DIFFERENCE, GRAD, outcome

EVIL = (
    "a\x1b[2J\x00\x08\ufffe\ud800 [red]x[/red] <script>alert(1)</script> &amp; \"q\" 'a' ]]> | `c` @you\n"
    "::error title=x::y%0A\r::set-output name=a::b \u202e"
)
"""A name with everything that a terminal, XML, HTML, Markdown or a workflow could fall for."""

PICTURE = {
    "name": "grad", "rows": 4, "classes": 6, "failing": [[0, 4, 1], [0, 0, 4]],
    "octaves": [[None, 2], [-3, 5], [9, 17]],
}  # fmt: skip

DIAGNOSIS = {
    "code": "sum-for-mean", "kind": "convention", "message": EVIL, "flags": ["--x"], "formula": EVIL,
    "advice": EVIL, "parameters": {}, "explained": 1.0,
}  # fmt: skip


def batch() -> tuple[list[dict[str, Any]], Summary]:
    """Return a batch of four: right, wrong, not checked, undecided."""
    wrong = named(EVIL, 1, sentence(outcome(DIFFERENCE, AUDIT, BAD_GRAD)), document(outcome(AUDIT, BAD_GRAD)))
    wrong["diagnosis"] = [DIAGNOSIS]
    wrong["pictures"] = [PICTURE]
    error = {
        "case": "=1+1", "number": 2, "schema": 1, "softgrad": "0", "command": "check", "verdict": "error",
        "error": f"{EVIL}: no such file", "cause": "input", "seconds": 0.5,
    }  # fmt: skip
    undecided = named("last", 3, "grad could not be decided", document(outcome(DIFFERENCE)))
    undecided["verdict"] = "inconclusive"
    found = [named("right", 0, "fine", document(outcome(AUDIT, GRAD))), wrong, error, undecided]
    summary = Summary(len(found))
    for each in found:
        summary.add(Head.of_document(each))
    return found, summary


def text(form: str) -> str:
    found, summary = batch()
    return "".join(pieces(form, found, summary))


FORMS = ("json", "jsonl", "junit", "github", "markdown", "csv", "html")


@pytest.mark.parametrize("form", FORMS)
def test_no_control_sign_gets_into_a_report(form: str) -> None:
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e\ufffe\ud800]", text(form))
    assert text(form).encode()


@pytest.mark.parametrize("form", ["junit", "github", "markdown"])
def test_a_ci_server_is_told_which_bug_it_is(form: str) -> None:
    assert "sum-for-mean: grad: 128 of 5,120 entries" in text(form).replace("&#58;", ":")


def test_the_table_shows_names_as_they_are_and_lists_only_so_many() -> None:
    _, summary = batch()
    shown = render(summary, listed=1).plain
    assert "[red]x[/red]" in shown
    assert "\x1b" not in shown
    assert "and 2 more cases; --format jsonl has them all" in shown
    assert "1 of 1 failure: sum-for-mean" in shown
    assert "1 of 4 cases is wrong, 1 could not be decided, 1 could not be checked" in shown


def test_a_narrow_table_stays_within_its_width() -> None:
    _, summary = batch()
    summary.heads = [Head("short", 0, "fail", "grad: all wrong", margin=3.0)]
    assert all(len(line) <= 60 for line in render(summary, width=60).plain.splitlines()[1:6])


@pytest.mark.parametrize("width", [40, 60, 80, 300, None])
def test_what_is_wrong_with_a_case_is_told_whole_beside_it_or_below(width: int | None) -> None:
    _, summary = batch()
    message = (
        "grad: 148 of 8,192 entries (1.81%) are outside what bfloat16 arithmetic can explain; " * 2 + "end"
    )
    summary.heads = [Head("short", 0, "fail", message, margin=3.0, code=("all-zero", "clipped"))]
    lines = render(summary, width=width).plain.splitlines()
    told = " ".join(" ".join(lines).split())
    assert f"all-zero and clipped: {message}" in told
    assert any("short" in line and message in line for line in lines) == (width in (300, None))


# JSON.


def test_jsonl_has_a_line_for_each_case_and_the_summary_last() -> None:
    *cases, last = [json.loads(line) for line in text("jsonl").splitlines()]
    assert [each["case"] for each in cases][::3] == ["right", "last"]
    assert cases[1]["case"] == EVIL
    assert last["summary"]["cases"] == 4
    assert last["summary"]["diagnosis"] == {"sum-for-mean": 1}
    assert {v: last["summary"][v] for v in ("pass", "fail", "inconclusive", "error")} == dict.fromkeys(
        ("pass", "fail", "inconclusive", "error"), 1
    )


def test_json_is_the_same_in_one_object() -> None:
    whole = json.loads(text("json"))
    lines = [json.loads(line) for line in text("jsonl").splitlines()]
    assert whole == {"cases": lines[:-1], **lines[-1]}


# JUnit: the rules of Jenkins' junit-10.xsd, written down.

ELEMENTS: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set(), {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id",
         "package", "file", "log", "url"},
        {"name", "tests", "failures", "errors"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name", "time", "classname", "group"}, {"name"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set(), set()),
    "error": ({"type", "message"}, set(), set()),
}  # fmt: skip
"""By element: the attributes it may have, those it must have, the elements in it."""


def broken_rules(element: ElementTree.Element) -> Iterator[str]:
    """Yield what the schema does not admit."""
    if element.tag not in ELEMENTS:
        yield f"element {element.tag}"
        return
    allowed, needed, children = ELEMENTS[element.tag]
    yield from (f"{element.tag} {each}" for each in set(element.keys()) - allowed)
    yield from (f"{element.tag} without {each}" for each in needed - set(element.keys()))
    if element.tag != "testcase" and not re.fullmatch(r"\d*(\.\d*)?", element.get("time", "")):
        yield "time"
    for child in element:
        yield from (f"{element.tag} in {child.tag}",) * (child.tag not in children)
        yield from broken_rules(child)


def test_R06_junit_keeps_to_the_schema_of_jenkins() -> None:
    root = ElementTree.fromstring(text("junit"))
    assert root.tag == "testsuites"
    assert list(broken_rules(root)) == []
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "2")
    assert [len(case) for case in suite] == [0, 1, 1, 1]
    assert [case[0].tag for case in suite if len(case)] == ["failure", "error", "error"]
    assert len({case.get("name") for case in suite}) == 4
    assert "worst margin 3.2e+05" in (suite[1][0].text or "")


@pytest.mark.parametrize(
    "planted",
    [
        '<testsuites><testsuite name="a" tests="1" failures="0" errors="0"><testcase name="b" file="c"/>'
        "</testsuite></testsuites>",
        '<testsuites><testsuite name="a" tests="1" failures="0" errors="0"><testcase name="b"><properties/>'
        "</testcase></testsuite></testsuites>",
        '<testsuites><testsuite name="a" tests="1" failures="0"/></testsuites>',
        '<testsuites time="1 s"/>',
    ],
)
def test_a_broken_rule_is_found(planted: str) -> None:
    assert list(broken_rules(ElementTree.fromstring(planted)))


# GitHub.


def test_each_annotation_is_one_line_that_begins_with_our_own_command() -> None:
    lines = text("github").splitlines()
    assert all(re.match(r"::(error|warning|notice) title=softgrad(%3A [^:,]*)?::", line) for line in lines)
    assert len(lines) == 4


def test_at_most_nine_cases_are_annotated_and_the_rest_are_counted() -> None:
    summary = Summary(40)
    for number in range(40):
        summary.add(Head(f"c{number}", number, "fail" if number % 2 else "error", "m%"))
    lines = "".join(pieces("github", [], summary)).splitlines()
    errors = [line for line in lines if line.startswith("::error")]
    assert len(errors) == 10
    assert errors[0] == "::error title=softgrad%3A c1::m%25"
    assert "31 more cases did not pass" in errors[-1]


def test_a_batch_that_passes_is_a_notice() -> None:
    summary = Summary(1)
    summary.add(Head("a", 0, "pass", "", judged=True))
    assert "".join(pieces("github", [], summary)).startswith("::notice title=softgrad::1 case: 1 pass")


# Markdown.


def test_nothing_in_a_name_means_anything_in_markdown() -> None:
    row = next(line for line in text("markdown").splitlines() if line.startswith("| FAIL"))
    assert row.count("|") == 5
    assert not re.search(r"[<>`@\[\]]", row)


def test_markdown_stays_below_the_size_of_a_step_summary() -> None:
    summary = Summary(5000)
    for number in range(5000):
        summary.add(Head(f"c{number}" + "\U0001f600<" * 400, number, "fail", "<" * 5000))
    report = "".join(pieces("markdown", [], summary))
    assert len(report.encode()) < LIMIT
    assert re.search(r"and [\d,]+ more cases\n$", report)


# CSV.


@pytest.mark.parametrize("start", ["=1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_R09_no_text_is_a_formula_and_numbers_stay_numbers(start: str) -> None:
    found, summary = batch()
    found[2]["case"] = start
    rows = list(reading.DictReader(io.StringIO("".join(pieces("csv", found, summary)))))
    assert len(rows) == 4
    for row in rows:
        for name, cell in row.items():
            assert not cell.startswith(("+", "@", "=", "\t", "\r")), name
    assert rows[2]["case"].startswith(("'", "\\"))
    assert float(rows[1]["max_margin"]) == BAD_GRAD.max_margin
    assert rows[1]["diagnosis"] == "sum-for-mean"
    assert rows[2]["check"] == ""


# HTML.


class Page(HTMLParser):
    """Collects tags, attributes, text and what is in scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep text, and scripts apart."""
        if self.tags and self.tags[-1][0] == "script" and data.strip():
            self.scripts.append(data)
        self.words += data


def page() -> Page:
    read = Page()
    read.feed(text("html"))
    return read


def test_R07_html_stands_alone_under_a_strict_policy() -> None:
    read = page()
    policies = [a["content"] for tag, a in read.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert (policies[0] or "").startswith("default-src 'none'")
    for tag, attributes in read.tags:
        assert tag not in ("img", "link", "iframe", "object", "base", "form")
        assert not attributes.keys() & {"src", "onclick", "onload", "onerror", "style"}
        assert all(a != "href" or (value or "").startswith("#case-") for a, value in attributes.items())
    assert "http:" not in text("html")
    assert "https:" not in text("html")


def test_the_only_script_is_the_one_that_the_policy_names() -> None:
    import base64  # noqa: PLC0415 - here alone
    import hashlib  # noqa: PLC0415

    (script,) = page().scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#x27;sha256-{digest}&#x27;" in text("html")
    assert "<script>alert(1)</script>" in page().words  # as words


def test_a_failing_case_has_its_heat_map_and_histogram() -> None:
    where, sizes = re.findall(r"<figure>.*?</figure>", text("html"))
    shades = dict(re.findall(r'<path fill="(#\w{6})" d="(.*?)"/>', where))
    assert shades == {"#fd8d3c": "M2 0h1v1h-1z", "#800026": "M1 0h1v1h-1zM2 1h1v1h-1z"}
    assert re.findall(r">([^<>]+)</text>", sizes) == [
        "2",
        "0",
        "5",
        "1/2",
        "1",
        "4",
        "16",
        "64",
        "256",
        "17",
        "1024",
    ]


def test_every_link_of_the_page_leads_somewhere() -> None:
    read = page()
    links = {(a["href"] or "")[1:] for tag, a in read.tags if tag == "a"}
    assert links <= {a["id"] for _, a in read.tags if "id" in a}
    assert len(links) == 3


# The summary.


def test_the_heads_that_are_kept_are_bounded_and_the_first() -> None:
    summary = Summary(10 * KEPT)
    for number in reversed(range(10 * KEPT)):
        summary.add(Head(str(number), number, "fail", ""))
    assert len(summary.heads) < 2 * KEPT
    assert [head.number for head in summary.failures] == list(range(KEPT))


def test_a_margin_that_is_no_number_is_the_worst() -> None:
    summary = Summary(3)
    for number, margin in enumerate((3.0, math.nan, 1e300)):
        summary.add(Head(str(number), number, "fail", "", margin=margin))
    assert summary.worst is not None
    assert summary.worst.number == 1
    assert summary.document()["worst"]["max_margin"] == "NaN"

"""Why a case of a JSON report did not pass, in lines of text: files, diagnosis, worst entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gradcheck_cli.outcome import SELF_CHECKS
from gradcheck_cli.report import numbers
from gradcheck_cli.summary import real
from gradcheck_cli.visible import visible


def evidence(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines, without a line end, safe to show."""
    for role, each in document.get("inputs", {}).items():
        member = "" if each.get("member") is None else f":{each['member']}"
        yield visible(f"{role}: {each['path']}{member} ({each['dtype']}, {numbers.shape(each['shape'])})")
    for each in document.get("diagnosis", ()):
        flags = " ".join(map(str, each.get("flags") or ()))
        advice = f" ({flags})" if flags else ""
        yield visible(f"diagnosis: {each['code']}: {each.get('message', '')}{advice}")
    for check in document.get("checks", ()):
        if check["failing"]:
            yield from _check(check)


def exported(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the checks of what was handed in."""
    return [each for each in document.get("checks", ()) if each["name"] not in SELF_CHECKS]


def _check(check: Mapping[str, Any]) -> Iterator[str]:
    how_many = f"{numbers.count(check['failing'])} of {numbers.count(check['entries'])} entries"
    yield visible(
        f"{check['name']}: {how_many} fail; allowed: {check['tolerance']}; "
        f"worst margin {numbers.margin(real(check['max_margin']))}"
    )
    for worst in check["worst"][: check["failing"]]:
        got, expected = numbers.apart(real(worst["got"]), real(worst["expected"]), numbers.VALUE_DIGITS)
        error, allowed = numbers.apart(real(worst["abs_error"]), real(worst["allowed"]))
        yield (
            f"  {numbers.index(tuple(worst['index']))}: got {got}, expected {expected}, error {error}, "
            f"allowed {allowed}, margin {numbers.margin(real(worst['margin']))}"
        )

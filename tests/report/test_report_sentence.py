"""The one sentence that a reader sees first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gradcheck_cli.outcome import Check, Outcome, Verdict, Worst
from gradcheck_cli.report.line import line
from gradcheck_cli.report.sentence import sentence


def with_checks(outcome: Outcome, *checks: Check) -> Outcome:
    return replace(outcome, checks=checks)


def test_a_failure_says_how_many_how_bad_where(failed: Outcome) -> None:
    assert sentence(failed) == (
        "grad: 128 of 5,120 entries (2.5%) are outside what bfloat16 arithmetic can explain; "
        "worst margin 3.2e+05 at [3, 7]"
    )


def test_the_precision_asked_for_wins_over_the_one_seen(failed: Outcome) -> None:
    asked = replace(failed, settings={**failed.settings, "compute_dtype": "float16"})
    assert "what float16 arithmetic can explain" in sentence(asked)


def test_a_tolerance_the_user_gave_is_named(failed: Outcome, passed: Outcome) -> None:
    given = {**failed.settings, "rtol": 0.0, "atol": 1e-6}
    assert "are outside --rtol 0 --atol 1e-06; worst" in sentence(replace(failed, settings=given))
    assert "is within --rtol 0 --atol 1e-06 (" in sentence(replace(passed, settings=given))


@pytest.mark.parametrize(
    ("entries", "failing", "said"),
    [
        (5120, 1, "grad: 1 of 5,120 entries (<0.1%) is outside"),
        (5120, 5120, "grad: all 5,120 entries are outside"),
        (0, 0, "grad: no entry compared"),
        (1, 1, "grad: outside what bfloat16 arithmetic can explain; got 0.2512, expected -0.0001655"),
    ],
)
def test_how_many_in_prose(failed: Outcome, entries: int, failing: int, said: str) -> None:
    check = replace(failed.checks[-1], entries=entries, failing=failing)
    assert sentence(with_checks(failed, check)).startswith(said)


def test_a_nan_is_called_a_nan(failed: Outcome) -> None:
    worst = Worst((0, 2), None, float("nan"), 0.5, float("nan"), 1e-7, float("inf"))
    check = replace(failed.checks[-1], worst=(worst,), max_margin=float("inf"))
    assert sentence(with_checks(failed, check)).endswith("; got nan, expected 0.5 at [0, 2]")


def test_a_second_failing_tensor_is_not_kept_quiet(failed: Outcome) -> None:
    loss = replace(failed.checks[-1], name="loss")
    assert sentence(with_checks(failed, failed.checks[-1], loss)).endswith("; loss fails too")


def test_a_pass_names_what_passed(passed: Outcome) -> None:
    assert sentence(passed) == "every entry of grad is within its proven bound (worst margin 0.31)"
    probs = replace(passed.checks[-1], name="probs", max_margin=0.9)
    assert sentence(with_checks(passed, passed.checks[-1], probs)) == (
        "every entry of grad and probs is within its proven bound (worst margin 0.9, probs)"
    )


def test_a_sample_is_never_called_every_entry(passed: Outcome) -> None:
    check = replace(passed.checks[-1], coverage="256 of 5,120 entries")
    assert sentence(with_checks(passed, check)).startswith("every entry checked of grad")
    wrong = replace(check, verdict=Verdict.FAIL, failing=2)
    assert sentence(with_checks(passed, wrong)).startswith("grad: 2 of 5,120 entries checked (")
    difference = replace(passed.checks[0], coverage="a sample")
    assert sentence(with_checks(passed, difference)).count("a sample of 5,120 partial derivatives")


def test_a_self_check_says_what_was_verified(verified: Outcome) -> None:
    assert sentence(verified) == (
        "softmax, loss and gradient verified against finite differences: all 5,120 partial derivatives; "
        "no exported tensor was given to judge"
    )


def test_inconclusive_names_the_ruler_that_is_off(failed: Outcome) -> None:
    off = replace(failed.checks[0], verdict=Verdict.FAIL, failing=3, max_margin=7.0)
    said = sentence(with_checks(failed, off, failed.checks[-1]))
    assert said.startswith("softgrad's own check 'difference' is off")
    assert said.endswith("so no exported tensor is judged")
    assert sentence(with_checks(failed)) == "nothing was verified"


def test_the_line_is_verdict_file_sentence(failed: Outcome) -> None:
    assert line(failed) == f"FAIL dump/step12/logits.npy: {sentence(failed)}"


def test_a_name_with_a_line_end_stays_on_the_line(passed: Outcome) -> None:
    forged = replace(passed.inputs[0], path="a\nPASS b\x1b[2J.npy")
    assert line(replace(passed, inputs=(forged,))).startswith(r"PASS a\x0aPASS b\x1b[2J.npy: every entry")

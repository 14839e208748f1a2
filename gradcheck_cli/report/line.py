"""The verdict on one line, for ``-q``: no colour, no rich."""

from __future__ import annotations

from gradcheck_cli.outcome import Outcome
from gradcheck_cli.report.reason import brief
from gradcheck_cli.report.sentence import sentence, word
from gradcheck_cli.visible import visible


def line(outcome: Outcome) -> str:
    """Return ``FAIL logits.npy: grad: 128 of 5,120 entries ...``, without a line end."""
    subject = f" {visible(outcome.inputs[0].path)}:" if outcome.inputs else ""
    return f"{word(outcome.verdict)}{subject} {sentence(outcome)}{brief(outcome)}"

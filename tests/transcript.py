"""Transcripts of the command, comparable between machines.

What differs from run to run or from processor to processor is replaced: seconds, and the observed errors of
softgrad's own checks (numpy's exp differs in the last bit between instruction sets), those of a Jacobian's
entries too. Nothing else is.
"""

from __future__ import annotations

import re

_SELF = (
    "forward|difference|audit|chain|columns|symmetry|hessian|invariants|weight-difference|bias-difference|"
    "inputs-difference|directions|weight-audit"
)
_NUMBER = r"\d[\d.,]*(?:e[-+]?\d+)?"


def comparable(text: str) -> str:
    """Return the text with seconds and self-check errors replaced by a sign."""
    text = re.sub(rf"\bin {_NUMBER} s\b", "in # s", text)
    text = re.sub(r"(^\|difference - Jacobian\|\n)(.+\n)+", r"\1#\n", text, flags=re.MULTILINE)
    lines = []
    for line in text.splitlines():
        row = re.match(rf"^({_SELF})( +{_NUMBER})( +{_NUMBER})( .*?)(pass|FAIL)$", line)
        shown = line if row is None else f"{row[1]}{row[2]}{row[3]} # {row[5]}"
        lines.append(shown.rstrip())
    return "\n".join(lines).strip()

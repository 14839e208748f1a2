"""Text that somebody else wrote, made safe to show."""

from __future__ import annotations

import re

# What moves a cursor, forges a line, reverses the reading order or cannot be encoded: C0, DEL, C1, soft
# line ends, bidirectional marks, byte order marks, lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)

_SURROGATES = re.compile("[\ud800-\udfff]")


def visible(text: str, limit: int | None = None) -> str:
    r"""Return ``text`` with what is unsafe as ``\x1b`` and no longer than about ``limit`` characters."""
    if limit is not None and len(text) > limit:
        text = text[: max(limit - 3, 1)] + "..."
    return _UNSAFE.sub(_escape, text)


def unicode(text: str) -> str:
    r"""Return ``text`` with lone surrogates (bytes of a file name that is not UTF-8) as ``\xff``."""
    return _SURROGATES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8, kept by surrogateescape
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

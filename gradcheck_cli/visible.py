"""Text that somebody else wrote, made safe to show."""

from __future__ import annotations

import re

_SURROGATES = re.compile("[\ud800-\udfff]")


def visible(text: str, limit: int | None = None) -> str:
    r"""Return ``text`` with what nobody sees as ``\x1b`` and no longer than about ``limit`` characters.

    That is what moves a cursor, forges a line, reverses the reading order, takes no space or cannot be
    encoded: controls, line ends, bidirectional and invisible marks, lone surrogates, blanks that look like
    another, and codes that are no character yet.
    """
    if limit is not None and len(text) > limit:
        text = text[: max(limit - 3, 1)] + "..."
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(ord(each)) for each in text)


def unicode(text: str) -> str:
    r"""Return ``text`` with lone surrogates (bytes of a file name that is not UTF-8) as ``\xff``."""
    if text.isascii():  # nearly all
        return text
    return _SURROGATES.sub(lambda match: _escape(ord(match.group())), text)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8, kept by surrogateescape
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

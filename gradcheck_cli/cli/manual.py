"""The man pages as plain text, for where ``man`` cannot show them: as much of mdoc(7) as they use."""

from __future__ import annotations

import re
import shlex
import textwrap
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from gradcheck_cli.errors import InputError

INDENT = 5
WIDEST = 78  # cells of a line: more is hard to read
_QUOTES = {"Ql": "''", "Qq": '""', "Dq": '""', "Pq": "()", "Op": "[]"}
_PLAIN = {"Ar", "Cm", "Dv", "Em", "Ev", "Li", "Pa", "Sx", "Sy", "Va", "Nm", "Ta"}
_INLINE = {*_QUOTES, *_PLAIN, "Fl", "Xr"}
_CLOSING = set(",.;:)]?!")
_ESCAPES = (("\\(dq", '"'), ("\\-", "-"), ("\\&", ""), ("\\e", "\\"))


TOPICS = ("conventions",)
"""What has a page and is no command."""


def manual(name: str, width: int) -> str:
    """Return the page of a command or a topic, or of softgrad itself where the name is empty."""
    section = 7 if name in TOPICS else 1
    return "\n".join(_Page(width).lines(_source(f"softgrad-{name}.{section}" if name else "softgrad.1")))


def _source(name: str) -> str:
    """Return a page from the installation, or from the tree that this runs in."""
    beside = Path(__file__).parents[2] / "man" / name
    try:
        installed = [Path(str(each.locate())) for each in files("softgrad") or () if each.name == name]
    except PackageNotFoundError:  # run from a tree that was never installed
        installed = []
    for path in (*installed, beside):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise InputError(f"the man page {name} is not installed; --help has a summary")


def words(line: str) -> str:
    """Return what a line of text or inline macros says."""
    said, after = "", ""
    quoted = shlex.shlex(line, posix=True)
    quoted.whitespace_split, quoted.quotes, quoted.escape, quoted.commenters = True, '"', "", ""
    tokens, open_ended = list(quoted), ""
    while tokens:
        token = tokens.pop(0)
        if token in _QUOTES:
            said, after = _joined(said, _QUOTES[token][0], after), "("
            open_ended = _QUOTES[token][1] + open_ended
            continue
        if token in _PLAIN:
            continue
        if token == "Fl":
            flag = tokens.pop(0) if tokens and tokens[0] not in _INLINE | _CLOSING | {"|"} else ""
            if len(tokens) > 1 and tokens[0] == "|" and tokens[1] not in _INLINE:
                tokens.insert(1, "Fl")  # a flag on both sides
            token = f"-{flag}"
        elif token == "Xr":
            token = f"{tokens.pop(0)}({tokens.pop(0)})"
        rest_closes = bool(open_ended) and token in _CLOSING and all(each in _CLOSING for each in tokens)
        if rest_closes:  # what follows a quotation stands outside of it
            said, open_ended = said + open_ended, ""
        said = _joined(said, token, after)
        after = token if token in ("(", "[") else ""
    said += open_ended
    return _unescaped(said)


def _joined(said: str, token: str, after: str) -> str:
    return said + token if not said or after or token in _CLOSING else f"{said} {token}"


def _unescaped(text: str) -> str:
    for escape, sign in _ESCAPES:
        text = text.replace(escape, sign)
    return text


class _Page:
    """A page as it is read, line by line."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._lists: list[str] = []  # the kinds of the open lists
        self._columns: list[int] = []  # widths of those of a table
        self._text: list[str] = []  # of the paragraph that is being read
        self._literal = False
        self._name = "softgrad"
        self._mark = ""  # of the item whose body comes next
        self._shown: list[str] = []

    def lines(self, source: str) -> list[str]:
        """Return the page, line by line."""
        for line in source.splitlines():
            if not line.startswith('.\\"'):
                self._take(line)
        self._end()
        return self._shown

    def _take(self, line: str) -> None:
        macro, _, rest = line[1:].partition(" ") if line.startswith(".") else ("", "", line)
        if self._literal and macro != "Ed":
            self._shown.append(" " * (self._indent + 4) + _unescaped(line))
        elif macro in ("Dd", "Dt", "Os"):
            return
        elif macro in ("Sh", "Ss", "Pp", "Bl", "El", "It", "Bd", "Ed", "Dl"):
            self._end()
            getattr(self, f"_{macro.lower()}")(rest)
        elif macro == "Nm":
            self._named(rest)
        elif macro == "Nd":
            self._text.append(f"- {rest}")
        elif macro.startswith("%"):
            self._text.append(rest if macro == "%D" else f"{rest},")
        elif macro in _INLINE:
            self._text.append(words(f"{macro} {rest}"))
        elif not macro:
            self._text.append(_unescaped(rest))

    def _named(self, rest: str) -> None:
        """Take the name of the program; in a synopsis a new line begins with it."""
        if (self._shown and self._shown[-1] in ("SYNOPSIS", "NAME")) or self._text[:1] == [self._name]:
            self._end()
        if rest and rest not in _CLOSING:
            self._name = rest
        self._text.append(self._name + (rest if rest in _CLOSING else ""))

    @property
    def _indent(self) -> int:
        return INDENT + 4 * max(len(self._lists), 0)

    def _end(self) -> None:
        """Write the paragraph that was read so far."""
        text = re.sub(r" ([,.;:)])(?=\s|$)", r"\1", " ".join(self._text))
        self._text = []
        if text:
            lead = " " * self._indent
            first = lead[: -len(self._mark)] + self._mark if self._mark else lead
            self._shown += textwrap.wrap(
                text, max(self._width, 40), initial_indent=first, subsequent_indent=lead,
                break_on_hyphens=False, break_long_words=False,
            )  # fmt: skip
            self._mark = ""

    def _gap(self) -> None:
        if self._shown and self._shown[-1]:
            self._shown.append("")

    def _sh(self, rest: str) -> None:
        self._gap()
        self._shown.append(rest)

    def _ss(self, rest: str) -> None:
        self._gap()
        self._shown.append("   " + rest)

    def _pp(self, _: str) -> None:
        self._gap()

    def _bl(self, rest: str) -> None:
        kind, *shown = shlex.split(_unescaped(rest))
        self._lists.append(kind)
        if kind == "-column":
            self._gap()
            self._columns = [len(each) for each in shown]

    def _el(self, _: str) -> None:
        self._lists.pop()
        self._gap()

    def _it(self, rest: str) -> None:
        if self._lists[-1] == "-bullet":
            self._mark = "-   "
        elif self._lists[-1] == "-column":
            cells = [words(cell) for cell in re.split(r" Ta ", rest)]
            told = zip(cells, self._columns, strict=True)
            self._shown.append(" " * INDENT + "  ".join(f"{cell:{wide}}" for cell, wide in told).rstrip())
        else:
            self._gap()
            self._shown.append(" " * (self._indent - 4) + words(rest))

    def _bd(self, _: str) -> None:
        self._literal = True

    def _ed(self, _: str) -> None:
        self._literal = False

    def _dl(self, rest: str) -> None:
        self._shown.append(" " * (self._indent + 4) + _unescaped(rest))

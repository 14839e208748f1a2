"""What every HTML page of ours is in: one file that stands alone, under a policy that says so.

Nothing is fetched, the only style and the only script are those whose hashes the policy names, and every word
of somebody else is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from gradcheck_cli.report.layout import Column
from gradcheck_cli.visible import visible

STYLE = """
.softgrad{font:15px/1.5 system-ui,sans-serif}
.softgrad h1{font-size:1.15rem;font-weight:400;line-height:1.4}
.softgrad h2{font-size:1.05rem;margin:2rem 0 .3rem;overflow-wrap:anywhere}
.softgrad h3{font-size:1rem;margin:1.2rem 0 .2rem}
.softgrad table{border-collapse:collapse;margin:.4rem 0 1rem;background:none}
.softgrad th,.softgrad td{padding:.2rem .8rem .2rem 0;border-bottom:1px solid #8885;text-align:left;
vertical-align:top}
.softgrad .n{text-align:right;font-variant-numeric:tabular-nums}
.softgrad td.w{overflow-wrap:anywhere}
.softgrad dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem .8rem;margin:.6rem 0}
.softgrad dt{font-weight:600}
.softgrad dd{margin:0;overflow-wrap:anywhere}
.softgrad p{margin:.3rem 0}
.softgrad p.aside,.softgrad figcaption{font-size:.85rem;color:color-mix(in srgb,currentColor 75%,transparent)}
.softgrad .fail{color:#d0021b;font-weight:700}
.softgrad .error,.softgrad .inconclusive{color:#b26a00;font-weight:700}
.softgrad .pass{color:#1b8a3a;font-weight:700}
.softgrad figure{display:inline-block;margin:.5rem 2rem .5rem 0;vertical-align:top}
.softgrad figcaption{max-width:420px}
.softgrad figcaption span{white-space:nowrap;margin-right:.6rem}
.softgrad svg text{font:11px system-ui,sans-serif;fill:currentColor}
.softgrad svg .frame{fill:none;stroke:currentColor;stroke-opacity:.5}
.softgrad th button{font:inherit;color:inherit;border:0;background:none;cursor:pointer;padding:0}
.softgrad summary{cursor:pointer}
"""

_PAGE = """
:root{color-scheme:light dark}
body{margin:2rem auto;max-width:64rem;padding:0 1rem}
"""


def begin(title: str, script: str = "") -> str:
    """Return the head of a page and the start of its body, with a policy that admits one script or none."""
    style = _PAGE + STYLE
    scripts = f"script-src {_hash(script)}; " if script else ""
    policy = f"default-src 'none'; style-src {_hash(style)}; {scripts}base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy, quote=True)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>softgrad: {text(title)}</title>\n<style>{style}</style>\n</head>\n<body class="softgrad">\n'
    )


def end(script: str = "") -> str:
    """Return the end of a page."""
    return (f"<script>{script}</script>\n" if script else "") + "</body>\n</html>\n"


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def text(words: str) -> str:
    """Return somebody's words as text of a page."""
    return escape(visible(words), quote=True)


def verdict(kind: str, words: str) -> str:
    """Return a verdict in its colour; its kind is one of those that the style knows."""
    return f'<span class="{text(kind)}">{text(words)}</span>'


def table(columns: Sequence[Column], kinds: Sequence[str] = ()) -> str:
    """Return a table; with the kind of verdict of each row, its last cell has that colour."""
    heads = "".join(f"<th{_class(each)}>{text(each.heading)}</th>" for each in columns)
    lines = zip(*(each.cells for each in columns), strict=True)
    body = "".join(
        f"<tr>{_row(columns, line, kinds[at] if kinds else '')}</tr>\n" for at, line in enumerate(lines)
    )
    return f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def _class(column: Column) -> str:
    return ' class="n"' if column.right else ""


def _row(columns: Sequence[Column], cells: Sequence[str], kind: str) -> str:
    *most, last = [f"<td{_class(each)}>{text(cell)}</td>" for each, cell in zip(columns, cells, strict=True)]
    return "".join(most) + (f"<td>{verdict(kind, cells[-1])}</td>" if kind else last)


def told(pairs: Sequence[tuple[str, str]]) -> str:
    """Return labels and what is said under them; where a label is empty the sentence goes on."""
    lines = "".join(f"<dt>{text(label)}</dt><dd>{text(words)}</dd>\n" for label, words in pairs)
    return f"<dl>\n{lines}</dl>\n" if pairs else ""

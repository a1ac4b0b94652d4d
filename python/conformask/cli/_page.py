"""One HTML file that needs no others: it contains its pictures, and has no script and no link."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from conformask._tables import Table

__all__ = ["cards", "figure", "page", "paragraph", "section", "table"]

_LONGEST = 30  # rows that are always shown

_STYLE = """
:root { --ink: #1d2733; --soft: #5a6675; --line: #dde3ea; --blue: #1f4e79; --ground: #f5f7fa; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 21px; margin: 0 0 10px; color: var(--blue); }
h3 { font-size: 16px; margin: 26px 0 6px; }
p { margin: 0 0 12px; max-width: 46em; }
.lead { color: var(--soft); margin-bottom: 22px; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 24px 28px; margin: 0 0 20px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 14px; margin: 0 0 20px; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px; }
.card .name { color: var(--soft); font-size: 13px; }
.card .value { font-size: 27px; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card .note { color: var(--soft); font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; min-width: min(100%, 600px); margin: 6px 0 14px; font-size: 14.5px;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 6px; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, table.names td { text-align: left; }
table.names td { white-space: normal; }
tbody th { font-weight: 500; }
thead th { color: var(--soft); font-weight: 500; }
summary { cursor: pointer; color: var(--blue); margin: 6px 0 10px; }
figure { margin: 14px 0 18px; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: 14px; margin-top: 4px; max-width: 58em; }
footer { color: var(--soft); font-size: 13px; }
@media print { body { background: #fff; } section, .card { break-inside: avoid; } main { padding: 0; } }
"""


def page(title: str, lead: str, parts: Sequence[str], foot: str) -> str:
    """The whole file; `parts` are HTML already."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n'
        + "\n".join(parts)
        + f"\n<footer><p>{escape(foot)}</p></footer>\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A part of the page under a title."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def cards(shown: Sequence[tuple[str, str, str]]) -> str:
    """The main numbers, each with name, value and note."""
    inside = "\n".join(
        f'<div class="card"><div class="name">{escape(name)}</div><div class="value">{escape(value)}</div>'
        f'<div class="note">{escape(note)}</div></div>'
        for name, value, note in shown
    )
    return f'<div class="cards">\n{inside}\n</div>'


def table(shown: Table) -> str:
    """A table under its caption, folded if it is long; without a header it is a list of names and texts."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in shown.header)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for first, *cells in shown.rows
    )
    caption = f"<caption>{escape(shown.caption)}</caption>\n" if shown.caption else ""
    kind = "" if shown.header else ' class="names"'
    whole = (
        f'<div class="wide"><table{kind}>\n{caption}{f"<thead><tr>{head}</tr></thead>" if head else ""}\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )
    if len(shown.rows) <= _LONGEST:
        return whole
    return f"<details>\n<summary>Table of all {len(shown.rows)}</summary>\n{whole}\n</details>"


def figure(png: bytes, alternative: str, caption: str, width: int) -> str:
    """A picture, `width` CSS pixels wide where there is room; `alternative` says what it shows."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(alternative)}" width="{width}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )

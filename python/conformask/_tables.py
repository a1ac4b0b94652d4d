"""Small tables as text, as Markdown and as HTML that keeps its looks wherever it is pasted."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import zip_longest
from typing import NamedTuple

__all__ = ["Table", "html_table", "names_and_values"]

_CELL = "padding:2px 10px;border-bottom:1px solid #ddd;text-align:{}"
_TABLE = "border-collapse:collapse;font-variant-numeric:tabular-nums;margin:4px 0 10px"


class Table(NamedTuple):
    """Rows of text under a caption. All columns but the first are numbers, flush right, unless `header` is empty."""

    caption: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]

    def html(self) -> str:
        """The table as HTML."""
        align = "right" if self.header else "left"
        head = "".join(_cell("th", name, align if i else "left") for i, name in enumerate(self.header))
        rows = "".join(
            "<tr>"
            + _cell("th", first, "left")
            + "".join(_cell("td", value, align) for value in others)
            + "</tr>"
            for first, *others in self.rows
        )
        caption = f"<caption style='text-align:left;font-weight:bold'>{escape(self.caption)}</caption>"
        return f"<table style='{_TABLE}'>{caption}{head and f'<tr>{head}</tr>'}{rows}</table>"

    def plain(self) -> str:
        """The table as text, without its caption."""
        rows = [self.header, *self.rows] if self.header else self.rows
        lines = [[_line(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
        flush = str.rjust if self.header else str.ljust
        return "\n".join(
            "  ".join(
                flush(cell, width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def markdown(self) -> str:
        """The table as GitHub's Markdown, under its caption."""
        header = self.header or ("", "")

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(_markdown(cell).replace("|", "\\|") for cell in cells) + " |"

        rule = line(["---", *["---:" if self.header else "---"] * (len(header) - 1)])
        return "\n".join([f"**{_markdown(self.caption)}**", "", line(header), rule, *map(line, self.rows)])


def _line(text: str) -> str:
    """A text in one line."""
    return " ".join(text.splitlines())


def _markdown(text: str) -> str:
    """A text that Markdown does not take for HTML."""
    return escape(_line(text), quote=False)


def _cell(tag: str, text: str, align: str) -> str:
    weight = "" if tag == "td" else ";font-weight:600"
    return f"<{tag} style='{_CELL.format(align)}{weight}'>{escape(text)}</{tag}>"


def names_and_values(caption: str, rows: Sequence[tuple[str, str]]) -> Table:
    """A table of two columns without a header."""
    return Table(caption, (), rows)


def html_table(caption: str, rows: Sequence[tuple[str, str]]) -> str:
    """Names and values for a notebook."""
    return names_and_values(caption, rows).html()

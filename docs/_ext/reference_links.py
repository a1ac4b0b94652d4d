"""Numbers of papers in docstrings, such as arXiv:2208.02814 and doi:10.1145/3478535, become links."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

_ARXIV = re.compile(r"(?<![\w`/])arXiv:(\d{4}\.\d{4,5})\b")
_DOI = re.compile(r"(?<![\w`/])doi:(10\.\d{4,9}/[^\s`,]*\w)")  # old ones hold < and >


def link(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Changes the lines of a docstring in place."""
    for i, line in enumerate(lines):
        line = _ARXIV.sub(r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", line)
        lines[i] = _DOI.sub(_doi, line)


def _doi(found: re.Match[str]) -> str:
    text = found[1].replace("<", r"\<")
    return f"`doi:{text} <https://doi.org/{quote(found[1])}>`__"


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", link, priority=900)  # after numpydoc, which makes the sections
    return {"parallel_read_safe": True}

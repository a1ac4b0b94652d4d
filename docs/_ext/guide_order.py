"""The pages of the guide in an order of reading: the index asks for all of them, whichever there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_ORDER = (
    *("choosing", "how-many", "reading", "decision", "promises", "hazards", "empty"),
    *("pictures", "tables", "coming", "performance", "architecture", "not-"),
)


def _rank(name: str) -> tuple[int, str]:
    places = [i for i, beginning in enumerate(_ORDER) if name.startswith(beginning)]
    return (places[0] if places else len(_ORDER), name)


def list_pages(app: Any, docname: str, source: list[str]) -> None:
    if docname == "guide/index":
        names = {path.stem for path in (Path(app.srcdir) / "guide").glob("*.md")} - {"index"}
        source[0] = source[0].replace("\n*\n", "\n" + "\n".join(sorted(names, key=_rank)) + "\n")


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", list_pages)
    return {"parallel_read_safe": True}

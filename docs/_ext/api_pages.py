"""Writes a page for each section of the reference, before Sphinx looks for its sources."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from api_sections import SECTIONS, Section
from sphinx.ext.autodoc.mock import mock

import conformask


def _names(module: str, section: Section) -> dict[str, Any]:
    """What a module offers, each object by the full name under which users find it first."""
    home = importlib.import_module(f"conformask.{module}")
    found = {}
    for name in home.__all__:
        value = getattr(home, name)
        if name in conformask.__all__ and getattr(conformask, name) is value:
            found[f"conformask.{name}"] = value
        elif (
            not section.only_top and not inspect.ismodule(value) and getattr(value, "__name__", name) == name
        ):
            found[f"conformask.{module}.{name}"] = value
    return found


def _table(names: list[str]) -> str:
    lines = [".. currentmodule:: conformask", "", ".. autosummary::", "   :toctree: generated", ""]
    return "\n".join([*lines, *(f"   ~{name.removeprefix('conformask.')}" for name in names), "", ""])


def _page(section: Section, claimed: dict[str, Any]) -> str:
    """The source of a page; each object stands on the first page that offers it."""
    text = f"{section.title}\n{'=' * len(section.title)}\n\n"
    if not section.intro:
        text += f"{section.about}\n\n"
    for module in section.modules:
        known = {id(value) for value in claimed.values()}
        names = {name: value for name, value in _names(module, section).items() if id(value) not in known}
        claimed.update(names)
        if section.intro:
            if len(section.modules) > 1:
                heading = f"conformask.{module}"
                text += f"{heading}\n{'-' * len(heading)}\n\n"
            text += f".. automodule:: conformask.{module}\n   :no-members:\n   :no-index:\n\n"
        text += _table(list(names))
    return text


def _write(path: Path, text: str) -> None:
    """Writes only what has changed: Sphinx reads again what is newer."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def write_pages(app: Any, config: Any) -> None:
    folder = Path(app.srcdir) / "api"
    claimed: dict[str, Any] = {}
    with mock(config.autodoc_mock_imports):
        pages = {section.page: _page(section, claimed) for section in SECTIONS}
    pages[SECTIONS[-1].page] += _others(sorted(_offered() - claimed.keys()))
    for name, text in pages.items():
        _write(folder / f"{name}.rst", text)


def _offered() -> set[str]:
    """Full names of what the package offers, but its modules and its version."""
    names = [name for name in conformask.__all__ if not inspect.ismodule(getattr(conformask, name))]
    return {f"conformask.{name}" for name in names if not name.startswith("__")}


def _others(names: list[str]) -> str:
    """What no section claims is listed all the same; a test tells."""
    return f"Others\n------\n\n{_table(names)}" if names else ""


def skip_routing(app: Any, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Requests for metadata are on every estimator of scikit-learn, `count` and `index` on every tuple.

    The fields of named tuples are in the list of attributes, and have no text of their own.
    """
    routing = name == "get_metadata_routing" or (name.startswith("set_") and name.endswith("_request"))
    field = (getattr(value, "__doc__", None) or "").startswith("Alias for field number")
    return True if routing or field or name in ("count", "index") else None


def setup(app: Any) -> dict[str, bool]:
    app.connect("config-inited", write_pages)
    app.connect("autodoc-skip-member", skip_routing)
    return {"parallel_read_safe": True}

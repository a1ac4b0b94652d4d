"""The README is short, links lead somewhere, and the site has a page for all that there is."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import conformask as cm

REPOSITORY = Path(__file__).parents[3]
DOCS, README = REPOSITORY / "docs", REPOSITORY / "README.md"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "gallery" not in path.parts)
METHODS = sorted((DOCS / "methods").glob("*.md"))
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]+)(?:#[^)]*)?\)")
ROLE = re.compile(r"\{(?:func|class|meth|exc)\}`(?:[^`<]*<)?~?([\w.]+)>?`")


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def made_from(path: Path) -> Path:
    """What a page of the site is made from."""
    parts = path.relative_to(DOCS).parts if path.is_relative_to(DOCS) else ()
    if parts[:1] == ("notebooks",) and path.suffix == ".ipynb":
        return REPOSITORY / "notebooks" / path.name
    if parts[:1] == ("gallery",):
        name = re.sub(r"sphx_glr_(\w+)_\d{3}$", r"\1", path.stem)
        return DOCS / "examples" / ("GALLERY_HEADER.rst" if name == "index" else f"{name}.py")
    if parts[:1] == ("api",) and path.suffix == ".rst":
        sections = DOCS / "_ext" / "api_sections.py"
        has_section = re.search(rf'Section\(\s*"{path.stem}"', sections.read_text(encoding="utf-8"))
        return sections if has_section else path
    return path


def broken(page: Path) -> list[str]:
    """Links of a page that lead to nothing in the repository."""
    text = page.read_text(encoding="utf-8")
    figures = re.findall(r"^```\{figure\} (\S+)$", text, re.MULTILINE)
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    targets = [*LINK.findall(outside), *figures]
    return [target for target in targets if not made_from((page.parent / target).resolve()).exists()]


def test_the_readme_is_short() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert 60 < len(lines) <= 110


@pytest.mark.parametrize("page", [README, *PAGES], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_line_is_taken_for_a_comment(page: Path) -> None:
    """MyST leaves out lines that begin with a percent sign, in paragraphs too."""
    outside = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(r"^\s*%.*", outside, re.MULTILINE) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](missing.md) [b](page.md#part) [c](https://example.org)\n```{figure} none.png\n```\n")
    assert broken(page) == ["missing.md", "none.png"]


def test_the_readme_leads_to_each_page() -> None:
    linked = {(REPOSITORY / target).resolve() for target in LINK.findall(README.read_text(encoding="utf-8"))}
    pages = [*METHODS, *(DOCS / "integrations").glob("*.md")]
    assert [
        name_of(page)
        for page in pages
        if page not in linked and page.parts[-2:] != ("integrations", "index.md")
    ] == []


def named() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for name in ROLE.findall(page.read_text(encoding="utf-8")):
            yield name_of(page), name


def find(name: str) -> object:
    """The object of a full name; modules whose library is not here are skipped."""
    parts = name.split(".")
    value: object = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], start=1):
        if isinstance(value, ModuleType) and not hasattr(value, part):
            try:
                importlib.import_module(".".join(parts[: i + 1]))
            except ImportError as error:
                if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("conformask"):
                    raise
                pytest.skip(str(error))
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", sorted({name for _, name in named()}))
def test_what_pages_name_is_there(name: str) -> None:
    assert name.startswith("conformask.")
    assert find(name) is not None


def test_the_reference_has_a_section_for_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names come from the package; a new module needs a line in docs/_ext/api_sections.py."""
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    sections = importlib.import_module("api_sections").SECTIONS
    sys.modules.pop("api_sections")
    listed = {"__version__"}
    for section in sections:
        for name in section.modules:
            if not name.startswith("integrations."):
                listed |= set(importlib.import_module(f"conformask.{name}").__all__)
    modules = {name for name in cm.__all__ if inspect.ismodule(getattr(cm, name))}
    assert set(cm.__all__) - modules - listed == set()
    assert modules - {name for section in sections for name in section.modules} == set()
    toctree = (DOCS / "api/index.md").read_text(encoding="utf-8")
    assert [section.page for section in sections if f"\n{section.page}\n" not in toctree] == []


@pytest.mark.parametrize("page", [page for page in METHODS if page.stem != "index"], ids=name_of)
def test_pages_of_methods_have_their_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.search(r"^```python$", text, re.MULTILINE)
    assert re.search(r"^## (What is promised|Limits)$", text, re.MULTILINE)
    index = (DOCS / "methods/index.md").read_text(encoding="utf-8")
    assert f"\n{page.stem}\n" in index

"""Notebooks on the site: run here, run in the environment of PyTorch, or shown without outputs."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

EXTENSION = Path(__file__).parents[3] / "docs" / "_ext" / "notebook_pages.py"


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebook_pages", EXTENSION)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def notebook(*lines: str) -> str:
    """A notebook of a title and a cell of code."""
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Title"]},
        {"cell_type": "code", "id": "b", "metadata": {}, "source": [f"{line}\n" for line in lines]},
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps(
        {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    )


@pytest.mark.parametrize("has_environment", [True, False])
def test_who_runs_which_notebook(
    pages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_environment: bool
) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "docs" / "notebooks").mkdir(parents=True)
    (tmp_path / "notebooks" / "here.ipynb").write_text(notebook("import json"))
    (tmp_path / "notebooks" / "there.ipynb").write_text(notebook("import torch", "import mmseg"))
    other = tmp_path / "other"
    monkeypatch.setenv("TORCH_VENV", str(other))
    monkeypatch.setenv("JUPYTER_PATH", "before")
    monkeypatch.setattr(pages, "find_spec", lambda name: None)
    if has_environment:
        monkeypatch.setattr(
            pages, "_in_torch_environment", lambda python: {"ipykernel", "torch", "mmseg", python.name}
        )
    config = SimpleNamespace(nb_execution_excludepatterns=["*.md"])
    pages.copy_notebooks(SimpleNamespace(srcdir=str(tmp_path / "docs")), config)

    copied = {
        name: json.loads((tmp_path / "docs" / "notebooks" / f"{name}.ipynb").read_text())
        for name in ("here", "there")
    }
    kernels = {name: each["metadata"]["kernelspec"]["name"] for name, each in copied.items()}
    assert kernels == {"here": "python3", "there": "conformask-torch" if has_environment else "python3"}
    note = copied["there"]["cells"][1]["source"]
    assert ("built without PyTorch and MMSegmentation" in note) == (not has_environment)
    excluded = ["*.md"] if has_environment else ["*.md", "notebooks/there.ipynb"]
    assert config.nb_execution_excludepatterns == excluded
    if has_environment:
        folder = tmp_path / "target" / "docs-jupyter"
        kernel = json.loads((folder / "kernels" / "conformask-torch" / "kernel.json").read_text())
        assert kernel["argv"][0] == str(other / "bin" / "python")
        assert os.environ["JUPYTER_PATH"].split(os.pathsep) == [str(folder), "before"]


def test_what_an_environment_has(pages: ModuleType, tmp_path: Path) -> None:
    """This one, and none."""
    has_kernels = importlib.util.find_spec("ipykernel") is not None
    assert ("matplotlib" in pages._in_torch_environment(Path(sys.executable))) == has_kernels
    assert pages._in_torch_environment(tmp_path / "bin" / "python") == set()

"""Run the Python code of README.md and of the pages in docs/ as tests.

Each page has one namespace from top to bottom, and a directory of its own.

A plain block is executed; a block with ``>>>`` prompts is a doctest, its output compared.  A block that only
shows (it needs a GPU, a model, a gigabyte) has ``<!-- skip: next -->`` above it, which no reader sees.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from typing import Any

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

# The examples of these modules run where their libraries are: `make test-all`.
_NEEDS = {
    "torch": (
        *("_torch_labels.py", "_torch_profile.py", "_torch_sets.py", "_torch_softmax.py"),
        *("integrations/torch.py", "integrations/_torch_masks.py", "integrations/local_temperature.py"),
        *("integrations/threshold_network.py", "integrations/_threshold_images.py"),
        *("integrations/_threshold_training.py", "integrations/_sizes.py", "integrations/transformers.py"),
    ),
    "ipywidgets": ("explorer/_explore.py", "explorer/_view.py"),
    "mmseg": ("integrations/mmseg",),
    "monai": ("integrations/monai",),
}
# The sources of the site that are Python: tests/python/docs runs the examples, `make docs` the others.
collect_ignore_glob = ["docs/*.py"]
collect_ignore = [
    f"python/conformask/{path}"
    for library, paths in _NEEDS.items()
    if importlib.util.find_spec(library) is None
    for path in paths
]


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    """pyplot keeps figures open, and warns of many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


_home = os.getcwd()
_scratch: list[tempfile.TemporaryDirectory[str]] = []


def _enter(namespace: dict[str, Any]) -> None:
    namespace["torch_is_here"] = importlib.util.find_spec("torch") is not None
    _scratch.append(tempfile.TemporaryDirectory(prefix="conformask-page-"))
    os.chdir(_scratch[-1].name)


def _leave(namespace: dict[str, Any]) -> None:
    os.chdir(_home)
    _scratch.pop().cleanup()


pytest_collect_file = Sybil(
    parsers=[SkipParser(), PythonCodeBlockParser(doctest_optionflags=ELLIPSIS | NORMALIZE_WHITESPACE)],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=_enter,
    teardown=_leave,
).pytest()

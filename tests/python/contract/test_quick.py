"""The list of slow tests names tests that there are, and leaves some in every file that holds more."""

from __future__ import annotations

import ast
from pathlib import Path

from slow_tests import SLOW

TESTS = Path(__file__).parents[1]


def names(path: Path) -> set[str]:
    """The tests of a file."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {
        node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_slow_tests_exist() -> None:
    tests = {name for name in SLOW if name.startswith("test_")}  # the others are docstrings
    assert tests - set().union(*(names(path) for path in TESTS.rglob("test_*.py"))) == set()


def test_quick_tests_look_at_every_file() -> None:
    bare = [path.name for path in TESTS.rglob("test_*.py") if len(names(path)) > 3 and names(path) <= SLOW]
    assert bare == []

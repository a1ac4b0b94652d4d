"""What imports what: the core knows no integration, modules form no circle, and optional libraries wait until asked."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import conformask as cm

ROOT = Path(cm.__file__).parent
FILES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}
# Programs that use the package as others do: they may use the integrations.
PROGRAMS = ("conformask.reproduction", "conformask.cli")


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(tree: ast.AST) -> set[str]:
    """The modules of the package that code imports when it runs, also in functions; those of type checkers left out."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES or name == "conformask._core" else node.module for name in names}
        elif _is_for_types(node):
            continue
        else:
            found |= imports(node)
    return {name for name in found if name.split(".")[0] == "conformask"}


def graph() -> dict[str, set[str]]:
    return {name: imports(ast.parse(path.read_text(encoding="utf-8"))) for name, path in FILES.items()}


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Modules that import one another in a circle."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_imports_are_found() -> None:
    code = (
        "import conformask.losses\n"
        "from conformask import scores, APS\n"
        "if TYPE_CHECKING:\n    from conformask.control import CRC\n"
        "class A:\n    from conformask._exact import as_fraction\n"
        "def f():\n    from conformask.profiles import profile\n"
    )
    found = {
        "conformask.losses",
        "conformask.scores",
        "conformask",
        "conformask._exact",
        "conformask.profiles",
    }
    assert imports(ast.parse(code)) == found
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not circle({"a": {"b", "c"}, "b": {"c"}})


def test_the_core_knows_no_integration() -> None:
    house = "conformask.integrations"
    users = {
        name
        for name, used in graph().items()
        if any(f"{each}.".startswith(f"{house}.") for each in used)
        and not name.startswith((house, *PROGRAMS))
    }
    assert users == set()


def test_families_do_not_know_each_other() -> None:
    """What two of them need lies one floor below."""
    families = (
        *("conformask.risk_control", "conformask.consign", "conformask.scaling", "conformask.adaptive"),
        *("conformask.margins", "conformask.online"),
    )
    for name, used in graph().items():
        family = next((each for each in families if f"{name}.".startswith(f"{each}.")), None)
        others = [each for each in families if each != family]
        assert family is None or not [
            each for each in used if f"{each}.".startswith(tuple(f"{o}." for o in others))
        ]


def test_modules_form_no_circle() -> None:
    assert circle(graph()) == []


def test_optional_libraries_are_not_imported() -> None:
    code = (
        "import sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name in ('torch', 'matplotlib', 'dask', 'mmseg', 'mmengine', 'mmcv', 'monai', 'ignite')"
        " or name in ('PIL', 'nibabel', 'rasterio', 'ipywidgets', 'ipyevents'):\n"
        "            print(name)\n"  # also where the library is not installed
        "sys.meta_path.insert(0, Watch())\n"
        "import conformask as cm, numpy as np\n"
        "import conformask.__main__\n"
        "cm.ConformalRiskCalibrator().fit(np.full((9, 2, 4, 4), 0.5), np.zeros((9, 4, 4), int))\n"
        "cm.explore\n"
    )
    assert run(code) == ""


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("integrations.dask", "dask", "dask"),
        ("integrations.torch", "torch", "torch"),
        ("integrations.transformers", "torch", "torch"),
        ("integrations.local_temperature", "torch", "torch"),
        ("integrations.threshold_network", "torch", "torch"),
        ("integrations.mmseg", "mmseg", "mmseg"),
        ("integrations.mmseg", "mmengine", "mmseg"),
        ("integrations.monai", "monai", "monai"),
        ("reproduction.tables", "tabulate", "reproduction"),
    ],
)
def test_a_library_that_is_not_there_is_named(module: str, library: str, extra: str) -> None:
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name == '{library}':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}')\n"
        "sys.meta_path.insert(0, Block())\n"
        "try:\n"
        f"    import conformask.{module}\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    said = run(code)
    assert f"conformask.{module} needs" in said
    assert f'pip install "conformask[{extra}]"' in said


@pytest.mark.parametrize("library", ["ipywidgets", "matplotlib"])
def test_the_explorer_names_what_it_needs(library: str) -> None:
    code = (
        "import sys\n"
        f"sys.modules[{library!r}] = None\n"
        "import conformask as cm\n"
        "try:\n"
        "    cm.explore(None, None)\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert run(code) == 'explore needs ipywidgets and Matplotlib: pip install "conformask[explore]"'


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()

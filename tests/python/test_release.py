"""What a release says of itself in several places is the same everywhere; workflow files and CITATION.cff are valid."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).parents[2]


def text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


PROJECT = tomllib.loads(text("pyproject.toml"))["project"]
VERSION: str = tomllib.loads(text("Cargo.toml"))["package"]["version"]
PYTHONS = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
WORKFLOWS = sorted(path.name for path in (REPOSITORY / ".github/workflows").glob("*.yml"))


def test_one_version_everywhere() -> None:
    locked = {each["name"]: each["version"] for each in tomllib.loads(text("Cargo.lock"))["package"]}
    assert locked["conformask"] == VERSION
    assert re.findall(r"^version: (\S+)$", text("CITATION.cff"), re.MULTILINE) == [VERSION]
    released = re.findall(r"^## \[(\d[^\]]*)\] - (\d{4}-\d\d-\d\d)$", text("CHANGELOG.md"), re.MULTILINE)
    assert released[0][0] == VERSION
    assert re.findall(r'^date-released: "(.*)"$', text("CITATION.cff"), re.MULTILINE) == [released[0][1]]


def test_one_list_of_pythons_everywhere() -> None:
    assert len(PYTHONS) > 1
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert f'"abi3-py{PYTHONS[0].replace(".", "")}"' in text("Cargo.toml")
    assert re.search(r"^PYTHONS +\?= (.*)$", text("Makefile"), re.MULTILINE)[1].split() == [  # type: ignore[index]
        f"python{version}" for version in PYTHONS
    ]
    listed = ", ".join(f'"{version}"' for version in PYTHONS)
    assert f"python: [{listed}]" in text(".github/workflows/ci.yml")
    table = re.findall(r"^\| CPython (3\.\d+) \|", text("docs/support.md"), re.MULTILINE)
    assert table == PYTHONS


def test_extras_are_all_in_the_support_matrix() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", text("docs/support.md"), re.MULTILINE))
    assert named == set(PROJECT["optional-dependencies"])


def check_schema(schema: str, *files: Path) -> subprocess.CompletedProcess[str]:
    """Schemas come with the package: nothing is fetched."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_workflows_are_valid(tmp_path: Path) -> None:
    assert WORKFLOWS == ["ci.yml", "wheels.yml"]
    folder = REPOSITORY / ".github/workflows"
    done = check_schema("vendor.github-workflows", *(folder / name for name in WORKFLOWS))
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "ci.yml"
    broken.write_text(text(".github/workflows/ci.yml").replace("runs-on:", "run-on:"), encoding="utf-8")
    assert check_schema("vendor.github-workflows", broken).returncode != 0


def test_workflows_call_what_there_is() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    for name in WORKFLOWS:
        workflow = text(f".github/workflows/{name}")
        called = re.findall(r"run: make ([a-z -]+?)(?: \w+=.*)?(?: #.*)?$", workflow, re.MULTILINE)
        assert called or "make" not in workflow
        assert {verb for each in called for verb in each.split()} <= verbs
        files = re.findall(r"tests/[\w/]+\.py", workflow)
        assert files
        assert [file for file in files if not (REPOSITORY / file).is_file()] == []


def test_the_citation_is_valid(tmp_path: Path) -> None:
    done = check_schema("vendor.citation-file-format", REPOSITORY / "CITATION.cff")
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "CITATION.cff"
    broken.write_text(text("CITATION.cff").replace("family-names", "family"), encoding="utf-8")
    assert check_schema("vendor.citation-file-format", broken).returncode != 0


def test_licenses_of_crates_are_those_of_the_lock_file() -> None:
    """Names and versions; `make release-check` compares the whole text with the sources of the crates."""
    locked = {(each["name"], each["version"]) for each in tomllib.loads(text("Cargo.lock"))["package"]}
    named = set(re.findall(r"^([\w-]+) (\d+\.\d+\.\d\S*) \(", text("licenses/crates.txt"), re.MULTILINE))
    assert named - locked == set(), "make licenses"
    direct = tomllib.loads(text("Cargo.toml"))["dependencies"]
    assert set(direct) - {name for name, _ in named} == set()


UNSAFE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
LOADERS = {("np", "load"), ("torch", "load"), ("npy", "read_array")}


def risks(code: str) -> list[str]:
    """Imports of what unpickles, `eval` and the like, and loaders that are not told to leave pickles alone."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            found += [f"import {name}" for name in names if name and name.split(".")[0] in UNSAFE]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec"):
            found.append(ast.unparse(node))
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and (node.func.value.id, node.func.attr) in LOADERS
        ):
            told = {each.arg: ast.unparse(each.value) for each in node.keywords}
            if told.get("allow_pickle") != "False" and told.get("weights_only") != "True":
                found.append(ast.unparse(node))
    return found


def test_what_is_loaded_runs_no_code() -> None:
    """As SECURITY.md promises."""
    package = REPOSITORY / "python/conformask"
    found = {path.name: risks(path.read_text(encoding="utf-8")) for path in package.rglob("*.py")}
    assert {name: each for name, each in found.items() if each} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "def f(): import shelve",
        "eval('1')",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "torch.load(file)",
    ],
)
def test_that_check_can_fail(code: str) -> None:
    assert risks(code)
    assert not risks("np.load(file, allow_pickle=False); torch.load(file, weights_only=True); import json")

"""What dist/ holds before anyone gets it: the wheel and the sources, as PyPI and their users will see them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import crate_licenses

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).parents[2]
DIST = REPOSITORY / "dist"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION: str = tomllib.loads((REPOSITORY / "Cargo.toml").read_text(encoding="utf-8"))["package"]["version"]
MIB = 2**20
# Texts that must go along with every copy, and with the libraries that a wheel carries.
LICENSES = {"LICENSE-APACHE", "LICENSE-BUNDLED", "LICENSE-MIT", "licenses/crates.txt"} | {
    f"licenses/{name}.txt" for name in ("GPL-3.0", "GCC-exception-3.1", "LGPL-2.1")
}
LIBRARIES = {"libopenblas", "libgfortran", "libquadmath"}


def only(pattern: str) -> Path:
    """The file of dist/ with such a name."""
    found = sorted(DIST.glob(pattern))
    assert len(found) == 1, f"dist/ holds {len(found)} files {pattern}: run make wheel sdist"
    return found[0]


@pytest.fixture(scope="module")
def wheel() -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(only("*.whl")) as archive:
        yield archive


@pytest.fixture(scope="module")
def sources() -> dict[str, bytes]:
    """The files of the source distribution, by their names below its folder."""
    with tarfile.open(only("*.tar.gz")) as archive:
        files = [member for member in archive if not member.isdir()]
        assert all(member.isfile() for member in files)
        return {member.name.split("/", 1)[1]: archive.extractfile(member).read() for member in files}  # type: ignore[union-attr]


def python_files() -> dict[str, bytes]:
    """The files of the package that git knows, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "python/conformask"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    return {name.removeprefix("python/"): (REPOSITORY / name).read_bytes() for name in listed}


# What they are called, and how large they are


def test_their_names_say_version_and_platforms() -> None:
    assert only("*.tar.gz").name == f"conformask-{VERSION}.tar.gz"
    assert re.fullmatch(
        rf"conformask-{re.escape(VERSION)}-cp310-abi3-"
        r"(manylinux_2_\d+_(x86_64|aarch64)(\.manylinux\w+)?|macosx_\d+_\d+_(x86_64|arm64)|win_amd64)\.whl",
        only("*.whl").name,
    )


def test_they_are_small(wheel: zipfile.ZipFile) -> None:
    """PyPI takes 100 MiB; most of a wheel is OpenBLAS for many processors."""
    assert only("*.whl").stat().st_size < 30 * MIB
    assert only("*.tar.gz").stat().st_size < 4 * MIB
    own = [info for info in wheel.infolist() if info.filename.endswith((".so", ".pyd"))]
    assert len(own) == 1
    assert own[0].file_size < 16 * MIB


def test_pypi_would_take_them() -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", only("*.whl"), only("*.tar.gz"))


# What they hold


def test_the_wheel_holds_the_package_as_it_is_here(wheel: zipfile.ZipFile) -> None:
    ours = {name: wheel.read(name) for name in wheel.namelist() if name.startswith("conformask/")}
    compiled = {name for name in ours if re.fullmatch(r"conformask/_core(\.abi3)?\.(so|pyd)", name)}
    assert len(compiled) == 1
    assert {name: data for name, data in ours.items() if name not in compiled} == python_files()
    folders = {name.split("/")[0] for name in wheel.namelist()}
    assert folders - {"conformask", "conformask.libs", f"conformask-{VERSION}.dist-info"} == set()


def test_the_sources_hold_what_git_knows_and_nothing_else(sources: dict[str, bytes]) -> None:
    """No build, no environment, no output of a run."""
    known = set(
        subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
    )
    assert set(sources) - known == {"PKG-INFO"}
    folders = {name.split("/")[0] for name in sources if "/" in name}
    assert folders == {"src", "python", "licenses", "benches", "tests"}
    assert [name for name in sources if name.startswith("benches/") and not name.endswith(".rs")] == []
    assert {name for name in sources if name.startswith("tests/")} == {
        name for name in known if name.startswith("tests/rust/")
    }
    assert {f"python/{name}" for name in python_files()} <= set(sources)
    changed = {"PKG-INFO", "Cargo.toml", "pyproject.toml"}  # which maturin may write anew
    assert [n for n in set(sources) - changed if sources[n] != (REPOSITORY / n).read_bytes()] == []
    for needed in ("build.rs", "Cargo.lock", "CHANGELOG.md", "CITATION.cff", "SECURITY.md"):
        assert needed in sources


# Licenses


def test_licenses_go_along(wheel: zipfile.ZipFile, sources: dict[str, bytes]) -> None:
    folder = f"conformask-{VERSION}.dist-info/licenses/"
    carried = {name.removeprefix(folder) for name in wheel.namelist() if name.startswith(folder)}
    assert carried == LICENSES
    assert set(sources) >= LICENSES
    for name in LICENSES:
        assert wheel.read(folder + name) == (REPOSITORY / name).read_bytes()


def test_every_library_inside_is_named_with_its_license(wheel: zipfile.ZipFile) -> None:
    folders = ("conformask.libs/", "conformask/.dylibs/")
    carried = {re.split(r"[-.]", Path(name).name)[0] for name in wheel.namelist() if name.startswith(folders)}
    assert carried == LIBRARIES
    text = (REPOSITORY / "LICENSE-BUNDLED").read_text(encoding="utf-8")
    assert set(re.findall(r"^(lib\w+) ", text, re.MULTILINE)) == LIBRARIES
    assert all(name in text for name in LICENSES - {"LICENSE-BUNDLED"})


def test_every_crate_inside_is_named_with_its_license() -> None:
    written = crate_licenses.FILE.read_text(encoding="utf-8")
    assert written == crate_licenses.notices(), "Cargo.lock has changed: make licenses"


# Metadata


def metadata_of(wheel: zipfile.ZipFile) -> Message:
    return message_from_bytes(wheel.read(f"conformask-{VERSION}.dist-info/METADATA"))


def test_metadata_are_those_of_the_project(wheel: zipfile.ZipFile, sources: dict[str, bytes]) -> None:
    found = metadata_of(wheel)
    assert (found["Name"], found["Version"]) == ("conformask", VERSION)
    assert found["Requires-Python"] == PYPROJECT["requires-python"]
    assert found["License-Expression"] == PYPROJECT["license"]
    assert found["Summary"] == PYPROJECT["description"]
    assert found.get_all("Classifier") == PYPROJECT["classifiers"]
    assert set(found.get_all("Provides-Extra", [])) == set(PYPROJECT["optional-dependencies"])
    assert set(found.get_all("License-File", [])) == LICENSES
    assert found["Description-Content-Type"].startswith("text/markdown")
    packed = message_from_bytes(sources["PKG-INFO"])
    for field in ("Version", "Requires-Python", "License-Expression"):
        assert packed[field] == found[field]
    entry_points = wheel.read(f"conformask-{VERSION}.dist-info/entry_points.txt").decode()
    assert "conformask=conformask.__main__:main" in entry_points.replace(" ", "")


# What they need


@pytest.mark.skipif(sys.platform != "linux", reason="auditwheel reads libraries of Linux")
def test_the_wheel_needs_no_more_of_the_system_than_it_says() -> None:
    """All that is not in it is on every Linux with such a glibc."""
    said = run(sys.executable, "-m", "auditwheel", "show", only("*.whl"))
    tag = re.search(r"(manylinux_2_\d+_\w+?)(\.|$)", only("*.whl").stem.split("-")[-1])
    assert tag
    assert f'"{tag[1]}"' in said or f"'{tag[1]}'" in said, said
    assert "libopenblas.so" not in re.sub(r"libopenblas[\w-]*-[0-9a-f]{8}[\w.-]*", "", said)


EXTRAS = sorted(PYPROJECT["optional-dependencies"])
PYTHONS = [each.rsplit(" ", 1)[1] for each in PYPROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)]


@pytest.mark.parametrize("extra", ["", *EXTRAS])
@pytest.mark.parametrize("python", [PYTHONS[0], PYTHONS[-1]])
def test_extras_can_be_resolved(extra: str, python: str) -> None:
    """On the oldest and the newest Python, from what the registry knows; nothing is installed."""
    requirement = f"conformask[{extra}] @ {only('*.whl').as_uri()}"
    options = ["--python-version", python, "--python-platform", "x86_64-manylinux_2_40", "--no-annotate"]
    found = run(sys.executable, "-m", "uv", "pip", "compile", "-q", *options, "-", stdin=requirement)
    names = {line.split("==")[0].split(" @")[0] for line in found.splitlines() if line[0] not in "# "}
    wanted = PYPROJECT["dependencies"] + PYPROJECT["optional-dependencies"].get(extra, [])
    required = {re.split(r"[^\w.-]", each)[0].lower() for each in wanted}
    assert names >= required


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cargo"), reason="build.rs asks on Linux")
def test_sources_without_openblas_say_what_to_install(sources: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, data in sources.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        environment = {**os.environ, "PKG_CONFIG_LIBDIR": "/nowhere", "PKG_CONFIG_PATH": ""}
        environment |= {"CARGO_TARGET_DIR": f"{folder}/target", "CARGO_PROFILE_DEV_OPT_LEVEL": "0"}
        done = subprocess.run(
            ["cargo", "check", "--lib"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if "needs OpenBLAS" in line]
    assert len(lines) == 1, done.stderr
    assert "apt-get install libopenblas-dev pkg-config" in lines[0]
    assert "It said: " in lines[0]


def run(*command: str | Path, stdin: str | None = None) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

"""What a source distribution holds: all that it is built from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("cargo") is None, reason="asks cargo")
def test_the_sources_of_the_crate_are_packaged() -> None:
    """maturin takes what cargo names, and adds python/."""
    done = subprocess.run(
        ["cargo", "package", "--list", "--allow-dirty"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    packaged = set(done.stdout.split())
    folders = ("src", "benches", "tests/rust")
    needed = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in folders
        for path in (REPOSITORY / folder).rglob("*.rs")
    } | {"Cargo.toml", "pyproject.toml", "README.md", "LICENSE-APACHE", "LICENSE-MIT", "LICENSE-BUNDLED"}
    assert needed - packaged == set()
    unwanted = ("notebooks/", "docs/methods/", "python/", "tests/python/", "tests/integrations/", ".ci/")
    assert [name for name in packaged if name.startswith(unwanted)] == []

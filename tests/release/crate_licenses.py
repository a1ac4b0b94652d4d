"""The licenses of the Rust crates that are compiled into the wheels: ``licenses/crates.txt``.

``python tests/release/crate_licenses.py --write`` writes it, after a change of Cargo.lock; a test compares it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "licenses" / "crates.txt"
RULE = "-" * 80

HEAD = """\
conformask's wheels hold code of these Rust crates, and of Rust's standard library.  Each keeps its own license.
Where a crate may be taken under one of several, conformask takes MIT if its text is here, else Apache-2.0, whose
text is in LICENSE-APACHE.

Rust's standard library (MIT OR Apache-2.0): copyright The Rust Project Developers, see https://thanks.rust-lang.org
"""


def crates() -> list[dict[str, Any]]:
    """The crates in the extension, on any platform: not what only builds it, or writes code while it is built."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--features", "python"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=300)
    told = json.loads(done.stdout)
    packages = {each["id"]: each for each in told["packages"]}
    nodes = {each["id"]: each for each in told["resolve"]["nodes"]}
    root = told["resolve"]["root"]
    reached, waiting = set(), [root]
    while waiting:
        name = waiting.pop()
        if name in reached or any("proc-macro" in target["kind"] for target in packages[name]["targets"]):
            continue
        reached.add(name)
        for dep in nodes[name]["deps"]:
            if any(kind["kind"] is None for kind in dep["dep_kinds"]):
                waiting.append(dep["pkg"])
    found = [packages[name] for name in reached - {root}]
    return sorted(found, key=lambda each: (each["name"], each["version"]))


def license_text(crate: dict[str, Any]) -> str:
    """The text that comes with a crate: of MIT alone, where it has one."""
    folder = Path(crate["manifest_path"]).parent
    names = ("LICEN", "COPYING", "NOTICE")
    files = sorted(path for path in folder.iterdir() if path.name.upper().startswith(names))
    mit = [path for path in files if "MIT" in path.name.upper()]
    return "\n\n".join(_tidy(path.read_text(encoding="utf-8")) for path in mit or files)


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def notices() -> str:
    """All of ``licenses/crates.txt``: crates with the same text share it."""
    texts: dict[str, list[str]] = {}
    for crate in crates():
        assert crate["license"], f"{crate['name']} names no license"
        about = f"{crate['name']} {crate['version']} ({crate['license']})"
        authors = ", ".join(author.split(" <")[0] for author in crate["authors"])
        text = license_text(crate)
        terms = {"MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "Zlib"}
        offered = set(crate["license"].replace("/", " OR ").split(" OR "))
        assert offered & terms, f"LICENSE-BUNDLED knows no {crate['license']}, the license of {crate['name']}"
        if not text:
            assert "Apache-2.0" in offered, f"{crate['name']} has no text of its license"
            about += f": {authors}" if authors else ""
        texts.setdefault(text, []).append(about)
    parts = [HEAD]
    for text, names in sorted(texts.items(), key=lambda item: item[1]):
        parts.append("\n".join([RULE, *names, "", text or "Apache-2.0: see LICENSE-APACHE."]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: crate_licenses.py --write")
    FILE.write_text(notices(), encoding="utf-8")
    print(f"{FILE}: {len(crates())} crates")

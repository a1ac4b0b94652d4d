"""What the tests run of each package, from the JSON of coverage.py, and which lines they leave out.

python tests/coverage_table.py target/coverage.json
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

# Shares of lines below which a file is listed.
FEW = 97.0

# What runs with PyTorch, MMSegmentation and others, in an environment of its own: tests/integrations.
ELSEWHERE = ("/integrations/", "/_torch_", "/_tensors.py")


def is_elsewhere(path: str) -> bool:
    """Whether tests/integrations is what runs a file."""
    return any(part in path for part in ELSEWHERE)


def runs(lines: list[int]) -> str:
    """Numbers of lines, as 3-5, 9."""
    found: list[list[int]] = []
    for line in lines:
        if found and line == found[-1][1] + 1:
            found[-1][1] = line
        else:
            found.append([line, line])
    return ", ".join(f"{one}-{other}" if one < other else f"{one}" for one, other in found)


def main(path: str) -> None:
    """Prints the tables."""
    files: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))["files"]
    of_packages: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    few = []
    for name, file in sorted(files.items()):
        parts = Path(name.partition("conformask/")[2]).parts
        package = "conformask" if len(parts) == 1 else f"conformask.{parts[0]}"
        if is_elsewhere(f"/{name}"):
            package = "with PyTorch and others (tests/integrations)"
        elif file["summary"]["percent_covered"] < FEW:
            few.append((file["summary"]["percent_covered"], name, runs(file["missing_lines"])))
        of_packages[package][0] += file["summary"]["covered_lines"]
        of_packages[package][1] += file["summary"]["num_statements"]
    print(f"{'package':<48}{'lines':>8}{'run':>8}{'':>9}")
    for package, (covered, n) in sorted(of_packages.items()):
        print(f"{package:<48}{n:>8}{covered:>8}{100 * covered / max(n, 1):>8.1f}%")
    here = [counts for package, counts in of_packages.items() if package.startswith("conformask")]
    covered, n = (sum(column) for column in zip(*here, strict=True))
    print(f"{'all but these with other libraries':<48}{n:>8}{covered:>8}{100 * covered / n:>8.1f}%")
    print(f"\nfiles of which less than {FEW:g}% runs:")
    for percent, name, missing in sorted(few):
        print(f"  {percent:5.1f}%  {name}: {missing}")


if __name__ == "__main__":
    main(sys.argv[1])

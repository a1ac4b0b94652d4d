"""The bench of CONSIGN beside the paper's search runs: it looks inside the package, which changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import conformask as cm

BENCH = Path(__file__).parents[2] / "benches" / "consign.py"
SMALL = ["--images", "3", "--size", "32", "--components", "5", "--draws", "100", "--reference", "1"]


def test_the_bench_of_consign_runs() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(cm.__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", str(BENCH), *SMALL]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert found.returncode == 0, found.stderr
    assert "the paper's search" in found.stdout

"""Benches with a peer in PyTorch run: that of CONSIGN beside the paper's search, that of binary masks beside MAPIE.

They look inside packages, which change.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import conformask as cm

BENCHES = Path(__file__).parents[2] / "benches"
CASES = {
    "consign.py": (
        ["--images", "3", "--size", "32", "--components", "5", "--draws", "100", "--reference", "1"],
        ["the paper's search"],
    ),
    "torch_overhead.py": (["--repeats", "1"], ["lac, bfloat16", "bytes kept of an image"]),
    "adaptive.py": (
        ["--images", "10", "--training-images", "40", "--calibration-images", "20", "--repeats", "1"],
        ["50% foreground", "CRA predict", "COATCalibrator", "theirs", "thresholds 0.0"],
    ),
}


@pytest.mark.parametrize("bench", CASES)
def test_a_bench_runs(bench: str) -> None:
    arguments, expected = CASES[bench]
    environment = {**os.environ, "PYTHONPATH": str(Path(cm.__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", str(BENCHES / bench), *arguments]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert found.returncode == 0, found.stderr
    for words in expected:
        assert words in found.stdout

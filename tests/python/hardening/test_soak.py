"""The soak finds what grows, and nothing grows here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "soak.py"


@pytest.fixture(scope="module")
def soak() -> Any:
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_growth_is_that_of_a_line_after_the_warm_up(soak: Any) -> None:
    numbers = np.concatenate([np.linspace(0, 1000, 30), 1000 + 2.0 * np.arange(70)])
    numbers[50] += 10**6  # a moment's peak is no leak
    found = soak.growth(numbers)
    assert found.rise == pytest.approx(2 * 69)
    assert (found.start, found.end) == (1006, 1132)
    assert soak.growth(np.full(40, 7.0)) == soak.Growth(7, 7, 0)


def test_leaks_are_found(soak: Any) -> None:
    memory, files = [], []

    def leak() -> None:
        memory.append(np.ones(250_000))
        files.append(open(os.devnull))  # noqa: SIM115

    found, counts = soak.soak({"leak": soak.Job(leak, every=2)}, 24)
    for file in files:
        file.close()
    assert counts == {"leak": 12}
    assert soak.verdicts(found) == {"resident memory": False, "open files": False, "threads": True}


def test_nothing_grows_over_a_hundred_rounds() -> None:
    run = subprocess.run(
        [sys.executable, str(SCRIPT), "--rounds", "100"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("  flat\n") == 3
    assert "forks" in run.stdout or not hasattr(os, "fork")

"""The scripts of the gallery run, without a warning, and draw."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

EXAMPLES = sorted((Path(__file__).parents[3] / "docs/examples").glob("plot_*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_of_the_gallery(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    runpy.run_path(str(path))
    figures = [plt.figure(number) for number in plt.get_fignums()]
    assert figures
    for figure in figures:
        figure.canvas.draw()  # layouts that do not fit warn here
        drawn = [ax for ax in figure.axes if ax.has_data()]
        assert drawn
    assert os.listdir(tmp_path) == []


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 9

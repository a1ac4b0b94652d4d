"""Rows of images: their legend names what it has room for, and lies within the figure."""

from __future__ import annotations

import numpy as np
import pytest

from conformask.plotting._overview import OverviewRow, overview


def row(n_classes: int, void: int = 0) -> OverviewRow:
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, n_classes, (6, 12)), 3, axis=1)
    guess = np.minimum(labels, n_classes - 2)
    labels[:, :void] = 255
    return OverviewRow(None, labels, guess, rng.integers(1, 4, labels.shape))


@pytest.mark.parametrize(
    ("n_classes", "name"), [(3, "class"), (40, "class"), (40, "a rather long name of a class"), (150, "no")]
)
def test_the_legend_fits(n_classes: int, name: str) -> None:
    figure = overview(
        [row(n_classes, void=2)], n_classes, 2.5, class_names=[f"{name} {k}" for k in range(n_classes)]
    )
    figure.draw_without_rendering()  # lays it out
    [legend] = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    for ax in figure.axes:
        assert box.y1 <= ax.get_window_extent().y0
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[-1] == "void"
    heights = {round(text.get_window_extent().y0) for text in legend.get_texts()}
    assert len(heights) <= 3
    if n_classes == 3:
        assert texts[:-1] == [f"{name} {k}" for k in range(3)]


def test_classes_with_few_pixels_are_counted() -> None:
    labels = np.repeat(np.arange(40), np.arange(1, 41))[None]  # class k has k + 1 pixels
    labels = np.repeat(labels, 100, axis=0)
    figure = overview([OverviewRow(None, labels, labels, np.ones_like(labels))], 60, 1.5)
    *texts, more = [text.get_text() for text in figure.legends[0].get_texts()]
    assert more == f"... and {40 - len(texts)} more"
    assert texts == [f"class {k}" for k in range(40 - len(texts), 40)], "not those that no pixel has"

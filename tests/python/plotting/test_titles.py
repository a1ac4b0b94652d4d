"""Titles among other axes: none is cut, none reaches over that of its neighbour."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes

from conformask.plotting import plot_mask_panels, plot_masks, plot_may_be, plot_risk_curve, plot_varisco

MASK = np.random.default_rng(0).random((4, 20, 30)) < 0.5
KNOWN: Any = SimpleNamespace(alpha=0.1, lambda_hat_=0.861857)
CURVE = (np.linspace(0, 1, 50), np.linspace(0.4, 0, 50))


def extents(axes: list[Axes]) -> list[Any]:
    """Where titles are in a figure that was drawn once."""
    figure: Any = axes[0].get_figure()
    figure.draw_without_rendering()
    return [ax.title.get_window_extent() for ax in axes]


def apart(axes: list[Axes]) -> bool:
    return all(left.x1 < right.x0 for left, right in pairwise(extents(axes)))


@pytest.mark.parametrize("size", [(12, 3.5), (14, 3.8), (16, 4)])
def test_titles_of_images_are_in_the_figure_beside_axes_with_much_below(size: tuple[float, float]) -> None:
    """A layout asks once how high a title reaches above the place of its axes, which an image need not fill."""
    figure, axes = plt.subplots(1, 3, figsize=size, layout="constrained")
    mask = np.repeat(np.repeat(MASK[:, :16, :24], 2, 1), 2, 2)
    plot_varisco(mask.sum(0), calibrator=KNOWN, ax=axes[0])
    plot_may_be(mask, 3, calibrator=KNOWN, ax=axes[1])
    plot_risk_curve(CURVE, alpha=0.1, n_images=100, ax=axes[2])
    assert all(title.y1 < figure.bbox.y1 for title in extents([*axes]))


@pytest.mark.parametrize("layout", ["constrained", "compressed", "none"])
def test_titles_of_narrow_columns_do_not_meet(layout: str) -> None:
    _, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout=layout)
    plot_may_be(MASK, 0, calibrator=KNOWN, legend=False, ax=axes[0])
    plot_masks(MASK, calibrator=KNOWN, legend=False, ax=axes[1])
    plot_varisco(MASK.sum(0), calibrator=KNOWN, ax=axes[2])
    plot_risk_curve(CURVE, ax=axes[3])
    assert apart([*axes])
    assert axes[0].get_title() == "Where class 0 may be\n$\\alpha$ = 0.1, $\\hat\\lambda$ = 0.861857"
    assert all(ax.title.get_fontsize() >= 8 for ax in axes)


def test_long_names_of_tall_panels_are_broken_between_words() -> None:
    names = [f"a rather long name of class {k}" for k in range(4)]
    axes = plot_mask_panels(MASK[:, :, :4], class_names=names)
    assert apart([*axes])
    assert [" ".join(ax.get_title().split()) for ax in axes] == names
    assert "\n" in axes[0].get_title()
    assert [ax.get_title() for ax in plot_mask_panels(MASK, class_names=names)] == names  # there is room


def test_formulas_are_not_broken() -> None:
    _, axes = plt.subplots(1, 12, figsize=(9, 2.6), layout="constrained")
    for ax in axes:
        plot_risk_curve(CURVE, ax=ax)
    assert "\n" in axes[0].get_title()
    assert all(line.count("$") % 2 == 0 for line in axes[0].get_title().split("\n"))

"""What more calibration images allow: the curves are the numbers of `required_images`."""

from __future__ import annotations

import warnings
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import conformask as cm
from conformask.metrics import required_images
from conformask.plotting import plot_required_images
from drawn import legend_texts


def curves(ax: Axes) -> list[Line2D]:
    return [line for line in ax.get_lines() if line.get_drawstyle() == "steps-post"]


def begins(ax: Axes) -> list[list[float]]:
    return [[line.get_xdata()[0], line.get_ydata()[0]] for line in ax.get_lines() if line.get_marker() == "o"]


@pytest.mark.parametrize(("alpha", "delta"), [(0.1, 0.1), (0.01, 0.05), (0.6, 0.3)])
def test_curves_are_the_required_images(alpha: float, delta: float) -> None:
    ax = plot_required_images(alpha, delta)
    methods = (cm.CRC(), cm.PAC(delta), cm.RCPS(delta))
    for line, method in zip(curves(ax), methods, strict=True):
        sizes, risks = line.get_xdata(), line.get_ydata()
        assert sizes[0] == required_images(alpha, method=method)
        assert risks[0] == (pytest.approx(alpha - (1 - alpha) / sizes[0]) if method == cm.CRC() else 0)
        assert sizes[-1] == int(1000 / alpha)
        assert (np.diff(sizes) >= 0).all()
        assert (np.diff(risks) >= 0).all()
        assert risks[-1] < alpha
        for n, risk in list(zip(sizes, risks, strict=True))[5:-1:20]:
            # One billionth below, for what is drawn is a float.
            assert required_images(alpha, expected_risk=risk * (1 - 1e-9), method=method) <= n
            assert required_images(alpha, expected_risk=risk * (1 + 1e-9), method=method) >= n
    assert begins(ax) == [[line.get_xdata()[0], line.get_ydata()[0]] for line in curves(ax)]


def test_what_the_picture_says() -> None:
    ax = plot_required_images(Fraction(1, 20), 0.05)
    assert legend_texts(ax) == [
        r"$\alpha$ = 0.05",
        "CRC, on average: from 19 on",
        "PAC, losses 0 or 1, confidence 95 %: from 59 on",
        "RCPS, confidence 95 %: from 59 on",
    ]
    assert ax.get_xscale() == "log"
    assert 10 < ax.get_xlim()[0] < 0.9 * 19, "the first point lies off the axis"
    assert ax.get_xlim()[1] == 20_000
    assert ax.get_lines()[0].is_dashed()
    assert ax.get_ylabel() == "allowed mean calibration loss"
    ring, dot = [line for line in ax.get_lines() if line.get_marker() == "o"][1:]
    assert ring.get_xdata() == dot.get_xdata()
    assert ring.get_markerfacecolor() == "none"
    assert ring.get_markersize() - ring.get_markeredgewidth() > dot.get_markersize() + 2, "both are seen"
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > 0.05
    assert ax.get_lines()[0].get_ydata() == pytest.approx([0.05, 0.05])
    at_200 = [float(np.interp(200, line.get_xdata(), line.get_ydata())) for line in curves(ax)]
    assert all(more > less for more, less in pairwise(at_200))  # CRC allows most, then PAC, then RCPS


@pytest.mark.filterwarnings("ignore:delta=:UserWarning")
def test_on_given_axes_and_at_the_ends_of_its_range() -> None:
    figure, ax = plt.subplots()
    assert plot_required_images(ax=ax) is ax
    assert plt.get_fignums() == [figure.number]
    for alpha, delta in ((1e-5, 1e-9), (0.999, 0.999), (0.3, 0.9)):
        drawn = plot_required_images(alpha, delta)
        assert len(curves(drawn)) == 3
        assert np.isfinite([*drawn.get_xlim(), *drawn.get_ylim()]).all()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn.get_figure().canvas.draw()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha must be at least 1e-05, got 9e-06"):
        plot_required_images(9e-6)
    with pytest.raises(ValueError, match="alpha must be in"):
        plot_required_images(1)
    with pytest.raises(ValueError, match="delta must be in"):
        plot_required_images(0.1, 0)
    with pytest.raises(TypeError, match="ax must be one matplotlib Axes"):
        plot_required_images(ax=3)
    assert plt.get_fignums() == []

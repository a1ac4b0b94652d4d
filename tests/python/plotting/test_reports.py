"""Pictures of reports: the classes that are missed, and what each alpha costs."""

from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt

import conformask as cm
from conformask.plotting import plot_alpha_sweep, plot_class_risk
from conformask.report import ClassRisk, RiskReport
from drawn import legend_texts, tick_texts

NAN = float("nan")


def report(**known: Any) -> RiskReport:
    """A report of which pictures need little."""
    filled = {
        "alpha": 0.05,
        "lambda_hat": 0.9,
        "empirical_risk": 0.04,
        "interval": (0.03, 0.05),
        "activation_ratio": 1.2,
        "coverage": 0.96,
        "classes": (
            ClassRisk(0, "road", 0.01, (0.0, 0.02), 1.1, 50, 9000),
            ClassRisk(1, "bicycle", NAN, (NAN, NAN), NAN, 0, 0),
            ClassRisk(2, "pole", 0.3, (0.2, 0.45), 2.4, 31, 70),
            ClassRisk(3, "sky", 0.02, (0.01, 0.03), 1.3, 49, 5000),
        ),
    }
    needed = [each.name for each in fields(RiskReport) if each.default is MISSING]
    return RiskReport(**dict.fromkeys(needed) | filled | known)


SWEEP = (
    report(alpha=0.1, empirical_risk=0.09, interval=(0.08, 0.11), activation_ratio=1.05),
    report(alpha=0.01, empirical_risk=0.0, interval=(0.0, 0.0), activation_ratio=8.0, infeasible=True),
    report(alpha=0.05, empirical_risk=0.04, interval=(0.03, 0.05), activation_ratio=1.2),
)


def test_the_class_that_is_missed_most_comes_first() -> None:
    ax = plot_class_risk(report())
    assert tick_texts(ax) == ["pole", "sky", "road", "bicycle"]
    dots = next(line for line in ax.get_lines() if line.get_marker() == "o")
    np.testing.assert_array_equal(dots.get_xdata(), [0.3, 0.02, 0.01, NAN])
    np.testing.assert_array_equal(dots.get_ydata(), [0, 1, 2, 3])
    segments = ax.collections[0].get_segments()
    np.testing.assert_array_equal(segments[0], [[0.2, 0], [0.45, 0]])
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first on top"
    assert ax.get_xlim()[0] == 0
    assert 0.45 < ax.get_xlim()[1] < 0.5, "the axis ends where the data end"


def test_class_risk_tells_sizes_images_and_level() -> None:
    ax = plot_class_risk(report(), order="label")
    assert tick_texts(ax) == ["road", "bicycle", "pole", "sky"]
    texts = [text.get_text() for text in ax.texts]
    for column in (
        ["1.10", "", "2.40", "1.30", "set size"],
        ["50", "0", "31", "49", "images"],
        ["in no image"],
    ):
        assert any(texts[i : i + len(column)] == column for i in range(len(texts)))
    assert ax.get_title().endswith("$\\alpha$ = 0.05, $\\hat\\lambda$ = 0.9")
    assert ax.get_xlabel() == "miss rate of the class (95 % interval)"
    assert legend_texts(ax) == ["all pixels: 0.04"]


def test_class_risk_of_chosen_classes_on_given_axes() -> None:
    _, given = plt.subplots()
    ax = plot_class_risk(report(), classes=["sky", 0], ax=given)
    assert ax is given
    assert tick_texts(ax) == ["sky", "road"]
    only_unseen = plot_class_risk(report(), classes=["bicycle"])
    assert tick_texts(only_unseen) == ["bicycle"]


def test_the_sweep_is_drawn_by_alpha() -> None:
    above, below = plot_alpha_sweep(report(sweep=SWEEP))
    lines = {line.get_label(): line for line in above.get_lines()}
    np.testing.assert_array_equal(lines["risk"].get_xydata(), [[0.01, 0.0], [0.05, 0.04], [0.1, 0.09]])
    equal = lines[r"risk = $\alpha$"]
    np.testing.assert_array_equal(equal.get_xdata(), equal.get_ydata())
    np.testing.assert_array_equal(above.collections[0].get_segments()[2], [[0.1, 0.08], [0.1, 0.11]])
    np.testing.assert_array_equal(below.get_lines()[0].get_xydata(), [[0.01, 8], [0.05, 1.2], [0.1, 1.05]])
    assert [label.get_text() for label in below.get_xticklabels()] == ["0.01", "0.05", "0.1"]
    assert legend_texts(below) == [r"risk = $\alpha$", "95 % interval", "risk", "too few images: full sets"]
    hollow = lines["too few images: full sets"]
    np.testing.assert_array_equal(hollow.get_xydata(), [[0.01, 0.0]])


def test_a_feasible_sweep_on_given_axes() -> None:
    _, axes = plt.subplots(1, 3)
    drawn = plot_alpha_sweep(report(sweep=SWEEP[:1]), axes=axes)
    assert drawn.tolist() == axes[:2].tolist()
    assert legend_texts(drawn[1]) == [r"risk = $\alpha$", "95 % interval", "risk"]
    wide = plot_alpha_sweep(report(sweep=tuple(replace(SWEEP[0], alpha=a) for a in (0.001, 0.2))))
    assert [ax.get_xscale() for ax in wide] == ["log", "log"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: plot_class_risk(cm.MiscoverageLoss()),
            TypeError,
            "report must be a RiskReport, .* MiscoverageLoss",
        ),
        (lambda: plot_alpha_sweep(cm.ConformalRiskCalibrator()), TypeError, "report must be a RiskReport"),
        (lambda: plot_class_risk(report(classes=())), ValueError, "report has no classes"),
        (lambda: plot_alpha_sweep(report()), ValueError, r"report has no sweep: evaluate\(X, y, alphas="),
        (
            lambda: plot_class_risk(report(), order="size"),
            ValueError,
            "order must be 'risk' or 'label', got 'size'",
        ),
        (lambda: plot_class_risk(report(), classes=[4]), ValueError, "classes must be from 0 to 3, got 4"),
        (lambda: plot_class_risk(report(), classes=[]), ValueError, "classes must be at least one"),
        (lambda: plot_alpha_sweep(report(sweep=SWEEP), axes=[]), ValueError, "axes must be two"),
    ],
)
def test_reports_refuse(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()

"""Pictures of classes and strata that have lambdas of their own."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt

import conformask as cm
from conformask.plotting import plot_class_risk, plot_part_risk, plot_varisco
from conformask.report import PartRisk, RiskReport
from drawn import legend_texts, tick_texts
from problems import wide

NAN = float("nan")

PARTS = (
    PartRisk("road", 0.01, (0.0, 0.02), 50, 0.4, 60, None),
    PartRisk("bus", 0.0, (0.0, 0.0), 3, 1.0, 4, 9, True),
    PartRisk("pole", 0.12, (0.08, 0.2), 31, 0.973412, 40, None),
    PartRisk("tram", NAN, (NAN, NAN), 0, 1.0, 0, 9, True),
)


def report(**known: Any) -> RiskReport:
    needed = [each.name for each in fields(RiskReport) if each.default is MISSING]
    filled: dict[str, Any] = {"alpha": 0.1, "lambda_hat": NAN, "by": "class", "parts": PARTS}
    return RiskReport(**dict.fromkeys(needed) | filled | known)


def test_the_largest_risk_comes_first_and_rare_ones_are_hollow() -> None:
    ax = plot_part_risk(report())
    assert tick_texts(ax) == ["pole", "road", "bus", "tram"]
    filled, hollow = [line for line in ax.get_lines() if line.get_marker() == "o"]
    np.testing.assert_array_equal(filled.get_xdata(), [0.12, 0.01])
    np.testing.assert_array_equal(hollow.get_xdata(), [0.0, NAN])
    assert hollow.get_markerfacecolor() == "white"
    assert legend_texts(ax) == ["rare: too few calibration images", r"$\alpha$ = 0.1"]
    texts = [text.get_text() for text in ax.texts]
    for column in (
        ["0.973412", "0.4", "1", "1", r"$\hat\lambda$"],
        ["40", "60", "4 of 9", "0 of 9", "calibration\nimages"],
        ["no test image"],
    ):
        assert any(texts[i : i + len(column)] == column for i in range(len(texts)))
    assert ax.get_title() == "Risk of each class, mean over its images"
    assert ax.get_xlim()[0] == 0
    assert 0.2 < ax.get_xlim()[1] < 0.22


def test_chosen_parts_on_given_axes_in_their_order() -> None:
    _, given = plt.subplots()
    ax = plot_part_risk(report(by="stratum", n_groups=3), parts=["road", 2], order="given", ax=given)
    assert ax is given
    assert tick_texts(ax) == ["road", "pole"]
    assert ax.get_title() == "Risk of each stratum, mean over its groups"
    assert legend_texts(ax) == [r"$\alpha$ = 0.1"]


def test_pictures_of_calibrators_with_several_lambdas() -> None:
    problem = wide(n=60)
    by_class = cm.ConformalRiskCalibrator(alpha=0.3, conditional="class").fit(problem.X, problem.y)
    by_stratum = cm.ConformalRiskCalibrator(alpha=0.3).fit(problem.X, problem.y, strata=np.arange(60) % 2)
    weighted = cm.ConformalRiskCalibrator(alpha=0.3).fit(problem.X, problem.y, sample_weight=[2.0] * 60)
    sizes = by_class.set_size(problem.X)[0]
    for calibrator in (by_class, by_stratum, weighted):
        assert plot_varisco(sizes, calibrator=calibrator).get_title().endswith("\n$\\alpha$ = 0.3")
    found = by_class.evaluate(problem.X, problem.y)
    assert len(tick_texts(plot_part_risk(found))) == problem.X.shape[1]
    assert plot_class_risk(found).get_title().endswith("\n$\\alpha$ = 0.3")


def test_what_has_no_parts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"report has no parts: evaluate gives those of conditional='class'"):
        plot_part_risk(report(parts=()))
    with pytest.raises(TypeError, match="report must be a RiskReport"):
        plot_part_risk(PARTS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="order must be 'risk' or 'given', got 'label'"):
        plot_part_risk(report(), order="label")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="parts must be"):
        plot_part_risk(report(), parts=[7])

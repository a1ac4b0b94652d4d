"""Pictures of classes and strata that have lambdas of their own."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import conformask as cm
from conformask.plotting import plot_class_risk, plot_part_risk, plot_varisco
from conformask.plotting._rows import lambda_column
from conformask.report import ClassRisk, PartRisk, RiskReport
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
        ["0.973", "0.400", "1.000", "1.000", r"$\hat\lambda$"],
        ["40", "60", "4 of 9", "0 of 9", "calibration\nimages"],
        ["no test image"],
    ):
        assert any(texts[i : i + len(column)] == column for i in range(len(texts)))
    assert ax.get_title() == "Risk of each class"
    assert ax.get_xlabel() == "risk, mean over its images\n(95 % interval)"
    assert ax.get_xlim()[0] == 0
    assert 0.2 < ax.get_xlim()[1] < 0.22


def test_chosen_parts_on_given_axes_in_their_order() -> None:
    _, given = plt.subplots()
    ax = plot_part_risk(report(by="stratum", n_groups=3), parts=["road", 2], order="given", ax=given)
    assert ax is given
    assert tick_texts(ax) == ["road", "pole"]
    assert ax.get_title() == "Risk of each stratum"
    assert ax.get_xlabel().startswith("risk, mean over its groups\n")
    assert legend_texts(ax) == [r"$\alpha$ = 0.1"]


@pytest.mark.parametrize(
    ("lambdas", "texts"),
    [
        ([0.5, 0.25, 0.5], ["0.500", "0.250", "0.500"]),
        ([0.97341, 0.97344, 1.0], ["0.97341", "0.97344", "1.00000"]),
        ([0.9996, 1.0], ["0.9996", "1.0000"]),
        ([0.0002, 0.0], ["0.0002", "0.0000"]),
        ([1 - 2e-9, 1.0], ["1 - 2.0e-09", "1.000000"]),
        ([0.1234561, 0.1234562, 1.25], ["0.123456", "0.123456", "1.250000"]),
        ([NAN, 0.5], ["of their own", "0.500"]),
    ],
)
def test_lambdas_have_as_many_decimals_as_differ(lambdas: list[float], texts: list[str]) -> None:
    assert lambda_column(lambdas) == texts


LONG = tuple(
    replace(PARTS[k % 4], name=f"University Hospital {k} (Siemens Prisma 3T)", risk=0.01 * k)
    for k in range(12)
)


def assert_within(*pictures: Axes) -> None:
    """Names, columns, legends and titles lie in the figure, and touch no axes beside."""
    figure = pictures[0].get_figure()
    assert figure is not None
    figure.canvas.draw()
    whole = {ax: ax.get_tightbbox(for_layout_only=True) for ax in pictures}
    for ax in pictures:
        legend = ax.get_legend()
        assert legend is not None
        parts = (*ax.get_yticklabels(), *ax.texts, legend, ax.title, ax.xaxis.label)
        beside = [whole[other] for other in pictures if other is not ax]
        for box in [part.get_window_extent() for part in parts]:
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
            assert all(box.x1 <= other.x0 or box.x0 >= other.x1 for other in beside)


@pytest.mark.parametrize("n", [1, 12])
def test_long_names_have_room(n: int) -> None:
    drawn = report(parts=LONG[:n], by="stratum")
    ax = plot_part_risk(drawn)
    assert_within(ax)
    assert ax.get_window_extent().width > 200, "the bars have room, too"
    for layout in (None, "constrained", "tight"):
        _, given = plt.subplots(layout=layout)
        assert_within(plot_part_risk(drawn, ax=given))
    unending = report(parts=(replace(PARTS[0], name=f"first{200 * '-'}last"), PARTS[1]))
    ax = plot_part_risk(unending)
    assert_within(ax)
    (name,) = (text for text in tick_texts(ax) if text.startswith("first"))
    assert name.endswith("last")
    assert len(name) == 60


@pytest.mark.parametrize("layout", ["constrained", None])
def test_pictures_beside_are_not_overlapped(layout: str | None) -> None:
    _, axes = plt.subplots(1, 3, figsize=(15, 4), layout=layout)
    left, middle, right = axes
    shorter = tuple(replace(part, name=part.name[:24]) for part in LONG[:6])
    plot_part_risk(report(parts=shorter), ax=left)
    plot_part_risk(report(), ax=middle)
    rows = tuple(ClassRisk(k, f"vegetation {k}", 0.1, (0.0, 0.2), 1.5, 9, 99) for k in range(3))
    plot_class_risk(report(classes=rows, coverage=0.9), ax=right)
    assert_within(left, middle, right)


def test_of_many_parts_those_of_the_largest_risks_are_drawn() -> None:
    many = tuple(replace(PARTS[0], name=f"p{k}", risk=k / 100) for k in range(60))
    ax = plot_part_risk(report(parts=many))
    assert tick_texts(ax) == [f"p{k}" for k in range(59, 19, -1)]
    assert ax.get_title() == "Risk of each class\nthe 40 of 60 with the largest risk"
    assert_within(ax)
    assert tick_texts(plot_part_risk(report(parts=many), parts=["p3", "p5"])) == ["p5", "p3"]
    assert tick_texts(plot_part_risk(report(parts=many), order="given")) == [f"p{k}" for k in range(20, 60)]


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


def test_the_level_of_bonferroni_is_that_of_each_class() -> None:
    ax = plot_part_risk(report(part_alpha=0.025))
    assert legend_texts(ax)[-1] == r"$\alpha / K$ = 0.025"
    dashed = next(line for line in ax.get_lines() if line.get_linestyle() == "--")
    assert set(dashed.get_xdata()) == {0.025}


def test_what_has_no_parts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"report has no parts: evaluate gives those of conditional='class'"):
        plot_part_risk(report(parts=()))
    with pytest.raises(TypeError, match="report must be a RiskReport"):
        plot_part_risk(PARTS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="order must be 'risk' or 'given', got 'label'"):
        plot_part_risk(report(), order="label")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="parts must be"):
        plot_part_risk(report(), parts=[7])

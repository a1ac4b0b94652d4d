"""The risk curve is the curve, and shows where risk control cuts it."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import conformask as cm
from conformask.plotting import plot_risk_curve
from conformask.plotting._palette import RED
from drawn import LAMBDAS, RISKS, legend_texts
from problems import wide


def lines(ax: Axes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {str(line.get_label()): line.get_data() for line in ax.get_lines()}


def test_the_risk_curve_is_the_curve(calibrator: cm.ConformalRiskCalibrator) -> None:
    ax = plot_risk_curve(calibrator)
    curve = ax.get_lines()[0]
    assert curve.get_drawstyle() == "steps-post", "right-continuous: the risk at a jump is the lower one"
    for drawn, asked in zip(curve.get_data(), calibrator.risk_curve(), strict=True):
        np.testing.assert_array_equal(drawn, asked)


def test_the_risk_curve_marks_lambda_hat_below_the_bound(calibrator: cm.ConformalRiskCalibrator) -> None:
    found = lines(plot_risk_curve(calibrator))
    (point,) = (data for label, data in found.items() if "hat" in label)
    (bound,) = (data[1][0] for label, data in found.items() if "/n" in label)
    assert (point[0][0], point[1][0]) == (calibrator.lambda_hat_, calibrator.risk_)
    assert bound == pytest.approx(0.1 - 0.9 / 40)
    assert point[1][0] <= bound
    np.testing.assert_array_equal(found[r"$\alpha$ = 0.1"][1], [0.1, 0.1])


def test_alpha_is_dashed_and_red_and_the_limit_is_not(calibrator: cm.ConformalRiskCalibrator) -> None:
    by_label = {str(line.get_label()): line for line in plot_risk_curve(calibrator).get_lines()}
    alpha = by_label[r"$\alpha$ = 0.1"]
    (limit,) = (line for label, line in by_label.items() if "/n" in label)
    assert alpha.is_dashed()
    assert alpha.get_color() == RED != limit.get_color()
    assert alpha.get_linestyle() != limit.get_linestyle()


def test_a_bare_curve_shows_what_is_known() -> None:
    assert legend_texts(plot_risk_curve((LAMBDAS, RISKS))) == ["empirical risk"]
    assert legend_texts(plot_risk_curve((LAMBDAS, RISKS), alpha=0.2)) == ["empirical risk", r"$\alpha$ = 0.2"]
    with_bound = legend_texts(plot_risk_curve((LAMBDAS, RISKS), alpha=0.2, n_images=10))
    assert with_bound[2] == r"$\alpha - (1 - \alpha)/n$ = 0.12, n = 10"


def test_another_alpha_marks_no_lambda_hat(calibrator: cm.ConformalRiskCalibrator) -> None:
    texts = legend_texts(plot_risk_curve(calibrator, alpha=0.2))
    assert r"$\alpha$ = 0.2" in texts
    assert not any("hat" in text for text in texts)


def test_the_axis_spreads_near_one_when_the_action_is_there() -> None:
    late = (np.array([0, 0.99, 0.999, 1]), RISKS)
    positions = {}
    for name, curve in {"late": late, "early": (LAMBDAS, RISKS)}.items():
        ax = plot_risk_curve(curve)
        to_axes = ax.transData + ax.transAxes.inverted()
        positions[name] = to_axes.transform([(0.9, 0), (0.99, 0)])[:, 0]
    assert positions["late"][0] < 0.6, "the last tenth of lambda has at least two fifths of the axis"
    assert np.diff(positions["late"])[0] > 0.15
    np.testing.assert_allclose(positions["early"], [0.9, 0.99])


def test_both_scales_show_the_whole_curve_and_its_ticks() -> None:
    for xscale in ("linear", "log"):
        ax = plot_risk_curve((LAMBDAS, RISKS), xscale=xscale)
        assert ax.get_xlim() == (0, 1)
        assert ax.get_ylim()[0] == 0
        assert ax.get_ylim()[1] > RISKS.max()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.5", "0.9", "0.99", "1"]


@pytest.mark.parametrize("width", [2.5, 6.4])
@pytest.mark.parametrize("nines", [2, 9])
def test_ticks_near_one_do_not_touch(width: float, nines: int) -> None:
    lambdas = 1 - 10.0 ** -np.linspace(0, nines, 200)
    figure, ax = plt.subplots(figsize=(width, 3), layout="constrained")
    plot_risk_curve((lambdas, np.linspace(0.3, 0.02, 200)), ax=ax)
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert len(boxes) >= 3
    assert all(one.x1 + 2 < other.x0 for one, other in pairwise(boxes))
    assert ax.get_xlabel() == r"$\lambda$ (not linear: spread towards 1)"
    assert plot_risk_curve((LAMBDAS, RISKS), xscale="linear").get_xlabel() == r"$\lambda$"


def test_too_few_images_are_said_in_the_legend() -> None:
    problem = wide(n=40)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.02, on_infeasible="full")
    with pytest.warns(cm.InfeasibleRiskWarning):
        calibrator.fit(problem.X, problem.y)
    ax = plot_risk_curve(calibrator)
    limit = 0.02 - 0.98 / 40
    assert legend_texts(ax)[2:] == [
        rf"infeasible: $\alpha - (1 - \alpha)/n$ = {limit:.4g}, n = 40 images",
        r"$\hat\lambda$ = 1 (full sets), risk 0",
    ]
    low, high = ax.get_ylim()
    assert all(
        low <= np.min(y) and np.max(y) <= high for _, y in lines(ax).values() if np.size(y) and np.max(y) != 1
    )


def test_lambda_hat_is_marked_at_the_ends_of_the_axis(calibrator: cm.ConformalRiskCalibrator) -> None:
    ax = plot_risk_curve(calibrator.recalibrate(alpha=0.9))
    (point,) = (line for line in ax.get_lines() if line.get_marker() == "o")
    assert point.get_xdata()[0] == ax.get_xlim()[0]
    assert not point.get_clip_on()


def test_groups_are_counted_as_groups() -> None:
    problem = wide(n=40)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.3).fit(problem.X, problem.y, groups=np.arange(40) % 10)
    assert legend_texts(plot_risk_curve(calibrator))[2].endswith(", n = 10 groups")


@pytest.mark.parametrize(
    ("curve", "arguments", "message"),
    [
        ((LAMBDAS, RISKS[1:]), {}, "one length"),
        ((LAMBDAS[::-1], RISKS), {}, "ascending"),
        ((LAMBDAS, RISKS, RISKS), {}, "pair"),
        (([], []), {}, "one length"),
        ((LAMBDAS, RISKS), {"alpha": 1.0}, "alpha"),
        ((LAMBDAS, RISKS), {"xscale": "cubic"}, "xscale"),
        ((LAMBDAS, RISKS), {"n_images": -1}, "n_images must be at least 0"),
    ],
)
def test_the_risk_curve_refuses(curve: tuple, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_risk_curve(curve, **arguments)


def test_a_curve_of_no_images_says_so() -> None:
    unlabelled = np.full((3, 4, 4), 255)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.1, on_infeasible="full")
    with pytest.warns(match="all sets hold every class"), pytest.warns(match="left out, n = 0"):
        calibrator.fit(np.full((3, 2, 4, 4), 0.5), unlabelled)
    for ax in (plot_risk_curve(calibrator), plot_risk_curve((LAMBDAS, RISKS), alpha=0.1, n_images=0)):
        assert [text.get_text() for text in ax.texts] == ["no calibration images"]
        assert not ax.get_lines()


def test_the_legend_of_the_risk_curve_lies_below_it(calibrator: cm.ConformalRiskCalibrator) -> None:
    for size in ((6.4, 4.8), (3.5, 2.2)):
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        plot_risk_curve(calibrator, ax=ax)
        figure.canvas.draw()
        legend = ax.get_legend().get_window_extent()
        assert legend.y1 < ax.xaxis.label.get_window_extent().y0
        assert legend.y0 > 0, "inside the figure"


def test_limits_of_methods_and_weights_are_named() -> None:
    problem = wide(n=200)
    fitted = cm.ConformalRiskCalibrator(alpha=0.3).fit(problem.X, problem.y)
    weighted = cm.ConformalRiskCalibrator(alpha=0.3).fit(
        problem.X, problem.y, sample_weight=np.linspace(0, 1, 200)
    )
    for calibrator, words in (
        (fitted, r"$\alpha - (1 - \alpha)/n$ = "),
        (fitted.recalibrate(method=cm.RCPS(0.1)), "limit for the mean calibration risk by RCPS = "),
        (weighted, "limit for the mean calibration risk = "),
    ):
        texts = [text.get_text() for text in plot_risk_curve(calibrator).get_legend().get_texts()]
        assert sum(text.startswith(words) for text in texts) == 1
    betting = plot_risk_curve(fitted.recalibrate(method=cm.RCPS(0.1, "wsr")))  # which goes by no mean
    texts = [text.get_text() for text in betting.get_legend().get_texts()]
    assert not any("limit" in text or "infeasible" in text for text in texts)
    assert any("hat" in text for text in texts)

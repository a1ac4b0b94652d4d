"""Pictures of reports: the classes that are missed, and risk and set size for each alpha."""

from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

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
        ["1.10", "", "2.40", "1.30", "mean\nset size"],
        ["50", "0", "31", "49", "images\nwith it"],
        ["in no image"],
    ):
        assert any(texts[i : i + len(column)] == column for i in range(len(texts)))
    level = "$\\alpha$ = 0.05, $\\hat\\lambda$ = 0.9"
    assert ax.get_title() == f"Miss rate of each class\n{level}"
    assert ax.get_xlabel() == "miss rate, mean over its images\n(95 % interval)"
    assert legend_texts(ax) == ["pixels of any class,\nmean over images: 0.04"]
    grouped = plot_class_risk(report(n_groups=7))
    assert grouped.get_xlabel().startswith("miss rate, mean over its groups\n")
    assert legend_texts(grouped) == ["pixels of any class,\nmean over groups: 0.04"]


def test_class_risk_of_chosen_classes_on_given_axes() -> None:
    _, given = plt.subplots()
    ax = plot_class_risk(report(), classes=["sky", 0], ax=given)
    assert ax is given
    assert tick_texts(ax) == ["sky", "road"]
    only_unseen = plot_class_risk(report(), classes=["bicycle"])
    assert tick_texts(only_unseen) == ["bicycle"]
    assert plot_class_risk(report(coverage=NAN)).get_legend() is None


def test_of_many_classes_those_that_are_missed_most_are_drawn() -> None:
    rng = np.random.default_rng(0)
    rates = rng.permutation(150) / 200
    rows = tuple(ClassRisk(k, f"c{k}", float(r), (0.0, 1.0), 1.0, 9, 99) for k, r in enumerate(rates))
    worst = np.argsort(-rates)[:40]
    ax = plot_class_risk(report(classes=rows))
    assert tick_texts(ax) == [f"c{k}" for k in worst]
    assert ax.get_title().startswith("Miss rate of each class\nthe 40 of 150 that are missed most\n")
    assert ax.get_figure().get_figheight() < 12
    by_label = plot_class_risk(report(classes=rows), order="label")
    assert tick_texts(by_label) == [f"c{k}" for k in sorted(worst)]
    every = plot_class_risk(report(classes=rows), classes=range(150))
    assert len(tick_texts(every)) == 150
    assert "of 150" not in every.get_title()
    unseen = tuple(replace(row, miss_rate=NAN) for row in rows[:30])
    assert tick_texts(plot_class_risk(report(classes=(*unseen, *rows[30:]))))[39] != "c0"


def test_the_sweep_is_drawn_by_alpha() -> None:
    above, below = plot_alpha_sweep(report(sweep=SWEEP))
    lines = {line.get_label(): line for line in above.get_lines()}
    np.testing.assert_array_equal(lines["risk"].get_xydata(), [[0.01, 0.0], [0.05, 0.04], [0.1, 0.09]])
    equal = lines[r"risk = $\alpha$"]
    np.testing.assert_array_equal(equal.get_xdata(), equal.get_ydata())
    assert (equal.get_xdata()[0], equal.get_xdata()[-1]) == (0.01, 0.1)
    # Full sets miss nothing: they have no interval.
    assert above.collections[0].get_label() == "95 % interval"
    segments = [[[0.05, 0.03], [0.05, 0.05]], [[0.1, 0.08], [0.1, 0.11]]]
    np.testing.assert_array_equal(above.collections[0].get_segments(), segments)
    assert above.get_title() == r"Risk and set size for each $\alpha$"
    np.testing.assert_array_equal(below.get_lines()[0].get_xydata(), [[0.01, 8], [0.05, 1.2], [0.1, 1.05]])
    assert labelled(below) == ["0.01", "0.02", "0.05", "0.1"]
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


def labelled(ax: Axes) -> list[str]:
    """The labels of ticks that show; they do not touch, and say where they are."""
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    assert not any(label.get_text() for label in ax.get_xticklabels(minor=True))
    ticks = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    shown = [(place, label) for place, label in ticks if low <= place <= high and label.get_text()]
    boxes = [label.get_window_extent() for _, label in shown]
    assert all(one.x1 + 2 < other.x0 for one, other in pairwise(boxes))
    for place, label in shown:
        assert float(label.get_text()) == pytest.approx(place)
    return [label.get_text() for _, label in shown]


def sweep(*alphas: float, **known: Any) -> RiskReport:
    return report(sweep=tuple(replace(SWEEP[0], alpha=alpha, **known) for alpha in alphas))


@pytest.mark.parametrize("width", [3.0, 6.4])
@pytest.mark.parametrize(
    "alphas",
    [
        (0.02, 0.03, 0.5),
        (0.1, 0.101, 0.102),
        (0.1,),
        (0.0001, 0.001, 0.01, 0.5),
        tuple(np.linspace(0.01, 0.3, 12)),
        (0.2, 0.21, 0.9),
    ],
)
def test_labels_of_alpha_do_not_touch(alphas: tuple[float, ...], width: float) -> None:
    _, axes = plt.subplots(2, figsize=(width, 5), layout="constrained", sharex=True)
    _, below = plot_alpha_sweep(sweep(*alphas), axes=axes)
    assert len(labelled(below)) >= (2 if width < 4 else 3)
    ticks = np.concatenate([below.get_xticks(), below.get_xticks(minor=True)])
    assert np.isclose(ticks, np.array(alphas)[:, None]).any(1).all(), "each alpha has a tick"


def test_the_line_of_alpha_is_seen_and_true_between_the_points() -> None:
    for alphas in ((0.1,), (0.001, 0.2)):
        above, _ = plot_alpha_sweep(sweep(*alphas))
        (line,) = (line for line in above.get_lines() if line.get_label() == r"risk = $\alpha$")
        x, y = above.transData.transform(line.get_xydata()).T
        assert np.ptp(x) > 100
        middle = above.transData.inverted().transform(np.stack([x[1:] + x[:-1], y[1:] + y[:-1]], axis=1) / 2)
        np.testing.assert_allclose(middle[:, 1], middle[:, 0], rtol=2e-3)


def test_images_that_do_not_count_leave_the_sweep_empty() -> None:
    nothing = {"empirical_risk": NAN, "interval": (NAN, NAN), "activation_ratio": NAN}
    for ax in plot_alpha_sweep(sweep(0.1, 0.2, **nothing)):
        assert [text.get_text() for text in ax.texts] == ["no images that count"]
        assert not ax.get_lines()


def test_full_sets_alone_have_no_interval() -> None:
    above, below = plot_alpha_sweep(sweep(0.01, 0.02, infeasible=True))
    assert not above.collections
    assert legend_texts(below) == [r"risk = $\alpha$", "risk", "too few images: full sets"]


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

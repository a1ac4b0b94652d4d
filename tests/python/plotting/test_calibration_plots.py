"""Pictures of calibration: bins, images, and where in an image confidence goes wrong."""

from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from conformask.metrics import CalibrationReport, calibration_report, reliability_curve
from conformask.plotting import plot_ece_map, plot_image_reliability, plot_regions, plot_reliability
from drawn import drawn_colours, legend_texts

# Two images of confidence 0.9, right 10 times of 10 and 5 of 10; the last one of the first is void.
X = np.full((2, 2, 1, 11), 0.1)
X[:, 0] = 0.9
Y = np.array([[[0] * 10 + [255]], [[0] * 5 + [1] * 5 + [255]]])


@pytest.fixture(scope="module")
def report() -> CalibrationReport:
    return calibration_report(Y, X, n_bins=10)


def bars(ax: Any) -> list[tuple[float, ...]]:
    return [
        (patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())
        for patch in ax.patches
        if isinstance(patch, Rectangle)
    ]


def test_bars_are_accuracies_and_gaps(report: CalibrationReport) -> None:
    ax = plot_reliability(report)
    np.testing.assert_allclose(bars(ax), [(0.8, 0, 0.1, 0.75), (0.8, 0.75, 0.1, 0.15)], atol=1e-12)
    [interval] = ax.collections[0].get_segments()
    np.testing.assert_allclose(interval[:, 1], report.curve.interval[8])
    dots = next(line for line in ax.get_lines() if line.get_marker() == "o")
    np.testing.assert_allclose([*dots.get_xdata(), *dots.get_ydata()], 0.9)
    [above] = ax.child_axes
    assert bars(above)[0][3] == 20, "all pixels"
    assert (above.get_yscale(), above.get_yticks().tolist()) == ("log", [1, 10])
    assert above.get_title() == "Accuracy by confidence\nECE 0.2500 (images), 0.1500 (pooled)"
    assert "too confident by" in legend_texts(ax)
    assert "95 % interval over images" in legend_texts(ax)
    grouped = plot_reliability(reliability_curve(Y, X, groups=["a", "b"]))
    assert "95 % interval over groups" in legend_texts(grouped)
    assert grouped.child_axes[0].get_title() == "Accuracy by confidence"
    timid = plot_reliability(reliability_curve(Y[:1], X[:1]))
    assert "not confident enough by" in legend_texts(timid)
    right, gap = timid.patches
    assert (right.get_height(), gap.get_y()) == (1, pytest.approx(0.9))
    assert gap.get_facecolor()[3] == 0, "the bar of right pixels shows below the hatching up to its end"


def test_bins_of_one_pixel_are_seen() -> None:
    x = np.full((1, 2, 1, 50), 0.1)
    x[:, 0] = 0.9
    x[0, :, 0, 0] = 0.6, 0.4
    [above] = plot_reliability(reliability_curve(np.zeros((1, 1, 50), int), x, n_bins=10)).child_axes
    assert [bar[3] for bar in bars(above)] == [1, 49]
    assert above.get_ylim()[0] < 1


def test_whiskers_of_few_pixels_are_thin_and_faint() -> None:
    x = np.full((2, 2, 1, 400), 0.1)
    x[:, 0] = 0.9
    x[:, :, 0, 0] = 0.6, 0.4
    y = np.zeros((2, 1, 400), int)
    y[0, 0, :40] = 1
    ax = plot_reliability(reliability_curve(y, x, n_bins=10))
    few, many = zip(ax.collections[0].get_linewidths(), ax.collections[0].get_colors()[:, 3], strict=True)
    assert few[0] < 0.6 * many[0]
    assert few[1] < 0.5 * many[1] == 0.5
    [key] = [each for each in ax.get_legend().legend_handles if "interval" in each.get_label()]
    assert (key.get_linewidth(), key.get_alpha()) == (many[0], None)
    assert ax.child_axes[0].get_ylabel() == "pixels (log)"


def test_dark_styles_have_light_colours(report: CalibrationReport) -> None:
    def least_contrast(ax: Any) -> float:
        ground = np.mean(to_rgba(ax.get_facecolor())[:3])
        drawn = [each.get_facecolor() for each in ax.patches if each.get_facecolor()[3]]
        drawn += [to_rgba(line.get_color()) for line in ax.get_lines() if line.get_marker() == "o"]
        return min(abs(np.mean(shade[:3]) - ground) for shade in drawn)

    with pyplot.style.context("dark_background"):
        assert min(map(least_contrast, plot_image_reliability(report))) > 0.4
        assert least_contrast(plot_reliability(report)) > 0.4


@pytest.mark.parametrize(
    ("confidences", "accuracies"),
    [
        ([0.9, 0.95], [0.6, 0.7]),
        ([0.55, 0.65], [0.8, 0.95]),
        ([0.7, 0.8], [0.69, 0.82]),
        ([1.0, 1.0], [1, 1]),
    ],
)
def test_images_fill_their_axes_with_the_diagonal_in_sight(
    confidences: list[float], accuracies: list[float]
) -> None:
    x = np.stack([np.full((1, 100), c) for c in confidences])
    y = np.stack([(np.arange(100) >= 100 * a).astype(int)[np.newaxis] for a in accuracies])
    dots = plot_image_reliability(calibration_report(y, np.stack([x, 1 - x], axis=1)))[0]
    (left, right), (bottom, top) = dots.get_xlim(), dots.get_ylim()
    assert right - left == pytest.approx(top - bottom), "the diagonal has 45 degrees"
    assert min(left, bottom) >= 0
    assert max(right, top) <= 1 + 1e-12
    for low, high, values in ((left, right, confidences), (bottom, top, accuracies)):
        assert low <= min(values) <= max(values) <= high + 1e-12
    assert max(left, bottom) + 0.3 * (right - left) < min(right, top), "the diagonal is seen"
    together = max(*confidences, *accuracies) - min(*confidences, *accuracies)
    assert right - left <= max(np.ptp(confidences), np.ptp(accuracies), 0.7 * together) * 1.1 + 0.02 + 1e-9


@pytest.mark.parametrize("shape", [(1, 2), (2, 1)])
def test_legends_of_images_fit_into_figures_without_a_layout_engine(
    report: CalibrationReport, shape: tuple[int, int]
) -> None:
    figure, axes = pyplot.subplots(*shape, figsize=(5 * shape[1], 4 * shape[0]))
    plot_image_reliability(report, axes=axes)
    figure.canvas.draw()
    for ax in axes:
        box = ax.get_tightbbox()
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2)])
def test_title_and_legend_fit_into_figures_without_a_layout_engine(
    report: CalibrationReport, shape: tuple[int, int]
) -> None:
    figure, axes = pyplot.subplots(*shape, figsize=(5 * shape[1], 5 * shape[0]), squeeze=False)
    for ax in axes.flat:
        plot_reliability(report, ax=ax)
    figure.canvas.draw()
    boxes = [ax.get_tightbbox() for ax in axes.flat]
    for box in boxes:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    for upper, lower in zip(boxes, boxes[shape[1] :], strict=False):
        assert lower.y1 <= upper.y0, "rows do not overlap"
    assert axes[0, 0].get_window_extent().height > 0.2 * figure.bbox.height / shape[0]


def test_each_image_is_a_dot(report: CalibrationReport) -> None:
    dots, histogram = plot_image_reliability(report)
    found = next(line for line in dots.get_lines() if line.get_marker() == "o")
    np.testing.assert_allclose(found.get_xydata(), [[0.9, 1.0], [0.9, 0.5]])
    assert sum(bar[3] for bar in bars(histogram)) == 2
    assert legend_texts(histogram) == ["mean over images: 0.2500"]
    with pytest.raises(ValueError, match="axes must be two, for the images and for their errors, got 1"):
        plot_image_reliability(report, axes=[dots])


@pytest.mark.filterwarnings("ignore::conformask.DroppedImagesWarning")
def test_without_labelled_pixels_pictures_say_so() -> None:
    nothing = calibration_report(np.full((1, 1, 11), 255), X[:1])
    for ax in (plot_reliability(nothing), *plot_image_reliability(nothing)):
        assert [text.get_text() for text in ax.texts] == ["no labelled pixels"]
    assert legend_texts(plot_ece_map(X[0], np.full((1, 11), 255))) == ["void"]
    assert legend_texts(plot_regions(X[0], np.full((1, 11), 255))) == ["void"]


def test_the_map_shows_gaps_of_squares() -> None:
    y = np.zeros((5, 7), int)
    y[2, 3], y[0, 0] = 1, 255
    ax = plot_ece_map(X[0, :, :, :1].repeat(5, axis=1).repeat(7, axis=2), y, radius=1)
    drawn = ax.get_images()[1].get_array()
    expected = np.full((5, 7), -0.1)
    expected[1:4, 2:5] = (8 * -0.1 + 0.9) / 9
    expected[0, 0] = 0
    np.testing.assert_allclose(drawn, expected, atol=1e-12)
    assert ax.get_images()[1].get_clim() == pytest.approx((-0.1, 0.1))
    assert legend_texts(ax) == ["void"]
    assert ax.child_axes[0].get_ylabel() == "confidence less accuracy"
    wider = plot_ece_map(X[0], Y[1], radius=0, vmax=0.4)
    assert wider.get_images()[1].get_clim() == (-0.4, 0.4)
    single = plot_ece_map(X[0], Y[1], radius=0).get_images()[1].get_array()
    np.testing.assert_allclose(single[0], [-0.1] * 5 + [0.9] * 5 + [0])


def test_regions_have_colours_and_numbers() -> None:
    y = np.array([[0, 0, 0, 0, 1, 1, 1, 255]])
    x = np.array([[0.9, 0.8, 0.7, 0.6, 0.4, 0.55, 0.3, 0.5]])
    ax = plot_regions(np.stack([x, 1 - x]), y, boundary_width=1)
    assert legend_texts(ax) == [
        "interior, right: 57 %, confidence 0.78",
        "interior, wrong: 14 %, confidence 0.55",
        "boundary, right: 29 %, confidence 0.60",
        "void",
    ]
    shown = drawn_colours(ax, 1)[0, :, 3] > 0
    assert shown.tolist() == [True, True, True, False, False, False, True, False]
    handles = ax.get_legend().legend_handles
    assert len({to_rgba(handle.get_facecolor()) for handle in handles}) == 4


def test_regions_differ_in_grey() -> None:
    y = np.zeros((4, 8), int)
    y[:, 4:] = 1
    x = np.full((4, 8), 0.9)
    x[0, :] = 0.1
    x[:, 4:] = 1 - x[:, 4:]
    shades = [
        to_rgba(each.get_facecolor())
        for each in plot_regions(np.stack([x, 1 - x]), y).get_legend().legend_handles
    ]
    greys = sorted(np.array(shades)[:, :3] @ [0.299, 0.587, 0.114])
    assert len(greys) == 4
    assert min(np.diff(greys)) > 0.15


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: plot_reliability(X),
            TypeError,
            "report_or_curve must be a CalibrationReport .* got a ndarray",
        ),
        (
            lambda: plot_reliability(reliability_curve(Y, X), ax=pyplot.subplots(1, 2)[1]),
            TypeError,
            "ax must be one matplotlib Axes, got a ndarray: pass one of its axes",
        ),
        (lambda: plot_ece_map(X[0], Y[0], ax=pyplot.figure()), TypeError, "ax must be .* got a Figure: pass"),
        (lambda: plot_regions(X[0], Y[0], ax="left"), TypeError, "ax must be .* got a str$"),
        (
            lambda: plot_image_reliability(calibration_report(Y, X), axes=["left", "right"]),
            TypeError,
            "axes must hold matplotlib Axes, got a str$",
        ),
        (
            lambda: plot_ece_map(Y[0], X[0]),
            TypeError,
            r"probabilities holds whole .* they look swapped. The plots take \(probabilities, labels\)",
        ),
        (lambda: plot_regions(Y[0], X[0]), TypeError, "they look swapped"),
        (lambda: plot_image_reliability(X), TypeError, "report must be a CalibrationReport"),
        (lambda: plot_ece_map(X[0], Y[0], radius=-1), ValueError, "radius must be an int of at least 0"),
        (lambda: plot_regions(X[0], Y[0], boundary_width=0), ValueError, "boundary_width must be an int"),
        (lambda: plot_ece_map(X, Y), ValueError, r"probabilities must have shape \(K, H, W\)"),
        (
            lambda: plot_ece_map(2 * X[0], Y[0]),
            ValueError,
            r"^probabilities must .* at pixel \(0, 0\) .* the sum 2; of logits pass the softmax",
        ),
        (lambda: plot_regions(np.log(X[0]), Y[0]), ValueError, "of logits pass the softmax"),
        (lambda: plot_ece_map(np.nan * X[0], Y[0]), ValueError, r"at pixel \(0, 0\) the least is nan"),
        (lambda: plot_ece_map(X[0], Y[0], vmax=0), ValueError, r"vmax must be in \(0, 1\], got 0"),
        (lambda: plot_regions(X[0], Y[0], opacity=2), ValueError, "opacity"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()

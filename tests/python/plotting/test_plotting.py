"""Pictures say what the numbers say: read back from the artists that were drawn."""

import subprocess
import sys
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest

import conformask as cm
from conformask.plotting import (
    plot_components,
    plot_mask_panels,
    plot_masks,
    plot_risk_curve,
    plot_samples,
    plot_varisco,
)
from problems import wide

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

SIZES = np.array([[1, 2, 3], [4, 1, 1]], np.uint16)
IMAGE = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
MASK = np.array([[[1, 1, 0], [0, 1, 1]], [[0, 1, 1], [0, 1, 0]], [[0, 0, 0], [0, 1, 0]]], bool)
PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
LAMBDAS = np.array([0.0, 0.4, 0.6, 1.0])
RISKS = np.array([0.3, 0.2, 0.1, 0.0])


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def drawn_colours(ax: Axes, layer: int) -> np.ndarray:
    """Return the RGBA that a layer of an axes shows, before resampling."""
    image = ax.get_images()[layer]
    return image.to_rgba(image.get_array(), norm=image.get_array().ndim == 2)


def legend_texts(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


# --- plot_varisco ---------------------------------------------------------------------------


@pytest.mark.parametrize("heatmap", [SIZES, (SIZES / 5).astype(np.float32)])
def test_varisco_counts_have_integer_ticks_up_to_the_number_of_classes(heatmap: np.ndarray) -> None:
    ax = plot_varisco(heatmap, n_classes=5)
    np.testing.assert_array_equal(ax.get_images()[1].get_array(), SIZES)
    (bar,) = ax.child_axes
    np.testing.assert_array_equal(bar.get_yticks(), [1, 2, 3, 4, 5])
    assert [label.get_text() for label in bar.get_yticklabels()] == ["1", "2", "3", "4", "5"]


def test_varisco_shows_the_image_where_the_model_is_sure() -> None:
    ax = plot_varisco(SIZES, IMAGE, opacity=0.7)
    opacity = drawn_colours(ax, 1)[..., 3]
    np.testing.assert_array_equal(opacity, np.where(SIZES == 1, 0, 0.7))
    np.testing.assert_allclose(ax.get_images()[0].get_array(), IMAGE / 255)


def test_varisco_grows_brighter_with_the_set() -> None:
    shown = drawn_colours(plot_varisco(np.array([[2, 3, 4, 5, 6]])), 1)[0, :, :3]
    assert (np.diff(shown @ [0.299, 0.587, 0.114]) > 0.05).all()


def test_varisco_ticks_thin_out_for_many_classes() -> None:
    (bar,) = plot_varisco(SIZES, n_classes=150).child_axes
    ticks = bar.get_yticks()
    assert 5 <= len(ticks) <= 12
    np.testing.assert_array_equal(ticks, np.rint(ticks))


def test_varisco_scale_can_end_early_and_says_so() -> None:
    ax = plot_varisco(SIZES, n_classes=8, vmax=3)
    assert ax.get_images()[1].get_array().max() == 3
    assert [label.get_text() for label in ax.child_axes[0].get_yticklabels()] == ["1", "2", "≥3"]


def test_varisco_sets_empty_sets_apart() -> None:
    ax = plot_varisco(np.array([[0, 1, 2]]))
    assert list(drawn_colours(ax, 1)[0, :, 3]) == [1, 0, 0.9]
    np.testing.assert_array_equal(ax.child_axes[0].get_yticks(), [0, 1, 2])


def test_varisco_of_floats_is_continuous() -> None:
    heatmap = np.array([[0.2, 0.31, 1.0]])
    ax = plot_varisco(heatmap)
    np.testing.assert_array_equal(ax.get_images()[1].get_array(), heatmap)
    assert ax.get_images()[1].get_clim() == (0, 1)
    assert (np.diff(drawn_colours(ax, 1)[0, :, 3]) > 0).all()


def test_varisco_greys_out_void() -> None:
    labels = np.array([[0, 255, 0], [1, 1, 7]])
    grey = drawn_colours(plot_varisco(SIZES, labels=labels), 2)
    np.testing.assert_array_equal(grey[..., 3], labels == 255)
    assert np.ptp(grey[0, 1, :3]) == 0
    assert drawn_colours(plot_varisco(SIZES, labels=labels, ignore_index=7), 2)[1, 2, 3] == 1
    assert len(plot_varisco(SIZES, labels=labels, ignore_index=None).get_images()) == 2


def test_varisco_draws_on_the_given_axes() -> None:
    _, axes = plt.subplots(1, 2)
    assert plot_varisco(SIZES, ax=axes[1], colorbar=False) is axes[1]
    assert not axes[1].child_axes
    assert not axes[0].get_images()


@pytest.mark.parametrize(
    ("heatmap", "arguments", "message"),
    [
        (SIZES[None], {}, "heatmap must have 2 dimensions"),
        (SIZES / 2, {}, r"heatmap must lie in \[0, 1\]"),
        (np.full((2, 3), np.nan), {}, r"heatmap must lie in \[0, 1\]"),
        (SIZES, {"n_classes": 3}, "heatmap of set sizes"),
        (SIZES / 4, {"n_classes": 3}, "no multiples of 1/3"),
        (SIZES, {"n_classes": 0}, "n_classes"),
        (SIZES, {"opacity": 0}, "opacity"),
        (SIZES, {"labels": np.zeros((3, 2), int)}, "labels must have shape"),
        (SIZES, {"image": np.zeros((2, 3, 4))}, "image must have shape"),
        (SIZES, {"image": IMAGE.astype(float)}, "image must be uint8 or floating"),
    ],
)
def test_varisco_refuses(heatmap: np.ndarray, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_varisco(heatmap, **arguments)


# --- plot_masks -----------------------------------------------------------------------------


def held_colours(picture: np.ndarray, row: int, column: int) -> set[int]:
    """Return which classes' colours (red, green, blue: 0, 1, 2) a pixel of the mask shows."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 3
    block = picture[row * height : (row + 1) * height, column * width : (column + 1) * width]
    return {int(k) for k in np.unique(block.argmax(2)[np.ptp(block, axis=2) > 0.1])}


def test_masks_show_every_class_of_every_pixel() -> None:
    ax = plot_masks(MASK, IMAGE, palette=PALETTE)
    picture = np.asarray(ax.get_images()[0].get_array())
    for row in range(2):
        for column in range(3):
            expected = set(np.flatnonzero(MASK[:, row, column]).tolist())
            assert held_colours(picture, row, column) == expected, (row, column)


def test_masks_keep_the_coordinates_of_the_image() -> None:
    (image,) = plot_masks(MASK, IMAGE).get_images()
    assert tuple(image.get_extent()) == (-0.5, 2.5, 1.5, -0.5)


def test_masks_name_what_occurs() -> None:
    names = ["sky", "road", "car"]
    assert legend_texts(plot_masks(MASK, class_names=names)) == [*names, "several possible"]
    one = MASK.copy()
    one[1:] = False
    assert legend_texts(plot_masks(one, class_names=names)) == ["sky"]
    labels = np.where(MASK.sum(0) > 1, 255, 0)
    assert legend_texts(plot_masks(MASK, labels=labels)) == ["class 0", "class 1", "void"]
    assert plot_masks(MASK, legend=False).get_legend() is None


def test_masks_leave_the_background_bare() -> None:
    ax = plot_masks(MASK, palette=PALETTE, background=0)
    picture = np.asarray(ax.get_images()[0].get_array())
    assert held_colours(picture, 0, 0) == set()
    assert held_colours(picture, 0, 1) == {1}
    assert legend_texts(ax) == ["class 1", "class 2", "several possible"]


def test_masks_have_as_many_colours_as_classes() -> None:
    for k in (3, 15, 150):
        mask = np.eye(k, dtype=bool)[:, None, :]
        ax = plot_masks(mask, opacity=1)
        assert len(np.unique(np.asarray(ax.get_images()[0].get_array())[0], axis=0)) == k


@pytest.mark.parametrize(
    ("mask", "arguments", "message"),
    [
        (MASK[0], {}, "mask must have 3 dimensions"),
        (MASK.astype(int), {}, "mask must be bool"),
        (MASK, {"class_names": ["a"]}, "class_names must have 3"),
        (MASK, {"palette": PALETTE[:2]}, "palette must have shape"),
        (MASK, {"palette": PALETTE / 100}, "palette must be"),
        (MASK, {"background": 3}, "background must be from 0 to 2"),
        (MASK, {"opacity": 2}, "opacity"),
        (MASK, {"image": IMAGE.T}, "image must have shape"),
    ],
)
def test_masks_refuse(mask: np.ndarray, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_masks(mask, **arguments)


def test_panels_tell_surely_from_possibly() -> None:
    axes = plot_mask_panels(MASK, IMAGE, class_names=["sky", "road", "car"], palette=PALETTE)
    assert [ax.get_title() for ax in axes] == ["sky", "road", "car"]
    opacity = drawn_colours(axes[0], 1)[..., 3]
    np.testing.assert_allclose(opacity, [[0.9, 0.45, 0], [0, 0.45, 0.9]])
    np.testing.assert_array_equal(drawn_colours(axes[0], 1)[0, 0, :3], [1, 0, 0])


def test_panels_of_chosen_classes_on_given_axes() -> None:
    _, grid = plt.subplots(2, 2)
    axes = plot_mask_panels(MASK, classes=[2, 0], axes=grid)
    assert list(axes) == [grid[0, 0], grid[0, 1]]
    assert [ax.get_title() for ax in axes] == ["class 2", "class 0"]
    assert not grid[1, 0].axison
    with pytest.raises(ValueError, match="classes must be"):
        plot_mask_panels(MASK, classes=[3])
    with pytest.raises(ValueError, match="axes must be at least 3"):
        plot_mask_panels(MASK, axes=grid[0])


# --- plot_risk_curve ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrator() -> cm.ConformalRiskCalibrator:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (40, 6, 6))
    logits = rng.normal(0, 1.2, (40, 3, 6, 6)) + 2.5 * (labels[:, None] == np.arange(3)[:, None, None])
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return cm.ConformalRiskCalibrator("lac", loss=cm.MiscoverageLoss(), alpha=0.1).fit(probs, labels)


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


@pytest.mark.parametrize(
    ("curve", "arguments", "message"),
    [
        ((LAMBDAS, RISKS[1:]), {}, "one length"),
        ((LAMBDAS[::-1], RISKS), {}, "ascending"),
        ((LAMBDAS, RISKS, RISKS), {}, "pair"),
        (([], []), {}, "one length"),
        ((LAMBDAS, RISKS), {"alpha": 1.0}, "alpha"),
        ((LAMBDAS, RISKS), {"xscale": "cubic"}, "xscale"),
    ],
)
def test_the_risk_curve_refuses(curve: tuple, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_risk_curve(curve, **arguments)


# --- plot_components ------------------------------------------------------------------------


def consign_set(n_components: int = 2) -> cm.ConsignSet:
    """The set of an image of 4 x 6 pixels, 3 classes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4, 3, 4, 6))
    y = X.mean(axis=0).argmax(axis=0)
    calibrator = cm.ConsignCalibrator(n_components, alpha=0.5, min_accuracy=0.3)
    (found,) = calibrator.fit([X], [y]).predict([X])
    return found


def test_components_are_drawn_row_by_row_on_one_scale() -> None:
    found = consign_set()
    panels = plot_components(found, class_names=["a", "b", "c"])
    assert panels.shape == (2, 3)
    for row, component in zip(panels, found.components, strict=True):
        for ax, plane in zip(row, component, strict=True):
            (drawn,) = ax.get_images()
            np.testing.assert_array_equal(drawn.get_array(), plane)
            assert drawn.get_clim() == (-np.abs(component).max(), np.abs(component).max())
    assert [ax.get_title() for ax in panels[0]] == ["a", "b", "c"]
    assert [ax.get_title() for ax in panels[1]] == ["", "", ""]
    assert panels[1, 0].get_ylabel() == f"component 2\nσ = {found.singular_values[1]:.3g}"
    (bar,) = panels[0, -1].child_axes
    assert [label.get_text() for label in bar.get_yticklabels()] == ["loses", "stays", "gains"]
    assert not any(ax.child_axes for ax in plot_components(found, colorbar=False).flat)


def test_components_of_chosen_classes_on_given_axes() -> None:
    axes = plt.subplots(1, 2)[1]
    panels = plot_components(consign_set(), classes=[2, 0], n_components=1, axes=axes)
    assert panels.ravel().tolist() == axes.tolist()
    assert [ax.get_title() for ax in axes] == ["class 2", "class 0"]
    by_default = plot_components(consign_set(1))
    assert by_default.shape == (1, 3)


def test_components_default_to_the_four_classes_that_move_most() -> None:
    X = np.zeros((3, 6, 2, 2))
    X[0, [1, 2, 4, 5]] = 1.0
    X[0, 0] = 0.1
    found = cm.ConsignCalibrator(1, alpha=0.5, min_accuracy=0.3)
    (found,) = found.fit([X], [np.ones((2, 2), int)]).predict([X])
    assert [ax.get_title() for ax in plot_components(found)[0]] == [f"class {k}" for k in (1, 2, 4, 5)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": [3]}, "classes must be from 0 to 2"),
        ({"classes": []}, "classes must be from 0 to 2"),
        ({"n_components": 3}, "n_components must be from 1 to 2, got 3"),
        ({"class_names": ["a"]}, "class_names must have 3 entries"),
        ({"axes": []}, "axes must be at least 6, one per panel"),
    ],
)
def test_components_refuse(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_components(consign_set(), **arguments)


def test_components_that_are_not_there() -> None:
    X = np.ones((2, 3, 2, 4, 6)) * np.arange(3, 0, -1)[:, None, None, None]
    y = np.zeros((2, 4, 6), int)
    calibrator = cm.ConsignCalibrator(alpha=0.5)
    (still,) = calibrator.fit([X[:, :, 0]], [y[0]]).predict([X[:, :, 0]])
    with pytest.raises(ValueError, match="no components: the samples of the image are all alike"):
        plot_components(still)
    (volume,) = calibrator.fit(X[None], y[None]).predict(X[None])
    with pytest.raises(ValueError, match="two-dimensional image"):
        plot_components(volume)


# --- plot_samples ---------------------------------------------------------------------------

SAMPLES = np.array([[[0, 1, 2], [0, 0, 0]], [[0, 0, 2], [1, 0, 0]]], np.uint8)


def test_samples_have_the_colours_of_their_classes() -> None:
    panels = plot_samples(SAMPLES, IMAGE, palette=PALETTE, opacity=0.5)
    for ax, labels in zip(panels, SAMPLES, strict=True):
        expected = 0.5 * (IMAGE / 255)[..., None] + 0.5 * PALETTE[labels] / 255
        np.testing.assert_allclose(ax.get_images()[0].get_array(), expected)
    assert legend_texts(panels[1]) == ["class 0", "class 1", "class 2"]
    assert panels[0].get_legend() is None


def test_samples_beside_the_truth() -> None:
    truth = np.array([[255, 1, 3], [0, 0, 0]])
    panels = plot_samples(SAMPLES, labels=truth, class_names=["sky", "sea", "sand", "rock"], background=0)
    assert [ax.get_title() for ax in panels] == ["truth", "sample 1", "sample 2"]
    first = panels[0].get_images()[0].get_array()
    assert np.ptp(first[0, 0]) == 0  # void is grey
    assert (panels[1].get_images()[0].get_array()[0, 0] != first[0, 0]).all()  # the ground shows through
    assert legend_texts(panels[-1]) == ["sea", "sand", "rock", "void"]


def test_samples_on_given_axes() -> None:
    axes = plt.subplots(2, 2)[1]
    panels = plot_samples(SAMPLES, n_classes=7, axes=axes)
    assert panels.tolist() == axes.ravel()[:2].tolist()
    assert not axes[1, 1].axison
    for shown, top_right in ((axes.ravel()[1:], axes[0, 1]), (axes[:, 0], axes[0, 0])):
        [with_legend] = [ax for ax in plot_samples(SAMPLES, axes=shown) if ax.get_legend()]
        assert with_legend is top_right
        with_legend.get_legend().remove()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": SAMPLES[0]}, "samples must have"),
        ({"samples": SAMPLES * 1.0}, "samples must hold integer labels"),
        ({"n_classes": 2}, "samples and labels must be from 0 to 1, got 0 to 2"),
        ({"class_names": ["a", "b"]}, "samples and labels must be from 0 to 1, got 0 to 2"),
        ({"background": 3}, "background must be from 0 to 2, got 3"),
        ({"opacity": 0.0}, "opacity must lie in"),
        ({"n_columns": 0}, "n_columns must be at least 1"),
        ({"axes": []}, "axes must be at least 2, one per label map"),
        ({"labels": np.zeros((3, 3), int)}, "labels must"),
    ],
)
def test_samples_refuse(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_samples(**{"samples": SAMPLES, **arguments})


# --- manners --------------------------------------------------------------------------------


def test_plotting_leaves_matplotlibs_settings_alone() -> None:
    plt.figure()  # pyplot's own first use resolves the backend
    with mpl.rc_context():
        mpl.rcdefaults()
        before = mpl.rcParams.copy()
        plot_varisco(SIZES, IMAGE)
        plot_masks(MASK)
        plot_mask_panels(MASK)
        plot_samples(SAMPLES)
        plot_components(consign_set())
        plot_risk_curve((LAMBDAS, RISKS), alpha=0.2, xscale="log")
        assert mpl.rcParams.copy() == before


WITHOUT_MATPLOTLIB = """
import sys
from conformask import plotting
assert "matplotlib" not in sys.modules, "imported too early"
sys.modules["matplotlib"] = None
for call in (
    lambda: plotting.plot_varisco([[1]]),
    lambda: plotting.plot_masks([[[True]]]),
    lambda: plotting.plot_mask_panels([[[True]]]),
    lambda: plotting.plot_samples([[[1]]]),
    lambda: plotting.plot_risk_curve(([0.0], [0.0])),
):
    try:
        call()
    except ImportError as error:
        assert "pip install conformask[plot]" in str(error), error
    else:
        raise AssertionError("no ImportError")
"""


def test_matplotlib_is_asked_for_only_when_drawing() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_MATPLOTLIB], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_limits_of_methods_and_weights_are_named() -> None:
    problem = wide(n=200)
    fitted = cm.ConformalRiskCalibrator(alpha=0.3).fit(problem.X, problem.y)
    weighted = cm.ConformalRiskCalibrator(alpha=0.3).fit(
        problem.X, problem.y, sample_weight=np.linspace(0, 1, 200)
    )
    for calibrator, words in (
        (fitted, r"$\alpha - (1 - \alpha)/n$ = "),
        (fitted.recalibrate(method=cm.RCPS(0.1)), "risk allowed by RCPS = "),
        (weighted, "risk allowed by the weights = "),
    ):
        texts = [text.get_text() for text in plot_risk_curve(calibrator).get_legend().get_texts()]
        assert sum(text.startswith(words) for text in texts) == 1

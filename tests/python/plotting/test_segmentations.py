"""Pictures of segmentations: components of a set, and samples."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib import pyplot as plt

import conformask as cm
from conformask.plotting import plot_components, plot_samples
from drawn import IMAGE, PALETTE, SAMPLES, consign_set, legend_texts


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
    for row, component in zip(panels, found.components, strict=True):
        (bar,) = row[-1].child_axes
        largest = np.abs(component).max()
        ends = [f"{-largest:.2g} less likely", "0", f"{largest:+.2g} more likely"]
        assert [label.get_text() for label in bar.get_yticklabels()] == ends
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
        ({"classes": []}, "classes must be at least one"),
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


def test_samples_name_no_class_that_is_only_under_void() -> None:
    panels = plot_samples(SAMPLES + 1, labels=np.array([[255, 1, 1], [1, 1, 1]]))
    assert legend_texts(panels[-1]) == ["class 1", "class 2", "class 3", "void"]
    assert not any(ax.get_legend() for ax in plot_samples(SAMPLES, legend=False))


@pytest.mark.parametrize("shape", [(24, 40), (60, 15), (12, 60)])
@pytest.mark.parametrize("n", [1, 6])
def test_panels_fill_their_figure(shape: tuple[int, int], n: int) -> None:
    """And their legend covers none of them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 3, *shape))
    (found,) = (
        cm.ConsignCalibrator(2, alpha=0.5, min_accuracy=0.3).fit([X], [X.mean(0).argmax(0)]).predict([X])
    )
    for panels in (
        plot_samples(found.sample(n, random_state=0)),
        plot_components(found, classes=range(min(n, 3))),
    ):
        figure = panels.flat[0].figure
        figure.canvas.draw()
        content, whole = figure.get_tightbbox(), figure.get_size_inches()
        assert content.x0 >= -0.02
        assert content.y0 >= -0.02
        assert whole[0] - 0.25 < content.width <= whole[0]
        assert whole[1] - 0.25 < content.height <= whole[1]
        drawn = [ax.get_window_extent() for ax in panels.flat]
        assert min(box.width * box.height for box in drawn) > 4000, "no panel has collapsed"
        assert all(not one.overlaps(other) for one, other in combinations(drawn, 2))

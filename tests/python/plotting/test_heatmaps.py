"""Varisco heatmaps say what the sizes say."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from conformask.plotting import plot_varisco
from drawn import IMAGE, SIZES, drawn_colours, legend_texts, tick_texts


@pytest.mark.parametrize("heatmap", [SIZES, (SIZES / 5).astype(np.float32)])
def test_varisco_counts_have_integer_ticks_up_to_the_largest(heatmap: np.ndarray) -> None:
    ax = plot_varisco(heatmap, n_classes=5)
    np.testing.assert_array_equal(ax.get_images()[1].get_array(), SIZES)
    (bar,) = ax.child_axes
    np.testing.assert_array_equal(bar.get_yticks(), [1, 2, 3, 4])
    assert tick_texts(bar) == ["1", "2", "3", "4"]


def test_varisco_shows_the_image_where_the_model_is_sure() -> None:
    ax = plot_varisco(SIZES, IMAGE, opacity=0.7)
    opacity = drawn_colours(ax, 1)[..., 3]
    np.testing.assert_array_equal(opacity, np.where(SIZES == 1, 0, 0.7))
    np.testing.assert_allclose(ax.get_images()[0].get_array(), IMAGE / 255)


def test_varisco_grows_brighter_with_the_set() -> None:
    shown = drawn_colours(plot_varisco(np.array([[2, 3, 4, 5, 6]])), 1)[0, :, :3]
    assert (np.diff(shown @ [0.299, 0.587, 0.114]) > 0.05).all()


@pytest.mark.parametrize("largest", [*range(1, 30), 99, 150, 1000])
def test_varisco_ticks_thin_out_for_many_classes(largest: int) -> None:
    (bar,) = plot_varisco(np.array([[1, largest]])).child_axes
    ticks = bar.get_yticks()
    assert len(ticks) <= 12
    assert (ticks[0], ticks[-1]) == (1, largest)
    assert len({*np.diff(ticks)[1:-1]}) <= 1, "round numbers between the first and the last, evenly spaced"
    np.testing.assert_array_equal(bar.get_ylim(), [0.5, largest + 0.5])


def test_varisco_scale_can_be_shared_and_reads_alike_on_every_image() -> None:
    for sizes in (SIZES, np.minimum(SIZES, 3), np.ones_like(SIZES)):
        ax = plot_varisco(sizes, n_classes=8, vmax=3)
        assert ax.get_images()[1].get_array().max() == min(sizes.max(), 3)
        assert tick_texts(ax.child_axes[0]) == ["1", "2", "≥3"]
        assert tick_texts(plot_varisco(sizes, n_classes=4, vmax=4).child_axes[0]) == ["1", "2", "3", "4"]


def test_varisco_scale_ends_where_the_data_end() -> None:
    labels = np.array([[0, 0, 0], [255, 0, 0]])  # the pixel with four classes is void
    assert tick_texts(plot_varisco(SIZES, n_classes=8, labels=labels).child_axes[0]) == ["1", "2", "3"]
    shares = plot_varisco(SIZES / 10, labels=labels)
    assert shares.get_images()[1].get_clim() == (0, 0.3)
    assert tick_texts(plot_varisco(np.ones((2, 2), int)).child_axes[0]) == ["1"]
    assert tick_texts(plot_varisco(np.zeros((2, 2), int)).child_axes[0]) == ["0"]
    assert plot_varisco(np.zeros((2, 2))).get_images()[1].get_clim() == (0, 1)
    everything = np.full((2, 3), 255)
    assert tick_texts(plot_varisco(SIZES, labels=everything).child_axes[0]) == ["1", "2", "3", "4"]


def test_varisco_names_void() -> None:
    labels = np.array([[0, 255, 0], [1, 1, 1]])
    assert legend_texts(plot_varisco(SIZES, labels=labels)) == ["void"]
    assert plot_varisco(SIZES, labels=np.zeros_like(labels)).get_legend() is None
    assert plot_varisco(SIZES, labels=labels, legend=False).get_legend() is None


def test_varisco_sets_empty_sets_apart() -> None:
    ax = plot_varisco(np.array([[0, 1, 2]]))
    assert list(drawn_colours(ax, 1)[0, :, 3]) == [1, 0, 1]
    np.testing.assert_array_equal(ax.child_axes[0].get_yticks(), [0, 1, 2])


def test_varisco_of_floats_is_continuous() -> None:
    heatmap = np.array([[0.2, 0.31, 1.0]])
    ax = plot_varisco(heatmap)
    np.testing.assert_array_equal(ax.get_images()[1].get_array(), heatmap)
    assert ax.get_images()[1].get_clim() == (0, 1)
    assert (np.diff(drawn_colours(ax, 1)[0, :, 3]) > 0).all()


def test_the_bar_of_varisco_shows_what_the_picture_shows() -> None:
    """A transparent colour has the ground behind it, in both; and no share lies below the least."""
    for heatmap in (SIZES, SIZES / 4):
        ax = plot_varisco(heatmap)
        (bar,) = ax.child_axes
        grey = float(ax.get_images()[0].get_array().flat[0])
        np.testing.assert_allclose(bar.get_facecolor(), [grey, grey, grey, 1])
    assert bar.get_ylim() == (0.25, 1)
    assert plot_varisco(np.ones((2, 2))).child_axes[0].get_ylim() == (0, 1)
    (over_image,) = plot_varisco(SIZES, IMAGE).child_axes
    np.testing.assert_allclose(over_image.get_facecolor(), [0.4, 0.4, 0.4, 1])


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
        (SIZES, {"vmax": 0}, "vmax must be at least 1"),
        (SIZES, {"labels": np.zeros((3, 2), int)}, "labels must have shape"),
        (SIZES, {"image": np.zeros((2, 3, 4))}, "image must have shape"),
        (SIZES, {"image": IMAGE.astype(float)}, "image must be uint8 or floating"),
    ],
)
def test_varisco_refuses(heatmap: np.ndarray, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_varisco(heatmap, **arguments)

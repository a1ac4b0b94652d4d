"""Pictures of masks show which classes each pixel holds."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from conformask.plotting import plot_mask_panels, plot_masks, plot_may_be
from drawn import IMAGE, MASK, PALETTE, legend_texts


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
    strange = ["", "US$", "$x$"]
    assert legend_texts(plot_masks(MASK, class_names=strange))[:3] == strange


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


def test_panels_tell_alone_from_among_others() -> None:
    axes = plot_mask_panels(MASK, IMAGE, class_names=["sky", "road", "car"], palette=PALETTE)
    assert [ax.get_title() for ax in axes] == ["sky", "road", "car"]
    pictures = [np.asarray(ax.get_images()[0].get_array()) for ax in axes]
    grey = IMAGE / 255
    red, tint = np.array([1, 0, 0]), np.array([1, 0.6, 0.6])
    np.testing.assert_allclose(pictures[0][0, 0], 0.92 * red + 0.08 * grey[0, 0])
    np.testing.assert_allclose(pictures[0][0, 1], 0.92 * tint + 0.08 * grey[0, 1])
    np.testing.assert_allclose(pictures[0][0, 2], np.full(3, grey[0, 2]))
    for k in range(3):
        single = plot_may_be(MASK, k, IMAGE, palette=PALETTE)
        np.testing.assert_array_equal(single.get_images()[0].get_array(), pictures[k])


def test_panels_are_lighter_where_their_title_says_so() -> None:
    """Whatever the image beneath: white under the class alone, black under one of several."""
    ground = np.array([[1.0, 0.0]])
    for k in range(12):
        mask = np.zeros((12, 1, 2), bool)
        mask[k] = True
        mask[k - 1, 0, 1] = True
        picture = np.asarray(plot_mask_panels(mask, ground, classes=[k])[0].get_images()[0].get_array())
        alone, several = picture[0] @ [0.299, 0.587, 0.114]
        assert several > alone, k
    assert plt.gcf().get_suptitle().endswith("; light: among others; bare: not in it")
    plot_mask_panels(MASK, labels=np.full((2, 3), 255))
    whole = "full colour: this class alone in the set; light: among others; black: not in it; flat grey: void"
    assert plt.gcf().get_suptitle() == whole


def test_where_one_class_may_be() -> None:
    names = ["sky", "road", "car"]
    labels = np.array([[0, 0, 255], [0, 0, 0]])
    ax = plot_may_be(MASK, "road", class_names=names, labels=labels)
    assert ax.get_title() == "Where road may be"
    assert legend_texts(ax) == ["only road", "road or another class", "not road", "void"]
    picture = np.asarray(ax.get_images()[0].get_array())
    np.testing.assert_array_equal(picture[0, 2], [0.62] * 3)
    without = ax.get_legend().get_patches()[2]
    np.testing.assert_allclose(without.get_facecolor()[:3], picture[~MASK[1] & (labels != 255)][0])
    over_image = plot_may_be(MASK, 1, IMAGE)
    assert legend_texts(over_image) == ["only class 1", "class 1 or another class", "not class 1: bare image"]
    everywhere = np.array([[[True, True]], [[False, True]]])
    assert legend_texts(plot_may_be(everywhere, 0)) == ["only class 0", "class 0 or another class"]
    assert plot_may_be(MASK, np.int64(1), legend=False).get_legend() is None


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (3, ValueError, "label must be from 0 to 2, got 3"),
        (-1, ValueError, "label must be from 0 to 2, got -1"),
        ("sea", ValueError, "label must be the name of one class, got 'sea'; there are"),
        ("car", ValueError, "label must be the name of one class, got 'car'"),
        (1.0, TypeError, "label must be given by index or name, got 1.0"),
        (True, TypeError, "label must be given by index or name, got True"),
    ],
)
def test_where_no_class_may_be(label: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plot_may_be(MASK, label, class_names=["sky", "car", "car"])


def test_masks_of_chosen_classes() -> None:
    """The others share one stripe, through which the image shows."""
    names = ["sky", "road", "car"]
    ax = plot_masks(MASK, IMAGE, palette=PALETTE, class_names=names, classes=["road", 2, "road"], opacity=1)
    picture = np.asarray(ax.get_images()[0].get_array())
    for row in range(2):
        for column in range(3):
            held = {k for k in np.flatnonzero(MASK[:, row, column]).tolist() if k > 0}
            assert held_colours(picture, row, column) == held, (row, column)
    height, width = picture.shape[0] // 2, picture.shape[1] // 3
    block = picture[height:, width : 2 * width].reshape(-1, 3)  # a third of each: sky, road, car
    bare = (block == IMAGE[1, 1] / 255).all(1).mean()
    assert bare == pytest.approx(1 / 3, abs=0.02)
    assert legend_texts(ax) == ["road", "car", "several possible", "other classes"]
    assert ax.get_title() == "Labels in the set of each pixel, other classes hidden"
    swatch = ax.get_legend().get_patches()[-1].get_facecolor()
    np.testing.assert_allclose(swatch[:3], [IMAGE.mean() / 255] * 3)
    only_road = np.asarray(plot_masks(MASK, IMAGE, classes=[1], opacity=1).get_images()[0].get_array())
    block = only_road[height:, width : 2 * width].reshape(-1, 3)
    assert (block == IMAGE[1, 1] / 255).all(1).mean() == pytest.approx(1 / 2, abs=0.02)
    assert legend_texts(plot_masks(MASK, class_names=names, classes=[1, 2], background="car"))[0] == "road"
    complete = plot_masks(MASK, classes=[0, 1, 2])
    assert (complete.get_title(), legend_texts(complete)[-1]) == (
        "Labels in the set of each pixel",
        "several possible",
    )
    everything = np.asarray(complete.get_images()[0].get_array())
    np.testing.assert_array_equal(everything, plot_masks(MASK).get_images()[0].get_array())


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


@pytest.mark.parametrize(
    ("k", "size"), [(3, (6.4, 4.8)), (19, (6.4, 3.2)), (19, (6.4, 4.8)), (40, (9.0, 4.0))]
)
def test_the_legend_stays_within_the_figure(k: int, size: tuple[float, float]) -> None:
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    plot_masks(np.eye(k, dtype=bool)[:, None, :].repeat(k, axis=1), ax=ax)
    figure.canvas.draw()
    legend, picture = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert legend.x0 >= picture.x1
    assert figure.bbox.y0 <= legend.y0
    assert legend.y1 <= figure.bbox.y1
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in ax.get_legend().get_texts())


@pytest.mark.parametrize("shape", [(40, 60), (10, 60), (60, 20)])
@pytest.mark.parametrize(
    ("k", "name"), [(150, "class {}"), (40, "a name that is far too long for a legend, of class {}")]
)
def test_a_legend_of_many_classes_stays_within_the_figure(shape: tuple[int, int], name: str, k: int) -> None:
    """It counts the classes that it has no room for: those with the fewest pixels."""
    mask = np.zeros((k, *shape), bool)
    rng = np.random.default_rng(0)
    np.put_along_axis(
        mask, rng.choice(k, (1, *shape), p=np.arange(1, k + 1) / (k * (k + 1) / 2)), True, axis=0
    )
    ax = plot_masks(mask, class_names=[name.format(i) for i in range(k)])
    figure = ax.figure
    figure.canvas.draw()  # a warning would be an error
    boxes = [text.get_window_extent() for text in ax.get_legend().get_texts()]
    assert max(box.x1 for box in boxes) < figure.bbox.x1
    assert min(box.y0 for box in boxes) > figure.bbox.y0
    *named, more = legend_texts(ax)
    indices = [int(text.split()[-1]) for text in named]
    present = np.flatnonzero(mask.any((1, 2)))
    assert more == f"... and {len(present) - len(indices)} more"
    assert indices == sorted(indices)
    pixels = mask.sum((1, 2))
    assert pixels[indices].min() >= np.delete(pixels, indices).max()


def luminance(colours: np.ndarray) -> np.ndarray:
    """The relative luminance of the Web Content Accessibility Guidelines."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_the_ground_contrasts_with_every_default_colour() -> None:
    """No grey does better by more than 0.1 for all twenty: the palette spans dark and light."""
    k = 20
    mask = np.eye(k + 1, dtype=bool)[:, None, :]
    picture = np.asarray(plot_masks(mask, classes=range(k)).get_images()[0].get_array())
    colours = picture[0, picture.shape[1] // (k + 1) // 2 :: picture.shape[1] // (k + 1)]
    lightness = luminance(colours[: k + 1]) + 0.05
    contrast = np.maximum(lightness[:k] / lightness[k], lightness[k] / lightness[:k])
    assert contrast.min() > 1.4
    assert np.sort(contrast)[2] > 2
    greys = luminance(np.linspace(0, 1, 101)[:, None] * np.ones(3))[:, None] + 0.05
    best = np.maximum(lightness[:k] / greys, greys / lightness[:k]).min(1).max()
    assert contrast.min() > best - 0.1


@pytest.mark.parametrize("shape", [(40, 60), (60, 20)])
@pytest.mark.parametrize("chosen", [[0], [0, 1]])
def test_no_title_of_panels_is_cut(shape: tuple[int, int], chosen: list[int]) -> None:
    labels = np.zeros(shape, int)
    labels[0] = 255
    plot_mask_panels(np.ones((3, *shape), bool), classes=chosen, labels=labels)
    figure = plt.gcf()
    figure.canvas.draw()
    (title,) = figure.texts
    box = title.get_window_extent()
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1

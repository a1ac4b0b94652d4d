"""Pictures of margins."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from sklearn.exceptions import NotFittedError

import conformask as cm
from conformask.plotting import plot_margins
from conformask.plotting._arguments import _BARE
from conformask.plotting._palette import VOID_GREY
from conformask.plotting.margins import _CONTOURS, _FILLS, _INSIDE
from drawn import drawn_colours, legend_texts
from test_palette import LEAST, least_distance

FAR = np.hypot(*np.mgrid[-8:9, -10:11])
MASK, OUTER, INNER = FAR < 5, FAR < 7, FAR < 3
LABELS = np.where(FAR < 6, 1, 0).astype(np.uint8)
LABELS[0, :4] = 255
LABELS[8, 5] = 255  # in the margin


def test_each_margin_has_its_colour() -> None:
    ax = plot_margins(MASK, outer=OUTER, inner=INNER, labels=LABELS)
    ground, outer, inner, void = (drawn_colours(ax, i) for i in range(4))
    assert np.array_equal(ground[..., 0] > 0.2, INNER), "sure inside and sure outside differ"
    is_void = LABELS == 255
    assert np.array_equal(outer[..., 3] > 0, OUTER & ~MASK & ~is_void)
    assert np.array_equal(inner[..., 3] > 0, MASK & ~INNER & ~is_void)
    assert np.array_equal(void[..., 3] > 0, is_void)
    names = ["outer margin", "inner margin", "inner mask", "predicted contour", "true contour", "void"]
    assert legend_texts(ax) == names
    one = plot_margins(MASK, outer=OUTER, image=np.full(MASK.shape, 0.5), opacity=0.25)
    assert legend_texts(one) == ["outer margin", "predicted contour"]
    assert set(np.unique(drawn_colours(one, 1)[..., 3])) == {0, 0.25}
    assert not drawn_colours(one, 2)[..., 3].any()
    assert plot_margins(MASK, inner=INNER, legend=False).get_legend() is None
    alone = plot_margins(MASK, outer=OUTER)
    assert np.array_equal(drawn_colours(alone, 0)[..., 0] > 0.2, MASK)
    assert legend_texts(alone) == ["outer margin", "predicted mask", "predicted contour"]
    nothing = np.zeros_like(MASK)
    assert "inner mask" not in legend_texts(plot_margins(MASK, inner=nothing))


def test_contours_lie_between_pixels_inside_and_outside() -> None:
    ax = plot_margins(MASK, outer=OUTER, labels=LABELS)
    edge, predicted, edge_of_truth, truth = ax.collections
    assert [each.get_linestyle()[0][1] is None for each in ax.collections] == [True, True, True, False]
    for line, is_in in ((edge, MASK), (predicted, MASK), (edge_of_truth, LABELS == 1), (truth, LABELS == 1)):
        for column, row in np.concatenate([path.vertices for path in line.get_paths()]):
            near = is_in[
                int(np.floor(row)) : int(np.ceil(row)) + 1, int(np.floor(column)) : int(np.ceil(column)) + 1
            ]
            assert near.any()
            assert not near.all()
    nothing = np.zeros_like(MASK)
    assert len(plot_margins(nothing, outer=nothing, labels=nothing).collections) == 0
    assert len(plot_margins(MASK[8:9], outer=OUTER[8:9]).collections) == 0


def test_the_title_tells_the_level_and_the_margins() -> None:
    masks, y = np.stack([MASK] * 9), np.stack([OUTER] * 9)
    masks[:, 0, 0] = True
    spacing = np.repeat(np.arange(1.0, 10)[:, None], 2, axis=1)
    both = cm.MarginCalibrator(0.5, side="both", min_coverage=0.9).fit(masks, y, spacing=spacing)
    inner, outer = both.predict(masks[:1], spacing=1)
    title = plot_margins(masks[0], outer=outer[0], inner=inner[0], calibrator=both).get_title()
    assert title.split("\n")[1] == (
        rf"$\alpha$ = 0.5, outer margin {both.outer_margin_:.3g} (unit of spacing), "
        f"inner margin {both.inner_margin_:.3g} (unit of spacing)"
    )
    masks[range(9), 0, range(9)] = True
    alone = cm.MarginCalibrator(0.5).fit(masks, y)
    title = plot_margins(MASK, outer=OUTER, calibrator=alone).get_title()
    assert title.endswith(f"= 0.5, outer margin {alone.margin_:.3g} pixels")


@pytest.mark.parametrize("vision", ["normal", "deutan", "protan"])
def test_colours_can_be_told_apart(vision: str) -> None:
    lines = [to_rgb(colour) for colour, _ in _CONTOURS.values()]
    for ground in (0.0, 0.5, 1.0):  # also where an image shows through
        fills = [0.6 * colour + 0.4 * ground for colour in _FILLS.values()]
        assert least_distance(np.array([*fills, *lines, [VOID_GREY] * 3]), vision) >= LEAST
    bare = [*_FILLS.values(), *lines, [VOID_GREY] * 3, [_INSIDE] * 3, [_BARE] * 3]
    assert least_distance(np.array(bare), vision) >= LEAST


def test_what_does_not_fit() -> None:
    for call, error, says in [
        (lambda: plot_margins(MASK), ValueError, "outer or inner must be given"),
        (lambda: plot_margins(MASK * 1, outer=OUTER), TypeError, "mask must be boolean, got dtype int"),
        (lambda: plot_margins(MASK, outer=OUTER * 1.0), TypeError, "outer must be boolean"),
        (
            lambda: plot_margins(MASK[None], outer=OUTER),
            ValueError,
            r"mask must have 2 dimensions, got shape \(1, 17, 21\): take one image of a batch, as mask\[0\]",
        ),
        (lambda: plot_margins(MASK, outer=[OUTER]), ValueError, r"outer must .* as outer\[0\]"),
        (lambda: plot_margins(MASK[0], outer=OUTER), ValueError, "mask must have 2 dimensions"),
        (
            lambda: plot_margins(MASK, outer=cm.Margins(INNER[None], OUTER[None])),
            TypeError,
            r"outer must be one mask, got both: inner, outer = calibrator.predict\(masks\), then outer=outer\[0\]",
        ),
        (
            lambda: plot_margins(MASK, outer=OUTER[1:]),
            ValueError,
            r"outer must have shape \(17, 21\), that of",
        ),
        (lambda: plot_margins(MASK, outer=INNER), ValueError, "outer must hold all pixels of mask"),
        (lambda: plot_margins(MASK, inner=OUTER), ValueError, "inner must hold no pixel that mask lacks"),
        (lambda: plot_margins(MASK, outer=OUTER, labels=LABELS[1:]), ValueError, "labels must have shape"),
        (lambda: plot_margins(MASK, outer=OUTER, opacity=0), ValueError, "opacity must lie in"),
        (lambda: plot_margins(MASK, outer=OUTER, calibrator=3), TypeError, "MarginCalibrator, got a int"),
    ]:
        with pytest.raises(error, match=says):
            call()
    hounsfield = np.linspace(-1024, 3071, MASK.size).reshape(MASK.shape)
    for image, given in (
        (hounsfield.astype(np.int16), "int16 from -1024 to 3071"),
        (np.where(MASK, np.nan, hounsfield), "float64 with values that are not finite"),
    ):
        with pytest.raises(
            ValueError, match=given + r"\. Scale it: np\.clip\(\(image - low\) / \(high - low\), 0, 1\)"
        ):
            plot_margins(MASK, outer=OUTER, image=image)
    plot_margins(MASK, outer=OUTER, image=np.clip((hounsfield + 160) / 400, 0, 1))
    with pytest.raises(NotFittedError):
        plot_margins(MASK, outer=OUTER, calibrator=cm.MarginCalibrator())

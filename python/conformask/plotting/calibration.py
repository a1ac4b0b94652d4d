"""Plots of calibration: reliability of bins and of images, and where in an image probabilities are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask import _core, metrics
from conformask._arrays import check_ignore_index, is_void, label_array, score_array
from conformask.metrics import CalibrationReport, ReliabilityCurve
from conformask.plotting._arguments import grey_ground, opacity_over
from conformask.plotting._axes import (
    colour_bar,
    flat_axes,
    frameless,
    import_pyplot,
    new_axes,
    one_colour,
    say_empty,
    vertical_room,
)
from conformask.plotting._legend import class_patches, legend_below, void_patch
from conformask.plotting._palette import VOID_GREY
from conformask.plotting._titles import write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_ece_map", "plot_image_reliability", "plot_regions", "plot_reliability"]

_BLUE, _RED, _GREY, _DARK = "#1f4e79", "#c0392b", "#777777", "#222222"
_LIGHT_BLUE, _LIGHT = "#7fb2e5", "#dddddd"  # for dark styles
# A bin with this share of the pixels has a full whisker; bins with fewer pixels have thinner and fainter ones.
_MANY_PIXELS = 0.02
_FAINTEST, _THINNEST, _THICKEST = 0.25, 0.6, 1.6
# The least share of their length that both axes of images have in common, so that the diagonal is seen.
_SHARED = 0.5

# Colours of right and wrong pixels, inside and near boundaries: blue is right, red is wrong; all differ in grey, too.
_REGIONS = {
    "interior, right": (0.80, 0.89, 0.97),
    "interior, wrong": (0.96, 0.60, 0.42),
    "boundary, right": (0.20, 0.47, 0.72),
    "boundary, wrong": (0.45, 0.02, 0.06),
}


def plot_reliability(
    report_or_curve: CalibrationReport | ReliabilityCurve, *, ax: Axes | None = None
) -> Axes:
    """Draw the share of correct pixels against the confidence of the model.

    A bar is the share of correct pixels of a bin, with a confidence interval whose units are images (groups). The dot
    is the mean confidence of the bin. The hatched part is the gap between bar and dot: it is above the bar if the bin
    is too confident, and within the bar if it is not confident enough. For a calibrated model bars end at the dots,
    which lie on the diagonal. Bins without pixels have no bar. The small axes above show the number of pixels of each
    bin on a logarithmic scale. Bins of few pixels miss the diagonal by chance; their intervals are thin and faint.

    Parameters
    ----------
    report_or_curve : CalibrationReport or ReliabilityCurve
        What :func:`~conformask.metrics.calibration_report` or :func:`~conformask.metrics.reliability_curve` returns.
    ax : matplotlib Axes, optional
        The axes to draw on; by default those of a new figure. In a figure without a layout engine they are made
        smaller, so that title and legend have room.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    TypeError
        If ``report_or_curve`` is of another type.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_image_reliability : The same for single images.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet([3, 1], size=(10, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = (rng.random((10, 8, 8)) < X[:, 1]).astype(int)
    >>> ax = cm.plotting.plot_reliability(cm.metrics.reliability_curve(y, X, n_bins=10))
    >>> ax.get_xlabel()
    'confidence'
    """
    if not isinstance(report_or_curve, CalibrationReport | ReliabilityCurve):
        raise TypeError(
            "report_or_curve must be a CalibrationReport or a ReliabilityCurve, as conformask.metrics makes them, "
            f"got a {type(report_or_curve).__name__}"
        )
    ax = new_axes(ax, (1, 1))
    from matplotlib.colors import to_rgba

    title = "Accuracy by confidence"
    if isinstance(report_or_curve, CalibrationReport):
        curve, report = report_or_curve.curve, report_or_curve
        title += f"\nECE {report.ece:.4f} ({_units(curve)}), {report.pooled_ece:.4f} (pooled)"
    else:
        curve = report_or_curve
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_aspect("equal", adjustable="box")
    ax.set_xlabel("confidence")
    ax.set_ylabel("share of right pixels")
    ax.spines[["top", "right"]].set_visible(False)
    filled = curve.n_pixels > 0
    if not filled.any():
        write_title(ax, title)
        say_empty(ax, "no labelled pixels")
        return ax
    left, width = curve.edges[:-1][filled], np.diff(curve.edges)[filled]
    accuracy, confidence = curve.accuracy[filled], curve.confidence[filled]
    low, high = curve.interval[filled].T
    n_pixels = curve.n_pixels[filled]
    middle, blue = left + width / 2, _blue(ax)
    dark = _DARK if blue == _BLUE else _LIGHT
    ax.bar(
        left, accuracy, width, align="edge", color=blue, alpha=0.55, ec="white", lw=0.8, label="right pixels"
    )
    over = confidence > accuracy
    # Where the model is not confident enough, the gap lies within the bar of right pixels, seen below its hatching.
    for where, colour, hatch, ground, label in (
        (over, _RED, "////", (1, 1, 1, 0.65), "too confident by"),
        (~over & (confidence < accuracy), dark, r"\\\\", "none", "not confident enough by"),
    ):
        if where.any():
            bottom, height = np.minimum(accuracy, confidence)[where], abs(confidence - accuracy)[where]
            look: dict[str, Any] = {"fc": ground, "ec": colour, "hatch": hatch, "lw": 0}
            ax.bar(left[where], height, width[where], bottom, align="edge", label=label, **look)
    ax.plot([0, 1], [0, 1], color=_GREY, lw=1.2, ls=(0, (5, 3)), label="calibrated", zorder=2)
    known = ~np.isnan(low)
    label = f"95 % interval over {_units(curve)}"
    weight = np.minimum(1, n_pixels[known] / (_MANY_PIXELS * n_pixels.sum()))
    shades = [to_rgba(blue, _FAINTEST + (1 - _FAINTEST) * each) for each in weight]
    thick = _THINNEST + (_THICKEST - _THINNEST) * weight
    ax.vlines(middle[known], low[known], high[known], color=shades, lw=thick, zorder=3)
    ax.plot([], [], color=blue, lw=_THICKEST, label=label)  # for the legend: a first whisker may be faint
    ax.plot(
        confidence,
        confidence,
        "o",
        color="white",
        mec=_RED,
        ms=4,
        label="mean confidence",
        zorder=4,
        clip_on=False,
    )
    above = ax.inset_axes((0, 1.02, 1, 0.14), sharex=ax)
    above.bar(left, n_pixels, width, align="edge", color=_GREY, ec="white", lw=0.8)
    above.tick_params(axis="x", labelbottom=False, length=0)
    above.set_yscale("log")
    above.set_ylim(0.5, 2 * n_pixels.max())  # so that a single pixel has a visible bar
    above.set_yticks(sorted({1, 10 ** int(np.log10(n_pixels.max()))}))
    above.minorticks_off()
    above.yaxis.tick_right()
    above.tick_params(axis="y", labelsize="x-small", length=2)
    above.set_ylabel("pixels (log)", rotation=0, ha="right", va="center")
    above.yaxis.set_label_position("left")
    above.spines[["top", "left"]].set_visible(False)
    write_title(above, title)
    _with_legend(ax)
    return ax


def _with_legend(ax: Axes) -> None:
    """Draw the legend; without a layout engine, shrink the axes to make room for it and the title."""
    legend_below(ax, ax.get_legend_handles_labels()[0])
    figure = ax.get_figure()
    assert figure is not None
    if figure.get_layout_engine() is not None:
        return
    bottom, top = vertical_room(ax)
    for _ in range(2):  # beside smaller axes the legend may need more lines
        taken, place, cell = ax.get_tightbbox(), ax.get_position(), ax.get_position(original=True)
        assert taken is not None
        below, above = (max(0.0, cut) / figure.bbox.height for cut in (bottom - taken.y0, taken.y1 - top))
        if below or above:
            height = max(0.05, place.height - below - above)
            ax.set_position((cell.x0, place.y0 + below, cell.width, height))
            ax.apply_aspect()
            legend_below(ax, ax.get_legend_handles_labels()[0])


def plot_image_reliability(report: CalibrationReport, *, axes: ArrayLike | None = None) -> NDArray[Any]:
    """Draw mean confidence and accuracy of each image, and a histogram of the calibration errors of images.

    For an image below the diagonal the model is too confident. Images without labelled pixels are left out.

    Parameters
    ----------
    report : CalibrationReport
        What :func:`~conformask.metrics.calibration_report` returns.
    axes : array-like of matplotlib Axes, optional
        Two axes to draw on; by default side by side in a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (2,)
        The axes of the dots and of the histogram.

    Raises
    ------
    ValueError
        If there are fewer than two axes.
    TypeError
        If ``report`` is not a CalibrationReport.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_reliability : Shows confidence and accuracy of bins of pixels.

    References
    ----------
    Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023,
    arXiv:2212.12053.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet([3, 1], size=(10, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = (rng.random((10, 8, 8)) < X[:, 1]).astype(int)
    >>> dots, histogram = cm.plotting.plot_image_reliability(cm.metrics.calibration_report(y, X))
    >>> dots.get_xlabel(), histogram.get_xlabel()
    ('mean confidence of an image', 'ECE of an image')
    """
    if not isinstance(report, CalibrationReport):
        raise TypeError(
            f"report must be a CalibrationReport, as calibration_report(y, X) returns, got a {type(report).__name__}"
        )
    pyplot = import_pyplot()
    if axes is None:
        axes = pyplot.figure(figsize=(8.6, 4.2), layout="constrained").subplots(1, 2)
    flat = flat_axes(axes)
    if len(flat) < 2:
        raise ValueError(f"axes must be two, for the images and for their errors, got {len(flat)}")
    dots, histogram = flat[:2]
    write_title(dots, "Confidence and accuracy of each image")
    dots.set_xlabel("mean confidence of an image")
    dots.set_ylabel("share of its pixels that are right")
    write_title(histogram, "Calibration error of each image")
    histogram.set_xlabel("ECE of an image")
    histogram.set_ylabel("images")
    for ax in flat[:2]:
        ax.spines[["top", "right"]].set_visible(False)
    known = ~np.isnan(report.image_eces)
    if not known.any():
        for ax in flat[:2]:
            say_empty(ax, "no labelled pixels")
        return flat[:2]
    confidences, accuracies, eces = (
        values[known] for values in (report.image_confidences, report.image_accuracies, report.image_eces)
    )
    across, up = _windows(confidences, accuracies)
    blue = _blue(dots)
    dots.axline((0.5, 0.5), slope=1, color=_GREY, lw=1.2, ls=(0, (5, 3)), label="calibrated")
    look: dict[str, Any] = {
        "color": blue,
        "alpha": 0.6,
        "mec": "white",
        "mew": 0.4,
        "ms": 4,
        "clip_on": False,
    }
    dots.plot(confidences, accuracies, "o", label="an image", zorder=3, **look)
    dots.set_xlim(across)
    dots.set_ylim(up)
    dots.set_box_aspect(1)
    dots.locator_params(nbins=6)
    dots.grid(color=_GREY, alpha=0.2, lw=0.8)
    dots.set_axisbelow(True)
    n_bars = min(20, max(5, len(eces) // 5))
    histogram.hist(eces, bins=n_bars, color=blue, alpha=0.55, ec="white", lw=0.8)
    units = "images" if report.n_groups is None else "groups"
    histogram.axvline(report.ece, color=_RED, lw=1.3, label=f"mean over {units}: {report.ece:.4f}")
    histogram.set_xlim(left=0)
    histogram.locator_params(axis="x", nbins=6)
    histogram.locator_params(axis="y", integer=True)
    for ax in flat[:2]:
        _with_legend(ax)
    return flat[:2]


def _windows(
    confidences: NDArray[np.float64], accuracies: NDArray[np.float64]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ranges of both axes, which are equally long: they hold the images, and a part of the diagonal."""
    (x0, x1), (y0, y1) = ((values.min(), values.max()) for values in (confidences, accuracies))
    apart = max(x1 - y0, y1 - x0)  # the axes would have it in common if they were the same
    length = max(x1 - x0, y1 - y0, apart / (2 - _SHARED))
    margin = 0.05 * length + 0.01
    length = min(1.0, length + 2 * margin)

    def starts(low: float, high: float) -> tuple[float, float]:
        """Where an axis within [0, 1] that holds some values may begin."""
        first, last = max(0.0, high + margin - length), min(low - margin, 1 - length)
        return (first, max(first, last)) if first + length <= 1 else (1 - length, 1 - length)

    (a0, a1), (b0, b1) = starts(x0, x1), starts(y0, y1)
    # The beginnings are as close to each other as possible.
    a, b = (a0, b1) if a0 > b1 else (a1, b0) if b0 > a1 else ((max(a0, b0) + min(a1, b1)) / 2,) * 2
    return (a, a + length), (b, b + length)


def _blue(ax: Axes) -> str:
    """A blue that is visible on the ground of the axes."""
    from matplotlib.colors import to_rgb

    return _BLUE if np.mean(to_rgb(ax.get_facecolor())) > 0.5 else _LIGHT_BLUE


def plot_ece_map(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    radius: int = 8,
    ignore_index: int | tuple[int, ...] | None = 255,
    image: ArrayLike | None = None,
    opacity: float = 0.85,
    vmax: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw where in an image a model is too confident, and where it is not confident enough.

    The colour of a pixel shows mean confidence minus the share of correct pixels, over the labelled pixels in the
    square of side ``2 * radius + 1`` around it: red is too much confidence, blue too little, white is no difference.
    The absolute difference is the calibration error of the square, taken as one bin.

    Parameters
    ----------
    probabilities : array (K, H, W)
        Softmax probabilities of one image. For logits apply the softmax first, or a scaler's `transform`.
    labels : integer array (H, W)
        The labels of the image.
    radius : int, default=8
        The half width of the square in pixels, at least 0.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which are grey.
    image : array (H, W) or (H, W, 3), optional
        The image, uint8 or floating in [0, 1], which is drawn in grey below.
    opacity : float in (0, 1], default=0.85
        The opacity over the image.
    vmax : float in (0, 1], optional
        The largest difference of the colour scale, in both directions; by default that of the image. Use one number for
        several plots to compare them. Larger differences have the colours of the ends.
    ax : matplotlib Axes, optional
        The axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_regions : Shows which pixels are wrong, near boundaries and inside.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([0.9, 0.1]).reshape(2, 1, 1) * np.ones((2, 6, 8))
    >>> ax = cm.plotting.plot_ece_map(X, np.zeros((6, 8), int), radius=1)
    >>> round(float(ax.get_images()[1].get_array().mean()), 6)
    -0.1
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from scipy.ndimage import uniform_filter

    if isinstance(radius, bool) or not isinstance(radius, int | np.integer) or radius < 0:
        raise ValueError(f"radius must be an int of at least 0, got {radius!r}")
    if vmax is not None and not 0 < vmax <= 1:
        raise ValueError(f"vmax must be in (0, 1], got {vmax!r}")
    confidence, right, valid = _pixels(probabilities, labels, ignore_index)
    opacity = opacity_over(image, opacity)
    # Pixels beyond the border, and void ones, do not count in a window.
    sums = [
        uniform_filter(np.where(valid, each, 0.0), 2 * radius + 1, mode="constant")
        for each in (confidence - right, np.ones(valid.shape))
    ]
    gaps = np.divide(sums[0], sums[1], out=np.zeros(valid.shape), where=valid)
    ax = new_axes(ax, valid.shape)
    backdrop = grey_ground(image, valid.shape) if image is not None else np.ones(valid.shape)
    ax.imshow(backdrop, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    shades = colormaps["RdBu_r"](np.linspace(0, 1, 255))
    shades[:, 3] = opacity
    most = float(abs(gaps).max()) or 1.0 if vmax is None else vmax
    drawn = ax.imshow(gaps, cmap=ListedColormap(shades), vmin=-most, vmax=most, interpolation="nearest")
    bar = colour_bar(ax, drawn, None)
    bar.set_ylabel("confidence less accuracy")
    if not valid.all():
        ax.imshow(one_colour(~valid, (VOID_GREY,) * 3), interpolation="nearest")
        legend_below(ax, [void_patch()])
    side = 2 * radius + 1
    write_title(ax, f"Where confidence and accuracy differ,\nin squares of {side} x {side} pixels")
    return frameless(ax)


def plot_regions(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    boundary_width: int = 2,
    ignore_index: int | tuple[int, ...] | None = 255,
    image: ArrayLike | None = None,
    opacity: float = 0.85,
    ax: Axes | None = None,
) -> Axes:
    """Draw correct and wrong pixels, near the boundaries of labels and inside, with their mean confidence.

    Parameters
    ----------
    probabilities, labels, ignore_index, image, opacity, ax
        As for :func:`plot_ece_map`.
    boundary_width : int, default=2
        A pixel belongs to the boundary if another label is within this many pixels along each axis.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on. The legend tells how many of the labelled pixels each region has, and their mean confidence.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_ece_map : Shows where the model is too confident.
    conformask.metrics.calibration_report : Measures boundary and interior.

    References
    ----------
    Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023,
    arXiv:2212.12053, figure 5.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([0.9, 0.1]).reshape(2, 1, 1) * np.ones((2, 6, 8))
    >>> y = np.zeros((6, 8), int)
    >>> y[:, 4:] = 1
    >>> ax = cm.plotting.plot_regions(X, y, boundary_width=1)
    >>> [text.get_text() for text in ax.get_legend().get_texts()][0]
    'interior, right: 38 %, confidence 0.90'
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    if (
        isinstance(boundary_width, bool)
        or not isinstance(boundary_width, int | np.integer)
        or boundary_width < 1
    ):
        raise ValueError(f"boundary_width must be an int of at least 1, got {boundary_width!r}")
    confidence, right, valid = _pixels(probabilities, labels, ignore_index)
    opacity = opacity_over(image, opacity)
    y, side = label_array(labels, "labels").astype(np.int64), 2 * boundary_width + 1
    lowest = minimum_filter(np.where(valid, y, y.max()), side)
    near = valid & (lowest < maximum_filter(np.where(valid, y, -1), side))
    ax = new_axes(ax, valid.shape)
    ground = grey_ground(image, valid.shape)
    ax.imshow(ground, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    shades: dict[str, NDArray[np.float64]] = {}
    for (name, colour), is_near, is_right in zip(
        _REGIONS.items(), (False, False, True, True), (True, False, True, False), strict=True
    ):
        where = valid & (near == is_near) & (right == is_right)
        if where.any():
            ax.imshow(one_colour(where, colour, opacity), interpolation="nearest")
            share = 100 * where.sum() / valid.sum()
            shades[f"{name}: {share:.0f} %, confidence {confidence[where].mean():.2f}"] = np.asarray(colour)
    if not valid.all():
        ax.imshow(one_colour(~valid, (VOID_GREY,) * 3), interpolation="nearest")
    handles = class_patches(len(shades), list(shades), np.stack([*shades.values()])) if shades else []
    legend_below(ax, handles if valid.all() else [*handles, void_patch()])
    write_title(ax, "Right and wrong pixels, near boundaries and inside")
    return frameless(ax)


def _pixels(
    probabilities: ArrayLike, labels: ArrayLike, ignore_index: int | tuple[int, ...] | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Confidence, whether right, and whether labelled, of each pixel of one image, whose numbers are checked."""
    if _holds(probabilities, "iub") and _holds(labels, "f"):
        raise TypeError(
            "probabilities holds whole numbers, and labels floating ones: they look swapped. The plots take "
            "(probabilities, labels), the functions of metrics (y, X)"
        )
    maps, y = score_array(probabilities, name="probabilities"), label_array(labels, "labels")
    if maps.ndim != 3 or not maps.size or y.shape != maps.shape[1:]:
        raise ValueError(
            f"probabilities must have shape (K, H, W) and labels (H, W), got {maps.shape} and {y.shape}"
        )
    valid = ~is_void(y, check_ignore_index(ignore_index))
    _refuse_others(maps, valid)
    # Refuses wrong labels.
    metrics.mean_iou(
        y[np.newaxis], maps[np.newaxis], per_image=True, average=False, ignore_index=ignore_index
    )
    return np.asarray(maps.max(axis=0), np.float64), np.asarray(maps.argmax(axis=0) == y), valid


def _holds(values: ArrayLike, kinds: str) -> bool:
    """Whether an array holds numbers of some of NumPy's kinds."""
    return getattr(getattr(values, "dtype", None), "kind", " ") in kinds


def _refuse_others(maps: NDArray[Any], valid: NDArray[np.bool_]) -> None:
    """Refuses maps that do not hold probabilities at labelled pixels."""
    sums, least = maps.sum(axis=0, dtype=np.float64), maps.min(axis=0)
    wrong = valid & ~((abs(sums - 1) <= _core.SUM_TOLERANCE + _core.SUM_SLACK) & (least >= 0))
    if wrong.any():
        pixel = tuple(map(int, np.unravel_index(int(wrong.argmax()), wrong.shape)))
        raise ValueError(
            f"probabilities must be at least 0 and sum to 1 over the classes, but at pixel {pixel} the least is "
            f"{least[pixel]:.6g} and the sum {sums[pixel]:.6g}; of logits pass the softmax, or what the transform of a "
            "scaler returns"
        )


def _units(curve: ReliabilityCurve) -> str:
    return "images" if curve.n_groups is None else "groups"

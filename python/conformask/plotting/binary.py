"""Plots of binary masks: the pixels that a mask misses and holds, and the coverage of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from conformask._arrays import check_binary_index
from conformask.adaptive.report import BinaryReport
from conformask.plotting._arguments import (
    alpha_text,
    common_alpha,
    grey_ground,
    opacity_over,
    plain_array,
    void_pixels,
)
from conformask.plotting._axes import frameless, new_axes, one_colour
from conformask.plotting._legend import legend_beside
from conformask.plotting._palette import LINES, RED, VOID_GREY
from conformask.plotting._titles import write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_binary", "plot_coverage_histogram"]

# Colours of right, missed and superfluous pixels, as in the figures of COAT.
_COLOURS = {
    "in mask and object": np.array([1.0, 1.0, 1.0]),
    "missed": np.array([0.84, 0.15, 0.16]),
    "mask alone": np.array([0.25, 0.82, 0.88]),
}


_MOST_FILLED = 3  # the colours of more filled histograms over one another would mix


def plot_binary(
    mask: ArrayLike,
    labels: ArrayLike,
    *,
    image: ArrayLike | None = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    opacity: float = 0.75,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw where a mask meets the object (white), misses it (red), and holds background (cyan).

    Parameters
    ----------
    mask : bool array (H, W)
        The mask, as ``calibrator.predict(P)[i]``.
    labels : bool or integer array (H, W)
        The object: true or 1; `ignore_index` where the truth is unknown.
    image : array (H, W) or (H, W, 3), uint8 or floating in [0, 1], optional
        The image below, drawn in grey; by default black.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which are grey.
    opacity : float in (0, 1], default=0.75
        The opacity of the colours over an image.
    legend : bool, default=True
        Whether to name the colours.
    ax : matplotlib Axes, optional
        The axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If shapes do not fit, or an argument is out of range.
    TypeError
        If ``mask`` is not a boolean array.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_coverage_histogram : Shows all images at once.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.plotting import plot_binary
    >>> ax = plot_binary(np.array([[True, True], [False, False]]), np.array([[1, 0], [1, 0]]))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['in mask and object', 'missed', 'mask alone']
    """
    held = plain_array("mask", mask, 2)
    if held.dtype != bool:
        raise TypeError(f"mask must be boolean, as calibrator.predict(P)[i], got dtype {held.dtype}")
    check_binary_index(ignore_index)
    void = void_pixels(labels, ignore_index, held.shape)
    inside = np.asarray(labels) == 1
    opacity = opacity_over(image, opacity)
    ground = grey_ground(image, held.shape)
    ax = new_axes(ax, held.shape)
    ax.imshow(ground, cmap="gray", vmin=0, vmax=1)
    parts = [held & inside, ~held & inside, held & ~inside]
    for part, colour in zip(parts, _COLOURS.values(), strict=True):
        ax.imshow(one_colour(part & ~void, colour, opacity))
    ax.imshow(one_colour(void, [VOID_GREY] * 3))
    write_title(ax, "Mask and object")
    if legend:
        legend_beside(ax, _COLOURS, void=bool(void.any()))
        drawn = ax.get_legend()
        assert drawn is not None
        for patch in drawn.get_patches():
            patch.set_edgecolor("0.6")  # an edge makes white visible on white
    return frameless(ax)


def plot_coverage_histogram(
    reports: BinaryReport | Mapping[str, BinaryReport], *, n_bins: int = 20, ax: Axes | None = None
) -> Axes:
    """Draw how much of the object the mask of each image covers: one histogram for each report.

    The dashed line is 1 - alpha, which the mean coverage should reach. With a single threshold some images are far
    below this line, and others are covered more than needed. Thresholds for each image bring the images together.

    Parameters
    ----------
    reports : BinaryReport, or dict from name to BinaryReport
        What ``calibrator.evaluate(P, y)`` returns, at one alpha.
    n_bins : int, default=20
        The number of bins over [0, 1].
    ax : matplotlib Axes, optional
        The axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If there is no report, alphas differ, or an argument is out of range.
    TypeError
        If one of the reports is not a BinaryReport.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_binary : Shows one image.
    plot_gap : Compares several methods, over random splits.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> P = rng.beta(rng.choice([1.0, 4.0], (100, 1, 1)), 1, (100, 8, 8))
    >>> y = np.ones(P.shape, bool)
    >>> kinds = {"one threshold": cm.BinaryRiskCalibrator(0.2), "COAT": cm.COATCalibrator(0.2)}
    >>> reports = {name: kind.fit(P[:60], y[:60]).evaluate(P[60:], y[60:]) for name, kind in kinds.items()}
    >>> ax = cm.plotting.plot_coverage_histogram(reports)
    >>> [text.get_text().split(":")[0] for text in ax.get_legend().get_texts()]
    ['one threshold', 'COAT', '1 - alpha']
    """
    named = reports if isinstance(reports, Mapping) else {"masks": reports}
    alpha = common_alpha([*named.values()])
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
    ax = new_axes(ax)
    edges = np.linspace(0, 1, n_bins + 1)
    for i, (name, report) in enumerate(named.items()):
        known = report.coverages[~np.isnan(report.coverages)]
        counts = np.histogram(known, edges)[0]
        colour = LINES[i % len(LINES)]
        label = f"{name}: mean {report.coverage:.3f}, gap {report.coverage_gap:.3f}"
        ax.stairs(counts, edges, color=colour, lw=1.6, label=label)
        if len(named) <= _MOST_FILLED:
            ax.stairs(counts, edges, color=colour, alpha=0.15, fill=True)
    ax.axvline(1 - alpha, color=RED, lw=1.2, ls=(0, (5, 3)), label="1 - alpha")
    if all(np.isnan(report.coverages).all() for report in named.values()):
        ax.text(0.5, 0.5, "no image has an object", ha="center", va="center", transform=ax.transAxes)
        ax.set_yticks([])
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("share of the object that the mask holds")
    ax.set_ylabel("images")
    write_title(ax, f"Coverage of each image\n{alpha_text(alpha)}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper left")
    return ax

"""The varisco heatmap: where a model is unsure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask.plotting._arguments import (
    Calibrated,
    at_level,
    grey_ground,
    opacity_over,
    plain_array,
    void_pixels,
)
from conformask.plotting._axes import colour_bar, frameless, new_axes, one_colour
from conformask.plotting._legend import legend_below, void_patch
from conformask.plotting._palette import VOID_GREY
from conformask.plotting._titles import write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

__all__ = ["EMPTY", "count_shades", "plot_varisco"]

EMPTY = (0.35, 0.85, 0.9, 1.0)  # cyan, which is in no sequential map: an empty set is not just a small set


def plot_varisco(
    heatmap: ArrayLike,
    image: ArrayLike | None = None,
    *,
    n_classes: int | None = None,
    vmax: int | None = None,
    labels: ArrayLike | None = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    opacity: float = 0.9,
    cmap: str | Colormap = "inferno",
    colorbar: bool = True,
    legend: bool = True,
    calibrator: Calibrated | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the varisco heatmap of one image: how many classes each pixel may have.

    Pixels whose set holds one class are transparent: the image shows there, in grey. The brighter a pixel, the more
    classes its set holds.

    Parameters
    ----------
    heatmap : array-like, shape (H, W)
        Either integers, as ``calibrator.set_size(X)[i]``, or floats in [0, 1], as
        ``calibrator.varisco(X)[i]``.
    image : array-like, shape (H, W) or (H, W, 3), optional
        The image beneath, uint8 or floating in [0, 1]. Without it the ground is dark.
    n_classes : int, optional
        Number of classes K. It turns a heatmap normalised by K back into counts. Floats without it
        are drawn on a continuous scale, more opaque as they grow; leave it out for
        ``normalize="max"``.
    vmax : int, optional
        End of the scale of counts, which several images may share; by default the largest count of this image.
        Larger counts have the same colour, and the tick reads "≥" unless it is ``n_classes``.
    labels : array-like of int, shape (H, W), optional
        True labels; pixels of ``ignore_index`` are drawn in flat grey.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels.
    opacity : float, default=0.9
        Opacity of the coloured pixels over the image, in (0, 1]; without an image they are opaque.
    cmap : str or Colormap, default="inferno"
        A sequential colour map; its darkest part is left out, to stand out from the image.
    colorbar : bool, default=True
        Whether to draw a colour bar to the right.
    legend : bool, default=True
        Whether to explain the grey of void pixels below the plot, if there are any.
    calibrator : fitted calibrator, optional
        The calibrator of the heatmap: its alpha and lambda-hat appear in the title.
    ax : matplotlib Axes, optional
        The axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or range, or the heatmap holds values that are not multiples of
        ``1 / n_classes``.
    TypeError
        If ``calibrator`` is not a fitted calibrator.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_masks : Shows which classes the sets hold.
    conformask.ConformalRiskCalibrator.varisco : Computes the heatmap.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, arXiv:2405.05145.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.plotting import plot_varisco
    >>> ax = plot_varisco(np.array([[0.25, 0.5], [1.0, 0.25]]), n_classes=4)
    >>> [int(tick) for tick in ax.child_axes[0].get_yticks()]
    [1, 2, 3, 4]
    """
    heatmap = plain_array("heatmap", heatmap, 2)
    opacity = opacity_over(image, opacity)
    counts = _counts(heatmap, n_classes)
    if vmax is not None and not vmax >= 1:
        raise ValueError(f"vmax must be at least 1, got {vmax}")
    void = void_pixels(labels, ignore_index, heatmap.shape)
    backdrop = grey_ground(image, heatmap.shape)
    behind = None if not colorbar else float(backdrop.flat[0]) if image is None else 0.4  # of the colour bar
    title = at_level(
        "Classes in the set of each pixel" if counts is not None else "Varisco heatmap", calibrator
    )
    ax = new_axes(ax, heatmap.shape)
    ax.imshow(backdrop, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    seen = ~void if not void.all() else void  # void pixels must not stretch the scale
    if counts is None:
        _draw_continuous(
            ax, heatmap, (float(heatmap[seen].min()), float(heatmap[seen].max())), cmap, opacity, behind
        )
    else:
        ends = int(counts[seen].min()), int(counts[seen].max()) if vmax is None else vmax
        more = vmax is not None and (n_classes is None or vmax < n_classes)
        _draw_counts(ax, counts, ends, more, cmap, opacity, behind)
    if void.any():
        ax.imshow(one_colour(void, (VOID_GREY,) * 3), interpolation="nearest")
        if legend:
            legend_below(ax, [void_patch()])
    write_title(ax, title)
    return frameless(ax)


def _counts(heatmap: NDArray[Any], n_classes: int | None) -> NDArray[np.int64] | None:
    """Return the set sizes that a heatmap stands for, or None if they cannot be known."""
    if n_classes is not None and n_classes < 1:
        raise ValueError(f"n_classes must be at least 1, got {n_classes}")
    if heatmap.dtype.kind != "f":
        counts = heatmap.astype(np.int64)
        if counts.min() < 0 or (n_classes is not None and counts.max() > n_classes):
            raise ValueError(
                f"heatmap of set sizes must lie in [0, n_classes], got {counts.min()} to {counts.max()}"
            )
        return counts
    if not (heatmap.min() >= 0 and heatmap.max() <= 1):  # in this form it also refuses NaN
        raise ValueError(f"heatmap must lie in [0, 1], got {heatmap.min()} to {heatmap.max()}")
    if n_classes is None:
        return None
    counts = np.asarray(np.rint(heatmap * n_classes), np.int64)
    if np.abs(heatmap * n_classes - counts).max() > 0.01:
        raise ValueError(
            f"heatmap holds values that are no multiples of 1/{n_classes}: "
            "leave n_classes out for a heatmap normalised by its maximum"
        )
    return counts


def _upper_part(cmap: str | Colormap) -> Callable[[ArrayLike], NDArray[np.float64]]:
    from matplotlib import colormaps

    full = colormaps[cmap] if isinstance(cmap, str) else cmap
    return lambda t: np.asarray(full(0.4 + 0.6 * np.asarray(t)))


def count_shades(top: int, cmap: str | Colormap = "inferno") -> NDArray[np.float64]:
    """Return the colours of the counts from 2 to `top`, RGBA (top - 1, 4): a single class has none."""
    return _upper_part(cmap)(np.linspace(0, 1, max(top - 1, 0)) if top != 2 else [0.6])


def _draw_counts(
    ax: Axes,
    counts: NDArray[np.int64],
    ends: tuple[int, int],
    more: bool,
    cmap: str | Colormap,
    opacity: float,
    behind: float | None,
) -> None:
    """Draw counts on a scale between `ends`; `more` says that the last colour also stands for larger counts."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    first, top = min(1, ends[0]), ends[1]
    shades = count_shades(top, cmap)
    shades[:, 3] = opacity
    colours = np.vstack([[EMPTY]] * (1 - first) + [[(0.0, 0.0, 0.0, 0.0)]] * min(1, top) + [shades])
    norm = BoundaryNorm(np.arange(first, top + 2) - 0.5, len(colours))
    shown = np.clip(counts, first, top)
    drawn = ax.imshow(shown, cmap=ListedColormap(colours), norm=norm, interpolation="nearest")
    if behind is not None:
        ticks = _ticks(first, top)
        bar = colour_bar(ax, drawn, ticks, behind)
        bar.set_yticks(ticks, [str(tick) for tick in ticks[:-1]] + [f"{'≥' if more else ''}{top}"])
        bar.set_ylabel("classes in the set")


def _ticks(first: int, top: int) -> list[int]:
    """At most twelve counts: the first, round ones, and the last."""
    least = (top - first) / 10
    step = next(s for s in (d * 10**e for e in range(10) for d in (1, 2, 5)) if s >= least)
    between = [tick for tick in range(step, top, step) if first < tick <= top - step / 2]
    return sorted({first, *between, top})


def _draw_continuous(
    ax: Axes,
    heatmap: NDArray[Any],
    ends: tuple[float, float],
    cmap: str | Colormap,
    opacity: float,
    behind: float | None,
) -> None:
    from matplotlib.colors import ListedColormap

    t = np.linspace(0, 1, 256)
    shades = _upper_part(cmap)(t)
    shades[:, 3] = opacity * t
    drawn = ax.imshow(
        heatmap, cmap=ListedColormap(shades), vmin=0, vmax=ends[1] or 1.0, interpolation="nearest"
    )
    if behind is not None:
        bar = colour_bar(ax, drawn, None, behind)
        bar.set_ylabel("relative size of the set")
        if 0 < ends[0] < ends[1]:
            bar.set_ylim(ends)  # no set is smaller

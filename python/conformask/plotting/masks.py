"""Multi-labeled masks: which labels a pixel may have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask.plotting._arguments import (
    check_background,
    check_opacity,
    chosen_classes,
    grey_ground,
    plain_array,
    void_pixels,
)
from conformask.plotting._axes import frameless, new_axes, one_colour, panel_axes
from conformask.plotting._legend import VOID_GREY, draw_legend, names_and_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_mask_panels", "plot_masks"]


def plot_masks(
    mask: ArrayLike,
    image: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    palette: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    ignore_index: int | None = 255,
    background: int | None = None,
    opacity: float = 0.85,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw a multi-labeled mask as one map: stripes where a pixel may have several classes.

    A pixel with one class has the plain colour of the class. Diagonal stripes carry the colours of
    all classes in the set: pink and purple stripes read "sidewalk or road". Pixels with no class
    stay bare.

    Parameters
    ----------
    mask : array-like of bool, shape (K, H, W)
        Which classes each pixel holds, as ``calibrator.predict(X)[i]``.
    image : array-like, shape (H, W) or (H, W, 3), optional
        The image beneath, uint8 or floating in [0, 1].
    class_names : sequence of str, length K, optional
        Names for the legend; by default "class 0", "class 1", ...
    palette : array-like, shape (K, 3), optional
        Colours, uint8 or floating in [0, 1]; by default well-separated ones.
    labels : array-like of int, shape (H, W), optional
        True labels; pixels of ``ignore_index`` are drawn in flat grey.
    ignore_index : int or None, default=255
        The label of void pixels.
    background : int, optional
        A class to leave without colour, so that the image shows through.
    opacity : float, default=0.85
        Opacity of the classes over the image, in (0, 1].
    legend : bool, default=True
        Whether to name the classes that occur, to the right.
    ax : matplotlib Axes, optional
        Where to draw; by default, on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If an argument has a wrong shape, dtype or range.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_mask_panels : One panel per class.
    plot_varisco : How many classes the sets hold.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.plotting import plot_masks
    >>> mask = np.array([[[True, True]], [[False, True]]])  # the right pixel holds both classes
    >>> ax = plot_masks(mask, class_names=["road", "sidewalk"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['road', 'sidewalk', 'several possible']
    """
    mask, names, colours = _classes(mask, class_names, palette)
    check_opacity(opacity)
    check_background(background, len(mask))
    shape = mask.shape[1:]
    void = void_pixels(labels, ignore_index, shape)
    ground = np.repeat(grey_ground(image, shape)[..., None], 3, axis=2)
    enlarge = max(1, round(960 / max(shape)))
    fine = np.repeat(np.repeat(ground, enlarge, 0), enlarge, 1)
    held = _striped(mask, enlarge)
    painted = (held >= 0) & (held != background)
    fine[painted] += opacity * (colours[held[painted]] - fine[painted])
    fine[np.repeat(np.repeat(void, enlarge, 0), enlarge, 1)] = VOID_GREY
    ax = new_axes(ax)
    ax.imshow(fine, extent=(-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5))
    if legend:
        several = bool(((mask.sum(0) > 1) & ~void).any())
        present = (mask & ~void).any((1, 2)) & (np.arange(len(mask)) != background)
        draw_legend(ax, names, colours, present, several=several, void=bool(void.any()))
    ax.set_title("Labels in the set of each pixel")
    return frameless(ax)


def plot_mask_panels(
    mask: ArrayLike,
    image: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    palette: ArrayLike | None = None,
    classes: Sequence[int] | None = None,
    n_columns: int = 4,
    axes: ArrayLike | None = None,
) -> NDArray[Any]:
    """Draw a multi-labeled mask class by class: surely, possibly, surely not.

    In the panel of a class, its full colour marks the pixels whose set holds this class alone; a
    light tint, those whose set holds others as well. The bare image is where the class is
    excluded.

    Parameters
    ----------
    mask : array-like of bool, shape (K, H, W)
        Which classes each pixel holds, as ``calibrator.predict(X)[i]``.
    image, class_names, palette
        As for :func:`plot_masks`; the names are the titles of the panels.
    classes : sequence of int, optional
        The classes to draw, in this order; by default all.
    n_columns : int, default=4
        Panels in a row of a new figure.
    axes : array-like of matplotlib Axes, optional
        Where to draw, at least one per class; by default, on a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        One per class drawn.

    Raises
    ------
    ValueError
        If an argument has a wrong shape, dtype or range.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_masks : All classes in one map.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.plotting import plot_mask_panels
    >>> mask = np.array([[[True, True]], [[False, True]]])
    >>> [ax.get_title() for ax in plot_mask_panels(mask, class_names=["road", "sidewalk"])]
    ['road', 'sidewalk']
    """
    mask, names, colours = _classes(mask, class_names, palette)
    chosen = chosen_classes(range(len(mask)) if classes is None else classes, len(mask))
    backdrop = grey_ground(image, mask.shape[1:])
    title = "full colour: this class alone; light: one of several"
    panels = panel_axes(axes, len(chosen), n_columns, mask.shape[2] / mask.shape[1], title=title)
    alone = mask.sum(0) == 1
    for k, ax in zip(chosen, panels, strict=True):
        ax.imshow(backdrop, cmap="gray", vmin=0, vmax=1)
        ax.imshow(
            one_colour(mask[k] & alone, colours[k], 0.9) + one_colour(mask[k] & ~alone, colours[k], 0.45)
        )
        ax.set_title(names[k])
        frameless(ax)
    return panels


def _classes(
    mask: ArrayLike, class_names: Sequence[str] | None, palette: ArrayLike | None
) -> tuple[NDArray[np.bool_], list[str], NDArray[np.float64]]:
    mask = plain_array("mask", mask, 3)
    if mask.dtype != bool:
        raise ValueError(f"mask must be bool of shape (K, H, W), got dtype {mask.dtype}")
    return mask, *names_and_colours(len(mask), class_names, palette)


def _striped(mask: NDArray[np.bool_], enlarge: int) -> NDArray[np.int64]:
    """Return one held class per enlarged pixel, or -1 for none.

    The classes of a pixel take turns along the diagonal.
    """
    size = mask.sum(0)
    held = np.argsort(~mask, axis=0, kind="stable")  # the classes held, ascending, then the others
    height, width = size.shape
    rows, cols = np.arange(height * enlarge)[:, None], np.arange(width * enlarge)[None, :]
    stripe = (rows + cols) // max(1, max(height, width) * enlarge // 160)
    at_row, at_col = rows // enlarge, cols // enlarge
    here = size[at_row, at_col]
    turn = stripe % np.maximum(here, 1)
    return np.where(here > 0, held[turn, at_row, at_col], -1)

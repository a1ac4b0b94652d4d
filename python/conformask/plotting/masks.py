"""Multi-labeled masks: which labels a pixel may have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask.plotting._arguments import (
    Calibrated,
    at_level,
    chosen_classes,
    class_index,
    grey_ground,
    opacity_over,
    plain_array,
    void_pixels,
)
from conformask.plotting._axes import fit_figure, frameless, new_axes, panel_axes, panel_size
from conformask.plotting._legend import draw_legend, key_to_panels, legend_beside, names_and_colours
from conformask.plotting._palette import VOID_GREY
from conformask.plotting._titles import write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_mask_panels", "plot_masks", "plot_may_be"]

_TINT = 0.6  # share of white in the colour of pixels that may also be of other classes


def plot_masks(
    mask: ArrayLike,
    image: ArrayLike | None = None,
    *,
    classes: Sequence[int | str] | None = None,
    class_names: Sequence[str] | None = None,
    palette: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    background: int | str | None = None,
    opacity: float = 0.85,
    legend: bool = True,
    calibrator: Calibrated | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a multi-labeled mask as one map: stripes where a pixel may have several classes.

    A pixel with one class has the plain colour of the class. Diagonal stripes carry the colours of
    all classes in the set: pink and purple stripes read "sidewalk or road". Pixels with no class
    have no colour. If sets are large, choose some classes with `classes`: all other classes together
    are then one stripe through which the image shows, as the title and the legend tell. If the legend
    has no room for all names, it gives the number of the classes with the fewest pixels instead.

    Parameters
    ----------
    mask : array-like of bool, shape (K, H, W)
        Which classes each pixel holds, as ``calibrator.predict(X)[i]``.
    image : array-like, shape (H, W) or (H, W, 3), optional
        The image beneath, uint8 or floating in [0, 1]. Without it the ground is dark.
    classes : sequence of int or str, optional
        The classes to draw, by index or name; by default all.
    class_names : sequence of str, length K, optional
        Names for the legend; by default "class 0", "class 1", ...
    palette : array-like, shape (K, 3), optional
        Colours, uint8 or floating in [0, 1]. By default, the first twelve can be told apart with normal,
        deuteranope and protanope vision.
    labels : array-like of int, shape (H, W), optional
        True labels; pixels of ``ignore_index`` are drawn in flat grey.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels.
    background : int or str, optional
        A class to leave without colour, so that the image shows through.
    opacity : float, default=0.85
        Opacity of the classes over the image, in (0, 1]; without an image they are opaque.
    legend : bool, default=True
        Whether to name the classes that occur, and void, to the right.
    calibrator : fitted calibrator, optional
        The calibrator of the mask: its alpha and lambda-hat appear in the title.
    ax : matplotlib Axes, optional
        The axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If an argument has a wrong shape, dtype or range.
    TypeError
        If names are no strings, classes are neither indices nor names, or ``calibrator`` is not a fitted calibrator.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_may_be : Shows where one class may be.
    plot_mask_panels : Shows one panel per class.
    plot_varisco : Shows how many classes the sets hold.

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
    opacity = opacity_over(image, opacity)
    drawn = sorted({*chosen_classes(classes, names)})
    if background is not None:
        bare = class_index("background", background, names)
        drawn = [k for k in drawn if k != bare]
    shape = mask.shape[1:]
    void = void_pixels(labels, ignore_index, shape)
    ground = np.repeat(grey_ground(image, shape)[..., None], 3, axis=2)
    hidden: NDArray[np.bool_] = np.array(mask.any((1, 2)) if classes is not None else [False] * len(mask))
    hidden[drawn if background is None else [*drawn, bare]] = False
    words = "Labels in the set of each pixel" + (", other classes hidden" if hidden.any() else "")
    title = at_level(words, calibrator)
    shown = np.concatenate([mask[drawn], np.delete(mask, drawn, axis=0).any(0, keepdims=True)])
    enlarge = max(1, round(960 / max(shape)))
    fine = np.repeat(np.repeat(ground, enlarge, 0), enlarge, 1)
    held = _striped(shown, enlarge)
    painted = (held >= 0) & (held < len(drawn))
    fine[painted] += opacity * (colours[drawn][held[painted]] - fine[painted])
    fine[np.repeat(np.repeat(void, enlarge, 0), enlarge, 1)] = VOID_GREY
    ax = new_axes(ax, shape)
    ax.imshow(fine, extent=(-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5))
    if legend:
        several = bool(((shown.sum(0) > 1) & ~void).any())
        pixels = np.where(np.isin(np.arange(len(mask)), drawn), (mask & ~void).sum((1, 2)), 0)
        others = float(ground.mean()) if hidden.any() else None
        draw_legend(ax, names, colours, pixels, several=several, void=bool(void.any()), others=others)
    write_title(ax, title)
    return frameless(ax)


def plot_may_be(
    mask: ArrayLike,
    label: int | str,
    image: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    palette: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    opacity: float = 0.92,
    legend: bool = True,
    calibrator: Calibrated | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw where one class may be: alone in the set, among others, not in the set.

    The full colour of the class marks the pixels whose set holds this class alone; a light tint marks those whose set
    holds other classes as well. The image has no colour where the set lacks the class. Even a set of one class may be
    wrong: alpha limits the mean loss, not the loss of a pixel.

    Parameters
    ----------
    mask : array-like of bool, shape (K, H, W)
        Which classes each pixel holds, as ``calibrator.predict(X)[i]``.
    label : int or str
        The class, by index or name.
    image, class_names, palette, labels, ignore_index, calibrator, ax
        As for :func:`plot_masks`.
    opacity : float, default=0.92
        Opacity of the colours over the image, in (0, 1]; without an image they are opaque.
    legend : bool, default=True
        Whether to explain the colours, to the right.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If an argument has a wrong shape, dtype or range.
    TypeError
        If names are no strings, ``label`` is neither index nor name, or ``calibrator`` is not a fitted calibrator.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_mask_panels : The same for several classes, side by side.
    plot_masks : Shows all classes in one map.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.plotting import plot_may_be
    >>> mask = np.array([[[True, True]], [[False, True]]])  # the right pixel holds both classes
    >>> ax = plot_may_be(mask, "road", class_names=["road", "sidewalk"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['only road', 'road or another class']
    """
    mask, names, colours = _classes(mask, class_names, palette)
    opacity = opacity_over(image, opacity)
    k = class_index("label", label, names)
    void = void_pixels(labels, ignore_index, mask.shape[1:])
    ground = grey_ground(image, mask.shape[1:])
    title = at_level(f"Where {names[k]} may be", calibrator)
    ax = new_axes(ax, void.shape)
    _draw_may_be(ax, mask, k, ground, colours[k], opacity, void)
    if legend:
        shades = {f"only {names[k]}": colours[k], f"{names[k]} or another class": _tint(colours[k])}
        lacking = ~mask[k] & ~void
        if lacking.any():
            bare = f"not {names[k]}" + ("" if image is None else ": bare image")
            shades[bare] = np.full(3, ground[lacking].mean())
        legend_beside(ax, shades, void=bool(void.any()))
    write_title(ax, title)
    return ax


def plot_mask_panels(
    mask: ArrayLike,
    image: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    palette: ArrayLike | None = None,
    classes: Sequence[int | str] | None = None,
    labels: ArrayLike | None = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    opacity: float = 0.92,
    n_columns: int = 4,
    calibrator: Calibrated | None = None,
    axes: ArrayLike | None = None,
) -> NDArray[Any]:
    """Draw a multi-labeled mask class by class: alone in the set, among others, not in the set.

    Each panel is that of :func:`plot_may_be`: full colour where the set holds this class alone, a light tint where it
    holds others as well. The title of a new figure explains this.

    Parameters
    ----------
    mask : array-like of bool, shape (K, H, W)
        Which classes each pixel holds, as ``calibrator.predict(X)[i]``.
    image, class_names, palette, labels, ignore_index
        As for :func:`plot_masks`; the names are the titles of the panels.
    classes : sequence of int or str, optional
        The classes to draw, by index or name, in this order; by default all.
    opacity : float, default=0.92
        Opacity of the colours over the image, in (0, 1]; without an image they are opaque.
    n_columns : int, default=4
        Panels in a row of a new figure.
    calibrator : fitted calibrator, optional
        The calibrator of the mask: its alpha and lambda-hat appear in the title of a new figure.
    axes : array-like of matplotlib Axes, optional
        The axes to draw on, at least one per class; by default those of a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        One per class drawn.

    Raises
    ------
    ValueError
        If an argument has a wrong shape, dtype or range.
    TypeError
        If names are no strings, classes are neither indices nor names, or ``calibrator`` is not a fitted calibrator.
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
    opacity = opacity_over(image, opacity)
    chosen = chosen_classes(classes, names)
    void = void_pixels(labels, ignore_index, mask.shape[1:])
    ground = grey_ground(image, mask.shape[1:])
    title = at_level(key_to_panels(image=image is not None, void=bool(void.any())), calibrator)
    aspect = mask.shape[2] / mask.shape[1]
    panels = panel_axes(axes, len(chosen), n_columns, aspect, title=title)
    room = panel_size(aspect)[0] if axes is None else None
    for k, ax in zip(chosen, panels, strict=True):
        _draw_may_be(ax, mask, k, ground, colours[k], opacity, void)
        write_title(ax, names[k], room)
    if axes is None:
        fit_figure(panels[0])
    return panels


def _draw_may_be(
    ax: Axes,
    mask: NDArray[np.bool_],
    k: int,
    ground: NDArray[np.float64],
    colour: NDArray[np.float64],
    opacity: float,
    void: NDArray[np.bool_],
) -> None:
    """Draw one class over the image: in its colour, or in a tint if the set also holds other classes."""
    picture = np.repeat(ground[..., None], 3, axis=2)
    alone = mask.sum(0) == 1
    for where, shade in ((mask[k] & alone, colour), (mask[k] & ~alone, _tint(colour))):
        picture[where] += opacity * (shade - picture[where])
    picture[void] = VOID_GREY
    ax.imshow(picture, interpolation="nearest")
    frameless(ax)


def _tint(colour: NDArray[np.float64]) -> NDArray[np.float64]:
    return colour + _TINT * (1 - colour)


def _classes(
    mask: ArrayLike, class_names: Sequence[str] | None, palette: ArrayLike | None
) -> tuple[NDArray[np.bool_], list[str], NDArray[np.float64]]:
    mask = plain_array("mask", mask, 3)
    if mask.dtype != bool:
        raise ValueError(f"mask must be bool of shape (K, H, W), got dtype {mask.dtype}")
    return mask, *names_and_colours(len(mask), class_names, palette)


def _striped(mask: NDArray[np.bool_], enlarge: int) -> NDArray[np.int64]:
    """Return one class of the set for each pixel of an enlarged image, or -1 for none.

    The classes of a pixel take turns along the diagonal.
    """
    size = mask.sum(0)
    held = np.argsort(~mask, axis=0, kind="stable")  # the classes of the set, ascending, then the others
    height, width = size.shape
    rows, cols = np.arange(height * enlarge)[:, None], np.arange(width * enlarge)[None, :]
    stripe = (rows + cols) // max(1, max(height, width) * enlarge // 120)
    at_row, at_col = rows // enlarge, cols // enlarge
    here = size[at_row, at_col]
    turn = stripe % np.maximum(here, 1)
    return np.where(here > 0, held[turn, at_row, at_col], -1)

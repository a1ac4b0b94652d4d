"""Margins around a mask: where the contour may be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask._arrays import check_binary_index
from conformask.margins import MarginCalibrator, Margins
from conformask.plotting._arguments import (
    alpha_text,
    grey_ground,
    opacity_over,
    plain_array,
    void_pixels,
)
from conformask.plotting._axes import frameless, new_axes, one_colour
from conformask.plotting._legend import legend_beside
from conformask.plotting._palette import VOID_GREY
from conformask.plotting._titles import write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_margins"]

# Orange and blue differ in any colour vision. Contours are light, with a dark edge to set them off from both.
_FILLS = {"outer margin": np.array([0.82, 0.46, 0.02]), "inner margin": np.array([0.25, 0.66, 0.82])}
_CONTOURS: dict[str, tuple[str, Any]] = {
    "predicted contour": ("white", "solid"),
    "true contour": ("#ffde30", "dashed"),
}
_EDGE = "0.1"
_INSIDE = 0.3  # the grey of the rest of the mask, without an image
_WIDTH, _EDGE_WIDTH = 1.4, 3.0  # points


def plot_margins(
    mask: ArrayLike,
    *,
    outer: ArrayLike | None = None,
    inner: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    image: ArrayLike | None = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    opacity: float = 0.6,
    legend: bool = True,
    calibrator: MarginCalibrator | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the contour of a mask, the margins outside (orange) and inside (blue) of it, and the true contour.

    A true contour that stays within the colours is within its margins. For a volume pass one slice of each array.

    Parameters
    ----------
    mask : bool array (H, W)
        The predicted mask of one image.
    outer, inner : bool array (H, W), optional
        The outer and the inner mask, or one of them, as ``calibrator.predict(masks)`` gives them for each image. With
        ``side="both"`` it gives a pair: ``inner, outer = calibrator.predict(masks)``.
    labels : bool or integer array (H, W), optional
        The object: true or 1; `ignore_index` where the truth is unknown. Its contour is dashed.
    image : array (H, W) or (H, W, 3), uint8 or floating in [0, 1], optional
        The image below, drawn in grey; by default black, and dark grey inside the margins. Scale other images first:
        ``np.clip((image - low) / (high - low), 0, 1)`` draws `low` black and `high` white.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which are grey.
    opacity : float in (0, 1], default=0.6
        The opacity of the margins over an image.
    legend : bool, default=True
        Whether to explain colours and lines.
    calibrator : fitted MarginCalibrator, optional
        The calibrator of the masks: its alpha and its margins appear in the title, in pixels or in the unit of the
        spacing.
    ax : matplotlib Axes, optional
        The axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If shapes do not fit, no margin is given, one is on the wrong side, or an argument is out of range.
    TypeError
        If a mask is not a boolean array, or ``calibrator`` is not a fitted calibrator.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    conformask.MarginCalibrator : Computes the margins.
    plot_binary : Compares a mask with the object, pixel by pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.plotting import plot_margins
    >>> far = np.hypot(*np.mgrid[-20:20, -20:20])
    >>> ax = plot_margins(far < 12, outer=far < 15, inner=far < 10, labels=far < 13)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['outer margin', 'inner margin', 'inner mask', 'predicted contour', 'true contour']
    """
    predicted = _booleans("mask", mask, None)
    if outer is None and inner is None:
        raise ValueError("outer or inner must be given: the masks that calibrator.predict(masks) gives")
    around = predicted if outer is None else _booleans("outer", outer, predicted.shape)
    within = predicted if inner is None else _booleans("inner", inner, predicted.shape)
    if (predicted & ~around).any():
        raise ValueError("outer must hold all pixels of mask: are outer and inner, or two images, swapped?")
    if (within & ~predicted).any():
        raise ValueError(
            "inner must hold no pixel that mask lacks: are outer and inner, or two images, swapped?"
        )
    check_binary_index(ignore_index)
    void = void_pixels(labels, ignore_index, predicted.shape)
    opacity = opacity_over(image, opacity)
    title = "Predicted mask and its margins" + _level(calibrator)
    ax = new_axes(ax, predicted.shape)
    ground = grey_ground(image, predicted.shape)
    if image is None:
        ground[within] = _INSIDE
    ax.imshow(ground, cmap="gray", vmin=0, vmax=1)
    parts = {"outer margin": around & ~predicted, "inner margin": predicted & ~within}
    asked = {"outer margin": outer is not None, "inner margin": inner is not None}
    for name, part in parts.items():
        ax.imshow(one_colour(part & ~void, _FILLS[name], opacity))
    ax.imshow(one_colour(void, [VOID_GREY] * 3))
    _draw_contour(ax, predicted, "predicted contour")
    lines = ["predicted contour"]
    if labels is not None:
        _draw_contour(ax, np.asarray(labels) == 1, "true contour")
        lines.append("true contour")
    write_title(ax, title)
    if legend:
        fills = {name: colour for name, colour in _FILLS.items() if asked[name]}
        if image is None and within.any():
            fills["predicted mask" if inner is None else "inner mask"] = np.full(3, _INSIDE)
        legend_beside(ax, fills, void=bool(void.any()), lines=[*map(_line, lines)])
    return frameless(ax)


def _booleans(name: str, values: ArrayLike, shape: tuple[int, ...] | None) -> NDArray[np.bool_]:
    if isinstance(values, Margins):
        raise TypeError(
            f"{name} must be one mask, got both: inner, outer = calibrator.predict(masks), then outer=outer[0] and "
            "inner=inner[0]"
        )
    if np.ndim(values) > 2:
        raise ValueError(
            f"{name} must have 2 dimensions, got shape {np.shape(values)}: take one image of a batch, as {name}[0], "
            "and one slice of a volume"
        )
    found = plain_array(name, values, 2)
    if found.dtype != bool:
        raise TypeError(f"{name} must be boolean, got dtype {found.dtype}")
    if shape is not None and found.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, that of mask, got {found.shape}")
    return found


def _level(calibrator: Any) -> str:
    """A second line for the title: alpha and the margins."""
    if calibrator is None:
        return ""
    if not isinstance(calibrator, MarginCalibrator):
        raise TypeError(f"calibrator must be a fitted MarginCalibrator, got a {type(calibrator).__name__}")
    calibrator.risk_  # noqa: B018  # which raises before calibration
    return f"\n{', '.join([alpha_text(calibrator.alpha), *_margins(calibrator)])}"


def _margins(calibrator: MarginCalibrator) -> Iterator[str]:
    is_spaced = calibrator._current()[1].configuration.is_spaced
    unit = " (unit of spacing)" if is_spaced else " pixels"
    for side in ("outer", "inner"):
        margin = getattr(calibrator, f"{side}_margin_", math.nan)
        if not math.isnan(margin):
            yield f"{side} margin {margin:.3g}{unit}"


def _draw_contour(ax: Axes, mask: NDArray[np.bool_], name: str) -> None:
    """Draw a line between the pixels inside and outside; at the border of an image there is none."""
    if min(mask.shape) < 2 or mask.all() or not mask.any():
        return
    colour, style = _CONTOURS[name]
    for each, width, line in ((_EDGE, _EDGE_WIDTH, "solid"), (colour, _WIDTH, style)):
        ax.contour(mask.astype(float), levels=[0.5], colors=[each], linewidths=width, linestyles=line)


def _line(name: str) -> Any:
    """The line of a contour for the legend, with a dark edge that makes it visible on a light ground."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import Normal, Stroke

    colour, style = _CONTOURS[name]
    edge = [Stroke(linewidth=_EDGE_WIDTH, foreground=_EDGE), Normal()]
    return Line2D([], [], color=colour, linestyle=style, linewidth=_WIDTH, label=name, path_effects=edge)

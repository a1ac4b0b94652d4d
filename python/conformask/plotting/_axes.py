"""The axes of plots. Matplotlib is imported here, when the first plot is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "colour_bar",
    "fit_figure",
    "flat_axes",
    "frameless",
    "horizontal_room",
    "import_pyplot",
    "new_axes",
    "one_axes",
    "one_colour",
    "panel_axes",
    "panel_size",
    "say_empty",
    "vertical_room",
]

_HIGHEST = 4.8  # inches: tall panels become narrow


def import_pyplot() -> ModuleType:
    """Matplotlib's pyplot; without it, an error that says how to get it."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plotting needs Matplotlib: pip install conformask[plot]") from error
    return pyplot


def new_axes(ax: Axes | None, shape: tuple[int, int] | None = None) -> Axes:
    """The axes given, or those of a new figure: as high as an image of a shape needs, with its title."""
    pyplot = import_pyplot()  # before `ax` is touched, so that the message comes first
    if ax is None:
        height = 4.8 if shape is None else min(6.4, max(1.6, 5.0 * shape[0] / shape[1] + 0.9))
        ax = pyplot.subplots(figsize=(6.4, height), layout="constrained")[1]
    elif shape is not None:
        _hang(one_axes(ax))
    return one_axes(ax)


def _hang(ax: Axes) -> None:
    """Keep an image at the top of its axes' place: a layout leaves room for a title above this place."""
    ax.set_anchor("N")


def one_axes(ax: Axes) -> Axes:
    """The axes that were given, or made."""
    _refuse_others(ax, "ax must be one matplotlib Axes", "one of its axes")
    return ax


def flat_axes(axes: ArrayLike) -> NDArray[Any]:
    """Several axes that were given, as a row."""
    flat: NDArray[Any] = np.ravel(np.asarray(axes, dtype=object))
    for ax in flat:
        _refuse_others(ax, "axes must hold matplotlib Axes", "figure.subplots(...)")
    return flat


def _refuse_others(ax: object, must: str, instead: str) -> None:
    """Refuses objects that are no axes."""
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        hint = f": pass {instead}" if isinstance(ax, np.ndarray) or hasattr(ax, "subplots") else ""
        raise TypeError(f"{must}, got a {type(ax).__name__}{hint}")


def panel_size(aspect: float) -> tuple[float, float]:
    """Width and height of an image among others in a new figure, in inches."""
    height = min(3.2 / aspect, _HIGHEST)
    return height * aspect, height


def panel_axes(
    axes: ArrayLike | None,
    n: int,
    n_columns: int,
    aspect: float,
    per: str = "class",
    title: str | None = None,
    beside: float = 0.0,
) -> NDArray[Any]:
    """The first n of the axes given, or those of a new figure, with some inches for a legend beside them."""
    pyplot = import_pyplot()
    if n_columns < 1:
        raise ValueError(f"n_columns must be at least 1, got {n_columns}")
    if axes is None:
        columns = min(n, n_columns)
        rows = math.ceil(n / columns)
        width, height = panel_size(aspect)
        size = (max(width, 1.0) * columns + beside, (height + 0.35) * rows)
        figure, axes = pyplot.subplots(rows, columns, figsize=size, layout="compressed", squeeze=False)
        if title is not None:
            figure.suptitle(title, fontsize="medium")
    flat = flat_axes(axes)
    if len(flat) < n:
        raise ValueError(f"axes must be at least {n}, one per {per}, got {len(flat)}")
    for unused in flat[n:]:
        unused.set_axis_off()
    for ax in flat[:n]:
        _hang(ax)
    return flat[:n]


def fit_figure(ax: Axes) -> None:
    """Fit the size of a new figure to its content, so that no title is cut and no margin is empty."""
    from matplotlib.figure import Figure

    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    figure.set_size_inches(box.width + 0.1, box.height + 0.1)


def vertical_room(ax: Axes) -> tuple[float, float]:
    """The vertical range in pixels in which axes have room: up to the ends of the figure, or to the next axes."""
    figure, spec = ax.get_figure(), ax.get_subplotspec()
    assert figure is not None
    points, box = figure.dpi / 72, ax.get_window_extent()
    bottom, top = box.y0 - 36 * points, box.y1 + 20 * points  # the name of the axis, a title
    if spec is not None and spec.is_last_row():
        bottom = figure.bbox.y0 + 3 * points
    if spec is not None and spec.is_first_row():
        top = figure.bbox.y1 - 3 * points
    return bottom, top


def horizontal_room(ax: Axes) -> tuple[float, float]:
    """The horizontal range in pixels in which axes have room: up to an end of the figure, or of the gap before them."""
    figure: Any = ax.get_figure()
    spec = ax.get_subplotspec()
    box, edge = ax.get_window_extent(), figure.dpi / 24  # three points
    left, right = figure.bbox.x0 + edge, figure.bbox.x1 - edge
    if spec is not None and not spec.is_first_col():
        _, _, starts, ends = spec.get_gridspec().get_grid_positions(figure)
        column = spec.colspan.start
        left = box.x0 - (starts[column] - ends[column - 1]) * figure.bbox.width + edge
    if spec is not None and not spec.is_last_col():
        right = box.x1  # the gap is for the tick labels of the next axes
    return left, right


def say_empty(ax: Axes, words: str) -> None:
    """Say in axes without ticks why they are empty."""
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center")
    ax.set_xticks([])
    ax.set_yticks([])


def frameless(ax: Axes) -> Axes:
    """The axes, without ticks and frame."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return ax


def one_colour(where: NDArray[np.bool_], colour: ArrayLike, opacity: float = 1.0) -> NDArray[np.float64]:
    """Return an RGBA image of one colour, transparent elsewhere."""
    rgba = np.zeros((*where.shape, 4))
    rgba[where] = [*np.asarray(colour, float), opacity]
    return rgba


def colour_bar(ax: Axes, drawn: Any, ticks: Sequence[int] | None, ground: float = 1.0) -> Axes:
    """The axes of a new colour bar, to the right. A transparent end of the scale shows `behind`."""
    bar = ax.inset_axes((1.02, 0, 0.035, 1))
    bar.set_facecolor(f"{ground}")
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(drawn, cax=bar, ticks=ticks)
    bar.minorticks_off()
    return bar

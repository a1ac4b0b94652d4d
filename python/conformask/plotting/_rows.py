"""Rows of classes or strata: their axes, the columns of numbers beside them, and room for both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask._text import lambda_text
from conformask.plotting._arguments import chosen_classes
from conformask.plotting._axes import horizontal_room, import_pyplot, one_axes, vertical_room
from conformask.plotting._legend import legend_below, shortened, text_width

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["drawn_rows", "lambda_column", "left_out_text", "row_axes", "row_legend", "write_column"]

_MOST_ROWS = 40  # rows of a new picture, unless the caller chooses them
_ROW, _ABOVE_AND_BELOW, _BARS = 0.24, 2.1, 2.9  # inches
_LONGEST = 60  # the most characters of a name
_LEAST_SHARE = 0.2  # the least share of the axes' width that names and columns leave
_GREY = "#777777"


def drawn_rows(
    asked: Sequence[int | str] | None, names: list[str], risks: ArrayLike, argument: str, *, by_risk: bool
) -> list[int]:
    """The rows to draw, in order: those that are asked for, or those with the largest risks."""
    worst = np.argsort(-np.asarray(risks, np.float64), kind="stable").tolist()  # NaN last
    chosen = {*chosen_classes(asked, names, argument)} if asked is not None else {*worst[:_MOST_ROWS]}
    return [k for k in worst if k in chosen] if by_risk else sorted(chosen)


def left_out_text(n_drawn: int, n: int, asked: object, words: str) -> str:
    """A line for the title, if rows are left out that the caller did not leave out."""
    return f"\nthe {n_drawn} of {n} {words}" if asked is None and n_drawn < n else ""


def row_axes(ax: Axes | None, names: Sequence[str], beside: float) -> Axes:
    """The axes given, or those of a new figure in which rows, names and columns have room, with a row for each name.

    `beside` is how far the columns reach, in widths of an m.
    """
    pyplot = import_pyplot()
    short = [shortened(name, _LONGEST) for name in names]
    if ax is None:
        em = pyplot.rcParams["font.size"] / 72
        width = em * (max(map(text_width, short)) + beside + 2) + _BARS
        size = (max(6.4, width), _ROW * len(names) + _ABOVE_AND_BELOW)
        ax = pyplot.subplots(figsize=size, layout="constrained")[1]
    ax = one_axes(ax)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_yticks(range(len(names)), short)
    ax.grid(axis="y", color="0.9", lw=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0, pad=7)  # a dot at 0 touches no name
    ax.spines[["top", "right", "left"]].set_visible(False)
    # A blank text keeps the row names of the next axes away from the last column.
    far = (beside + 1.2) * ax.xaxis.label.get_fontproperties().get_size_in_points()
    ax.annotate(" ", (1, 0), (far, 0), xycoords="axes fraction", textcoords="offset points", ha="right")
    return ax


def write_column(ax: Axes, end: float, head: str, texts: list[str]) -> None:
    """Write numbers to the right of the axes, in line with its rows, up to `end` widths of an m."""
    points = end * ax.xaxis.label.get_fontproperties().get_size_in_points()
    right: dict[str, Any] = {"textcoords": "offset points", "ha": "right"}
    for y, text in enumerate(texts):
        ax.annotate(text, (1, y), (points, 0), xycoords=("axes fraction", "data"), va="center", **right)
    ax.annotate(head, (1, 1), (points, 4), xycoords="axes fraction", color=_GREY, **right)


def lambda_column(lambdas: Sequence[float]) -> list[str]:
    """Lambdas with as many decimals as tell them apart, from each other and from 0 and 1: three to six."""
    known: NDArray[np.float64] = np.unique([0.0, 1.0, *(lam for lam in lambdas if not math.isnan(lam))])
    decimals = next((d for d in (3, 4, 5) if len({f"{lam:.{d}f}" for lam in known}) == len(known)), 6)
    return [
        lambda_text(lam) if math.isnan(lam) or _looks_like_one(lam, decimals) else f"{lam:.{decimals}f}"
        for lam in lambdas
    ]


def _looks_like_one(lam: float, decimals: int) -> bool:
    return lam < 1 and float(f"{lam:.{decimals}f}") == 1


def row_legend(ax: Axes, handles: Sequence[Artist]) -> None:
    """Draw a narrow legend below, and make room where no layout engine does: columns lie outside the axes."""
    if handles:
        legend_below(ax, handles, n_columns=1)
    figure = ax.get_figure()
    assert figure is not None
    if figure.get_layout_engine() is not None:
        return
    taken, place = ax.get_tightbbox(for_layout_only=True), ax.get_position()
    assert taken is not None
    left, right = horizontal_room(ax)
    bottom, top = vertical_room(ax)
    before, after = (max(0.0, cut) / figure.bbox.width for cut in (left - taken.x0, taken.x1 - right))
    below, above = (max(0.0, cut) / figure.bbox.height for cut in (bottom - taken.y0, taken.y1 - top))
    width = max(_LEAST_SHARE * place.width, place.width - before - after)
    height = max(_LEAST_SHARE * place.height, place.height - below - above)
    ax.set_position((min(place.x0 + before, place.x1 - width), place.y0 + below, width, height))

"""Titles of axes that do not overlap the titles of their neighbours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask.plotting._legend import text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_title"]

_SMALLEST = 8.0  # points


def write_title(ax: Axes, text: str, room: float | None = None, **look: Any) -> None:
    """Write a title no wider than the column of the axes: in smaller letters or, if these are too small, in lines.

    `room` is the width of the column in inches, if it is known.
    """
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    size = float(FontProperties(size=rcParams["axes.titlesize"]).get_size_in_points())
    room = _column_width(ax) if room is None else 72 * room
    lines = text.split("\n")
    widest = size * max(text_width(line) for line in lines)
    if widest > room:
        look["fontsize"] = max(_SMALLEST, size * room / widest)
        lines = [part for line in lines for part in _broken(line, room / look["fontsize"])]
    ax.set_title("\n".join(lines), **look)


def _column_width(ax: Axes) -> float:
    """The width of the column of the axes in points; before a layout, an estimate of what it will be."""
    figure: Any = ax.get_figure()
    width, spec = float(72 * figure.bbox.width / figure.dpi), ax.get_subplotspec()
    if spec is None or figure.get_layout_engine() is None:
        is_alone = spec is not None and spec.is_first_col() and spec.is_last_col()
        return width if is_alone else 1.15 * width * float(ax.get_position(original=True).width)
    outer, share = spec.get_topmost_subplotspec(), 1.0
    for each in (spec,) if outer is spec else (spec, outer):
        ratios = np.asarray(each.get_gridspec().get_width_ratios(), np.float64)
        share *= float(ratios[each.colspan.start : each.colspan.stop].sum() / ratios.sum())
    return width * share if share == 1 else 0.8 * width * share  # colour bars and legends beside take some


def _broken(line: str, room: float) -> list[str]:
    """A line, broken so that no part is wider than the room (in font sizes), unless a single word is."""
    parts: list[str] = []
    for word in re.findall(r"(?:\$[^$]*\$|\S)+", line):  # a formula may hold spaces
        longer = f"{parts[-1]} {word}" if parts else word
        if parts and text_width(longer) <= room:
            parts[-1] = longer
        else:
            parts.append(word)
    return parts or [line]

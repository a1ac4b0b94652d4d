"""Bars: how many pixels have sets of each size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from conformask.plotting._palette import LINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_size_shares", "share_text"]

_MOST_BARS = 12


def draw_size_shares(ax: Axes, shares: NDArray[np.float64], ylabel: str) -> Axes:
    """Draw the shares (K + 1,) of the sizes 0 to K; of many sizes the last bar joins the largest."""
    n_classes = len(shares) - 1
    first = 0 if shares[0] > 0 else 1
    largest = int(np.flatnonzero(shares).max(initial=1))
    last = min(n_classes, first + _MOST_BARS - 1, max(largest, first + 2))
    heights = np.append(shares[first:last], shares[last:].sum())
    names = [str(size) for size in range(first, last)] + [f"{'≥ ' if last < largest else ''}{last}"]
    bars = ax.bar(np.arange(len(heights)), 100 * heights, width=0.7, color=LINES[0])
    ax.bar_label(bars, [share_text(height) for height in heights], padding=2, fontsize="small")
    ax.set_xticks(np.arange(len(heights)), names)
    beside = max(0.0, (5 - len(heights)) / 2)  # if there are few bars, they are narrow and in the middle
    ax.set_xlim(-0.6 - beside, len(heights) - 0.4 + beside)
    ax.set_ylim(0, 112)  # room for the number above a full bar
    ax.set_yticks(range(0, 101, 20))
    ax.set_xlabel("classes in the set of a pixel")
    ax.set_ylabel(ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def share_text(share: float) -> str:
    """A share in percent, with as many digits as it needs."""
    if math.isnan(share):
        return "-"
    percent = 100 * share
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %" if percent < 99.95 or share == 1 else "> 99.9 %"

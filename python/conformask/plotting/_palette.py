"""Colours of classes, if the caller gives none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conformask.plotting._axes import import_pyplot

__all__ = ["LINES", "RED", "VOID_GREY", "default_palette"]

VOID_GREY = 0.62
# Colours of the methods that are compared, and of their common limit or target.
LINES = (
    *("#1f4e79", "#d27604", "#7a379b", "#4d9f68", "#875f48"),
    *("#3fa9d1", "#b41e69", "#00564e", "#b3a93c", "#8d7fa0"),
)
RED = "#c0392b"

# Any two of the first twelve, and void, differ by at least 12 (CIEDE2000) in normal, deuteranope and protanope vision.
# The others were added one by one, each as far as possible from those before.
_COLOURS = [
    *("#377cda", "#cd000a", "#ffde30", "#3fd2f1", "#15295d", "#ffb8b0"),
    *("#00564e", "#d27604", "#7a379b", "#c5bc63", "#4d9f68", "#875f48"),
    *("#4b8787", "#78000f", "#2d1eff", "#ffffb4", "#a596b4", "#4ba5ff", "#96d2d2", "#b41e69"),
]


def default_palette(n_classes: int) -> NDArray[np.float64]:
    """Return a colour for each class, float64 (K, 3) in [0, 1]: from a list, then hues a golden section apart."""
    import_pyplot()
    from matplotlib.colors import hsv_to_rgb, to_rgb

    i = np.arange(n_classes)
    hsv = np.stack([i * 0.618034 % 1, 0.5 + 0.4 * (i % 2), 0.95 - 0.12 * (i % 3)], axis=-1)
    colours = np.asarray(hsv_to_rgb(hsv), np.float64)
    colours[: len(_COLOURS)] = [to_rgb(colour) for colour in _COLOURS[:n_classes]]
    return colours

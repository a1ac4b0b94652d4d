"""Names and colours of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask._sequences import listed_by_class
from conformask.plotting._axes import import_pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

__all__ = ["VOID_GREY", "class_patches", "draw_legend", "names_and_colours"]

VOID_GREY = 0.62


def names_and_colours(
    k: int, class_names: Sequence[str] | None, palette: ArrayLike | None
) -> tuple[list[str], NDArray[np.float64]]:
    """A name and a colour (K, 3) in [0, 1] for each class."""
    names = (
        [f"class {i}" for i in range(k)]
        if class_names is None
        else listed_by_class(class_names, "class_names")
    )
    if len(names) != k:
        raise ValueError(f"class_names must have {k} entries, one per class, got {len(names)}")
    if palette is None:
        return names, default_palette(k)
    colours = np.asarray(listed_by_class(palette, "palette"))
    if colours.shape != (k, 3):
        raise ValueError(f"palette must have shape {(k, 3)}, got {colours.shape}")
    colours = colours / 255 if colours.dtype.kind in "iu" else colours.astype(float)
    if not (colours.min() >= 0 and colours.max() <= 1):
        raise ValueError("palette must be integers from 0 to 255 or floating in [0, 1]")
    return names, colours


def class_patches(
    n_classes: int, class_names: Sequence[str] | None = None, palette: ArrayLike | None = None
) -> list[Patch]:
    """Return one legend handle per class, in the colours of :func:`plot_masks`."""
    from matplotlib.patches import Patch

    names, colours = names_and_colours(n_classes, class_names, palette)
    return [Patch(color=colour, label=name) for colour, name in zip(colours, names, strict=True)]


def draw_legend(
    ax: Axes,
    names: list[str],
    colours: NDArray[np.float64],
    present: NDArray[np.bool_],
    *,
    several: bool,
    void: bool,
) -> None:
    """Name the classes that are present, and what stripes and grey mean, beside the plot."""
    from matplotlib.patches import Patch

    patches = class_patches(len(names), names, colours)
    handles = [patches[k] for k in np.flatnonzero(present)]
    if several:
        handles.append(Patch(facecolor="white", edgecolor="0.25", hatch="////", label="several possible"))
    if void:
        handles.append(Patch(color=(VOID_GREY,) * 3, label="void"))
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)


def default_palette(n_classes: int) -> NDArray[np.float64]:
    """Return well-separated colours: Matplotlib's twenty, then hues a golden section apart."""
    import_pyplot()
    from matplotlib import colormaps
    from matplotlib.colors import hsv_to_rgb

    if n_classes <= 10:
        return np.asarray(colormaps["tab10"].colors)[:n_classes]  # type: ignore[attr-defined]
    if n_classes <= 20:
        return np.asarray(colormaps["tab20"].colors)[:n_classes]  # type: ignore[attr-defined]
    i = np.arange(n_classes)
    hsv = np.stack([i * 0.618034 % 1, 0.5 + 0.4 * (i % 2), 0.95 - 0.12 * (i % 3)], axis=-1)
    return np.asarray(hsv_to_rgb(hsv))

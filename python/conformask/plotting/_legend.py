"""Names, colours and legends of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask._sequences import listed_by_class
from conformask.plotting._palette import VOID_GREY, default_palette

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

__all__ = [
    "class_patches",
    "draw_legend",
    "key_to_panels",
    "legend_below",
    "legend_beside",
    "names_and_colours",
    "names_of",
    "void_patch",
]


def names_of(k: int, class_names: Sequence[str] | None) -> list[str]:
    """A name for each of K classes."""
    if class_names is None:
        return [f"class {i}" for i in range(k)]
    names = listed_by_class(class_names, "class_names")
    if len(names) != k:
        raise ValueError(f"class_names must have {k} entries, one per class, got {len(names)}")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"class_names must be strings, got {name!r}")
    return names


def names_and_colours(
    k: int, class_names: Sequence[str] | None, palette: ArrayLike | None
) -> tuple[list[str], NDArray[np.float64]]:
    """A name and a colour (K, 3) in [0, 1] for each class."""
    names = names_of(k, class_names)
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


def void_patch() -> Patch:
    """Return the legend handle of pixels without a label."""
    from matplotlib.patches import Patch

    return Patch(color=(VOID_GREY,) * 3, label="void")


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
    _beside(ax, [*handles, void_patch()] if void else handles)


def legend_beside(ax: Axes, shades: dict[str, NDArray[np.float64]], *, void: bool) -> None:
    """Name colours to the right of the axes."""
    handles = class_patches(len(shades), list(shades), np.stack([*shades.values()]))
    _beside(ax, [*handles, void_patch()] if void else handles)


def key_to_panels(*, void: bool) -> str:
    """What colours mean in the panels of classes: they have one title, and no room for a legend each."""
    return f"full colour: this class alone; light: one of several{'; flat grey: void' if void else ''}"


def legend_below(ax: Axes, handles: Sequence[Artist], *, ncols: int = 1) -> None:
    """Draw a legend below the axes, where it covers neither data nor the name of the axis."""
    size = ax.xaxis.label.get_fontproperties().get_size_in_points()
    points = 11 + 2.5 * size if ax.get_xlabel() else 5  # ticks, their numbers, the name
    _legend(ax, handles, (0, 0), (0, -points), ncols=ncols, borderpad=0, fontsize="small")


def _beside(ax: Axes, handles: Sequence[Artist]) -> None:
    """Draw a legend to the right of the axes, in as many columns as keep it about as low as they are."""
    from matplotlib import rcParams

    figure = ax.get_figure()
    assert figure is not None
    lines = 72 * ax.get_window_extent().height / figure.dpi / (1.45 * rcParams["font.size"])
    _legend(ax, handles, (1, 1), (4, 0), ncols=math.ceil(len(handles) / max(1.0, lines)))


def _legend(
    ax: Axes, handles: Sequence[Artist], corner: tuple[int, int], points: tuple[float, float], **look: Any
) -> None:
    """Draw a legend whose upper left corner lies some points from a corner of the axes."""
    from matplotlib.transforms import ScaledTranslation

    figure = ax.get_figure()
    assert figure is not None
    away = ScaledTranslation(points[0] / 72, points[1] / 72, figure.dpi_scale_trans)
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=corner,
        bbox_transform=ax.transAxes + away,
        borderaxespad=0,
        frameon=False,
        **look,
    )

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
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

__all__ = [
    "class_patches",
    "draw_legend",
    "key_to_panels",
    "legend_below",
    "legend_beside",
    "legend_under",
    "names_and_colours",
    "names_of",
    "shortened",
    "text_width",
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
    pixels: NDArray[np.int64],
    *,
    several: bool,
    void: bool,
    others: float | None = None,
) -> None:
    """Name the classes that have pixels, and what stripes and greys mean, beside the plot.

    `others` is the grey of classes that are not drawn.
    """
    from matplotlib.patches import Patch

    patches = class_patches(len(names), names, colours)
    last = []
    if several:
        last.append(Patch(facecolor="white", edgecolor="0.25", hatch="////", label="several possible"))
    if others is not None:
        last.append(Patch(color=(others,) * 3, label="other classes"))
    _beside(ax, patches, [*last, void_patch()] if void else last, pixels)


def legend_beside(
    ax: Axes, shades: dict[str, NDArray[np.float64]], *, void: bool, lines: Sequence[Artist] = ()
) -> None:
    """Name colours, and lines, to the right of the axes."""
    handles = [*class_patches(len(shades), list(shades), np.stack([*shades.values()])), *lines]
    _legend(ax, [*handles, void_patch()] if void else handles, (1, 1), (4, 0))


def key_to_panels(*, image: bool, void: bool) -> str:
    """One legend for the panels of classes, which have no room for a legend each."""
    words = ["full colour: this class alone in the set", "light: among others"]
    words += [f"{'bare' if image else 'black'}: not in it", *(["flat grey: void"] if void else [])]
    return "; ".join(words)


def legend_below(ax: Axes, handles: Sequence[Artist], n_columns: int | None = None) -> None:
    """Draw a legend below the axes, where it covers neither data nor the name of the axis; in 2 columns if they fit."""
    size = ax.xaxis.label.get_fontproperties().get_size_in_points()
    name = ax.get_xlabel()
    points = 11 + (2.5 + 1.2 * name.count("\n")) * size if name else 5  # ticks, their numbers, the name
    figure = ax.get_figure()
    assert figure is not None
    room = 72 * ax.get_window_extent().width / figure.dpi / (0.833 * size)
    lines = math.ceil(len(handles) / 2)
    fitting = (
        2 if _columns_width(handles, {handle: _width(handle) for handle in handles}, lines) <= room else 1
    )
    ncols = fitting if n_columns is None else n_columns
    _legend(ax, handles, (0, 0), (0, -points), ncols=ncols, borderpad=0, fontsize="small")


def legend_under(figure: Figure, classes: list[Patch], last: list[Patch], pixels: NDArray[np.int64]) -> int:
    """Draw a legend under all axes of a figure, in at most three lines; returns their number.

    Classes that do not fit, those with the fewest pixels, are only counted. The layout must be a constrained one.
    """
    from matplotlib import rcParams
    from matplotlib.patches import Patch

    room = 72 * figure.get_figwidth() / rcParams["font.size"] - 2
    for handle in classes:
        handle.set_label(shortened(str(handle.get_label()), 28))
    by_pixels = np.argsort(-pixels, kind="stable").tolist()
    more = Patch(visible=False, label=f"... and {len(classes)} more")
    widths: dict[Artist, float] = {handle: _width(handle) for handle in [*classes, *last, more]}

    def lines_of(handles: Sequence[Artist]) -> int | None:
        fitting = (lines for lines in (1, 2, 3) if _columns_width(handles, widths, lines) <= room)
        return next(fitting, None)

    handles, lines = [*classes, *last], lines_of([*classes, *last])
    for hidden in range(1, len(classes)):
        if lines is not None:
            break
        more.set_label(f"... and {hidden} more")
        handles = [*(classes[k] for k in sorted(by_pixels[:-hidden])), more, *last]
        lines = lines_of(handles)
    lines = lines or 3
    figure.legend(
        handles=handles, loc="outside lower center", ncols=math.ceil(len(handles) / lines), frameon=False
    )
    return lines


def _beside(ax: Axes, classes: list[Patch], last: list[Patch], pixels: NDArray[np.int64]) -> None:
    """Draw a legend to the right of the axes, in columns about as high as they are.

    It may use most of the width of the axes. Classes that do not fit, those with the fewest pixels, are only counted.
    """
    from matplotlib import rcParams
    from matplotlib.patches import Patch

    figure = ax.get_figure()
    assert figure is not None
    em = rcParams["font.size"]  # points
    box = ax.get_window_extent()
    width = 72 * box.width / figure.dpi / em
    shape = abs(float(np.diff(ax.get_ylim())[0])), abs(float(np.diff(ax.get_xlim())[0]))
    free = max(0.0, 1 - box.height * shape[1] / (box.width * shape[0]))  # share that a tall picture leaves
    is_tall = free > 0.4
    room = (0.75 * free if is_tall else 0.72) * width - 2  # without the margins
    lines = max(1, int(72 * box.height / figure.dpi / (1.45 * em)))
    for handle in classes:
        handle.set_label(shortened(str(handle.get_label()), max(20, int((room - 4) / 0.6))))
    by_pixels = np.argsort(-pixels, kind="stable")[: np.count_nonzero(pixels)]
    handles = [*(classes[k] for k in np.sort(by_pixels)), *last]
    more = Patch(visible=False, label=f"... and {len(classes)} more")
    widths = {handle: _width(handle) for handle in [*handles, more]}
    if _columns_width(handles, widths, lines) > room:
        lines = max(6, lines)
    for hidden in range(1, len(by_pixels)):
        if len(handles) <= lines or _columns_width(handles, widths, lines) <= room:
            break
        more.set_label(f"... and {hidden} more")
        handles = [*(classes[k] for k in np.sort(by_pixels[:-hidden])), more, *last]
    # A long legend begins at the top and may use the room below the picture; a tall picture makes room for it.
    taken = (_columns_width(handles, widths, lines) + 2) / width
    across = min(0.5, max(0.0, 1 - taken / free)) if is_tall else 0.5
    hangs = ax.get_anchor() == "N" or len(handles) > 0.6 * lines
    ax.set_anchor((across, 1.0 if hangs else 0.5))
    _legend(ax, handles, (1, 1), (4, 0), ncols=math.ceil(len(handles) / lines))


def shortened(name: str, longest: int) -> str:
    """A name, without its middle if it is too long (names often differ at the end)."""
    end = longest // 3
    return (
        name if len(name) <= longest else f"{name[: longest - end - 1]}\N{HORIZONTAL ELLIPSIS}{name[-end:]}"
    )


def _width(handle: Artist) -> float:
    """How wide an entry of a legend is, in sizes of its font: the colour, the text, a gap."""
    return 4.8 + text_width(str(handle.get_label()))


def text_width(text: str) -> float:
    """How wide a text is, in sizes of its font."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=1).vertices[:, 0].max()) if text.strip() else 0.0


def _columns_width(handles: Sequence[Artist], widths: dict[Artist, float], lines: int) -> float:
    """How wide the columns are of a legend of that many lines."""
    columns = math.ceil(len(handles) / lines)
    parts = [handles[i * len(handles) // columns : (i + 1) * len(handles) // columns] for i in range(columns)]
    return sum(max(widths[handle] for handle in part) for part in parts)


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

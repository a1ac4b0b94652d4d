"""Images in a row each: what they show, their labels, what the model says, and where it is unsure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask._arrays import is_void
from conformask.plotting._arguments import Calibrated
from conformask.plotting._legend import class_patches, legend_under, void_patch
from conformask.plotting.heatmaps import plot_varisco
from conformask.plotting.segmentations import plot_samples

__all__ = ["OverviewRow", "overview"]

_MOST_NAMES = 12  # of classes in a legend; of more, those that occur


class OverviewRow(NamedTuple):
    """What a row shows of an image; all rows have one shape."""

    image: NDArray[Any] | None  # (H, W) or (H, W, 3); in all rows or in none
    labels: NDArray[np.integer[Any]]  # (H, W)
    guess: NDArray[np.integer[Any]]  # the most probable class
    sizes: NDArray[np.integer[Any]]  # of the sets


def overview(
    rows: Sequence[OverviewRow],
    n_classes: int,
    width: float,
    *,
    largest: int | None = None,
    class_names: Sequence[str] | None = None,
    palette: ArrayLike | None = None,
    background: int | None = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    calibrator: Calibrated | None = None,
) -> Any:
    """A figure of its own, without pyplot, whose panels are so many inches wide.

    The scale of set sizes ends at `largest`; by default at the largest set of a labelled pixel.
    """
    from matplotlib.figure import Figure

    void = [is_void(row.labels, ignore_index) for row in rows]
    sizes = [np.where(unknown, 1, row.sizes) for row, unknown in zip(rows, void, strict=True)]
    largest = max(2, *(int(each.max()) for each in sizes)) if largest is None else max(2, largest)
    height = width * rows[0].labels.shape[0] / rows[0].labels.shape[1]
    around = 0.95 if calibrator is not None else 0.75  # the titles, in two lines or in one, and the legend
    figure = Figure(figsize=(4 * width + 0.9, (height + 0.06) * len(rows) + around), layout="constrained")
    grid = figure.subplots(len(rows), 4, squeeze=False)
    for i, (axes, row) in enumerate(zip(grid, rows, strict=True)):
        ground = np.zeros(row.labels.shape) if row.image is None else row.image
        axes[0].imshow(ground, cmap="gray", interpolation="nearest")
        axes[0].axis("off")
        plot_samples(
            row.guess[np.newaxis],
            row.image,
            n_classes=n_classes,
            palette=palette,
            labels=row.labels,
            ignore_index=ignore_index,
            background=background,
            opacity=1.0,
            legend=False,
            axes=axes[1:3],
        )
        plot_varisco(
            sizes[i],
            row.image,
            n_classes=largest,  # the scale of all rows ends there
            vmax=largest,
            labels=row.labels,
            ignore_index=ignore_index,
            legend=False,
            calibrator=calibrator,
            ax=axes[3],
        )
        for ax in axes[1:]:
            ax.set_anchor("C")  # rows fit their images: words beside a flat one reach above it and below
            if i > 0:
                ax.set_title("")
    grid[0, 0].set_title("image")
    grid[0, 2].set_title("most probable class")
    if rows[0].image is None:  # no black column
        for ax in grid[:, 0]:
            ax.remove()
        grid[0, 1].get_gridspec().set_width_ratios([0.01, 1, 1, 1])
        figure.set_figwidth(figure.get_figwidth() * 3 / 4)
    pixels = np.zeros(n_classes, np.int64) + sum(
        np.bincount(each[~is_void(each, ignore_index)], minlength=n_classes)[:n_classes]
        for row in rows
        for each in (row.labels, row.guess)
    )
    patches = class_patches(n_classes, class_names, palette)
    named = [k for k in range(n_classes) if k != background and (n_classes <= _MOST_NAMES or pixels[k])]
    last = [void_patch()] if any(unknown.any() for unknown in void) else []
    lines = legend_under(figure, [patches[k] for k in named], last, pixels[named])
    figure.set_figheight(figure.get_figheight() + 0.2 * (lines - 1))
    return figure

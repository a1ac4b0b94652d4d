"""A row for each image: the image, its labels, the most probable classes, and the set sizes."""

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

_MOST_NAMES = 12  # names in a legend: if there are more classes, it has those that occur


class OverviewRow(NamedTuple):
    """The arrays of an image for its row; all rows have the same shape."""

    image: NDArray[Any] | None  # (H, W) or (H, W, 3); in all rows or in none
    labels: NDArray[np.integer[Any]]  # (H, W)
    guess: NDArray[np.integer[Any]]  # the most probable class
    sizes: NDArray[np.integer[Any]]  # set sizes


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
    """A new figure, made without pyplot, whose panels have a given width in inches.

    The scale of set sizes ends at `largest`; by default at the largest set of a labelled pixel.
    """
    from matplotlib.figure import Figure

    void = [is_void(row.labels, ignore_index) for row in rows]
    sizes = [np.where(unknown, 1, row.sizes) for row, unknown in zip(rows, void, strict=True)]
    largest = max(2, *(int(each.max()) for each in sizes)) if largest is None else max(2, largest)
    height = width * rows[0].labels.shape[0] / rows[0].labels.shape[1]
    around = 0.95 if calibrator is not None else 0.75  # inches for titles (of two lines or one) and legend
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
            n_classes=largest,  # the end of the scale of all rows
            vmax=largest,
            labels=row.labels,
            ignore_index=ignore_index,
            legend=False,
            calibrator=calibrator,
            ax=axes[3],
        )
        for ax in axes[1:]:
            ax.set_anchor("C")  # texts beside a flat image reach above and below it
            if i > 0:
                ax.set_title("")
    grid[0, 0].set_title("image")
    grid[0, 2].set_title("most probable class")
    if rows[0].image is None:  # leave out what would be a black column
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

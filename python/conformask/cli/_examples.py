"""Images of the report, from hard to easy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from conformask._arrays import check_ignore_index, is_void
from conformask._files.maps import read_photograph
from conformask.cli import _page, _pictures
from conformask.cli._useful import Watched
from conformask.plotting._overview import OverviewRow, overview

__all__ = ["of_images"]

_PANEL = 2.55  # inches


def of_images(
    watched: Watched,
    report: cm.RiskReport,
    photographs: dict[str, Path] | None,
    class_names: Sequence[str] | None,
) -> list[str]:
    """Pictures of images, by the mean size of their sets."""
    order = np.lexsort(
        (np.nan_to_num(report.losses), report.activation_ratios)
    )  # by size; of equal sizes, by loss
    order = order[~np.isnan(report.activation_ratios[order])][::-1]  # the largest sets first
    if not len(order):
        return [_page.paragraph("No image has a labelled pixel.")]
    n = len(order)
    wished = {
        0: "largest sets",
        1: "largest sets",
        n // 2: "typical sets",
        (n - 1) // 2: "typical sets",
        n - 2: "smallest sets",
        n - 1: "smallest sets",
    }
    kinds = {rank: kind for rank, kind in wished.items() if rank >= 0}
    parts = [
        _page.paragraph(
            "Images are ordered by the number of classes in a set, on average over their pixels. The brighter a pixel "
            "in the heatmap, the more classes its set holds. Where its set holds one, the heatmap is dark, or shows "
            "the photograph in grey. Void pixels are flat grey in all panels."
        )
    ]
    largest, rows, ignore_index = 2, {}, check_ignore_index(watched.calibrator.ignore_index)
    for rank in kinds:
        place = int(order[rank])
        scores, labels = watched.folder[place]
        photograph = None
        if photographs is not None:
            photograph = read_photograph(photographs[watched.folder.names[place]])
        rows[rank] = _row(watched.sizes(place, scores), watched.guess(place, scores), labels, photograph)
        void = is_void(rows[rank][0].labels, ignore_index)
        largest = max(largest, int(np.where(void, 1, rows[rank][0].sizes).max()))
    for rank, kind in sorted(kinds.items()):
        place, (row, where) = int(order[rank]), rows[rank]
        drawn = overview(
            [row],
            watched.calibrator.n_classes_,
            _PANEL,
            largest=largest,
            class_names=class_names,
            ignore_index=ignore_index,
        )
        name, loss = watched.folder.names[place], report.losses[place]
        parts.append(
            _page.figure(
                _pictures.png_of(drawn),
                f"{name}: labels, most probable class and heatmap of the set sizes",
                f"{name}{where}: {kind}. {report.activation_ratios[place]:.3f} classes in a set on average, "
                + ("loss undefined." if math.isnan(loss) else f"loss {loss:.4f}."),
                round(drawn.get_figwidth() * _pictures.CSS_PIXELS),
            )
        )
    return parts


def _row(
    sizes: NDArray[Any], guess: NDArray[Any], labels: NDArray[Any], photograph: NDArray[Any] | None
) -> tuple[OverviewRow, str]:
    """What is drawn of an image, and of which slice of a volume."""
    if sizes.ndim == 2:
        return OverviewRow(photograph, labels, guess, sizes), ""
    most = _pictures.telling_slice(sizes)
    row = OverviewRow(None, labels[most], guess[most], sizes[most])
    return row, f", slice {most + 1} of {len(sizes)}"

"""Distances from a mask, and how far a mask must grow to hold a share of some pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["METRICS", "grown", "inner_need", "outer_need", "shrunk", "signed_distances"]

# SciPy's names of the metrics for its chamfer transform, which is exact for the last two.
METRICS: Mapping[str, str] = {"euclidean": "", "cityblock": "taxicab", "chessboard": "chessboard"}

Box: TypeAlias = tuple[slice, ...]


def distances_to(there: NDArray[np.bool_], metric: str, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distance of each pixel's centre from the nearest pixel of `there`; infinite if `there` is empty.

    The border of the image is no boundary. (If `there` is empty, SciPy would measure the distance from a place outside
    the image.)
    """
    if not there.any():
        return np.full(there.shape, math.inf)
    if metric == "euclidean":
        found: NDArray[np.float64] = ndimage.distance_transform_edt(~there, sampling=spacing)
        return found
    steps = ndimage.distance_transform_cdt(~there, metric=METRICS[metric])
    return np.asarray(steps * spacing[0], np.float64)


def _box(there: NDArray[np.bool_], pads: NDArray[np.float64] | int = 0) -> Box:
    """The smallest box around `there`, which is not empty, with so many more pixels along each axis."""
    (box,) = ndimage.find_objects(there.view(np.uint8))
    wide = np.broadcast_to(np.minimum(pads, max(there.shape)), there.ndim).astype(int).tolist()
    return tuple(
        slice(max(0, each.start - pad), min(length, each.stop + pad))
        for each, pad, length in zip(box, wide, there.shape, strict=True)
    )


def _need(
    source: NDArray[np.bool_],
    target: NDArray[np.bool_],
    share: Fraction,
    metric: str,
    spacing: NDArray[np.float64],
    box: Box | None = None,
) -> float:
    """The smallest m such that at least a share of the target is within m of the source; NaN for an empty target.

    The box must hold the missing part of the target, and the pixels of the source that are nearest to it.
    """
    total = int(np.count_nonzero(target))
    if not total:
        return math.nan
    missing = target & ~source
    n_missing = int(np.count_nonzero(missing))
    place = math.ceil(share * total) - (total - n_missing)  # a rank among the distances, from 1
    if place <= 0:
        return 0.0
    if not source.any():
        return math.inf
    box = _box(source | missing) if box is None else box
    distances = distances_to(source[box], metric, spacing)[missing[box]]
    return float(np.partition(distances, place - 1)[place - 1])


def outer_need(
    mask: NDArray[np.bool_],
    foreground: NDArray[np.bool_],
    share: Fraction,
    metric: str,
    spacing: NDArray[np.float64],
) -> float:
    """By how much a mask must grow to hold at least a share of the foreground; NaN if there is none."""
    return _need(mask, foreground, share, metric, spacing)


def inner_need(
    mask: NDArray[np.bool_],
    background: NDArray[np.bool_],
    share: Fraction,
    metric: str,
    spacing: NDArray[np.float64],
) -> float:
    """By how much a mask must shrink to leave out at least a share of the background; NaN if there is none."""
    return _need(~mask, background, share, metric, spacing, _around(mask) if mask.any() else None)


def _around(mask: NDArray[np.bool_]) -> Box:
    """A box that holds the nearest outside pixel of each pixel of a mask: one at the edge of the mask."""
    return _box(mask, 1)


def grown(
    mask: NDArray[np.bool_], margin: float, metric: str, spacing: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The pixels at most a margin away from a mask."""
    if not mask.any() or math.isinf(margin):
        return np.full(mask.shape, math.isinf(margin))
    box = _box(mask, np.ceil(margin / spacing) + 1)
    found = np.zeros(mask.shape, np.bool_)
    found[box] = distances_to(mask[box], metric, spacing) <= margin
    return found


def shrunk(
    mask: NDArray[np.bool_], margin: float, metric: str, spacing: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The pixels of a mask more than a margin away from what is outside."""
    found = np.zeros(mask.shape, np.bool_)
    if mask.any():
        box = _around(mask)
        found[box] = distances_to(~mask[box], metric, spacing) > margin
    return found


def signed_distances(
    mask: NDArray[np.bool_], metric: str, spacing: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The distances of pixels from a mask; for pixels of the mask, minus their distances from the outside."""
    return np.where(mask, -distances_to(~mask, metric, spacing), distances_to(mask, metric, spacing))

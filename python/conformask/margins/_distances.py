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

# What SciPy calls the metrics of its chamfer transform, which is exact for these two.
METRICS: Mapping[str, str] = {"euclidean": "", "cityblock": "taxicab", "chessboard": "chessboard"}

Box: TypeAlias = tuple[slice, ...]


def distances_to(there: NDArray[np.bool_], metric: str, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the centre of each pixel is from the nearest where something is; infinite if it is nowhere.

    The border of the image is no boundary. SciPy measures the distance from a place beside the image where there is
    nothing.
    """
    if not there.any():
        return np.full(there.shape, math.inf)
    if metric == "euclidean":
        found: NDArray[np.float64] = ndimage.distance_transform_edt(~there, sampling=spacing)
        return found
    steps = ndimage.distance_transform_cdt(~there, metric=METRICS[metric])
    return np.asarray(steps * spacing[0], np.float64)


def _box(there: NDArray[np.bool_], pads: NDArray[np.float64] | int = 0) -> Box:
    """The smallest box around what is there, and so many pixels more along each axis; it is somewhere."""
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
    """The smallest m such that at least a share of the target is within m of the source; NaN of no target.

    A box holds what is missing, and the pixels of the source that are nearest to it.
    """
    total = int(np.count_nonzero(target))
    if not total:
        return math.nan
    missing = target & ~source
    n_missing = int(np.count_nonzero(missing))
    place = math.ceil(share * total) - (total - n_missing)  # among the distances of what is missing, from 1
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
    """A box that holds, of each pixel of a mask, the nearest one outside: none is nearer than at its edge."""
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
    """How far pixels are from a mask, and, below 0, those of the mask from what is outside."""
    return np.where(mask, -distances_to(~mask, metric, spacing), distances_to(mask, metric, spacing))

"""Margins as they are defined: repeated dilations and erosions, and distances of all pairs of pixels. Slow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

VOID = 255


def element(ndim: int, metric: str) -> NDArray[np.bool_]:
    """What dilates by one step: a cross, or a full square or cube."""
    return ndimage.generate_binary_structure(ndim, 1 if metric == "cityblock" else ndim)


def dilated(mask: NDArray[np.bool_], steps: int, metric: str) -> NDArray[np.bool_]:
    for _ in range(steps):
        mask = ndimage.binary_dilation(mask, element(mask.ndim, metric))
    return mask


def eroded(mask: NDArray[np.bool_], steps: int, metric: str) -> NDArray[np.bool_]:
    """The border of the image erodes nothing."""
    for _ in range(steps):
        mask = ndimage.binary_erosion(mask, element(mask.ndim, metric), border_value=1)
    return mask


def pair_distances(there: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float64]:
    """The Euclidean distance of each pixel from the nearest where something is, by looking at all of these."""
    where = np.argwhere(there)
    if not len(where):
        return np.full(there.shape, math.inf)
    pixels = np.argwhere(np.ones(there.shape, bool))
    far = np.sqrt((((pixels[:, None] - where[None]) * np.array(spacing)) ** 2).sum(axis=-1))
    return far.min(axis=1).reshape(there.shape)


def outer_mask(
    mask: NDArray[np.bool_], margin: float, metric: str, spacing: Sequence[float]
) -> NDArray[np.bool_]:
    if metric != "euclidean":
        return dilated(mask, round(margin), metric)
    return pair_distances(mask, spacing) <= margin


def inner_mask(
    mask: NDArray[np.bool_], margin: float, metric: str, spacing: Sequence[float]
) -> NDArray[np.bool_]:
    if metric != "euclidean":
        return eroded(mask, round(margin), metric)
    return pair_distances(~mask, spacing) > margin


def is_right(held: NDArray[np.bool_], y: NDArray, side: str, share: Fraction) -> bool:
    """Whether an outer mask holds a share of the object, or an inner one at most the rest of the background."""
    of = y == (1 if side == "outer" else 0)
    n_right = (held if side == "outer" else ~held)[of].sum()
    return bool(int(n_right) >= share * int(of.sum()))


def need(
    mask: NDArray[np.bool_], y: NDArray, side: str, share: Fraction, metric: str, spacing: Sequence[float]
) -> float:
    """The smallest margin at which a mask is right: all candidates are tried."""
    if not (y == (1 if side == "outer" else 0)).any():
        return math.nan
    make, source = (outer_mask, mask) if side == "outer" else (inner_mask, ~mask)
    if metric == "euclidean":
        candidates = sorted({0.0, *pair_distances(source, spacing).ravel().tolist()} - {math.inf})
    else:
        candidates = [float(step) for step in range(sum(mask.shape))]
    for margin in candidates:
        if is_right(make(mask, margin, metric, spacing), y, side, share):
            return margin
    return math.inf


def margin(scores: Sequence[float], alpha: Fraction) -> float:
    """The smallest of 0 and the scores whose corrected risk is at most alpha."""
    n = len(scores)
    for m in sorted({0.0, *scores}):
        if Fraction(sum(score > m for score in scores) + 1, n + 1) <= alpha:
            return m
    return math.inf

"""How accurate the samples of a model are of one another. It shows, without labels, what accuracy is within reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._bands import MOST_NUMBERS, bands
from conformask.kernels import label_hits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.consign._settings import Settings

__all__ = ["agreements"]

_LEFT_OUT = 8  # samples of an image that are left out in turn, at most: more would take long


def agreements(
    samples: NDArray[np.floating[Any]], settings: Settings, index: int
) -> Iterator[tuple[float, float]]:
    """For each left-out sample (K, H, W): the accuracy of the mean of the others, and the best of all accuracies."""
    n, n_classes, *space = samples.shape
    if n < 2:
        raise ValueError(
            f"X has one sample in image {index}: samples are compared with one another, so "
            f"that at least two are needed"
        )
    replace(settings, n_components=0).decompose(samples, index)  # refuses as calibration does
    n_left_out = min(n, _LEFT_OUT)
    maps = np.empty((n + n_left_out, *space), np.uint16)  # label maps of the samples, then of the means
    for band in bands(tuple(space), MOST_NUMBERS // n_classes):
        total = np.zeros((), np.float64)
        for place in range(n):
            scores = samples[(place, slice(None), *band)]
            total = total + scores
            maps[(place, *band)] = scores.argmax(axis=0)
        for place in range(n_left_out):
            maps[(n + place, *band)] = (total - samples[(place, slice(None), *band)]).argmax(axis=0)
    for left_out in range(n_left_out):
        _, totals, hits = label_hits(maps[left_out], maps, None)
        shares = hits.sum(axis=1) / totals.sum() if settings.pixelwise else (hits / totals).mean(axis=1)
        low = float(shares[n + left_out])
        yield low, max(low, float(np.delete(shares[:n], left_out).max()))

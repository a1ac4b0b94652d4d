"""How accurate samples of a model are of one another: what accuracy can be asked for, before any label is seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask.kernels import label_hits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.consign._settings import Settings

__all__ = ["agreements"]

_LEFT_OUT = 8  # samples of an image: all pairs of many would take long


def agreements(
    samples: NDArray[np.floating[Any]], settings: Settings, index: int
) -> Iterator[tuple[float, float]]:
    """Of each sample (K, H, W) that is left out: how accurate are the mean of the others, and the best of all these."""
    n = len(samples)
    if n < 2:
        raise ValueError(f"X has one sample in image {index}: samples are compared with one another")
    maps, total = samples.argmax(axis=1), samples.sum(axis=0, dtype=np.float64)
    for left_out in range(min(n, _LEFT_OUT)):
        mean = (total - samples[left_out]).argmax(axis=0)
        others = np.concatenate([mean[None], np.delete(maps, left_out, axis=0)])
        _, totals, hits = label_hits(maps[left_out], others, None)
        shares = hits.sum(axis=1) / totals.sum() if settings.pixelwise else (hits / totals).mean(axis=1)
        yield float(shares[0]), float(shares.max())

"""How much measures vary between units (images, or groups of images). The order of the units does not matter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from conformask._exact import exact_mean, share_of
from conformask._intervals import LEVEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["mean_ends", "ratio_error", "wilson_ends"]

_NORMAL = float(special.ndtri((1 + LEVEL) / 2))


def mean_ends(values: NDArray[np.float64], least: float, most: float) -> tuple[float, float]:
    """Student's confidence interval for the mean of what is not NaN, cut at limits; NaN for fewer than two numbers."""
    known = values[~np.isnan(values)]
    n = len(known)
    if n < 2:
        return math.nan, math.nan
    mean = exact_mean(known)
    deviation = math.sqrt(math.fsum(((known - mean) ** 2).tolist()) / (n - 1))
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * deviation / math.sqrt(n)
    return max(least, mean - half), min(most, mean + half)


def ratio_error(sums: NDArray[np.float64], n: NDArray[np.float64]) -> float:
    """The standard error of ``sum(sums) / sum(n)`` for pixels in units; NaN for fewer than two units."""
    known = n > 0
    sums, n = sums[known], n[known]
    if len(n) < 2:
        return math.nan
    total = math.fsum(n.tolist())
    rest = sums - math.fsum(sums.tolist()) / total * n
    return math.sqrt(len(n) / (len(n) - 1) * math.fsum((rest**2).tolist())) / total


def wilson_ends(right: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Wilson's confidence intervals (M, 2) for the share of right pixels, from counts of units (G, M).

    The pixels of a unit are alike. So the number of pixels is replaced by the number of independent pixels whose share
    would vary as much. If all or none of the pixels are right, this is the number of units.
    """
    total = n.sum(axis=0)
    share = share_of(right.sum(axis=0), total)
    errors = np.array([ratio_error(*columns) for columns in zip(right.T, n.T, strict=True)])
    units = (n > 0).sum(axis=0)
    independent = share_of(share * (1 - share), errors**2)
    independent = np.where(np.isnan(independent), units, np.clip(independent, 1.0, np.maximum(total, 1.0)))
    with np.errstate(divide="ignore", invalid="ignore"):  # for bins without units
        shrink = 1 + _NORMAL**2 / independent
        centre = (share + _NORMAL**2 / (2 * independent)) / shrink
        half = (
            np.sqrt(share * (1 - share) / independent + (_NORMAL / (2 * independent)) ** 2) * _NORMAL / shrink
        )
        ends = np.stack([centre - half, centre + half], axis=-1)
    return np.asarray(np.clip(ends, 0.0, 1.0))

"""Measures from bins of confidences. All counts are whole numbers, so that sums are exact in any order.

Bins come as uint64 arrays ``(..., M, 4)``: pixels, how many of them are right, and the sum of their confidences in two
parts, whole multiples of ``2^32`` units and of one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from conformask import _core
from conformask._exact import exact_mean, share_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Bins",
    "adaptive_bins",
    "area_under_roc",
    "bins_of",
    "brier_parts",
    "debiased_squared_error",
    "expected_error",
    "jackknife",
    "largest_error",
    "pooled",
    "real",
    "risk_coverage_areas",
    "root_mean_square_error",
    "squared_error",
]

_HALF = 32  # bits of the lower part
_FEW = 64  # harmonic numbers up to this one are summed directly


class Bins(NamedTuple):
    """Pixels, how many of them are right, and the sum of their confidences: float64 arrays (..., M)."""

    n: NDArray[np.float64]
    right: NDArray[np.float64]
    sums: NDArray[np.float64]

    @property
    def total(self) -> NDArray[np.float64]:
        """Pixels of all bins."""
        return np.asarray(self.n.sum(axis=-1))

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """The accuracy in each bin; NaN in an empty one."""
        return share_of(self.right, self.n)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The mean confidence in each bin; NaN in an empty one."""
        return share_of(self.sums, self.n)

    @property
    def gaps(self) -> NDArray[np.float64]:
        """For each bin, its share of the pixels times the distance between accuracy and confidence."""
        return share_of(abs(self.right - self.sums), self.total[..., np.newaxis])


def real(parts: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The sum that is kept in two parts (..., 2), rounded once."""
    high, low = parts[..., 0] + (parts[..., 1] >> _HALF), parts[..., 1] & np.uint64(2**_HALF - 1)
    return np.asarray(high * (_core.CALIBRATION_UNIT * 2**_HALF) + low * _core.CALIBRATION_UNIT)


def bins_of(counts: NDArray[np.uint64]) -> Bins:
    """Counts (..., M, 4) as numbers to compute with."""
    return Bins(counts[..., 0].astype(np.float64), counts[..., 1].astype(np.float64), real(counts[..., 2:]))


def pooled(counts: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The sum over the first axis, exactly."""
    return np.asarray(counts.sum(axis=0, dtype=np.uint64))


def expected_error(bins: Bins) -> NDArray[np.float64]:
    """Mean over pixels of the distance between accuracy and confidence in their bin; NaN without pixels."""
    return np.asarray(bins.gaps.sum(axis=-1))


def largest_error(bins: Bins) -> tuple[float, int]:
    """The largest distance between accuracy and confidence in a bin, and the number of pixels there."""
    if not bins.n.any():
        return math.nan, 0
    gaps = share_of(abs(bins.right - bins.sums), bins.n)
    place = int(np.nanargmax(gaps))
    return float(gaps[place]), int(bins.n[place])


def squared_error(bins: Bins) -> NDArray[np.float64]:
    """Mean over pixels of the squared distance between accuracy and confidence in their bin; NaN without pixels."""
    squares = np.nan_to_num(share_of((bins.right - bins.sums) ** 2, bins.n))
    return share_of(squares.sum(axis=-1), bins.total)


def root_mean_square_error(bins: Bins) -> float:
    """The root of :func:`squared_error`."""
    return math.sqrt(squared_error(bins))


def debiased_squared_error(bins: Bins) -> NDArray[np.float64]:
    """:func:`squared_error` minus its bias for independently drawn pixels; bins of one pixel are left out."""
    accuracy, several = bins.accuracy, bins.n >= 2
    chance = share_of(accuracy * (1 - accuracy), bins.n - 1)
    terms = np.where(several, bins.n * ((accuracy - bins.confidence) ** 2 - chance), 0.0)
    return share_of(terms.sum(axis=-1), bins.total)


class BrierParts(NamedTuple):
    """Murphy's parts: reliability - resolution + uncertainty is the Brier score of the bins' mean confidences."""

    reliability: float
    resolution: float
    uncertainty: float


def brier_parts(bins: Bins) -> BrierParts:
    """Parts of the mean over pixels of ``(r - c) ** 2``: r is 1 for a right pixel, else 0, and c its bin's mean."""
    share = float(share_of(bins.right.sum(), bins.total))
    spread = np.nan_to_num(bins.n * (bins.accuracy - share) ** 2)
    resolution = float(share_of(spread.sum(), bins.total))
    return BrierParts(float(squared_error(bins)), resolution, share * (1 - share))


class Jackknife(NamedTuple):
    """A statistic with the bias from the sampling of units removed, and its standard error."""

    estimate: float
    standard_error: float


def jackknife(counts: NDArray[np.uint64], statistic: Any) -> Jackknife:
    """The jackknife for a statistic of pooled bins: it leaves out one unit of counts (n, M, 4) at a time."""
    counts = counts[counts[..., 0].any(axis=-1)]
    n = len(counts)
    if n < 2:
        return Jackknife(math.nan, math.nan)
    total = pooled(counts)
    others = statistic(bins_of(total - counts))
    mean = exact_mean(others)
    spread = math.fsum(((others - mean) ** 2).tolist())
    estimate = n * float(statistic(bins_of(total))) - (n - 1) * mean
    return Jackknife(estimate, math.sqrt((n - 1) / n * spread))


def adaptive_bins(ranks: NDArray[np.uint64], n_bins: int) -> NDArray[np.uint64]:
    """Bins (M, 4) with about equal numbers of pixels, joined from fine bins (R, 4)."""
    n = ranks[:, 0].astype(np.int64)
    ends = n.cumsum()
    # A fine bin goes where its middle pixel goes.
    place = n_bins * (2 * ends - n) // max(1, 2 * int(ends[-1]))
    bins = np.zeros((n_bins, 4), np.uint64)
    np.add.at(bins, np.minimum(place, n_bins - 1), ranks)
    return bins


def area_under_roc(ranks: NDArray[np.uint64]) -> float:
    """The probability that a right pixel is more confident than a wrong one. Pairs in a fine bin (R, 4) count half."""
    right = ranks[:, 1].astype(np.float64)
    wrong = ranks[:, 0].astype(np.float64) - right
    before = wrong.cumsum() - wrong
    return float(share_of((right * (before + wrong / 2)).sum(), right.sum() * wrong.sum()))


def risk_coverage_areas(ranks: NDArray[np.uint64]) -> tuple[float, float]:
    """The areas under the error rate of the kept pixels, and under this rate times the share of pixels that are kept.

    The most confident pixels are kept first. In a fine bin the wrong pixels are spread evenly.
    """
    n = ranks[::-1, 0].astype(np.float64)
    wrong = n - ranks[::-1, 1].astype(np.float64)
    n, wrong = n[n > 0], wrong[n > 0]
    if not len(n):
        return math.nan, math.nan
    before, wrong_before = n.cumsum() - n, wrong.cumsum() - wrong
    total = n.sum()
    steps = wrong + (wrong_before - wrong * before / n) * _harmonic_steps(before, n)
    joint = wrong_before * n + wrong * (n + 1) / 2
    return float(steps.sum() / total), float(joint.sum() / total**2)


def _harmonic_steps(before: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums of ``1 / i`` over ``before < i <= before + n``."""
    first = np.concatenate([[0.0], (1 / np.arange(1, _FEW + 1)).cumsum()])
    low, high = np.minimum(before, _FEW), np.minimum(before + n, _FEW)
    few = first[high.astype(np.intp)] - first[low.astype(np.intp)]
    # Beyond that: the difference of logarithms, with the corrections of Euler and Maclaurin.
    a, b = np.maximum(before, _FEW), np.maximum(before + n, _FEW)
    tail = np.log1p((b - a) / a)
    for power, factor in ((1, 1 / 2), (2, -1 / 12), (4, 1 / 120)):
        tail += factor * (b**-power - a**-power)
    return np.asarray(few + tail)

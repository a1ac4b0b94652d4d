"""The training losses of models of thresholds: functions of one image's threshold, with their derivatives."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from conformask import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.adaptive._network import TrainingLoss

    Array = NDArray[np.float64]

__all__ = ["own_thresholds", "soft_rate_loss", "squared_error"]


def own_thresholds(core: _core.BinaryValues, alpha: Fraction) -> Array:
    """For each image (n,), the largest threshold at which it misses at most the share alpha of its foreground."""
    zero, one = np.zeros(1), [Fraction(1)]
    found = (core.take([i]).correction(zero, one, alpha) for i in range(len(core)))
    return np.array([-t for t in found if t is not None])


def squared_error(targets: Array) -> TrainingLoss:
    """``(u - target)^2``."""

    def loss(thresholds: Array, indices: NDArray[np.intp]) -> tuple[Array, Array]:
        apart = thresholds - targets[indices]
        return apart**2, 2 * apart

    return loss


def soft_rate_loss(histograms: Array, alpha: Fraction, temperature: float) -> TrainingLoss:
    """``(TPR(u) - (1 - alpha))^2`` with a true positive rate that a sigmoid makes smooth."""

    def loss(thresholds: Array, indices: NDArray[np.intp]) -> tuple[Array, Array]:
        rates, slopes = _core.smooth_rates(histograms[indices], thresholds, temperature).T
        apart = rates - float(1 - alpha)
        return apart**2, 2 * apart * slopes

    return loss

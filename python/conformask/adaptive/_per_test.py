"""Thresholds that are computed for each new image, which joins the regression with the worst possible loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask.adaptive._quantiles import N_BINS, Standard, check_width, regress

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float64]

__all__ = ["PerTest"]

# A threshold above the beginning of a bin by less than this share of a bin counts as the beginning: the solver is no
# more exact.
_CLOSE = 1e-6


@dataclass(frozen=True, eq=False)
class PerTest:
    r"""What calibration keeps for new images: their features and the probabilities of their foregrounds, by bins.

    The threshold of a new image x is :math:`\varphi(x)^\top \theta`, where theta minimises

    .. math:: \sum_i s_i \int_0^{\varphi_i^\top \theta} (L_i(u) - \alpha) du + (1 - \alpha) \varphi(x)^\top \theta
        + \Lambda \|\theta_{1:}\|_1 :

    as if the loss of the new image were 1 at every threshold. :math:`\Lambda` is `penalty` times the total weight of
    the images, in which the new one counts 1. All losses are those of probabilities that are rounded
    down to the beginnings of 1,024 bins. This is done for new images too, so that the guarantee is unaffected.
    """

    features: Array  # (n, F)
    histograms: Array  # (n, B), shares of the foreground
    shares: Array  # (n,) how much each image counts
    alpha: Fraction
    penalty: float
    weighted: Array = field(init=False)  # histograms times shares
    start: Array = field(init=False)  # (n,) thresholds of calibration images if the new image is average

    def __post_init__(self) -> None:
        object.__setattr__(self, "weighted", self.histograms * self.shares[:, np.newaxis])
        if not len(self.shares):  # there were too few images
            object.__setattr__(self, "start", np.zeros(0))
            return
        standard = Standard.of(self.features, self.shares)
        design = standard.design(self.features)
        average = np.zeros(design.shape[1])
        average[0] = 1
        theta = self._theta(design, average, None)
        # If the objective has no least value for the average image, it has none for any: all masks are then full.
        object.__setattr__(self, "start", np.zeros(len(design)) if theta is None else design @ theta)

    def _theta(self, design: Array, new: Array, start: Array | None) -> Array | None:
        """The solution together with a new row of features."""
        n = float(self.shares.sum()) + 1
        right = float(self.alpha) * (self.shares @ design + new) - new
        return regress(design, self.weighted, right, self.penalty * n, start)

    def own_thresholds(self) -> Array:
        """Thresholds of the calibration images (n,) if the new image is average."""
        return _at_bins(self.start)

    def predict(
        self, features: Array, track: Callable[[Iterable[int]], Iterable[int]] = lambda rows: rows
    ) -> Array:
        """Thresholds (n,) in [0, 1] of features (n, F); those of an image do not depend on the other images."""
        return _at_bins(np.array([self._threshold(features[i]) for i in track(range(len(features)))]))

    def _threshold(self, new: Array) -> float:
        if not len(self.shares):
            return 0.0
        check_width(new[np.newaxis], self.features.shape[1])
        rows = np.concatenate([self.features, new[np.newaxis]])
        # Standardisation treats the new image like the calibration images, to keep them exchangeable.
        design = Standard.of(rows, np.append(self.shares, 1.0)).design(rows)
        theta = self._theta(design[:-1], design[-1], self.start)
        return 0.0 if theta is None else float(design[-1] @ theta)

    # Files

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""
        found: dict[str, Any] = {
            "features": self.features.tolist(),
            "shares": self.shares.tolist(),
            "bins": [np.flatnonzero(row).tolist() for row in self.histograms],
        }
        found["histograms"] = [
            row[bins].tolist() for row, bins in zip(self.histograms, found["bins"], strict=True)
        ]
        return found

    @classmethod
    def from_json(cls, document: dict[str, Any], n_features: int, alpha: Fraction, penalty: float) -> PerTest:
        """The inverse; refuses anything but a model of so many features."""
        if set(document) != {"features", "shares", "bins", "histograms"}:
            raise ValueError("the predictor was not saved by this version")
        features, shares = (np.array(document[name], np.float64) for name in ("features", "shares"))
        n = len(shares)
        if features.shape != (n, n_features) or not np.isfinite(features).all():
            raise ValueError(f"features of the predictor are no {n_features} numbers for each of its images")
        if shares.shape != (n,) or not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError("shares of the predictor are no numbers in [0, 1]")
        histograms = np.zeros((n, N_BINS))
        for row, bins, values in zip(histograms, document["bins"], document["histograms"], strict=True):
            if not all(type(i) is int and 0 <= i < N_BINS for i in bins):
                raise ValueError("bins of the predictor are invalid")
            row[bins] = values
        if not ((histograms >= 0) & (histograms <= 1)).all() or (histograms.sum(axis=1) > 1 + 1e-9).any():
            raise ValueError("histograms of the predictor are invalid")
        return cls(features, histograms, shares, alpha, penalty)


def _at_bins(thresholds: Array) -> Array:
    """The beginning of the first bin at or above each threshold."""
    found: Array = np.ceil(np.clip(thresholds, 0, 1) * N_BINS - _CLOSE) / N_BINS
    return np.maximum(found, 0)

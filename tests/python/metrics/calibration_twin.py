"""Calibration in plain NumPy, slow and readable: one image after another, one bin after another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

VOID = 255


def bins(confidence: NDArray[Any], right: NDArray[Any], n_bins: int) -> NDArray[np.float64]:
    """Pixels, right ones and summed confidence (M, 3) of bins (lo, hi], the first closed."""
    own = confidence.astype(np.float32) if confidence.dtype == np.float16 else confidence
    place = np.clip(np.ceil(own * own.dtype.type(n_bins)).astype(int) - 1, 0, n_bins - 1)
    confidence = confidence.astype(np.float64)
    return np.array(
        [[(place == b).sum(), right[place == b].sum(), confidence[place == b].sum()] for b in range(n_bins)],
        np.float64,
    )


def ece(table: NDArray[np.float64]) -> float:
    """The expected calibration error of bins."""
    total = table[:, 0].sum()
    return sum(n / total * abs(hits / n - conf / n) for n, hits, conf in table if n) if total else np.nan


def debiased(table: NDArray[np.float64]) -> float:
    """The debiased squared error of bins."""
    total, value = table[:, 0].sum(), 0.0
    for n, hits, conf in table:
        if n >= 2:
            accuracy = hits / n
            value += n / total * ((accuracy - conf / n) ** 2 - accuracy * (1 - accuracy) / (n - 1))
    return value


def brier_parts(table: NDArray[np.float64]) -> tuple[float, float, float]:
    """Reliability, resolution and uncertainty of the mean confidences of bins."""
    total, share = table[:, 0].sum(), table[:, 1].sum() / table[:, 0].sum()
    reliability = sum(n / total * (conf / n - hits / n) ** 2 for n, hits, conf in table if n)
    resolution = sum(n / total * (hits / n - share) ** 2 for n, hits, _ in table if n)
    return reliability, resolution, share * (1 - share)


def near_boundary(y: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """Labelled pixels that have another label in the square, or cube, around them."""
    near = np.zeros(y.shape, bool)
    for pixel in np.ndindex(y.shape):
        around = y[tuple(slice(max(0, at - width), at + width + 1) for at in pixel)]
        near[pixel] = y[pixel] != VOID and ((around != VOID) & (around != y[pixel])).any()
    return near


class Image:
    """The labelled pixels of an image: probabilities (K, m), labels, confidence."""

    def __init__(self, probabilities: NDArray[Any], y: NDArray[Any], width: int = 2) -> None:
        valid = y.ravel() != VOID
        self.p = probabilities.reshape(len(probabilities), -1)[:, valid]
        self.y = y.ravel()[valid].astype(int)
        self.prediction = self.p.argmax(axis=0)
        self.confidence = self.p.max(axis=0)
        self.right = self.prediction == self.y
        self.near = near_boundary(y, width).ravel()[valid]

    def nlls(self) -> NDArray[np.float64]:
        own = self.p[self.y, np.arange(len(self.y))].astype(np.float64)
        return np.asarray(-np.log(np.clip(own, 1e-12, 1)))

    def briers(self) -> NDArray[np.float64]:
        truth = np.arange(len(self.p))[:, np.newaxis] == self.y
        return np.asarray(((self.p.astype(np.float64) - truth) ** 2).sum(axis=0))

    def confusion(self) -> NDArray[np.int64]:
        k = len(self.p)
        return np.bincount(self.y * k + self.prediction, minlength=k * k).reshape(k, k)


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """As MMSegmentation counts it."""
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - confusion.diagonal()
    return float(np.mean([hit / all_ for hit, all_ in zip(confusion.diagonal(), union, strict=True) if all_]))

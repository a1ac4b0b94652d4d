"""The methods that are compared: ways to make sets, and label maps of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from conformask._arrays import label_array

__all__ = ["Consign", "Images", "Indices", "Method", "PixelWise"]

Indices: TypeAlias = NDArray[np.intp]


class Images:
    """Labelled images, one at a time."""

    def __init__(self, samples: Any, labels: Any, ignore_index: int | None) -> None:
        self.samples, self.labels, self.ignore_index = samples, labels, ignore_index
        # The indices of the images that have labelled pixels.
        self.places: Indices = np.array(
            [
                i
                for i, label in enumerate(labels)
                if ignore_index is None or (label_array(label, "labels") != ignore_index).any()
            ],
            np.intp,
        )

    def __len__(self) -> int:
        return len(self.places)

    def label(self, i: int) -> Any:
        return self.labels[self.places[i]]

    def sample(self, i: int) -> Any:
        return self.samples[self.places[i]]

    def mean(self, i: int) -> NDArray[np.float64]:
        """The mean softmax."""
        mean: NDArray[np.float64] = np.asarray(self.sample(i)).mean(axis=0, dtype=np.float64)
        return mean

    def pairs(self, chosen: Indices) -> Iterator[tuple[Any, Any]]:
        return ((self.sample(i), self.label(i)) for i in chosen)


class Method(Protocol):
    """A way to make sets, and label maps of them."""

    def calibrate(self, chosen: Indices) -> float:
        """Lambda-hat."""

    def statuses(self) -> dict[str, float]:
        """Shares of the calibration images by how their search ended, also if calibration failed."""

    def coverage(self, chosen: Indices) -> tuple[float, float]:
        """A lower and an upper bound."""

    def draw(self, i: int, m: int, key: int) -> tuple[NDArray[np.integer[Any]], float]:
        """Label maps (m, H, W), and the decimal logarithm of the number of label maps in the set."""


class Consign:
    def __init__(self, images: Images, k: int, alpha: float, min_accuracy: float) -> None:
        self.images = images
        self.calibrator = cm.ConsignCalibrator(
            k, alpha=alpha, min_accuracy=min_accuracy, ignore_index=images.ignore_index, progress=False
        )

    def calibrate(self, chosen: Indices) -> float:
        return self.calibrator.fit(self.images.pairs(chosen)).lambda_hat_

    def statuses(self) -> dict[str, float]:
        found = Counter(self.calibrator.image_status_.tolist())
        return {name: count / found.total() for name, count in sorted(found.items())}

    def coverage(self, chosen: Indices) -> tuple[float, float]:
        report = self.calibrator.evaluate(self.images.pairs(chosen))
        return report.coverage, report.coverage_bound

    def draw(self, i: int, m: int, key: int) -> tuple[NDArray[np.integer[Any]], float]:
        [found] = self.calibrator.predict([self.images.sample(i)])
        return found.sample(m, key), found.log10_volume_upper()


class PixelWise:
    """Sets of the mean softmax. The profiles of all images serve every split; results are exactly a calibrator's."""

    def __init__(self, images: Images, score: Any, alpha: float, min_accuracy: float) -> None:
        self.images, self.score, self.alpha = images, score, alpha
        self.loss = cm.LabelAccuracyLoss(min_accuracy)
        self.profiles = cm.profile(
            ((images.mean(i), images.label(i)) for i in range(len(images))),
            conformity_score=score,
            ignore_index=images.ignore_index,
            progress=False,
        )
        self.lam = math.nan

    def calibrate(self, chosen: Indices) -> float:
        self.lam = self.profiles[chosen].lambda_hat(self.loss, self.alpha)
        return self.lam

    def statuses(self) -> dict[str, float]:
        return {}

    def coverage(self, chosen: Indices) -> tuple[float, float]:
        covered = 1 - self.profiles[chosen].risk(self.loss, self.lam)
        return covered, covered

    def draw(self, i: int, m: int, key: int) -> tuple[NDArray[np.integer[Any]], float]:
        masks = cm.kernels.threshold(self.images.mean(i)[np.newaxis], self.lam, self.score)
        return cm.kernels.sample_masks(masks, m, key)[0], float(cm.metrics.log10_volume(masks))

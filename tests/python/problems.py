"""Small random calibration problems, and the losses in both tongues: ours and the twin's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import conformask as cm
import twin
from conformask.losses import Loss


@dataclass(frozen=True)
class Problem:
    X: NDArray[np.floating]
    y: NDArray[np.integer]

    @property
    def n_classes(self) -> int:
        return self.X.shape[1]

    def images(self, include_top1: bool = True) -> list[twin.Image]:
        return twin.critical_values(self.X, self.y, include_top1)


def probabilities(
    rng: np.random.Generator, shape: tuple[int, ...], levels: int | None, dtype: str
) -> NDArray:
    """Softmax-like maps (n, K, ...). With few `levels` many values are equal, within pixels and between them."""
    if levels is None:
        raw = rng.exponential(size=shape)
    else:
        raw = rng.integers(0, levels + 1, shape).astype(np.float64)
        raw[:, 0] += raw.sum(axis=1) == 0
    return (raw / raw.sum(axis=1, keepdims=True)).astype(dtype)


def labels(rng: np.random.Generator, X: NDArray, accuracy: float, void: float) -> NDArray[np.integer]:
    """Labels as a model of that accuracy would meet them; 255 where void."""
    y = X.argmax(axis=1)
    y = np.where(rng.random(y.shape) < accuracy, y, rng.integers(0, X.shape[1], y.shape))
    return np.where(rng.random(y.shape) < void, 255, y)


@st.composite
def problems(draw: st.DrawFn, min_images: int = 1, max_images: int = 12) -> Problem:
    n, n_classes = draw(st.integers(min_images, max_images)), draw(st.integers(2, 5))
    size = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = probabilities(
        rng,
        (n, n_classes, *size),
        draw(st.sampled_from([None, 1, 2, 3, 5, 10])),
        draw(st.sampled_from(["float16", "float32", "float64"])),
    )
    y = labels(rng, X, draw(st.sampled_from([0.0, 0.5, 0.9])), draw(st.sampled_from([0.0, 0.2, 0.8])))
    return Problem(X, y)


# Losses of every kind, from K.
LOSSES: dict[str, Callable[[int], tuple[Loss, twin.Loss]]] = {
    "miscoverage": lambda K: (cm.MiscoverageLoss(), twin.miscoverage()),
    "one class": lambda K: (cm.MiscoverageLoss(classes=[K - 1]), twin.miscoverage([K - 1])),
    "two classes": lambda K: (cm.MiscoverageLoss(classes=[0, 1]), twin.miscoverage([0, 1])),
    "balanced": lambda K: (cm.MiscoverageLoss("balanced"), twin.weighted()),
    "weights": lambda K: (
        cm.MiscoverageLoss([0.1 + 0.7 * k for k in range(K)]),
        twin.weighted([0.1 + 0.7 * k for k in range(K)]),
    ),
    "weights with a zero": lambda K: (
        cm.MiscoverageLoss([0, *[0.3] * (K - 1)]),
        twin.weighted([0, *[0.3] * (K - 1)]),
    ),
    "weights of classes": lambda K: (cm.MiscoverageLoss([0.3] * K, [0, 1]), twin.weighted([0.3] * K, [0, 1])),
    "binary": lambda K: (cm.BinaryLoss(), twin.binary()),
    "binary 0.7": lambda K: (cm.BinaryLoss(0.7), twin.binary(0.7)),
    "binary 0.9": lambda K: (cm.BinaryLoss(min_coverage=0.9), twin.binary(0.9)),
    "false negatives of one": lambda K: (cm.FalseNegativeLoss([K - 1]), twin.weighted(None, [K - 1])),
    "false negatives of two": lambda K: (cm.FalseNegativeLoss([0, 1]), twin.weighted(None, [0, 1])),
    "label accuracy 0.7": lambda K: (cm.LabelAccuracyLoss(0.7), twin.label_accuracy(0.7)),
    "label accuracy 1": lambda K: (cm.LabelAccuracyLoss(1.0), twin.label_accuracy(1.0)),
    "binary 1/3": lambda K: (cm.BinaryLoss(min_coverage=1 / 3), twin.binary(1 / 3)),
}

# Decimals that float64 misses on either side, round ones, and extreme ones.
ALPHAS = st.one_of(
    st.sampled_from([0.1, 0.3, 0.7, 1 / 3, 2 / 3, 0.05, 0.2, 0.25, 0.5, 0.9, 0.99, 0.001, 1 / 7, 1 - 2**-53]),
    st.integers(1, 99).map(lambda percent: percent / 100),
    st.floats(0.01, 0.99),
)


def wide(
    seed: int = 0, n: int = 40, n_classes: int = 4, size: tuple[int, ...] = (9, 7), dtype: str = "float32"
) -> Problem:
    """A problem with distinct critical values and some void, on which every loss is defined."""
    rng = np.random.default_rng(seed)
    X = probabilities(rng, (n, n_classes, *size), None, dtype)
    y = labels(rng, X, 0.6, 0.1)
    y.reshape(n, -1)[:, :n_classes] = np.arange(n_classes)
    return Problem(X, y)

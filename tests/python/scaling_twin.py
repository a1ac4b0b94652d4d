"""Slow and readable: what scalers look at, what they make of it, and images to fit them to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

WINDOW, FARTHEST = 5, 8


def problem(
    n: int = 12, seed: int = 0, k: int = 4, shape: tuple[int, ...] = (24, 31), scale: float = 3.0
) -> tuple[NDArray, NDArray]:
    """Smooth logits that are too sure of themselves, labels, and some void."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (n, k, *shape))
    logits = ndimage.gaussian_filter(logits, (0, 0, *[1.5] * len(shape)))
    logits *= 2 / logits.std()
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    y[rng.random(y.shape) < 0.1] = 255
    return scale * logits, y


def close(found: NDArray, expected: NDArray, tolerance: float) -> bool:
    """Whether arrays of one shape agree."""
    assert found.shape == expected.shape
    return bool((abs(found - expected) <= tolerance).all())


def entropy(p: NDArray) -> NDArray:
    """Over the first axis."""
    return special.entr(p).sum(axis=0)


def agreement(labels: NDArray) -> NDArray:
    """The share of the window's pixels that have the label of its centre."""
    padded = np.pad(labels, WINDOW // 2, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (WINDOW, WINDOW))
    return (windows == labels[..., None, None]).mean(axis=(2, 3))


def distance(labels: NDArray) -> NDArray:
    """The chessboard distance to another label, at most FARTHEST, over that."""
    out = np.full(labels.shape, FARTHEST)
    for label in np.unique(labels):
        inside = labels == label
        if not inside.all():
            steps = ndimage.distance_transform_cdt(inside, metric="chessboard")
            out = np.where(inside, np.minimum(steps, FARTHEST), out)
    return out / FARTHEST


def features(p: NDArray) -> NDArray:
    """Of probabilities (K, H, W) or (K, D, H, W)."""
    if p.ndim == 4:
        return np.stack([features(p[:, d]) for d in range(p.shape[1])], axis=1)
    largest = np.zeros((5, *p.shape[1:]))
    largest[: min(5, len(p))] = -np.sort(-p, axis=0)[:5]
    labels, h = p.argmax(axis=0), entropy(p)
    mean = ndimage.uniform_filter(h, WINDOW, mode="reflect")
    return np.stack([h, largest[0] - largest[1], *largest, agreement(labels), distance(labels), mean])


def tempered(u: NDArray, factors: NDArray) -> NDArray:
    """Softmax of logits (n, K, ...) times factors (n, ...)."""
    return special.softmax(u * factors[:, None], axis=1)


def log_loss(p: NDArray, y: NDArray) -> float:
    """The mean of the labelled pixels of probabilities (n, K, ...)."""
    labelled = y != 255
    own = np.take_along_axis(p, np.where(labelled, y, 0)[:, None], axis=1)[:, 0]
    return float(-np.log(own[labelled]).mean())

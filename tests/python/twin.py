"""The slow twin: every definition as it is written, in NumPy, exact fractions and loops. The oracle of the tests.

Scores are float64, as they are defined; everything that is summed, divided or compared with alpha is a `Fraction`.
Nothing is shared with the package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import ceil
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# (labels of the missed pixels, labels of all labelled pixels) -> loss, None where it is undefined
Loss: TypeAlias = Callable[[Sequence[int], Sequence[int]], Fraction | None]
# One image: the label and the critical value of each labelled pixel.
Image: TypeAlias = list[tuple[int, float]]


def decimal(number: float) -> Fraction:
    """What the shortest decimal of a float says: 0.7 is 7/10."""
    return number if isinstance(number, Fraction) else Fraction(str(number))


# Scores and sets


def scores(X: NDArray) -> NDArray[np.float64]:
    return 1.0 - np.asarray(X).astype(np.float64)


def top1(X: NDArray) -> NDArray[np.bool_]:
    """The most probable class of each pixel, the lowest of equals, as a mask like X."""
    n_classes = X.shape[1]
    classes = np.arange(n_classes).reshape(-1, *[1] * (X.ndim - 2))
    return classes == np.asarray(X).astype(np.float64).argmax(axis=1)[:, np.newaxis]


def masks(X: NDArray, lam: float, include_top1: bool = True) -> NDArray[np.bool_]:
    sets = scores(X) <= lam
    return sets | top1(X) if include_top1 else sets


def critical_values(
    X: NDArray, y: NDArray, include_top1: bool = True, ignore: int | None = 255
) -> list[Image]:
    values = np.maximum(scores(X), 0.0)  # sets start at lambda = 0
    if include_top1:
        values[top1(X)] = 0.0
    images = []
    for image, labels in zip(values, y, strict=True):
        flat = image.reshape(len(image), -1)
        pixels = enumerate(int(label) for label in labels.ravel())
        images.append(
            [(label, float(flat[label, j])) for j, label in pixels if ignore is None or label != ignore]
        )
    return images


# Losses


def miscoverage(classes: Iterable[int] | None = None) -> Loss:
    def loss(missed: Sequence[int], present: Sequence[int]) -> Fraction | None:
        counts = [
            sum(classes is None or label in classes for label in labels) for labels in (missed, present)
        ]
        return Fraction(counts[0], counts[1]) if counts[1] else None

    return loss


def weighted(weights: Sequence[float] | None = None, classes: Iterable[int] | None = None) -> Loss:
    """A weighted mean of the miss rates of the classes that the image has; without weights all weigh alike."""

    def weight(label: int) -> Fraction:
        if classes is not None and label not in classes:
            return Fraction(0)
        return Fraction(1) if weights is None else decimal(weights[label])

    def loss(missed: Sequence[int], present: Sequence[int]) -> Fraction | None:
        labels = set(present)
        total = sum(weight(label) for label in labels)
        if total == 0:
            return None
        rates = {label: Fraction(missed.count(label), present.count(label)) for label in labels}
        return sum((weight(label) * rates[label] for label in labels), Fraction()) / total

    return loss


def binary(min_coverage: float = 1.0) -> Loss:
    def loss(missed: Sequence[int], present: Sequence[int]) -> Fraction | None:
        if not present:
            return None
        covered = len(present) - len(missed)
        return Fraction(int(covered < ceil(decimal(min_coverage) * len(present))))

    return loss


def label_accuracy(min_accuracy: float) -> Loss:
    """1 if the mean over the image's labels of the share of their pixels that is covered is too low."""

    def loss(missed: Sequence[int], present: Sequence[int]) -> Fraction | None:
        miss_rate = weighted()(missed, present)
        return None if miss_rate is None else Fraction(int(1 - miss_rate < decimal(min_accuracy)))

    return loss


def of_coverage(function: Callable[[NDArray], NDArray]) -> Loss:
    """A function of the float64 share of covered pixels."""

    def loss(missed: Sequence[int], present: Sequence[int]) -> Fraction | None:
        if not present:
            return None
        coverage = np.array([(len(present) - len(missed)) / len(present)])
        return Fraction(float(function(coverage)[0]))

    return loss


def loss_at(image: Image, loss: Loss, lam: float) -> Fraction | None:
    return loss([label for label, value in image if value > lam], [label for label, _ in image])


# Risk and its control


def shares(
    images: Sequence[Image], loss: Loss, groups: Sequence | None, weights: Sequence[float] | None
) -> list[Fraction]:
    """What each image counts: nothing if its loss is undefined; in a group, its part of the group's mean."""
    counted = [loss_at(image, loss, 0.0) is not None for image in images]
    if groups is not None:
        members = [group for group, counts in zip(groups, counted, strict=True) if counts]
        return [
            Fraction(int(counts), members.count(group) or 1)
            for group, counts in zip(groups, counted, strict=True)
        ]
    return [
        Fraction(int(counts)) * (Fraction(1) if weights is None else decimal(weights[i]))
        for i, counts in enumerate(counted)
    ]


def risk(
    images: Sequence[Image],
    loss: Loss,
    lam: float,
    groups: Sequence | None = None,
    weights: Sequence[float] | None = None,
) -> Fraction:
    of_images = shares(images, loss, groups, weights)
    losses = [loss_at(image, loss, lam) or Fraction() for image in images]
    return sum((w * x for w, x in zip(of_images, losses, strict=True)), Fraction()) / sum(of_images)


def bound(
    images: Sequence[Image],
    loss: Loss,
    lam: float,
    groups: Sequence | None = None,
    weights: Sequence[float] | None = None,
) -> Fraction:
    """(n R(lambda) + B) / (n + 1), B = 1."""
    n = sum(shares(images, loss, groups, weights), Fraction())
    return (n * (risk(images, loss, lam, groups, weights) if n else 0) + 1) / (n + 1)


def candidates(images: Sequence[Image]) -> list[float]:
    """Where the risk may jump, ascending from 0."""
    return sorted({0.0, *(value for image in images for _, value in image)})


def lambda_hat(
    images: Sequence[Image],
    loss: Loss,
    alpha: float,
    groups: Sequence | None = None,
    weights: Sequence[float] | None = None,
) -> float | None:
    """The infimum. The bound falls with lambda, so candidates are halved; None if none is good enough."""
    low, high = 0, len(values := candidates(images))
    while low < high:
        middle = (low + high) // 2
        if bound(images, loss, values[middle], groups, weights) <= decimal(alpha):
            high = middle
        else:
            low = middle + 1
    return values[low] if low < len(values) else None


def order_index(n: int, alpha: float) -> int:
    """k: the calibrated quantile is the k-th smallest of n values; k > n says that there is none."""
    return ceil((n + 1) * (1 - decimal(alpha)))


# Measures


def activation_ratio(sets: NDArray[np.bool_], y: NDArray, ignore: int | None = 255) -> Fraction:
    """The mean over images of the mean set size over labelled pixels."""
    ratios = []
    for mask, labels in zip(sets, y, strict=True):
        valid = np.ones(labels.shape, bool) if ignore is None else labels != ignore
        if valid.any():
            ratios.append(Fraction(int(mask[:, valid].sum()), int(valid.sum())))
    return sum(ratios, Fraction()) / len(ratios)


def coverage(sets: NDArray[np.bool_], y: NDArray, ignore: int | None = 255) -> Fraction:
    """The mean over images of the share of labelled pixels whose set holds their label."""
    shares = []
    for mask, labels in zip(sets, y, strict=True):
        pixels = [p for p in np.ndindex(labels.shape) if ignore is None or labels[p] != ignore]
        if pixels:
            shares.append(Fraction(sum(bool(mask[(int(labels[p]), *p)]) for p in pixels), len(pixels)))
    return sum(shares, Fraction()) / len(shares)

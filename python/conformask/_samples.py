"""Samples of a model, image by image, and their labels: what CONSIGN's callers hand over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._images import SAMPLES, Volumes, in_memory, walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["VOID", "images", "labels_of"]

# What the kernels call a pixel that does not count.
VOID = -1
_MAX_CLASSES = 2**16


def labels_of(
    y: NDArray[np.integer[Any]], shape: tuple[int, ...], ignore_index: int | None, where: str, of: str = "X"
) -> NDArray[np.int32]:
    """Labels of the pixels of (K, H, W), -1 where void."""
    n_classes = shape[0]
    if y.shape != shape[1:]:
        hint = (
            "; an iterable yields one image (S, K, H, W) at a time"
            if len(shape) == 4 and y.shape[1:] == shape[2:]
            else ""
        )
        raise ValueError(f"y must have shape {shape[1:]} to match {of}{where}, got {y.shape}{hint}")
    if ignore_index is not None and 0 <= ignore_index < n_classes:
        raise ValueError(
            f"ignore_index={ignore_index} is one of the K = {n_classes} classes; "
            f"choose an index outside [0, {n_classes})"
        )
    void = np.zeros(y.shape, np.bool_) if ignore_index is None else y == ignore_index
    wrong = ~void & ((y < 0) | (y >= n_classes))
    if wrong.any():
        raise ValueError(
            f"y holds label {y[wrong][0]}{where}, outside [0, {n_classes}) and not the ignore index ({ignore_index})"
        )
    labels = y.astype(np.int32).ravel()  # before void is marked: unsigned types have no -1
    labels[void.ravel()] = VOID
    return labels


def images(
    X: Any, y: Any, progress: bool | str, with_labels: bool = True, volumes: Volumes = "auto"
) -> Iterator[tuple[NDArray[np.floating[Any]], Any, int]]:
    """Samples (S, K, H, W), labels (None without) and index of each image."""
    if in_memory(X) and X.ndim not in (5, 6):
        raise ValueError(
            f"X must have shape (n, S, K, H, W) or (n, S, K, D, H, W), got {X.shape}; one image is X[None]; "
            "for models without samples there is ConformalRiskCalibrator"
        )
    for samples, labels, index in walk(
        X, y, SAMPLES, progress, labelled=with_labels, at_once=1, volumes=volumes
    ):
        yield _checked(samples[0], index), None if labels is None else labels[0], index


def _checked(samples: NDArray[np.floating[Any]], index: int) -> NDArray[np.floating[Any]]:
    """Samples of one image, of a shape that makes sense."""
    if samples.ndim not in (4, 5):
        raise ValueError(
            f"each image of X must have shape (S, K, H, W) or (S, K, D, H, W); image {index} has {samples.shape}"
        )
    if 0 in samples.shape:
        raise ValueError(f"X is empty: image {index} has shape {samples.shape}")
    n_classes = samples.shape[1]
    if n_classes == 1:
        raise ValueError(
            f"X has one class (K = 1) in image {index}; for a binary model stack both classes first: "
            "np.concatenate([1 - p, p], axis=-3)"
        )
    if n_classes > _MAX_CLASSES:
        raise ValueError(f"X has K = {n_classes} classes, at most {_MAX_CLASSES} are supported")
    return samples

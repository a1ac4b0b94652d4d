"""Samples of a model, image by image, and their labels: what CONSIGN's callers hand over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from conformask import _core
from conformask._arrays import is_array, label_array, length, score_array, track, zip_strict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.consign._settings import Settings

__all__ = ["VOID", "Kind", "Problem", "Problems", "images", "label_codes"]

# What the kernels call a pixel that does not count.
VOID = -1
_MAX_CLASSES = 2**16


def label_codes(
    y: NDArray[np.integer[Any]],
    decomposition: _core.ConsignDecomposition,
    ignore_index: int | None,
    index: int | None = None,
) -> NDArray[np.int32]:
    """Classes of the pixels of an image (of a set, if it has no index), -1 where void."""
    shape = tuple(decomposition.shape)
    if y.shape != shape[1:]:
        hint = (
            "; an iterable yields one image (S, K, H, W) at a time"
            if len(shape) == 4 and y.shape[1:] == shape[2:]
            else ""
        )
        what = "the set" if index is None else f"X in image {index}"
        raise ValueError(f"y must have shape {shape[1:]} to match {what}, got {y.shape}{hint}")
    return decomposition.labels(y, ignore_index, index)


def images(
    X: Any, y: Any, progress: bool | str, with_labels: bool = True
) -> Iterator[tuple[NDArray[np.floating[Any]], NDArray[np.integer[Any]], int]]:
    """Samples (S, K, H, W), labels and index of each image."""
    no_labels = np.zeros(0, np.int64)
    if is_array(X):
        array = score_array(X)
        if array.ndim not in (5, 6):
            raise ValueError(
                f"X must have shape (n, S, K, H, W) or (n, S, K, D, H, W), got {array.shape}; one image is X[None]; "
                "for models without samples there is ConformalRiskCalibrator"
            )
        if with_labels and y is None:
            raise TypeError(
                "y is missing: give labels (n, H, W), or as X an iterable of (samples, labels) pairs"
            )
        labels = label_array(y) if with_labels else None
        if labels is not None and labels.shape != array.shape[:1] + array.shape[3:]:
            raise ValueError(
                f"y must have shape {array.shape[:1] + array.shape[3:]} to match X {array.shape}, got {labels.shape}"
            )
        for index in track(range(len(array)), progress, len(array)):
            yield (
                _checked(array[index], index),
                no_labels if labels is None else np.asarray(labels[index]),
                index,
            )
        return
    if getattr(X, "batch_size", None) is not None:
        raise TypeError(
            f"X yields batches of {X.batch_size} images, but must yield one image at a time: batch_size=None"
        )
    if not isinstance(X, Iterable) or isinstance(X, str | bytes | dict):
        raise TypeError(
            f"X must be an array, a list of images or an iterable of images, got {type(X).__name__}"
        )
    pairs: Iterable[Any] = X
    if with_labels and y is not None:
        pairs = zip_strict(X, y)
    for index, image in enumerate(track(pairs, progress, length(X))):
        where = f" in image {index}"
        if not with_labels:
            if isinstance(image, tuple):
                raise TypeError(
                    f"X must yield samples alone here, image {index} is a tuple: leave out the labels"
                )
            yield _checked(score_array(image, where), index), no_labels, index
            continue
        if not isinstance(image, tuple | list) or len(image) != 2:
            raise TypeError(
                f"without y, X must yield (samples, labels) pairs; image {index} is {type(image).__name__}"
            )
        yield _checked(score_array(image[0], where), index), label_array(image[1], where=where), index


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


class Kind(NamedTuple):
    """What all images have in common."""

    n_classes: int
    n_axes: int  # of space

    @classmethod
    def of(cls, samples: NDArray[Any]) -> Kind:
        return cls(samples.shape[1], samples.ndim - 2)

    def check(self, samples: NDArray[Any], index: int, others: str) -> None:
        """Refuses an image of another kind."""
        if samples.ndim - 2 != self.n_axes:
            raise ValueError(
                f"X has {samples.ndim - 2} axes of space in image {index}, but {others} had {self.n_axes}: images are "
                "(S, K, H, W) or (S, K, D, H, W), one at a time"
            )
        if samples.shape[1] != self.n_classes:
            raise ValueError(
                f"X has K = {samples.shape[1]} classes in image {index}, but {others} had K = {self.n_classes}"
            )


class Problem(NamedTuple):
    """An image, and the class of each of its pixels, -1 where void."""

    decomposition: _core.ConsignDecomposition
    labels: NDArray[np.int32]


class Problems:
    """What images ask of a search, one by one; None is one without labelled pixels that counts."""

    kind: Kind

    def __init__(
        self,
        images: Iterable[tuple[NDArray[np.floating[Any]], NDArray[np.integer[Any]], int]],
        settings: Settings,
        on_empty: str,
        kind: Kind | None = None,
    ) -> None:
        self._images, self._settings = images, settings
        self._on_empty, self._known = on_empty, kind
        self.n_skipped = 0

    def __iter__(self) -> Iterator[Problem | None]:
        kind, others = self._known, "calibration" if self._known else "earlier images"
        index = None
        for samples, y, index in self._images:
            kind = kind or Kind.of(samples)
            kind.check(samples, index, others)
            problem = self._problem(samples, y, index)
            if problem is None and self._on_empty == "raise":
                raise ValueError(f"image {index} has no labelled pixel (on_empty='raise')")
            if problem is None and self._on_empty == "skip":
                self.n_skipped += 1
                continue
            yield problem
        if kind is None or index is None:
            raise ValueError("X is empty: it holds no image")
        self.kind = kind

    def _problem(
        self, samples: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]], index: int
    ) -> Problem | None:
        decomposition = self._settings.decompose(samples, index)
        labels = label_codes(y, decomposition, self._settings.ignore_index, index)
        return Problem(decomposition, labels) if (labels != VOID).any() else None

"""Samples of a model and labels, image by image, as CONSIGN's callers pass them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from conformask import _core
from conformask._agreement import warn_of_unrelated
from conformask._arrays import is_void, look_like_shares
from conformask._images import SAMPLES, Volumes, axes_hint, count, in_memory, walk
from conformask._units import KnownUnits, check_groups, known_units
from conformask._warnings import warn_caller
from conformask.profiles.repeats import warn_of_repeats

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from conformask.consign._settings import Settings

__all__ = ["VOID", "Kind", "Problem", "Problems", "images", "label_codes", "units_of"]

# The kernels' label of a pixel that does not count.
VOID = -1
_MAX_CLASSES = 2**16
_SWAPPED = "are S and K swapped? Each image is (S, K, H, W)"


def label_codes(
    y: NDArray[np.integer[Any]],
    decomposition: _core.ConsignDecomposition,
    ignore_index: int | tuple[int, ...] | None,
    index: int | None = None,
) -> NDArray[np.int32]:
    """Classes of the pixels of an image, -1 where void. Without an index, messages are about a set."""
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
    X: Any, y: Any, progress: bool | str, with_labels: bool = True, volumes: Volumes = "auto"
) -> Iterator[tuple[NDArray[np.floating[Any]], Any, int]]:
    """Samples (S, K, H, W), labels (None without) and index of each image."""
    if in_memory(X) and X.ndim not in (5, 6):
        hint = "one image is X[None]; " if X.ndim == 4 else ""
        raise ValueError(
            f"X must have shape (n, S, K, H, W) or (n, S, K, D, H, W), got {X.shape}; {hint}"
            "for models without samples there is ConformalRiskCalibrator"
        )
    for samples, labels, index in walk(
        X, y, SAMPLES, progress, labelled=with_labels, at_once=1, volumes=volumes
    ):
        image = _checked(samples[0], index)
        if index == 0 and _may_be_swapped(image):
            warn_caller(
                f"X sums to 1 over its samples in image 0, not over its classes: {_SWAPPED}", UserWarning
            )
        yield image, None if labels is None else labels[0], index


def _may_be_swapped(samples: NDArray[np.floating[Any]]) -> bool:
    """Whether the numbers sum to 1 over the samples, and not over the classes."""
    n_space = samples.ndim - 2
    return look_like_shares(samples, 0, n_space) and not look_like_shares(samples, 1, n_space)


def _checked(samples: NDArray[np.floating[Any]], index: int) -> NDArray[np.floating[Any]]:
    """Samples of one image; refuses wrong shapes."""
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
    n_axes: int  # the number of axes of space
    n_samples: tuple[int, ...] | None = None  # the numbers of samples that are allowed; None: any

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
                f"{axes_hint((1, *samples.shape), self.n_classes, SAMPLES)}"
            )
        if self.n_samples is not None and len(samples) not in self.n_samples:
            raise ValueError(
                f"X has S = {len(samples)} samples in image {index}, but {others} had S = "
                f"{', '.join(map(str, self.n_samples))}: with weight='sigma' the size of the sets depends "
                f"on S. Pass as many samples, or weight='relative'"
            )


def units_of(n: int, groups: list[int | str] | None, n_skipped: int) -> KnownUnits:
    """The units of n images that count, when `n_skipped` others were left out."""
    return replace(known_units(np.ones(n, bool), groups, None), n_skipped=n_skipped)


class Problem(NamedTuple):
    """An image, and the class of each of its pixels, -1 where void."""

    decomposition: _core.ConsignDecomposition
    labels: NDArray[np.int32]

    def counts(self, n_classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labelled pixels of each class (K,), and those that the mean of the samples gets right."""
        found = self.decomposition
        predicted = found.label_map(np.zeros(len(found.singular_values))).ravel()
        right = self.labels[self.labels == predicted]
        totals, hits = (
            np.bincount(each, minlength=n_classes) for each in (self.labels[self.labels != VOID], right)
        )
        return totals, hits


class Problems:
    """The problems of images for a search, one by one; None for an image without labelled pixels that counts."""

    kind: Kind

    def __init__(
        self, X: Any, y: Any, settings: Settings, kind: Kind | None = None, groups: ArrayLike | None = None
    ) -> None:
        groups = check_groups(groups, count(X))  # checked before the images are read
        self._images = images(X, y, settings.progress, volumes=settings.volumes)
        self._settings, self._known, self._groups = settings, kind, groups
        self._counted: list[bool] = []
        self._n_samples: set[int] = set()
        self._totals: list[NDArray[np.int64]] = []
        self._right: list[NDArray[np.int64]] = []
        self._places: dict[bytes, int] = {}
        self.repeats: list[tuple[int, int]] = []  # pairs of an earlier image and its repeat

    def __iter__(self) -> Iterator[Problem | None]:
        kind, others = self._known, "calibration" if self._known else "earlier images"
        on_empty = self._settings.on_empty
        for samples, y, index in self._images:
            kind = kind or Kind.of(samples)
            kind.check(samples, index, others)
            problem = self._problem(samples, y, index)
            if problem is None and on_empty == "raise":
                raise ValueError(f"image {index} has no labelled pixel (on_empty='raise')")
            self._counted.append(problem is not None or on_empty != "skip")
            self._n_samples.add(len(samples))
            if problem is not None:
                self._compare(problem, index)
            if self._counted[-1]:
                totals, right = (np.zeros(kind.n_classes, np.int64) for _ in range(2))
                if problem is not None:
                    totals, right = problem.counts(kind.n_classes)
                self._totals.append(totals)
                self._right.append(right)
                yield problem
        if kind is None or not self._counted:
            raise ValueError("X is empty: it holds no image")
        matters = self._settings.weight == "sigma"
        self.kind = kind._replace(n_samples=tuple(sorted(self._n_samples)) if matters else None)

    def _compare(self, problem: Problem, index: int) -> None:
        """Checks whether an image came before, with the same labels and samples."""
        found, place = problem.decomposition, hashlib.blake2b(digest_size=16)
        if not len(found.singular_values):  # images with equal samples may be alike by chance
            return
        for part in (problem.labels, found.mean, found.singular_values, found.centre, found.half):
            place.update(part.tobytes())
        first = self._places.setdefault(place.digest(), index)
        if first != index:
            self.repeats.append((first, index))

    def warn_of_repeats(self) -> None:
        """Warns of images that come twice, unless they are in the same group, which counts once."""
        groups = check_groups(self._groups, len(self._counted))
        pairs = [pair for pair in self.repeats if groups is None or groups[pair[0]] != groups[pair[1]]]
        warn_of_repeats(pairs, len(self._counted))

    def warn_of_labels(self) -> None:
        """Warns if labels hardly belong to samples."""
        if not self._totals:  # no image counts
            return
        totals, right = (np.stack(each).sum(axis=0).astype(np.uint64) for each in (self._totals, self._right))
        warn_of_unrelated(totals, right, sum(int(each.any()) for each in self._totals))

    @property
    def n_skipped(self) -> int:
        """Number of images that do not count."""
        return self._counted.count(False)

    def totals(self) -> NDArray[np.int64]:
        """Labelled pixels of each class (n, K) in the images that count."""
        return np.stack(self._totals)

    def groups(self) -> list[int | str] | None:
        """The groups of the images that count."""
        groups = check_groups(self._groups, len(self._counted))
        if groups is None:
            return None
        return [group for group, counts in zip(groups, self._counted, strict=True) if counts]

    def units(self) -> KnownUnits:
        """The units of the images that count."""
        return units_of(self._counted.count(True), self.groups(), self.n_skipped)

    def _problem(
        self, samples: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]], index: int
    ) -> Problem | None:
        decomposition = self._settings.decompose(samples, index)
        try:
            labels = label_codes(y, decomposition, self._settings.ignore_index, index)
        except ValueError as error:
            n_samples, n_classes = samples.shape[:2]
            if (
                y.shape == samples.shape[2:]
                and (y[~is_void(y, self._settings.ignore_index)] < n_samples).all()
            ):
                raise ValueError(f"{error}; X has S = {n_samples} and K = {n_classes}: {_SWAPPED}") from None
            raise
        return Problem(decomposition, labels) if (labels != VOID).any() else None

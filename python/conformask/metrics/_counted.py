"""Counts by which calibration is measured. Counts of different images or processes add up exactly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._arrays import (
    check_ignore_index,
    check_inputs,
    label_array,
    score_array,
    warn_of_shares,
)
from conformask._calibrator import warn_skipped
from conformask._exact import as_fraction, share_of
from conformask._images import SCORES, Volumes, check_volumes, not_empty, walk
from conformask._sequences import listed
from conformask._tensors import is_coarse
from conformask._text import shown
from conformask._transforms import checked_inputs, transform_of
from conformask._units import check_groups, known_units

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Asked", "Counted", "clusters", "count", "iou_of", "joined", "paired"]

_MOST_BINS = 1000
_MOST_CLASSES = 2**16 - 1
_MOST_WIDTH = 10**6


@dataclass(frozen=True)
class Asked:
    """What to count, and what the numbers are."""

    n_bins: int
    inputs: str = "probabilities"
    transform: Any = None
    ignore_index: int | tuple[int, ...] | None = 255
    boundary_width: int | None = None
    class_threshold: float | None = None
    object_classes: Any = None
    volumes: Volumes = "auto"
    boundary: str = "labels"  # or "prediction"
    losses: bool = True  # log loss, Brier score and ranks: else they are 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_bins", _whole(self.n_bins, "n_bins", 1, _MOST_BINS))
        check_inputs(self.inputs)
        object.__setattr__(self, "ignore_index", check_ignore_index(self.ignore_index))
        if self.boundary_width is not None:
            object.__setattr__(
                self, "boundary_width", _whole(self.boundary_width, "boundary_width", 1, _MOST_WIDTH)
            )
        if self.boundary not in ("labels", "prediction"):
            raise ValueError(f"boundary must be 'labels' or 'prediction', got {shown(self.boundary)}")
        if self.class_threshold is not None:
            threshold = as_fraction(self.class_threshold, "class_threshold")
            if not 0 <= threshold < 1:
                raise ValueError(f"class_threshold must be in [0, 1), got {shown(self.class_threshold)}")
            object.__setattr__(self, "class_threshold", float(threshold))
        check_volumes(self.volumes)
        if self.object_classes is not None:
            classes = listed(self.object_classes, "object_classes")
            found = tuple(_whole(each, "each of object_classes", 0, _MOST_CLASSES - 1) for each in classes)
            if not found or self.boundary_width is None:
                raise ValueError("object_classes must be at least one class, with a boundary_width")
            object.__setattr__(self, "object_classes", found)
        object.__setattr__(self, "transform", transform_of(self.transform))
        checked_inputs(self.inputs, self.transform)

    def objects(self, n_classes: int) -> list[bool] | None:
        """Which of K classes are those of objects."""
        if self.object_classes is None:
            return None
        largest = max(self.object_classes)
        if largest >= n_classes:
            raise ValueError(f"object_classes must be from 0 to {n_classes - 1}, got {largest}")
        return [label in self.object_classes for label in range(n_classes)]

    def numbers(self, maps: Any, first: int) -> str | _core.ScalerMap:
        """How the kernel reads the numbers of maps, the first of which is number `first`."""
        if self.transform is not None:
            kernel: _core.ScalerMap = self.transform.kernel(maps, first)
            return kernel
        return "bfloat16 probabilities" if self.inputs == "probabilities" and is_coarse(maps) else self.inputs


def _whole(value: object, name: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an int, got {shown(value)}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, got {shown(value)}")
    return int(value)


@dataclass(frozen=True, eq=False)
class Counted:
    """Counts for n images: for each, and for all together."""

    bins: NDArray[np.uint64]  # (n, 3, M, 4): away from other labels, near them, outside the boxes of objects
    sums: NDArray[np.uint64]  # (n, 3, 2): log loss, Brier score, confidence of the right pixels
    ious: NDArray[np.float64]  # (n,) the mean IoU of each image
    groups: tuple[int | str, ...] | None
    class_images: NDArray[np.uint64]  # (K,) images that hold a class
    ranks: NDArray[np.uint64]  # (R, 4)
    confusion: NDArray[np.uint64]  # (K, K)
    classes: NDArray[np.uint64]  # (K, M, 4), or (0, M, 4)

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.confusion)

    @property
    def n_pixels(self) -> NDArray[np.uint64]:
        """Labelled pixels of each image."""
        return np.asarray(self.bins[..., 0].sum(axis=(1, 2)))

    def warn_of_void(self) -> None:
        """Warns of images without a labelled pixel, which are left out."""
        valid = self.n_pixels > 0
        units = known_units(valid, self.groups, None)
        hint = "" if valid.any() else "; check ignore_index"
        warn_skipped(units.n_skipped, len(valid), units, "{} have no labelled pixel", hint)

    def check_fits(self, other: Counted) -> None:
        """Refuses images that cannot be added."""
        if self.n_classes != other.n_classes:
            raise ValueError(f"K differs: {self.n_classes} before, {other.n_classes} now")
        if (self.groups is None) != (other.groups is None):
            raise ValueError("groups must be given for all images or for none")

    def plus(self, other: Counted) -> Counted:
        """These images and others."""
        groups = None if self.groups is None or other.groups is None else self.groups + other.groups
        return Counted(
            np.concatenate([self.bins, other.bins]),
            np.concatenate([self.sums, other.sums]),
            np.concatenate([self.ious, other.ious]),
            groups,
            self.class_images + other.class_images,
            self.ranks + other.ranks,
            self.confusion + other.confusion,
            self.classes + other.classes,
        )


def count(
    y: Any, X: Any, asked: Asked, groups: Any = None, first_image: int = 0, before: Counted | None = None
) -> Counted:
    """Counts for images, the first of which is number `first_image`, to be added to earlier counts."""
    if X is None:
        raise TypeError(
            "X is missing: give labels and scores, (y, X), or None and as X an iterable of (scores, labels) pairs"
        )
    n_classes = None if before is None else before.n_classes
    looked_at = before is not None
    per_image: list[tuple[NDArray[Any], ...]] = []
    class_images: Any = 0
    totals: list[NDArray[np.uint64]] = []
    for maps, labels, place in not_empty(walk(X, y, SCORES, volumes=asked.volumes), "X"):
        first = first_image + place
        scores = score_array(maps)
        objects = asked.objects(scores.shape[1]) if scores.ndim in (4, 5) else None
        if n_classes is not None and scores.ndim in (4, 5) and n_classes != scores.shape[1]:
            raise ValueError(
                f"X has K = {scores.shape[1]} classes in image {first}, but K = {n_classes} before"
            )
        bins, sums, pixels, *pooled = _core.calibration_counts(
            scores,
            label_array(labels),
            asked.numbers(maps, first),
            asked.ignore_index,
            asked.n_bins,
            asked.boundary_width,
            asked.boundary == "prediction",
            objects,
            asked.class_threshold,
            asked.losses,
            first,
        )
        if not looked_at:
            warn_of_shares(scores[0], asked.inputs)
        n_classes, looked_at = scores.shape[1], True
        per_image.append((bins, sums, iou_of(*pixels.swapaxes(0, 1))))
        class_images = class_images + (pixels[:, 0] > 0).sum(axis=0, dtype=np.uint64)
        totals = (
            list(pooled) if not totals else [each + more for each, more in zip(totals, pooled, strict=True)]
        )
    bins, sums, ious = (np.concatenate(parts) for parts in zip(*per_image, strict=True))
    names = check_groups(groups, len(bins))
    counted = Counted(bins, sums, ious, None if names is None else tuple(names), class_images, *totals)
    if before is not None:
        before.check_fits(counted)
    return counted


def paired(parts: list[Counted]) -> list[Counted]:
    """Merges parts until each has more images than the next, so that few counts are added often."""
    while len(parts) > 1 and len(parts[-2].bins) <= len(parts[-1].bins):
        *parts, first, second = parts
        parts = [*parts, first.plus(second)]
    return parts


def joined(parts: Iterable[Counted]) -> Counted:
    """The images of all parts; there is at least one part."""
    few: list[Counted] = []
    for part in parts:
        if few:
            few[0].check_fits(part)
        few = paired([*few, part])
    return reduce(Counted.plus, few)


def iou_of(
    totals: NDArray[np.uint64], predicted: NDArray[np.uint64], hits: NDArray[np.uint64]
) -> NDArray[np.float64]:
    """The mean intersection over union, along the last axis, of the classes that occur in the labels or predictions."""
    ious = share_of(hits, totals + predicted - hits)
    known = ~np.isnan(ious)
    return share_of(np.where(known, ious, 0.0).sum(axis=-1), known.sum(axis=-1))


def clusters(values: NDArray[Any], groups: Sequence[int | str] | None) -> NDArray[Any]:
    """Counts of each unit, along the first axis: of an image, or summed over the images of a group."""
    if groups is None:
        return values
    names = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(names), *values.shape[1:]), values.dtype)
    np.add.at(sums, [names[group] for group in groups], values)
    return sums

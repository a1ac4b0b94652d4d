"""Pixels drawn from images, to which a scaler is fitted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._agreement import warn_of_unrelated
from conformask._arrays import label_array, score_array, warn_of_shares
from conformask._images import SCORES, Volumes, not_empty, walk
from conformask._transforms import refuse_coarse
from conformask._units import check_groups
from conformask.profiles.repeats import warn_of_repeats
from conformask.scaling._features import pixel_features

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["LEAST", "Drawn", "PixelSample", "Pixels", "draw"]

# Smaller probabilities get the logarithm of this one.
LEAST = 1e-12
# Images with fewer different numbers in so many pixels are not compared.
_FEWEST, _LOOKED_AT = 8, 128
_HARM = "the map leans to them, and standard errors are too small"


@dataclass(frozen=True, eq=False)
class Drawn:
    """The pixels drawn from one image."""

    values: NDArray[Any]  # (m, K)
    labels: NDArray[np.uint16]
    n_valid: int
    hash: int  # hash of all labels of the image; 0 if they are all the same
    group: int | str | None
    features: NDArray[np.float32] | None = None  # (m, F), if the surroundings of pixels are used

    @cached_property
    def digest(self) -> bytes:
        """A hash of all data: equal for equal data."""
        digest = hashlib.blake2b(self.values.tobytes(), digest_size=16)
        digest.update(self.labels.tobytes())
        if self.features is not None:
            digest.update(self.features.tobytes())
        return digest.digest()

    @property
    def key(self) -> tuple[int, int]:
        """A key that is equal for equal images, and for few others. It costs nothing to compute."""
        return self.hash, self.n_valid

    @cached_property
    def is_compared(self) -> bool:
        """Whether the image has so many different numbers that no other image has them by chance."""
        few = self.values[:: -(-len(self.values) // _LOOKED_AT)]
        return len(np.unique(few)) >= _FEWEST


_COMPARED = 1024  # pixels of an image whose most probable class is compared with the label

# A map is first fitted to every so many-th pixel, if that gives enough pixels. Few steps are left from there.
_THINNED, _ENOUGH = 16, 8192


@dataclass(frozen=True, eq=False)
class Pixels:
    """Drawn pixels as kernels take them."""

    features: NDArray[np.float64]  # (K, N)
    labels: NDArray[np.uint16]  # (N,)
    weights: NDArray[np.float64]  # (N,), with sum 1, such that all labelled pixels count equally
    ends: NDArray[np.uintp]  # where the pixels of each image (group) end
    is_centred: bool  # whether features are logarithms of probabilities

    def units(self) -> NDArray[np.intp]:
        """The index of each pixel's image (group), (N,)."""
        return np.searchsorted(self.ends, np.arange(len(self.labels)), side="right")

    def only(self, chosen: NDArray[np.bool_]) -> Pixels:
        """Some of the pixels, at least one; images (groups) without chosen pixels are left out."""
        weights = self.weights[chosen]
        counts = np.bincount(self.units()[chosen], minlength=len(self.ends))
        return Pixels(
            np.ascontiguousarray(self.features[:, chosen]),
            self.labels[chosen],
            weights / weights.sum(),
            np.cumsum(counts[counts > 0]).astype(np.uintp),
            self.is_centred,
        )

    @cached_property
    def fewer(self) -> Pixels | None:
        """Every so many-th pixel; None if these are too few."""
        if len(self.labels) < _THINNED * _ENOUGH:
            return None
        weights = np.ascontiguousarray(self.weights[::_THINNED])
        return replace(
            self,
            features=np.ascontiguousarray(self.features[:, ::_THINNED]),
            labels=np.ascontiguousarray(self.labels[::_THINNED]),
            weights=weights / weights.sum(),
            ends=(self.ends + np.uintp(_THINNED - 1)) // np.uintp(_THINNED),
        )

    def own_loss(self) -> float:
        """The mean log loss of the probabilities whose logarithms the features are."""
        n_pixels = len(self.labels)
        own = self.features.ravel()[self.labels * np.intp(n_pixels) + np.arange(n_pixels)]
        return -float(self.weights @ own)


class PixelSample:
    """Pixels of many images."""

    def __init__(self, images: Sequence[Drawn], n_classes: int, n_skipped: int) -> None:
        self.images = tuple(images)
        self.n_classes = n_classes
        self.n_skipped = n_skipped

    def merge(self, other: PixelSample) -> PixelSample:
        """The images of both."""
        if self.n_classes != other.n_classes:
            raise ValueError(f"K = {other.n_classes} classes came to images with K = {self.n_classes}")
        if self.images and other.images and (self.images[0].group is None) != (other.images[0].group is None):
            before, now = ("none", "groups") if self.images[0].group is None else ("groups", "none")
            raise ValueError(
                f"the images before have {before}, these have {now}: groups must be given for all images or for none"
            )
        return PixelSample([*self.images, *other.images], self.n_classes, self.n_skipped + other.n_skipped)

    def warn_of_repeats(self, n_before: int = 0, *, looked_at: bool = False) -> None:
        """Warns of images that come twice, except repeats among the first `n_before`, which were reported before.

        If the later images were `looked_at`, too, it only reports those that repeat one of the first.
        """
        later = {image.key for image in self.images[n_before:]}
        found: dict[bytes, int] = {}
        pairs = []
        alike: dict[Any, list[int]] = {}
        for i, image in enumerate(self.images):
            if image.key in later:
                alike.setdefault(image.key, []).append(i)
        for i in sorted(i for same in alike.values() if len(same) > 1 for i in same):
            if self.images[i].is_compared:
                first = found.setdefault(self.images[i].digest, i)
                if i >= n_before and first < (n_before if looked_at else i):
                    pairs.append((first, i))
        warn_of_repeats(pairs, len(self.images), named=not self.n_skipped, harm=_HARM)

    def warn_of_unrelated(self) -> None:
        """Warns if the labels hardly belong to the scores, by some of the drawn pixels."""
        totals, agreed = np.zeros((2, self.n_classes), np.uint64)
        for image in self.images:
            some = slice(None, None, -(-len(image.labels) // _COMPARED))
            labels = image.labels[some]
            totals += np.bincount(labels, minlength=self.n_classes).astype(np.uint64)
            right = labels[image.values[some].argmax(axis=1) == labels]
            agreed += np.bincount(right, minlength=self.n_classes).astype(np.uint64)
        warn_of_unrelated(totals, agreed, len(self.images))

    def absent_classes(self) -> list[int]:
        """The classes that no drawn pixel is labelled with."""
        counts = np.zeros(self.n_classes, np.intp)
        for image in self.images:
            counts += np.bincount(image.labels, minlength=self.n_classes)
        found: list[int] = np.flatnonzero(counts == 0).tolist()
        return found

    def units(self) -> list[list[Drawn]]:
        """The images that count, by group if there are groups, in an order that depends only on the images."""
        # They are sorted by labels, which do not depend on the model; by the model's numbers only if labels are equal.
        same: dict[Any, list[Drawn]] = {}
        for image in self.images:
            same.setdefault((*image.key, image.labels.tobytes()), []).append(image)
        members: dict[Any, list[Drawn]] = {}
        for key in sorted(same):
            alike = same[key] if len(same[key]) == 1 else sorted(same[key], key=lambda image: image.digest)
            for image in alike:
                members.setdefault(len(members) if image.group is None else (image.group,), []).append(image)
        return list(members.values())

    def values(self) -> NDArray[Any]:
        """The model's numbers for each pixel, (N, K), in the order of images in :meth:`units`."""
        return np.concatenate([image.values for unit in self.units() for image in unit])

    def features(self) -> NDArray[np.float32]:
        """The features of each pixel and its surroundings, (F, N)."""
        found = [image.features for unit in self.units() for image in unit]
        return np.ascontiguousarray(np.concatenate([each for each in found if each is not None]).T)

    def pixels(self, inputs: str, *, centred: bool) -> Pixels:
        """Logits of all pixels, or the logarithms of their softmax."""
        units = self.units()
        images = [image for unit in units for image in unit]
        # In the order of classes, so that sums over classes are sums of rows.
        sizes = np.array([len(image.labels) for image in images])
        values = np.empty((self.n_classes, sizes.sum()))
        for image, end in zip(images, np.cumsum(sizes), strict=True):
            values[:, end - len(image.labels) : end] = image.values.T
        if inputs == "probabilities":
            np.log(np.maximum(values, LEAST, out=values), out=values)
        if centred:
            _core.centre_logits(values)
        n_valid = sum(image.n_valid for image in images)
        shares = np.array([image.n_valid for image in images]) / sizes / n_valid
        ends = np.cumsum([sum(len(image.labels) for image in unit) for unit in units])
        return Pixels(
            values,
            np.concatenate([image.labels for image in images]),
            np.repeat(shares, sizes),
            ends.astype(np.uintp),
            centred,
        )


def draw(
    X: Any,
    y: Any,
    *,
    inputs: str,
    ignore_index: int | tuple[int, ...] | None,
    n_pixels: int,
    seed: int,
    groups: ArrayLike | None,
    volumes: Volumes,
    progress: bool | str,
    around: bool = False,
) -> PixelSample:
    """Draws at most `n_pixels` labelled pixels of each image; with `around`, also features of their surroundings."""
    found: list[Any] = []
    features: list[NDArray[np.float32] | None] = []
    n_classes = 0
    for scores, labels, first in not_empty(walk(X, y, SCORES, progress, volumes=volumes), "X"):
        if n_classes and scores.shape[1] != n_classes:
            raise ValueError(
                f"X has K = {scores.shape[1]} classes in image {first}, but K = {n_classes} before"
            )
        refuse_coarse(scores, inputs)
        array = score_array(scores)
        drawn = _core.draw_pixels(array, label_array(labels), ignore_index, n_pixels, seed, first)
        found += drawn
        for i, (values, _, n_valid, _, positions) in enumerate(drawn):
            if inputs == "probabilities":
                _check_shares(values, positions, array.shape[2:], first + i)
            looked = around and n_valid > 0
            features.append(_features_at(array[i : i + 1], inputs, first + i, positions) if looked else None)
        if not n_classes:
            warn_of_shares(scores[0], inputs)
        n_classes = array.shape[1]
    names = check_groups(groups, len(found))
    images = [
        Drawn(values, labels, n_valid, label_hash, None if names is None else names[i], features[i])
        for i, (values, labels, n_valid, label_hash, *_) in enumerate(found)
        if n_valid
    ]
    return PixelSample(images, n_classes, len(found) - len(images))


def _check_shares(
    values: NDArray[Any], positions: NDArray[np.uint64], shape: tuple[int, ...], index: int
) -> None:
    """Refuses pixels (m, K) of an image that do not hold probabilities."""
    sums = values.sum(axis=1, dtype=np.float64)
    off = abs(sums - 1) > _core.SUM_TOLERANCE + _core.SUM_SLACK
    bad = off | (values < 0).any(axis=1)
    if bad.any():
        j = int(bad.argmax())
        pixel = tuple(map(int, np.unravel_index(int(positions[j]), shape)))
        raise ValueError(
            f"X must hold probabilities, but in image {index} they sum to {sums[j]:.6g} at pixel {pixel}, the least is "
            f"{values[j].min():.6g}; if these are logits, pass inputs='logits'"
        )


def _features_at(
    image: NDArray[Any], inputs: str, index: int, positions: NDArray[np.uint64]
) -> NDArray[np.float32]:
    """Features of some pixels of one image (1, K, ...), (m, F)."""
    planes = pixel_features(image, inputs, index, around=True)
    return np.ascontiguousarray(planes.reshape(planes.shape[1], -1)[:, positions].T)

"""What is shown of one image: its sets at some lambdas, their classes, and what they miss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from conformask import _backend
from conformask._arrays import is_void
from conformask._tensors import is_tensor
from conformask._transforms import seen_by_scores
from conformask.explorer._source import Read
from conformask.risk_control._solution import Configuration

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LookedAt", "Pixel", "Sets"]


@dataclass(frozen=True)
class Pixel:
    """The set of a pixel."""

    probabilities: NDArray[np.float64]  # (K,)
    held: NDArray[np.bool_]  # (K,)
    label: int | None  # None without labels
    is_void: bool


class Sets:
    """The sets of an image."""

    def __init__(self, masks: NDArray[np.bool_], image: LookedAt) -> None:
        self.masks = masks  # (K, H, W) or (K, D, H, W)
        self._image = image

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """The number of classes in each set, (H, W) or (D, H, W)."""
        sizes: NDArray[np.int64] = self.masks.sum(axis=0)
        return sizes

    @cached_property
    def missed(self) -> NDArray[np.bool_]:
        """Labelled pixels whose set lacks the label; nowhere without labels."""
        labels, seen = self._image.labels, self._image.seen
        if labels is None:
            return np.zeros(seen.shape, bool)
        known = np.where(seen, labels, 0)[np.newaxis].astype(np.int64)
        covered: NDArray[np.bool_] = np.take_along_axis(self.masks, known, axis=0)[0]
        return seen & ~covered

    @property
    def activation(self) -> float:
        """The mean size of the sets of labelled pixels, or of all pixels without labels; NaN if there are none."""
        sizes = self.sizes[self._image.seen]
        return float(sizes.mean()) if sizes.size else math.nan

    @property
    def coverage(self) -> float:
        """The share of labelled pixels whose set holds the label; NaN without labels."""
        n = np.count_nonzero(self._image.seen)
        if self._image.labels is None or not n:
            return math.nan
        return 1 - float(np.count_nonzero(self.missed) / n)

    @property
    def shares(self) -> NDArray[np.float64]:
        """For each of the sizes 0 to K, its share of the pixels that count in :attr:`activation`."""
        sizes = self.sizes[self._image.seen]
        return np.bincount(sizes, minlength=len(self.masks) + 1) / max(1, sizes.size)


class LookedAt:
    """An image, as a calibrator with a configuration reads it."""

    def __init__(self, read: Read, configuration: Configuration, place: int) -> None:
        self._maps, self._asked, self._place = read.maps, configuration, place
        self.picture, self.labels, self.shape = read.picture, read.labels, read.shape
        self.void = np.zeros(self.shape, bool)
        if self.labels is not None:
            self.void = is_void(self.labels, configuration.ignore_index)
            self._check_labels()
        self._known: tuple[tuple[float, ...], Sets] | None = None

    @property
    def seen(self) -> NDArray[np.bool_]:
        """The pixels that count in numbers: those that are not void."""
        return ~self.void

    def sets(self, lambdas: NDArray[np.float64]) -> Sets:
        """The sets at one lambda, or at one for each class; the last result is kept."""
        key = tuple(lambdas.tolist())
        if self._known is None or self._known[0] != key:
            asked = self._asked
            masks = _backend.masks(
                self._maps,
                key if len(key) > 1 else key[0],
                asked.conformity_score,
                asked.given,
                self._place,
            )[0]
            self._known = key, Sets(masks, self)
        return self._known[1]

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class, the lowest of equals."""
        return np.asarray(self._numbers.argmax(axis=0), np.int64)

    def pixel(self, at: tuple[int, ...], sets: Sets) -> Pixel:
        """The set of a pixel, and the probability of each class there."""
        there: Any = (slice(None), *at)
        numbers = np.asarray(self._numbers[there], np.float64)
        if self._asked.given == "logits":
            numbers = softmax(numbers)
        elif self._asked.given == "scores":
            numbers = numbers / numbers.sum()
        label = None if self.labels is None else int(self.labels[at])
        return Pixel(numbers, sets.masks[there], label, bool(self.void[at]))

    @cached_property
    def _numbers(self) -> NDArray[Any]:
        """For each class and pixel (K, ...): probabilities, or numbers with the same ranking."""
        maps = seen_by_scores(self._asked.given, self._maps, self._place)[0]
        return np.asarray(maps.float().cpu().numpy() if is_tensor(maps) else maps)

    def _check_labels(self) -> None:
        assert self.labels is not None
        n_classes = self._maps.shape[1]
        wrong = self.seen & ((self.labels < 0) | (self.labels >= n_classes))
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"y holds label {self.labels[at]} at pixel {at} of image {self._place}, but K = {n_classes} and "
                f"ignore_index = {self._asked.ignore_index}"
            )

"""Images that are read one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._arrays import refuse_members, refuse_path
from conformask._images import SCORES, Volumes, axes_hint, count, is_whole, walk
from conformask._sequences import has_order
from conformask._text import plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Read", "Source"]


@dataclass(frozen=True)
class Read:
    """The data of an image."""

    maps: Any  # (1, K, H, W) or (1, K, D, H, W), as kernels take them
    labels: NDArray[np.integer[Any]] | None  # (H, W) or (D, H, W)
    picture: NDArray[Any] | None  # the same, or with three colours behind

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the labels: (H, W) or (D, H, W)."""
        return tuple(self.maps.shape[2:])


class Source:
    """Score maps, with labels and pictures if there are any, by the index of the image."""

    def __init__(self, X: Any, images: Any, y: Any, n_classes: int, volumes: Volumes) -> None:
        self.n = _length(X, "X")
        if self.n == 0:
            raise ValueError("X is empty: it holds no image")
        for name, values in {"images": images, "y": y}.items():
            if values is not None and (m := _length(values, name)) != self.n:
                raise ValueError(f"X has {plural(self.n, 'image')}, {name} has {m}")
        self._X, self._images, self._y = X, images, y
        self._n_classes, self._volumes = n_classes, volumes

    def read(self, place: int) -> Read:
        """An image."""
        maps, labels = self._scores(place)
        if maps.shape[1] != self._n_classes:
            raise ValueError(
                f"X has K = {maps.shape[1]} classes in image {place}, but calibration had K = {self._n_classes}"
                f"{axes_hint(tuple(maps.shape), self._n_classes)}"
            )
        picture = None if self._images is None else np.asarray(self._images[place])
        shape = tuple(maps.shape[2:])
        if picture is not None and picture.shape not in (shape, (*shape, 3)):
            raise ValueError(
                f"image {place} of images must have shape {shape} or {(*shape, 3)}, got {picture.shape}"
            )
        return Read(maps, labels, picture)

    def _scores(self, place: int) -> tuple[Any, Any]:
        """Score maps (1, K, ...) and labels, converted and checked as in fit."""
        if is_whole(self._X):
            X, one = self._X[place : place + 1], slice(place, place + 1)
            y = None if self._y is None else self._y[one] if is_whole(self._y) else [self._y[place]]
        else:
            X, y = [self._X[place]], None if self._y is None else [self._y[place]]
            # Folders of pairs yield both at once.
            if y is None and isinstance(X[0], tuple | list) and len(X[0]) == 2:
                X, y = [X[0][0]], [X[0][1]]
        try:
            [(maps, labels, _)] = walk(X, y, SCORES, labelled=y is not None, volumes=self._volumes, at_once=1)
        except (TypeError, ValueError) as error:
            # `walk` gets one image, and its errors call it image 0.
            raise type(error)(str(error).replace("image 0", f"image {place}")) from error
        return maps, None if labels is None else np.asarray(labels[0])


def _length(values: Any, name: str) -> int:
    """The number of images; refuses containers without a length, or without access by index."""
    refuse_path(values, name)
    refuse_members(values, name)
    n = count(values)
    if n is None or not hasattr(values, "__getitem__") or not has_order(values):
        raise TypeError(
            f"{name} must be an array, a list or a store that gives any image by its number, got "
            f"{type(values).__name__}: pass list({name}) if it fits into memory"
        )
    return n

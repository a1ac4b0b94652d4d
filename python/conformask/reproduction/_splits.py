"""Random splits of images, or of their groups, that all methods of a comparison share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["random_split", "some_of", "units_of"]


def some_of(values: Any, indices: NDArray[np.intp]) -> Any:
    """The elements at `indices` of an array, a list, or a sequence that takes index arrays; None for None."""
    if values is None:
        return None
    return [values[i] for i in indices] if isinstance(values, list | tuple) else values[indices]


def units_of(n_images: int, groups: Any) -> list[NDArray[np.intp]]:
    """The indices of images that a split keeps together: each image alone, or the images of each group."""
    if groups is None:
        return [np.array([i]) for i in range(n_images)]
    _, group = np.unique(groups, return_inverse=True)
    return [np.flatnonzero(group == i) for i in range(group.max() + 1)]


def random_split(
    units: list[NDArray[np.intp]], n_first: int, random_state: int, split: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The images of `n_first` random units, and the others, in order: the same for one `random_state` and `split`."""
    order = np.random.default_rng([random_state, split]).permutation(len(units))
    first, others = order[:n_first], order[n_first:]
    return _images(units, first), _images(units, others)


def _images(units: list[NDArray[np.intp]], chosen: NDArray[np.intp]) -> NDArray[np.intp]:
    found: NDArray[np.intp] = np.sort(np.concatenate([np.zeros(0, np.intp), *(units[i] for i in chosen)]))
    return found

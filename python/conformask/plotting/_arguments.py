"""What callers give to plots, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask._arrays import clean_bools
from conformask._sequences import listed

__all__ = ["check_background", "check_opacity", "chosen_classes", "grey_ground", "plain_array", "void_pixels"]


def plain_array(name: str, values: ArrayLike, ndim: int) -> NDArray[Any]:
    """An argument as an array of numbers."""
    array = np.asarray(values)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} must have {ndim} dimensions and not be empty, got shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, got dtype {array.dtype}")
    return clean_bools(array) if array.dtype == bool else array


def void_pixels(
    labels: ArrayLike | None, ignore_index: int | None, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Where labels are void: nowhere without labels."""
    if labels is None:
        return np.zeros(shape, bool)
    array = plain_array("labels", labels, 2)
    if array.shape != shape:
        raise ValueError(f"labels must have shape {shape}, got {array.shape}")
    return np.zeros(shape, bool) if ignore_index is None else np.asarray(array == ignore_index)


def grey_ground(image: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the image as grey in [0, 1], so that its colours do not compete with those of classes."""
    if image is None:
        return np.full(shape, 0.25)
    array = np.asarray(image)
    if array.shape not in (shape, (*shape, 3)):
        raise ValueError(f"image must have shape {shape} or {(*shape, 3)}, got {array.shape}")
    if array.dtype == np.uint8:
        array = array / 255
    elif array.dtype.kind != "f" or not (array.min() >= 0 and array.max() <= 1):
        raise ValueError("image must be uint8 or floating in [0, 1]")
    grey = array @ [0.299, 0.587, 0.114] if array.ndim == 3 else array
    return np.asarray(grey, np.float64)


def check_opacity(opacity: float) -> None:
    """Refuses an opacity outside (0, 1]."""
    if not 0 < opacity <= 1:
        raise ValueError(f"opacity must lie in (0, 1], got {opacity}")


def check_background(background: int | None, n_classes: int) -> None:
    """Refuses a background that is no class."""
    if background is not None and not 0 <= background < n_classes:
        raise ValueError(f"background must be from 0 to {n_classes - 1}, got {background}")


def chosen_classes(classes: Sequence[int], n_classes: int) -> list[int]:
    """The classes to draw, at least one."""
    chosen = listed(classes, "classes")
    if not chosen or not all(0 <= k < n_classes for k in chosen):
        raise ValueError(f"classes must be from 0 to {n_classes - 1} and at least one, got {chosen}")
    return chosen

"""One class, or some, against the rest: probability and masks of a foreground of several classes' maps and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._arrays import score_array
from conformask._text import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["VOID", "check_foreground_classes", "foreground_mask", "foreground_probability"]

VOID = 255  # in the masks that are made here


def check_foreground_classes(classes: Any, ignore_index: int | None) -> tuple[int, ...] | None:
    """The classes that are the foreground, in order; None where the maps are of one class already."""
    if classes is None:
        return None
    given = [classes] if isinstance(classes, int | np.integer) else classes
    if isinstance(given, str | bytes) or not np.iterable(given):
        raise TypeError(f"classes must be a class, several, or None, got {shown(classes)}")
    found = list(given)
    for each in found:
        if isinstance(each, bool) or not isinstance(each, int | np.integer):
            raise TypeError(f"classes must hold ints, got {shown(each)}")
        if each < 0:
            raise ValueError(f"classes must be at least 0, got {each}")
        if each == ignore_index:
            raise ValueError(f"class {each} is the ignore_index: its pixels are void")
    if not found:
        raise ValueError("classes is empty: it names no class")
    if len(set(found)) < len(found):
        raise ValueError(f"classes names a class twice: {shown(classes)}")
    return tuple(sorted(int(each) for each in found))


def foreground_probability(X: Any, classes: tuple[int, ...]) -> NDArray[Any]:
    """The summed probability (n, ...) of some classes of maps (n, K, ...); of one class a view."""
    n_classes = X.shape[1]
    if classes[-1] >= n_classes:
        raise ValueError(f"classes must be below K = {n_classes}, got {classes[-1]}")
    if len(classes) == n_classes:
        raise ValueError(f"classes are all {n_classes}: there is no background")
    first: NDArray[Any] = score_array(X[:, classes[0]], "")
    if len(classes) == 1:
        return first
    total = first.astype(np.float64)
    for each in classes[1:]:
        total += score_array(X[:, each], "")
    # Rounding must not lift it above 1.
    return np.minimum(total, 1, out=total, where=total <= 1 + 1e-3)


def foreground_mask(
    y: NDArray[Any], classes: tuple[int, ...], n_classes: int, ignore_index: int | None, first: int
) -> NDArray[np.uint8]:
    """1 for pixels of some classes, 0 for the others, `VOID` where nobody knows; refuses labels that are no class."""
    is_void = np.zeros(y.shape, bool) if ignore_index is None else y == ignore_index
    is_wrong = ((y < 0) | (y >= n_classes)) & ~is_void
    if is_wrong.any():
        image, *pixel = (int(i) for i in np.argwhere(is_wrong)[0])
        raise ValueError(
            f"y must hold classes below K = {n_classes}, or ignore_index={ignore_index}, got "
            f"{y[(image, *pixel)]} in image {first + image} at pixel {tuple(pixel)}"
        )
    found: NDArray[np.uint8] = np.isin(y, classes).astype(np.uint8)
    found[is_void] = VOID
    return found

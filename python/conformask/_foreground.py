"""One or several classes as the foreground: its probability and its masks, from maps and labels of all classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._arrays import ignored_labels, is_void, score_array
from conformask._text import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "check_foreground_classes",
    "foreground_mask",
    "foreground_probability",
    "named",
    "refuse_void_foreground",
    "void_of",
]

_VOID = 255  # marks void in the masks that are made here, if the ignore index cannot
_SLACK = 1e-3  # sums of probabilities may exceed 1 by so much


def check_foreground_classes(
    classes: Any, ignore_index: int | tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """The classes that are the foreground, in order; None where the maps are of one class already."""
    if classes is None:
        return None
    given = [classes] if isinstance(classes, int | np.integer) else classes
    if isinstance(given, str | bytes | Mapping) or not np.iterable(given):
        raise TypeError(f"classes must be a class, several, or None, got {shown(classes)}")
    found = list(given)
    for each in found:
        if isinstance(each, bool) or not isinstance(each, int | np.integer):
            raise TypeError(f"classes must hold ints, got {shown(each)}")
        if each < 0:
            raise ValueError(f"classes must be at least 0, got {each}")
        if each in ignored_labels(ignore_index):
            raise ValueError(f"class {each} is in ignore_index: its pixels are void")
    if not found:
        raise ValueError("classes is empty: it names no class")
    if len(set(found)) < len(found):
        raise ValueError(f"classes names a class twice: {shown(classes)}")
    return tuple(sorted(int(each) for each in found))


def named(classes: tuple[int, ...] | None) -> str:
    """The classes as text."""
    return "None" if classes is None else ", ".join(map(str, classes))


def refuse_void_foreground(
    n_foreground: int,
    n_void: int,
    classes: tuple[int, ...] | None,
    ignore_index: int | tuple[int, ...] | None,
) -> None:
    """Refuses images whose foreground seems to be labelled as void."""
    if classes is None and n_void and not n_foreground:
        raise ValueError(
            f"y holds no pixel labelled 1, and {n_void} labelled {ignore_index}, which is the ignore index: if "
            f"{ignore_index} marks the foreground, pass y == {ignore_index}"
        )


def void_of(ignore_index: int | tuple[int, ...] | None) -> int:
    """The label of void pixels in the masks that are made here."""
    return ignore_index if isinstance(ignore_index, int) and ignore_index not in (0, 1) else _VOID


def foreground_probability(
    P: Any, classes: tuple[int, ...], n_classes: int | None, first: int
) -> NDArray[Any]:
    """The summed probability (n, ...) of some classes of maps (n, K, ...); of one class, a view of its maps.

    `n_classes` is K of the images before, and `first` the number of the first image.
    """
    names = named(classes)
    if P.ndim not in (4, 5):
        raise ValueError(
            f"P must have shape (n, K, H, W) or (n, K, D, H, W) with classes={names}, got {tuple(P.shape)}: give the "
            "probabilities of all K classes, or calibrate without classes on those of the foreground alone"
        )
    found = P.shape[1]
    if n_classes is not None and found != n_classes:
        raise ValueError(f"P has K = {found} classes in image {first}, but K = {n_classes} in calibration")
    if classes[-1] >= found:
        raise ValueError(f"classes must be below K = {found}, got {classes[-1]}")
    if len(classes) == found:
        raise ValueError(f"classes are all {found}: there is no background")
    one: NDArray[Any] = score_array(P[:, classes[0]], "")
    if len(classes) == 1:
        _check_shares(one, names)
        return one
    total = one.astype(np.float64)
    for each in classes[1:]:
        total += score_array(P[:, each], "")
    if float(total.max(initial=0)) > 1 + _SLACK:
        raise ValueError(
            f"the numbers of the classes {names} sum to {float(total.max()):.6g} at a pixel: probabilities of classes "
            "that exclude one another sum to 1 at most; if these are logits, pass scipy.special.softmax(P, axis=1)"
        )
    # Rounding must not lift it above 1.
    return np.minimum(total, 1, out=total)


def _check_shares(p: NDArray[Any], name: str) -> None:
    """Refuses logits. The kernels refuse other numbers that are no probabilities."""
    least, most = float(p.min(initial=0)), float(p.max(initial=0))
    if least < 0 or most > 1 + _SLACK:
        raise ValueError(
            f"P holds {least if least < 0 else most:.6g} for class {name}: probabilities are in [0, 1]; if these are "
            "logits of K classes, pass scipy.special.softmax(P, axis=1)"
        )


def foreground_mask(
    y: NDArray[Any],
    classes: tuple[int, ...],
    n_classes: int,
    ignore_index: int | tuple[int, ...] | None,
    first: int,
) -> NDArray[Any]:
    """1 for pixels of some classes, 0 for the others, and the label of `void_of` where void; refuses other labels."""
    for label in ignored_labels(ignore_index):
        if 0 <= label < n_classes:
            raise ValueError(f"ignore_index={label} is one of the K = {n_classes} classes")
    ignored = is_void(y, ignore_index)
    is_wrong = ((y < 0) | (y >= n_classes)) & ~ignored
    if is_wrong.any():
        image, *pixel = (int(i) for i in np.argwhere(is_wrong)[0])
        raise ValueError(
            f"y must hold classes below K = {n_classes}, or ignore_index={ignore_index}, got "
            f"{y[(image, *pixel)]} in image {first + image} at pixel {tuple(pixel)}"
        )
    void = void_of(ignore_index)
    found: NDArray[Any] = np.isin(y, classes).astype(np.uint8 if 0 <= void <= 255 else np.int64)
    found[ignored] = void
    return found

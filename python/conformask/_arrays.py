"""What callers hand over, as arrays that the kernels take. Nothing is copied that does not have to be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from conformask._tensors import is_tensor, to_array
from conformask._text import shown
from conformask._warnings import warn_caller

__all__ = [
    "INPUTS",
    "Labels",
    "Scores",
    "check_binary_index",
    "check_ignore_index",
    "check_inputs",
    "check_masks",
    "clean_bools",
    "label_array",
    "look_like_shares",
    "mask_array",
    "matrix_array",
    "refuse_path",
    "score_array",
    "warn_of_shares",
]

Scores: TypeAlias = NDArray[np.floating[Any]]
Labels: TypeAlias = NDArray[np.integer[Any]]
R = TypeVar("R", bound=np.generic)

_MOST_CLASSES = 2**16 - 1  # a set size fits 16 bits
_LOOKED_AT = 32  # pixels along each axis
# Logits may all be in [0, 1] by chance: fewer numbers, or less different ones, say nothing.
_FEW, _WIDE = 48, 0.5

INPUTS = ("probabilities", "logits", "scores")


def score_array(X: object, where: str = "", name: str = "X") -> Scores:
    """`X` as float16, float32 or float64 in native byte order, aligned. Copied only if it is not."""
    array = _one_array(X, name, where)
    if array.dtype == object:
        _refuse_mask(array, name)
        raise TypeError(
            f"{name} is an object array{where}; pass float16, float32 or float64 (a list of images is fine)"
        )
    return _floats(array, name, where)


def matrix_array(A: object, name: str = "A") -> Scores:
    """`A` as a matrix of float16, float32 or float64 in native byte order, aligned. Copied only if it is not."""
    array = _floats(_one_array(A, name), name)
    if array.ndim != 2:
        raise ValueError(f"{name} must have two axes, got shape {array.shape}")
    if not array.size:
        raise ValueError(f"{name} is empty: its shape is {array.shape}")
    return array


def _one_array(value: object, name: str, where: str = "") -> NDArray[Any]:
    refuse_path(value, name, where)
    if isinstance(value, list | tuple):
        for each in value:  # NumPy joins arrays, but not their masks
            _refuse_mask(each, name)
    try:
        return np.asanyarray(to_array(value, name, where))
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(
            f"{name} must be one array{where}, got a {type(value).__name__} of parts whose shapes differ"
        ) from None


def refuse_path(value: object, name: str, where: str = "") -> None:
    """Refuses the name of a file, which is not read."""
    if isinstance(value, str | bytes | os.PathLike):
        raise TypeError(
            f"{name} must be an array{where}, got {shown(value)}: load it first, numpy.load({name}) if it is a file"
        )


def _floats(array: NDArray[Any], name: str, where: str = "") -> Scores:
    _refuse_mask(array, name)
    if array.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        scaled = f"; if probabilities were scaled to 255, pass {name} / np.float32(255)"
        scaled += " with inputs='scores'" if name == "X" else ""
        hint = scaled if array.dtype == np.uint8 else ""
        raise TypeError(f"{name} must be float16, float32 or float64{where}, got {array.dtype}{hint}")
    return _usable(array)


def label_array(y: object, name: str = "y", where: str = "") -> Labels:
    """`y` as integers in native byte order, aligned. Copied only if it is not."""
    if isinstance(y, Iterator) or (isinstance(y, np.ndarray) and y.dtype == object):
        y = list(y)  # label maps one by one
    array = _one_array(y, name, where)
    _refuse_mask(array, name)
    if array.dtype == bool:
        array = clean_bools(array).view(np.uint8)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(
            f"{name} must hold integer labels{where}, got dtype {array.dtype}{_if_whole(array, name, is_tensor(y))}"
        )
    return _usable(array)


def _if_whole(array: NDArray[Any], name: str, of_tensor: bool) -> str:
    """What to do with labels that are whole numbers of another type."""
    if not np.issubdtype(array.dtype, np.floating) or not array.size:
        return ""
    other = array[array != np.rint(array)]  # NaN is not what it is rounded to
    if other.size:
        return f", and {other[0]:g} among them"
    axis = _one_hot_axis(array)
    if axis is not None:
        return f"; if {name} is one-hot, pass {name}.argmax(axis={axis})"
    kind = "int16" if abs(array).max() <= np.iinfo(np.int16).max else "int64"
    cast = f"to(torch.{kind})" if of_tensor else f"astype(np.{kind})"
    return f"; all are whole numbers: pass {name}.{cast}"


def _one_hot_axis(array: NDArray[Any]) -> int | None:
    """The axis along which each pixel has a single 1, of several numbers; None if there is none."""
    if array.ndim < 3 or not ((array == 0) | (array == 1)).all():
        return None
    for axis in (1 if array.ndim > 3 else 0, -1):  # a list holds images without the axis n
        if array.shape[axis] > 1 and (array.sum(axis=axis, dtype=np.float64) == 1).all():
            return axis
    return None


def mask_array(
    masks: object, name: str = "masks", what: str = "multi-labeled masks (n, K, H, W)"
) -> NDArray[np.bool_]:
    """`masks` as booleans."""
    array = _one_array(masks, name)
    _refuse_mask(array, name)
    if array.dtype != bool:
        raise TypeError(f"{name} must be boolean {what}, got dtype {array.dtype}")
    return clean_bools(array)


def check_masks(masks: NDArray[np.bool_], name: str = "masks", where: str = "") -> None:
    """Refuses booleans (n, ...) that are no multi-labeled masks."""
    if masks.ndim not in (4, 5):
        raise ValueError(f"{name} must be (n, K, H, W) or (n, K, D, H, W), got {masks.shape}{where}")
    if not masks.size:
        raise ValueError(f"{name} is empty: its shape is {masks.shape}{where}")
    if not 2 <= masks.shape[1] <= _MOST_CLASSES:
        raise ValueError(f"{name} must have K from 2 to {_MOST_CLASSES}, got {masks.shape}{where}")


def clean_bools(array: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The same booleans in bytes that are 0 or 1, copied only if some are not.

    Some programs write 255 for true (Pillow's mode "1"). NumPy and the kernels would take it for the number 255.
    """
    numbers = array.view(np.uint8)
    return array if numbers.max(initial=0) <= 1 else numbers != 0


def _refuse_mask(array: object, name: str) -> None:
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost: mark void pixels by the ignore index"
        )


def _usable(array: NDArray[R]) -> NDArray[R]:
    native = array.dtype.newbyteorder("=")
    # Fields of structured arrays may start anywhere, also where the hardware allows it but the kernels do not.
    whole_strides = all(stride % array.itemsize == 0 for stride in array.strides)
    if array.dtype.isnative and array.flags.aligned and whole_strides:
        return array
    return np.array(array, dtype=native, order="C")


def look_like_shares(maps: Any, axis: int, n_space: int) -> bool:
    """Whether numbers are in [0, 1], sum to 1 over an axis and differ, at some pixels (the last axes)."""
    some = _some_of(maps, n_space)
    return _are_shares(some, axis) and bool(np.ptp(some))


def _some_of(maps: Any, n_space: int) -> NDArray[np.float64]:
    """The numbers at some pixels (the last axes)."""
    steps = (slice(None, None, -(-length // _LOOKED_AT)) for length in maps.shape[-n_space:])
    some = maps[(..., *steps)]
    return np.asarray(some.float().cpu() if is_tensor(some) else some, np.float64)


def _are_shares(some: NDArray[np.float64], axis: int) -> bool:
    return _in_unit(some) and bool((abs(some.sum(axis=axis) - 1) <= 0.01).all())


def _in_unit(some: NDArray[np.float64]) -> bool:
    return bool(((some >= 0) & (some <= 1)).all())


def warn_of_shares(maps: Any, inputs: str) -> None:
    """Warns of probabilities (K, H, W), and of outputs of a sigmoid, that are said to be logits."""
    if inputs != "logits":
        return
    some = _some_of(maps, maps.ndim - 1)
    spread = np.ptp(some)
    if spread and _are_shares(some, 0):
        warn_caller(
            "inputs='logits', but all numbers of X that were looked at are in [0, 1] and sum to 1 over the classes, as "
            "probabilities do: softmax would be applied a second time; say inputs='probabilities'",
            UserWarning,
        )
    elif some.size >= _FEW and spread >= _WIDE and _in_unit(some):
        warn_caller(
            "inputs='logits', but all numbers of X that were looked at are in [0, 1], and do not sum to 1 over the "
            "classes: they look like outputs of a sigmoid, or other scores, of which softmax makes nearly equal "
            "probabilities; pass what the network has before its sigmoid, or X / X.sum(axis=1, keepdims=True) with "
            "inputs='probabilities'",
            UserWarning,
        )


def check_inputs(inputs: object) -> str:
    """What the numbers of X are: one of the names that the kernels know."""
    if inputs not in INPUTS:
        raise ValueError(f"inputs must be one of {list(INPUTS)}, got {inputs!r}")
    return str(inputs)


def check_ignore_index(ignore_index: object) -> int | None:
    """`ignore_index` as an int64 or None."""
    if ignore_index is None:
        return None
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int | np.integer):
        raise TypeError(f"ignore_index must be an int or None, got {shown(ignore_index)}")
    if not -(2**63) <= int(ignore_index) < 2**63:
        raise ValueError(f"ignore_index must fit int64, got {shown(ignore_index)}")
    return int(ignore_index)


def check_binary_index(ignore_index: object) -> int | None:
    """`ignore_index` beside labels 0 and 1."""
    index = check_ignore_index(ignore_index)
    if index in (0, 1):
        raise ValueError(f"ignore_index={index} is the label of the background or the object")
    return index

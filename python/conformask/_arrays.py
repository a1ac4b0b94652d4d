"""The arguments of callers as arrays that the kernels take. Nothing is copied unless it must be."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from conformask._tensors import is_tensor, to_array
from conformask._text import shown
from conformask._warnings import warn_caller

__all__ = [
    "INPUTS",
    "LARGEST_LABEL",
    "Labels",
    "Scores",
    "check_binary_index",
    "check_ignore_index",
    "check_inputs",
    "check_masks",
    "clean_bools",
    "ignored_labels",
    "is_void",
    "label_array",
    "look_like_shares",
    "mask_array",
    "matrix_array",
    "not_whole",
    "refuse_members",
    "refuse_path",
    "score_array",
    "warn_of_shares",
    "with_void",
]

Scores: TypeAlias = NDArray[np.floating[Any]]
Labels: TypeAlias = NDArray[np.integer[Any]]
R = TypeVar("R", bound=np.generic)

_MOST_CLASSES = 2**16 - 1  # a set size fits 16 bits
_LOOKED_AT = 32  # pixels along each axis
# Logits may all be in [0, 1] by chance. So nothing is concluded from fewer numbers, or from numbers in a smaller range.
_FEW, _WIDE = 48, 0.5

_MEMBERS = 8  # the most members that a message names
_FIELDS = ("logits", "out", "class_queries_logits", "pred_masks", "semantic_seg")  # of models' outputs

LARGEST_LABEL = 2.0**63  # whole floats below it fit a 64-bit integer

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
    refuse_members(value, name)
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


def refuse_members(value: object, name: str) -> None:
    """Refuses what holds arrays by name: a file of numpy.savez, a group of h5py or zarr, a dataset of xarray."""
    keys = getattr(value, "keys", None)
    if not callable(keys) or not hasattr(value, "__getitem__") or hasattr(value, "shape"):
        return
    try:
        members = [str(key) for key in islice(keys(), _MEMBERS + 1)]
    except TypeError:
        return
    if not members:
        raise TypeError(f"{name} must be an array, got an empty {type(value).__name__}")
    if isinstance(value, dict) and any(is_tensor(value.get(field)) for field in _FIELDS):
        raise TypeError(
            f"{name} must be an array, got {type(value).__name__}, the output of a model: pass "
            f"conformask.integrations.torch.as_scores({name}, size=y.shape[-2:]), which makes maps of the size of the "
            "labels, and name their kind, such as inputs='logits'"
        )
    shown_ones = ", ".join(map(repr, members[:_MEMBERS])) + (", ..." if len(members) > _MEMBERS else "")
    raise TypeError(
        f"{name} must be an array, got {type(value).__name__} that holds {shown_ones}: pass what it holds, such as "
        f"{name}[{members[0]!r}]"
    )


def _floats(array: NDArray[Any], name: str, where: str = "") -> Scores:
    _refuse_mask(array, name)
    if array.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        hint = ""
        if array.dtype in (np.uint8, np.uint16):
            most = np.iinfo(array.dtype).max
            hint = f"; if probabilities were scaled to {most}, pass {name} / np.float32({most})"
            hint += " with inputs='scores'" if name == "X" else ""
        raise TypeError(f"{name} must be float16, float32 or float64{where}, got {array.dtype}{hint}")
    return _usable(array)


def label_array(y: object, name: str = "y", where: str = "", first: int | None = 0) -> Labels:
    """`y` as integers in native byte order, aligned. Copied only if it is not, or holds whole numbers as floats.

    `first` is what errors call the first of several images; None if all is one image.
    """
    if isinstance(y, Iterator) or (isinstance(y, np.ndarray) and y.dtype == object):
        y = list(y)  # label maps one by one
    array = _one_array(y, name, where)
    _refuse_mask(array, name)
    if array.dtype == bool:
        array = clean_bools(array).view(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        array = _as_whole(array, name, where, first)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must hold integer labels{where}, got dtype {array.dtype}")
    return _usable(array)


def _as_whole(array: NDArray[Any], name: str, where: str, first: int | None) -> NDArray[np.integer[Any]]:
    """Floats that are whole numbers, as integers: medical images are often read so."""
    largest = float(abs(array).max(initial=0))  # NaN, if there is one
    wrong = array != np.rint(array)
    if largest < LARGEST_LABEL and not wrong.any():
        return array.astype(np.int16 if largest <= np.iinfo(np.int16).max else np.int64)
    at = np.argwhere(wrong | ~(abs(array) < LARGEST_LABEL))[0].tolist()
    raise not_whole(name, where, array.dtype, float(array[tuple(at)]), at, first)


def not_whole(
    name: str, where: str, dtype: object, value: float, at: list[int], first: int | None = 0
) -> TypeError:
    """The error of labels that are floats, and no whole numbers: what and where the first of these is."""
    found = "NaN" if math.isnan(value) else f"{value:g}"
    if first is not None and not where and len(at) > 2:
        found, at = f"{found} in image {first + at[0]}", at[1:]
    place = f" at pixel ({', '.join(map(str, at))})" if at else ""
    return TypeError(f"{name} must hold integer labels{where}, got dtype {dtype}, and {found}{place}")


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
            "probabilities do: softmax would be applied a second time; pass inputs='probabilities'",
            UserWarning,
        )
    elif some.size >= _FEW and spread >= _WIDE and _in_unit(some):
        warn_caller(
            "inputs='logits', but all numbers of X that were looked at are in [0, 1], and do not sum to 1 over the "
            "classes: they look like outputs of a sigmoid, or other scores, from which softmax makes "
            "nearly equal probabilities; pass the outputs of the network before its sigmoid, or X / "
            "X.sum(axis=1, keepdims=True) with "
            "inputs='probabilities'",
            UserWarning,
        )


def check_inputs(inputs: object) -> str:
    """What the numbers of X are: one of the names that the kernels know."""
    if inputs not in INPUTS:
        raise ValueError(f"inputs must be one of {list(INPUTS)}, got {inputs!r}")
    return str(inputs)


def check_ignore_index(ignore_index: object) -> int | tuple[int, ...] | None:
    """The labels of void pixels: None, one as an int64, or several in ascending order."""
    if isinstance(ignore_index, list | tuple | set | frozenset | range | np.ndarray):
        several = sorted({_void_label(label, ignore_index) for label in list(ignore_index)})
        if not several:
            raise ValueError("ignore_index must name a label; None says that no pixel is void")
        return tuple(several) if len(several) > 1 else several[0]
    return None if ignore_index is None else _void_label(ignore_index, ignore_index)


def _void_label(label: object, given: object) -> int:
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        raise TypeError(f"ignore_index must be an int or None, got {shown(given)}")
    if not -(2**63) <= int(label) < 2**63:
        raise ValueError(f"ignore_index must fit int64, got {shown(label)}")
    return int(label)


def check_binary_index(ignore_index: object) -> int | tuple[int, ...] | None:
    """`ignore_index` beside labels 0 and 1."""
    index = check_ignore_index(ignore_index)
    for label in ignored_labels(index):
        if label in (0, 1):
            raise ValueError(f"ignore_index={label} is the label of the background or the object")
    return index


def ignored_labels(ignore_index: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The labels that `check_ignore_index` found."""
    if ignore_index is None:
        return ()
    return ignore_index if isinstance(ignore_index, tuple) else (ignore_index,)


def is_void(labels: NDArray[Any], ignore_index: int | tuple[int, ...] | None) -> NDArray[np.bool_]:
    """Where labels are among those of void pixels."""
    if isinstance(ignore_index, tuple):
        return np.isin(labels, ignore_index)
    return np.zeros(labels.shape, bool) if ignore_index is None else np.asarray(labels == ignore_index)


def with_void(labels: NDArray[Any], void: NDArray[np.bool_], mark: int) -> NDArray[Any]:
    """Labels that are `mark` where void, in a type that can hold it: -1 beside uint8 takes int16."""
    if not void.any():
        return labels
    kind = labels.dtype
    if kind.kind != "f":
        kind = np.result_type(labels, np.min_scalar_type(mark))
        kind = np.dtype(np.int64) if kind.kind == "f" else kind  # beside uint64 NumPy takes a float
    return np.where(void, np.asarray(mark, kind), labels.astype(kind))

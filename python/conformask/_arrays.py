"""What callers hand over, as arrays that the kernels take. Nothing is copied that does not have to be."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from conformask._sequences import has_order
from conformask._tensors import is_tensor, lives_elsewhere, to_array

__all__ = [
    "INPUTS",
    "Batch",
    "Scores",
    "check_inputs",
    "check_labels",
    "clean_bools",
    "is_array",
    "label_array",
    "length",
    "map_images",
    "mask_array",
    "matrix_array",
    "pairs",
    "score_array",
    "track",
    "zip_strict",
]

Scores: TypeAlias = NDArray[np.floating[Any]]
Labels: TypeAlias = NDArray[np.integer[Any]]
Batch: TypeAlias = tuple[Scores, Labels, int]  # scores (n, K, ...), labels (n, ...), index of the first image

T = TypeVar("T")
R = TypeVar("R", bound=np.generic)

INPUTS = ("probabilities", "logits", "scores")

_SECONDS_BEFORE_BAR = 1.0


def is_array(value: object) -> bool:
    """Whether `value` is an array or becomes one by itself (tensors do)."""
    return isinstance(value, np.ndarray) or hasattr(value, "__array__")


def score_array(X: object, where: str = "") -> Scores:
    """`X` as float16, float32 or float64 in native byte order, aligned. Copied only if it is not."""
    array = _one_array(X, "X", where)
    if array.dtype == object:
        _refuse_mask(array, "X")
        raise TypeError(
            f"X is an object array{where}; pass float16, float32 or float64 (a list of images is fine)"
        )
    return _floats(array, "X", where)


def matrix_array(A: object, name: str = "A") -> Scores:
    """`A` as a matrix of float16, float32 or float64 in native byte order, aligned. Copied only if it is not."""
    array = _floats(_one_array(A, name), name)
    if array.ndim != 2:
        raise ValueError(f"{name} must have two axes, got shape {array.shape}")
    if not array.size:
        raise ValueError(f"{name} is empty: its shape is {array.shape}")
    return array


def _one_array(value: object, name: str, where: str = "") -> NDArray[Any]:
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


def _floats(array: NDArray[Any], name: str, where: str = "") -> Scores:
    _refuse_mask(array, name)
    if array.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        raise TypeError(f"{name} must be float16, float32 or float64{where}, got {array.dtype}")
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
        raise TypeError(f"{name} must hold integer labels{where}, got dtype {array.dtype}")
    return _usable(array)


def mask_array(masks: object, name: str = "masks") -> NDArray[np.bool_]:
    """`masks` as booleans."""
    array = _one_array(masks, name)
    _refuse_mask(array, name)
    if array.dtype != bool:
        raise TypeError(f"{name} must be boolean multi-labeled masks (n, K, H, W), got dtype {array.dtype}")
    return clean_bools(array)


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
        raise TypeError(f"ignore_index must be an int or None, got {ignore_index!r}")
    if not -(2**63) <= int(ignore_index) < 2**63:
        raise ValueError(f"ignore_index must fit int64, got {ignore_index}")
    return int(ignore_index)


def pairs(
    X: object, y: object, progress: bool | str, at_once: int | None = None, *, keep_tensors: bool = False
) -> Iterator[Batch]:
    """All input as batches of scores and labels: one per image, and for an array one, or `at_once` images at a time.

    With `keep_tensors`, scores that live elsewhere stay there, and so do labels that came with them.
    """

    def batch(scores: Any, labels: Any, where: str = "") -> tuple[Any, Any]:
        if not (keep_tensors and lives_elsewhere(scores)):
            return score_array(scores, where), label_array(labels, where=where)
        return scores.detach(), labels if is_tensor(labels) else label_array(labels, where=where)

    if is_array(X):
        if y is None:
            raise TypeError(
                "y is missing: give labels (n, H, W), or as X an iterable of (scores, labels) pairs"
            )
        scores, labels = batch(X, y)
        check_labels(scores, labels)
        if at_once is None or scores.ndim not in (4, 5) or not len(scores):
            yield scores, labels, 0  # the kernels refuse other ranks
            return
        for first in track(range(0, len(scores), at_once), progress, None, f"{at_once} images"):
            yield scores[first : first + at_once], labels[first : first + at_once], first
        return
    if not isinstance(X, Iterable) or isinstance(X, str | bytes) or not has_order(X):
        raise TypeError(
            f"X must be an array, a list of images or an iterable of (scores, labels), got {type(X).__name__}"
        )
    images: Iterable[Any] = X if y is None else zip_strict(X, y)
    for index, pair in enumerate(track(images, progress, length(X))):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(
                f"without y, X must yield (scores, labels) pairs; image {index} is {type(pair).__name__}"
            )
        if isinstance(pair[0], tuple):
            raise TypeError(
                f"X must yield arrays where y is given, image {index} is a tuple: leave out y if X yields pairs"
            )
        where = f" in image {index}"
        scores, labels = batch(pair[0], pair[1], where)
        scores, labels = _one(scores, index), labels[np.newaxis]
        check_labels(scores, labels, where)
        yield scores, labels, index


def check_labels(
    maps: NDArray[Any], labels: Labels, where: str = "", *, names: tuple[str, str] = ("X", "y")
) -> None:
    """Refuses labels that do not fit maps (n, K, ...); maps of another rank are the kernels' to refuse."""
    shape, given = tuple(maps.shape), tuple(labels.shape)
    expected = shape[:1] + shape[2:]
    if maps.ndim in (4, 5) and given != expected:
        hint = ""
        if given == shape[:-1]:
            hint = f"; is {names[0]} channel-last? Pass np.moveaxis({names[0]}, -1, 1), which copies nothing"
        elif where and given[1:] == shape[1:2] + shape[3:]:
            hint = "; an iterable yields one image at a time: give batches to partial_fit, one by one"
        first = 1 if where else 0  # the images of a list have no axis n
        raise ValueError(
            f"{names[1]} must have shape {expected[first:]} to match {names[0]} {shape[first:]}{where}, "
            f"got {given[first:]}{hint}"
        )


def zip_strict(X: Iterable[Any], y: object) -> Iterator[tuple[Any, Any]]:
    if not isinstance(y, Iterable) or not has_order(y):
        raise TypeError(f"y must hold one label map for each image of X, got {type(y).__name__}")
    n, m = length(X), length(y)
    if n is not None and m is not None and n != m:
        raise ValueError(f"X has {n} images, y has {m}")
    try:
        yield from zip(X, y, strict=True)
    except ValueError as error:
        if "zip()" not in str(error):
            raise
        raise ValueError("X and y must hold the same number of images") from None


def _one(image: Scores, index: int) -> Scores:
    if image.ndim not in (3, 4):
        raise ValueError(
            f"each image of X must have shape (K, H, W) or (K, D, H, W); image {index} has {tuple(image.shape)}"
        )
    return image[np.newaxis]


def length(images: Any) -> int | None:
    try:
        return len(images)
    except TypeError:  # a generator, or a loader that cannot tell
        return None


def map_images(
    X: object, kernel: Callable[[Scores, int], NDArray[R]], progress: bool | str
) -> NDArray[R] | list[NDArray[R]] | Generator[NDArray[R], None, None]:
    """`kernel(scores, first_image)` of an array; of images a list for a list, a generator for a generator.

    Tensors that live elsewhere stay there.
    """

    def maps(scores: Any, where: str = "") -> Any:
        return scores.detach() if lives_elsewhere(scores) else score_array(scores, where)

    if is_array(X):
        return kernel(maps(X), 0)
    if not isinstance(X, Iterable) or isinstance(X, str | bytes) or not has_order(X):
        raise TypeError(
            f"X must be an array, a list of images or an iterable of images, got {type(X).__name__}"
        )

    def images(source: Iterable[Any]) -> Generator[NDArray[R], None, None]:
        for index, image in enumerate(source):
            yield kernel(_one(maps(image, f" in image {index}"), index), index)[0]

    return list(images(track(X, progress, length(X)))) if isinstance(X, Sequence) else images(X)


def track(images: Iterable[T], progress: bool | str, total: int | None, unit: str = "image") -> Iterable[T]:
    """`images` with a progress bar; "auto" shows one on a terminal or in a notebook if it takes a while."""
    if progress not in (True, False, "auto"):
        raise ValueError(f"progress must be True, False or 'auto', got {progress!r}")
    auto = progress == "auto"
    return tqdm(
        images,
        total=total,
        unit=unit,
        disable=None if auto else not progress,
        delay=_SECONDS_BEFORE_BAR if auto else 0,
    )

"""One loop over images, whatever holds them: arrays, lists, iterables, or stores that are read image by image."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from conformask._arrays import label_array, mask_array, refuse_members, refuse_path, score_array
from conformask._sequences import has_order
from conformask._tensors import check_tensor, is_tensor, lives_elsewhere
from conformask._text import plural

__all__ = [
    "LABEL_MAPS",
    "MASKS",
    "SAMPLED_MAPS",
    "SAMPLES",
    "SCORES",
    "Batch",
    "Layout",
    "NoImagesError",
    "Volumes",
    "axes_hint",
    "check_labels",
    "check_volumes",
    "count",
    "each_of",
    "in_memory",
    "is_store",
    "is_whole",
    "map_images",
    "not_empty",
    "track",
    "walk",
]

Batch: TypeAlias = tuple[Any, Any, int]  # maps (n, ...), labels (n, ...) or None, index of the first image
Volumes: TypeAlias = bool | Literal["auto"]

T = TypeVar("T")
R = TypeVar("R", bound=np.generic)

_SECONDS_BEFORE_BAR = 1.0
_END = object()


class NoImagesError(ValueError):
    """The argument holds no image."""


@dataclass(frozen=True)
class Layout:
    """How the maps of an image lie: some axes, then those of space, (H, W) or (D, H, W)."""

    name: str  # of the argument
    axes: tuple[str, ...]
    noun: str  # what errors call an element of an iterable
    convert: Callable[
        [Any, str, str], Any
    ]  # takes the value, the argument's name, and words that follow it in errors

    def shapes(self, first: str = "") -> str:
        """The shapes that fit, as text."""
        lead = ", ".join([first, *self.axes] if first else self.axes)
        lead += ", " if lead else ""
        return f"({lead}H, W) or ({lead}D, H, W)"


def _scores(value: Any, name: str, where: str) -> Any:
    # A tensor that NumPy cannot look at stays where it is: its own library computes there.
    check_tensor(value, name, where)
    return value.detach() if lives_elsewhere(value) else score_array(value, where)


SCORES = Layout("X", ("K",), "scores", _scores)
SAMPLES = Layout("X", ("S", "K"), "samples", lambda value, _, where: score_array(value, where))
MASKS = Layout("masks", ("K",), "masks", lambda value, name, _: mask_array(value, name))
LABEL_MAPS = Layout("prediction", (), "label maps", label_array)
SAMPLED_MAPS = Layout("samples", ("m",), "label maps", label_array)


def check_volumes(volumes: object) -> None:
    """Refuses any other value of `volumes`."""
    if volumes not in (True, False, "auto"):
        raise ValueError(f"volumes must be True, False or 'auto', got {volumes!r}")


def in_memory(value: object) -> bool:
    """Whether `value` is an array, or shares its memory with one (tensors do)."""
    shares = ("__array_interface__", "__array_struct__", "__dlpack__")
    return isinstance(value, np.ndarray | np.generic) or any(hasattr(value, name) for name in shares)


def is_store(value: object) -> bool:
    """Whether `value` is read by slices: a dataset of h5py or zarr, a proxy of nibabel, an array of xarray or Dask."""
    return not in_memory(value) and hasattr(value, "shape") and hasattr(value, "__getitem__")


def _all_of(value: Any) -> Any:
    """All data of a store, such as one image in a list of stores; other values as they are."""
    return value[...] if is_store(value) else value


def is_whole(value: object) -> bool:
    """Whether `value` holds all images in one shape."""
    return in_memory(value) or is_store(value) or hasattr(value, "__array__")


def walk(
    maps: Any,
    y: Any,
    layout: Layout = SCORES,
    progress: bool | str = False,
    *,
    labelled: bool = True,
    label_name: str = "y",
    at_once: int | None = None,
    volumes: Volumes = "auto",
) -> Iterator[Batch]:
    """All images as batches of maps and labels.

    An array is one batch, or one for every `at_once` images. A store is read `at_once` images at a time (by default
    one), and so is an array whose labels are in a store. In lists and iterables every image is a batch. Without images
    there are no batches. If `labelled` is false, the labels of all batches are None; if it is true and `y` is None, the
    iterable must yield pairs.
    """

    def batch(found: Any, labels: Any, image: int | None = None, first: int = 0) -> tuple[Any, Any]:
        where = "" if image is None else f" in image {image}"
        if image is not None:
            found, labels = _all_of(found), _all_of(labels)
        if labelled:
            _refuse_swapped(found, labels, layout, where, label_name)
        found = layout.convert(found, layout.name, where)
        if image is not None:
            _check_image(found, layout, image, volumes)
        elif layout is SCORES:
            _check_axes(found, labels)
        if labelled:
            check_tensor(labels, label_name, where)
            _refuse_bools(found, labels, layout, where, label_name)
            if not (is_tensor(found) and is_tensor(labels)):
                labels = label_array(labels, label_name, where, first)
        if image is not None:
            found, labels = found[None], labels[None] if labelled else None
        if labelled:
            check_labels(found, labels, layout, where, label_name, is_stored=image is None and is_store(maps))
        return found, labels

    refuse_members(maps, layout.name)
    if not is_whole(maps):
        images = _one_by_one(maps, y, layout, progress, labelled, label_name)
        return _converted(images, batch)
    if labelled and y is None:
        raise TypeError(
            f"{label_name} is missing: give labels (n, H, W), or as {layout.name} an iterable of "
            f"({layout.noun}, labels) pairs"
        )
    if not is_store(maps) and not (labelled and is_store(y)):
        maps, y = batch(maps, y)
        if _holds_no_image(maps, layout):
            return iter(())
        if at_once is None or not maps.ndim:
            return iter([(maps, y, 0)])
    return _slices(maps, y, layout, batch, progress, at_once or 1, label_name if labelled else None)


def _holds_no_image(maps: Any, layout: Layout) -> bool:
    """Whether an array has the right rank and images of some size, but n = 0."""
    n, *image = maps.shape or (1,)
    return n == 0 and 0 not in image and len(image) - len(layout.axes) in (2, 3)


def not_empty(batches: Iterator[Batch], name: str) -> Iterator[Batch]:
    """The batches; fails if there are none."""
    is_empty = True
    for batch in batches:
        is_empty = False
        yield batch
        del batch  # maps are large: they are released before the next ones are read
    if is_empty:
        raise NoImagesError(f"{name} is empty: it holds no image")


def _converted(
    images: Iterator[tuple[int, Any, Any]], batch: Callable[[Any, Any, int], tuple[Any, Any]]
) -> Iterator[Batch]:
    """Each image as a batch. Images are large: here and below, each is released before the next is read."""
    for index, image, labels in images:
        found = batch(image, labels, index)
        del image, labels
        yield *found, index
        del found


def each_of(batches: Iterator[Batch], work: Callable[[Any, Any, int], T]) -> Generator[T, None, None]:
    """The result of `work` for each batch, which is released before the next is read."""
    for maps, labels, first in batches:
        found = work(maps, labels, first)
        del maps, labels
        yield found
        del found


def _slices(
    maps: Any,
    y: Any,
    layout: Layout,
    batch: Callable[..., tuple[Any, Any]],
    progress: bool | str,
    at_once: int,
    label_name: str | None,
) -> Iterator[Batch]:
    """Batches of a few images, from an array or a store; there are labels only if `label_name` is given."""
    n, n_axes = maps.shape[0] if len(maps.shape) else 0, len(maps.shape)
    if n_axes - 1 - len(layout.axes) not in (2, 3):
        raise ValueError(f"{layout.name} must have shape {layout.shapes('n')}, got {tuple(maps.shape)}")
    if n != n:  # an array of Dask that does not know how long its parts are
        raise ValueError(
            f"{layout.name} does not know how many images it has: call {layout.name}.compute_chunk_sizes()"
        )
    if label_name is not None:
        y = y if is_store(y) or is_tensor(y) else label_array(y, label_name)
        m = y.shape[0] if len(y.shape) else 0
        if m != n:
            raise ValueError(f"{layout.name} has {plural(n, 'image')}, {label_name} has {m}")
    unit = "image" if at_once == 1 else f"{at_once} images"
    for first in track(range(0, n, at_once), progress, None, unit):
        some = slice(first, first + at_once)
        yield *batch(maps[some], None if label_name is None else y[some], first=first), first


def _one_by_one(
    maps: Any, y: Any, layout: Layout, progress: bool | str, labelled: bool, label_name: str
) -> Iterator[tuple[int, Any, Any]]:
    """Index, maps and labels of each image of a list or an iterable."""
    name, noun = layout.name, layout.noun
    refuse_path(maps, name)
    if not isinstance(maps, Iterable) or not has_order(maps):
        what = f"({noun}, labels)" if labelled and y is None else "images"
        raise TypeError(
            f"{name} must be an array, a list of images or an iterable of {what}, got {type(maps).__name__}"
            f"{'' if has_order(maps) else ': pass what it holds'}"
        )
    if labelled and y is None and isinstance(maps, tuple) and [*map(_kind_of, maps)] == ["f", "i"]:
        raise TypeError(f"{name} is a tuple of scores and labels: pass them as two arguments")
    _refuse_batches(maps, name)
    n, images = count(maps), track(maps, progress, count(maps))
    if not labelled:
        return _alone(images, name, noun)
    if y is None:
        return _paired(images, name, noun, label_name)
    refuse_path(y, label_name)
    refuse_members(y, label_name)
    m = count(y)
    if is_store(y):  # it may have no loop over its images
        y = map(y.__getitem__, range(m or 0))
    if not isinstance(y, Iterable) or not has_order(y):
        raise TypeError(
            f"{label_name} must hold one label map for each image of {name}, got {type(y).__name__}"
        )
    if n is not None and m is not None and n != m:
        raise ValueError(f"{name} has {plural(n, 'image')}, {label_name} has {m}")
    return _zipped(images, y, name, label_name)


def _numbered(images: Iterable[T]) -> Iterator[tuple[int, T]]:
    """Like enumerate, which would keep an item alive while the next is read."""
    iterator, index = iter(images), 0
    while (image := next(iterator, _END)) is not _END:
        yield index, image  # type: ignore[misc]  # the end is none of them
        del image
        index += 1


def _alone(images: Iterable[Any], name: str, noun: str) -> Iterator[tuple[int, Any, None]]:
    for index, image in _numbered(images):
        if isinstance(image, tuple):
            raise TypeError(
                f"{name} must yield {noun} alone here, image {index} is a tuple: leave out the labels"
            )
        yield index, image, None
        del image


def _paired(images: Iterable[Any], name: str, noun: str, label_name: str) -> Iterator[tuple[int, Any, Any]]:
    for index, pair in _numbered(images):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(
                f"without {label_name}, {name} must yield ({noun}, labels) pairs; image {index} is "
                f"{type(pair).__name__}"
            )
        yield index, *pair
        del pair


def _zipped(images: Iterable[Any], y: Any, name: str, label_name: str) -> Iterator[tuple[int, Any, Any]]:
    left, right, index = iter(images), iter(y), 0
    while True:
        image, labels = next(left, _END), next(right, _END)
        if image is _END and labels is _END:
            return
        if image is _END or labels is _END:
            short, long = (name, label_name) if image is _END else (label_name, name)
            raise ValueError(
                f"{name} and {label_name} must hold the same number of images: {short} has {plural(index, 'image')}, "
                f"{long} has more"
            )
        if isinstance(image, tuple):
            raise TypeError(
                f"{name} must yield arrays where {label_name} is given, image {index} is a tuple: leave out "
                f"{label_name} if {name} yields pairs"
            )
        yield index, image, labels
        del image, labels
        index += 1


def _kind_of(value: Any) -> str:
    """NumPy's letter for the kind of an array's or a tensor's numbers, "i" for all integers; "" for other values."""
    if is_tensor(value):
        return "f" if value.is_floating_point() else "b" if str(value.dtype) == "torch.bool" else "i"
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return "i" if kind == "u" else str(kind)


def _refuse_swapped(maps: Any, labels: Any, layout: Layout, where: str, label_name: str) -> None:
    """Refuses maps and labels that seem to be swapped."""
    are_swapped = layout.name == "X" and _kind_of(maps) in ("i", "b") and _kind_of(labels) == "f"
    if are_swapped and len(labels.shape) > len(maps.shape):
        raise TypeError(
            f"{layout.name} holds whole numbers{where}, and {label_name} floating ones: they look swapped. fit and "
            f"evaluate take ({layout.name}, {label_name}), the functions of metrics ({label_name}, {layout.name})"
        )


def _refuse_bools(maps: Any, labels: Any, layout: Layout, where: str, label_name: str) -> None:
    """Refuses booleans as labels unless there are two classes: they would be taken for classes 0 and 1 of K."""
    axis = len(layout.axes) - bool(where)  # the images of a list have no axis n
    if (
        layout.axes[-1:] == ("K",)
        and _kind_of(labels) == "b"
        and maps.shape[axis : axis + 1] not in ((), (2,))
    ):
        raise TypeError(
            f"{label_name} holds booleans{where}, but {layout.name} has K = {maps.shape[axis]} classes: pass the index "
            "of the class of each pixel"
        )


def _check_axes(maps: Any, labels: Any) -> None:
    """Refuses an array of scores whose axes are not those of images of K classes."""
    shape = tuple(maps.shape)
    if len(shape) in (4, 5):
        return
    hint = ""
    if len(shape) == 3:
        hint = "; one image is X[None]"
        if tuple(getattr(labels, "shape", ())) == shape:
            hint = (
                "; if X holds the probability of the second of two classes, pass np.stack([1 - X, X], axis=1)"
            )
    elif len(shape) == 2:
        hint = "; if it holds a pixel in each row, pass X.T.reshape(1, K, H, W) of one image"
    raise ValueError(f"X must have shape {SCORES.shapes('n')}, got {shape}{hint}")


def _refuse_batches(maps: object, name: str) -> None:
    """Refuses a loader whose attributes say that it yields batches."""
    size = getattr(maps, "batch_size", None)
    if size is None and getattr(maps, "batch_sampler", None) is None:
        return
    batches = "batches" if size is None else f"batches of {plural(size, 'image')}"
    raise TypeError(
        f"{name} yields {batches}, but must yield one image at a time: make the loader with "
        f"batch_size=None, or pass each batch as an array, to partial_fit or predict"
    )


def _check_image(image: Any, layout: Layout, index: int, volumes: Volumes) -> None:
    """Refuses an image of another rank, and one that may as well be a batch."""
    shape, lead = tuple(image.shape), "".join(f"{axis}, " for axis in layout.axes)
    n_space = len(shape) - len(layout.axes)
    space = {"auto": {2: "H, W", 3: "D, H, W"}, True: {3: "D, H, W"}, False: {2: "H, W"}}[volumes]
    if n_space not in space:
        fits = " or ".join(f"({lead}{axes})" for axes in space.values())
        raise ValueError(f"each image of {layout.name} must have shape {fits}; image {index} has {shape}")
    # A batch (B, K, H, W) of B = K images has the shape of a volume (K, D, H, W), and so do their labels.
    if volumes == "auto" and n_space == 3 and lead and shape[0] == shape[len(layout.axes)]:
        raise ValueError(
            f"image {index} of {layout.name} has shape {shape}: it may be a volume ({lead}D, H, W) or a batch "
            f"(B, {lead}H, W), and an iterable must yield one image at a time. Pass batches as arrays, to "
            "partial_fit or predict; for volumes pass volumes=True"
        )


def check_labels(
    maps: Any,
    labels: Any,
    layout: Layout = SCORES,
    where: str = "",
    label_name: str = "y",
    *,
    is_stored: bool = False,
) -> None:
    """Refuses labels that do not fit maps (n, ...); the kernels refuse maps of another rank.

    `is_stored` says that the maps are some images of a store. NumPy's functions would read all of the store.
    """
    shape, given, n_axes = tuple(maps.shape), tuple(labels.shape), len(layout.axes)
    expected = shape[:1] + shape[1 + n_axes :]
    if len(shape) - n_axes not in (3, 4) or given == expected:
        return
    hint = ""
    # One-hot labels of three classes have the shape of colours.
    is_colour = (
        given in [(*expected, 3), (*expected, 4), (*expected[:1], 3, *expected[1:])] and labels.max() > 1
    )
    first = 1 if where else 0  # the images of a list have no axis n
    image, each = ("image", " for each image") if where else (layout.name, "")
    n_classes = shape[n_axes : n_axes + 1]
    if is_colour:
        hint = f"; if {label_name} holds colours, turn them into class indices"
    elif n_axes and given == expected[:1] + n_classes + expected[1:]:
        hint = f"; if {label_name} is one-hot, pass {label_name}.argmax(axis={1 - first})"
    elif n_axes and given == expected + n_classes:
        hint = f"; if {label_name} is one-hot, pass {label_name}.argmax(axis=-1)"
    elif given == (*expected[:1], 1, *expected[1:]):
        hint = f"; pass {label_name}[{'0' if where else ':, 0'}], without the axis of length 1"
    elif n_axes and given == shape[:1] + shape[n_axes:-1] and is_stored:
        hint = (
            f"; is {layout.name} channel-last? Pass (np.moveaxis(image, -1, {n_axes - 1}) for image in {layout.name}), "
            "which reads an image at a time"
        )
    elif n_axes and given == shape[:1] + shape[n_axes:-1]:
        hint = (
            f"; is {layout.name} channel-last? Pass np.moveaxis({image}, -1, {n_axes - first}){each}, "
            "which copies nothing"
        )
    elif n_axes == 1 and not where and given == shape[1:]:
        hint = f"; are the classes of {layout.name} first? Pass np.moveaxis({layout.name}, 0, 1)"
    elif layout.name == "P" and given == shape[:1] + shape[2:]:
        of_foreground = f"{layout.name}[{'' if where else ':, '}{int(shape[1] > 1)}]"
        hint = f"; if {layout.name} holds {plural(shape[1], 'class')}, pass that of the foreground, {of_foreground}"
    elif given == (*expected[:-2], expected[-1], expected[-2]):
        hint = f"; are H and W swapped? Pass {label_name}.swapaxes(-2, -1)"
    elif where and given[1:] == shape[1:2] + shape[-2:]:
        hint = "; an iterable yields one image at a time: pass batches as arrays, one by one"
    raise ValueError(
        f"{label_name} must have shape {expected[first:]} to match {layout.name} {shape[first:]}{where}, "
        f"got {given[first:]}{hint}"
    )


def axes_hint(shape: tuple[int, ...], n_classes: int, layout: Layout = SCORES) -> str:
    """What may be wrong with maps (n, ...) that seem to have another number of classes."""
    n_axes = len(layout.axes)
    if shape[-1] == n_classes:
        return (
            f"; is {layout.name} channel-last? np.moveaxis puts the classes where they belong, and copies "
            "nothing; of what is read by slices give it one image at a time"
        )
    if n_axes == 2 and shape[1] == n_classes:
        return "; are S and K swapped? The classes come after the samples"
    if len(shape) == n_axes + 4 and shape[n_axes + 1] == n_classes:
        return "; an iterable yields one image at a time: pass batches as arrays, one by one"
    return ""


def map_images(
    X: object,
    kernel: Callable[[Any, int], NDArray[R]],
    progress: bool | str,
    volumes: Volumes = "auto",
    layout: Layout = SCORES,
    out: NDArray[R] | None = None,
    at_once: int | None = None,
) -> NDArray[R] | list[NDArray[R]] | Generator[NDArray[R], None, None]:
    """`kernel(maps, first_image)` of an array or a store; for a list a list of results, for a generator a generator.

    For an array or a store, `out` may be the array that the kernel writes to, and `at_once` the number of images of an
    array for each call.
    """
    batches = not_empty(
        walk(X, None, layout, progress, labelled=False, at_once=at_once, volumes=volumes), layout.name
    )
    if is_store(X) or (at_once is not None and is_whole(X)):
        return _gathered(batches, kernel, count(X) or 0, out)
    if is_whole(X):
        maps, _, first = next(batches)
        found = kernel(maps, first)
        return found if out is None else out
    images = each_of(batches, lambda maps, _, first: kernel(maps, first)[0])
    return list(images) if isinstance(X, Sequence) else images


def _gathered(
    batches: Iterator[Batch], kernel: Callable[[Any, int], NDArray[R]], n: int, out: NDArray[R] | None
) -> NDArray[R]:
    """The results of a kernel for all batches as one array; `out`, if the kernel writes to it."""
    is_written = out is not None
    for maps, _, first in batches:
        part = kernel(maps, first)
        if out is None:
            out = np.empty((n, *part.shape[1:]), part.dtype)
        if not is_written:
            out[first : first + len(part)] = part
    assert out is not None, "no image is refused before"
    return out


def count(images: Any) -> int | None:
    """The number of images, if it is known before they are read."""
    if is_store(images) and len(images.shape):  # a proxy of nibabel has no length
        n = images.shape[0]
        return int(n) if n == n else None  # an array of Dask may not know it
    try:
        return len(images)
    except (TypeError, RuntimeError):  # a generator, a loader or a nested tensor, which cannot tell
        return None


def track(images: Iterable[T], progress: bool | str, total: int | None, unit: str = "image") -> Iterator[T]:
    """`images` with a progress bar; "auto" shows one on a terminal or in a notebook if it takes a while."""
    if progress not in (True, False, "auto"):
        raise ValueError(f"progress must be True, False or 'auto', got {progress!r}")
    auto = progress == "auto"
    bar = tqdm(
        total=total,
        unit=unit,
        disable=None if auto else not progress,
        delay=_SECONDS_BEFORE_BAR if auto else 0,
    )
    return _tracked(images, bar)


def _tracked(images: Iterable[T], bar: Any) -> Iterator[T]:
    with bar:  # it does not iterate over the images itself: it would keep each one alive
        for image in images:
            yield image
            del image
            bar.update()

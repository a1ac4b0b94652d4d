"""Score maps and labels in folders, with a file for each image, read one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from conformask._arrays import check_ignore_index, ignored_labels
from conformask._files.folders import needed_files, partner, read_groups
from conformask._files.label_values import LabelValues
from conformask._files.maps import (
    LABELS,
    MAPS,
    PICTURES_AS_MAPS,
    LabelMap,
    ScoreMaps,
    read_labels,
    read_scores,
    voided,
)
from conformask._known import holds_data
from conformask._sequences import listed
from conformask._text import plural, shown
from conformask._warnings import warn_caller

__all__ = ["MapFolder", "PairedFolder"]

T = TypeVar("T")


class _Images(Sequence[T]):
    """A sequence that reads its elements when they are asked for; so do its parts, by a slice or a list of indices."""

    names: list[str]

    def _read(self, place: int) -> T:
        raise NotImplementedError

    def _part(self, places: Sequence[int]) -> _Images[T]:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: Any) -> Any: ...
    def __getitem__(self, index: Any) -> Any:
        places = np.arange(len(self))[index if isinstance(index, slice) else np.asarray(index)]
        return self._read(int(places)) if places.ndim == 0 else self._part(places.tolist())

    def __iter__(self) -> Iterator[T]:  # Sequence's own would end at any IndexError, even one from a library
        return (self._read(place) for place in range(len(self)))

    def __contains__(self, value: object) -> bool:  # comparing arrays gives no single truth value
        raise TypeError("images cannot be searched for: names tells which there are")


class MapFolder(_Images["NDArray[np.floating[Any]]"]):
    """The score maps of a folder, with a file for each image, read one at a time.

    It is a sequence: ``calibrator.predict(folder)`` gives a list, ``calibrator.predict(iter(folder))`` a generator that
    holds one image at a time.

    Parameters
    ----------
    folder : path
        The folder. It takes the files that end with ``.npy``, ``.npz``, ``.nii``, ``.nii.gz``, ``.tif`` or ``.tiff``,
        one for each image. They hold floating score maps (K, H, W) or (K, D, H, W), or integers of 8 or 16 bits, which
        become float32. ``.npy`` files are memory-mapped, and NumPy files are read without pickles. NIfTI files hold the
        classes on the last axis, (x, y, z, K), and are read as (K, z, y, x); they need nibabel. GeoTIFF files hold a
        class in each band, and need rasterio.
    key : str or None, default=None
        The name of the array in ``.npz`` files. None takes the one that is called "probabilities", "softmax", "probs",
        "scores" or "logits", or the only one.
    class_axis : int, default=0
        The axis of the classes in NumPy arrays: -1 if it is the last.
    ending : str, default=""
        The ending of the file names, before the suffix, such as "_softmax". Other files are left out; the names of
        images do not include it.
    names : sequence of str or None, default=None
        The images to take, in this order. None takes all, sorted by name.
    nodata : float or None, default=None
        The number that marks pixels without data, such as padding, in the maps of all classes; or NaN, in any class.
        The nodata of a GeoTIFF is used, too. :meth:`read` tells where there is data, for ``predict(valid=)``.

    Attributes
    ----------
    names : list of str
        The names of the images: the names of their files, without ending and suffix.
    files : list of Path
        The files of the images.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, no such file in it, or none for one of `names`.
    ValueError
        If two files have the same name. When an image is read: if its file is damaged or holds something else.
    ImportError
        When an image is read: if the library for its file is missing.

    See Also
    --------
    PairedFolder : Score maps with labels.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from conformask.datasets import MapFolder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "street.npy", np.full((3, 4, 5), 1 / 3))
    ...     maps = MapFolder(folder)
    ...     maps.names, maps[0].shape
    (['street'], (3, 4, 5))
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        key: str | None = None,
        class_axis: int = 0,
        ending: str = "",
        names: Sequence[str] | None = None,
        nodata: float | None = None,
    ) -> None:
        root = Path(folder)
        found = needed_files(root, MAPS, ending, others=PICTURES_AS_MAPS)
        self._key, self._class_axis, self._nodata = key, class_axis, _number(nodata)
        self.names = list(found) if names is None else _chosen(names, found, root)
        self.files = [found[name] for name in self.names]

    def read(self, place: int) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_] | None]:
        """The maps of an image, and where they hold data.

        Parameters
        ----------
        place : int
            The index of the image.

        Returns
        -------
        scores : floating array (K, H, W) or (K, D, H, W)
            All classes have 1 / K where there is no data: by `nodata`, or by the nodata or the mask of a GeoTIFF.
        valid : bool array (H, W), or None
            True where there is data; None if there is data everywhere.
        """
        found = read_scores(self.files[place], self._key, self._class_axis)
        if self._nodata is not None:
            has_data = holds_data(found.values, self._nodata)
            valid = has_data if found.valid is None else has_data & found.valid
            found = found._replace(valid=None if valid.all() else valid)
        return _filled(found), found.valid

    def _read(self, place: int) -> NDArray[np.floating[Any]]:
        return self.read(place)[0]

    def _part(self, places: Sequence[int]) -> MapFolder:
        part = object.__new__(MapFolder)
        part._key, part._class_axis, part._nodata = self._key, self._class_axis, self._nodata
        part.names, part.files = [self.names[i] for i in places], [self.files[i] for i in places]
        return part

    def __repr__(self) -> str:
        return f"{type(self).__name__}({plural(len(self), 'image')})"


class PairedFolder(_Images["tuple[NDArray[np.floating[Any]], NDArray[np.integer[Any]]]"]):
    """Score maps and labels of two folders, as a sequence of (scores, labels) pairs that are read one at a time.

    It can be passed to everything that takes such pairs: ``calibrator.fit(folder)``, ``calibrator.evaluate(folder)``,
    ``conformask.profile(folder)``. ``folder[:50]`` and ``folder[[3, 1]]`` are parts of it.

    Parameters
    ----------
    maps : path
        The folder of score maps (see :class:`MapFolder`).
    labels : path
        The folder of labels: ``.png`` with class indices (grey, palette or black and white; it needs Pillow), or
        ``.npy``, ``.npz``, ``.nii``, ``.nii.gz``, ``.tif`` and ``.tiff``. Files belong together if their names are
        equal except for the suffix. Labels without maps are left out, and a warning tells how many.
    ignore_index : int, sequence of ints, or None, default=255
        The label of void pixels, the same as that of the calibrator. Pixels without data, in maps or labels, get it.
        None refuses such pixels.
    key, label_key : str or None, default=None
        The name of the array in ``.npz`` files. None takes the only one, or the one with a usual name, such as
        "probabilities" or "logits" for maps, "labels" or "mask" for labels.
    class_axis : int, default=0
        The axis of the classes in NumPy maps: -1 if it is the last.
    ending, label_ending : str, default=""
        The ending of the file names of maps and of labels, before the suffix, such as "_gtFine_labelTrainIds". Files
        belong together if their names are equal without it.
    label_values : sequence of ints or None, default=None
        The numbers that stand for class 0, 1, and so on in the files of labels, such as the grey levels (0, 127, 254).
        Labels of `ignore_index` that are not in the list stay void; other labels are refused. None takes the labels as
        they are.
    void_values : int, sequence of ints, or None, default=None
        The numbers in the files of labels that mean that a pixel is void, such as 0 if `label_values` begin at 1. These
        pixels become `ignore_index`, the first one if it names several. Only together with `label_values`.
    names : sequence of str or None, default=None
        The images to take, in this order. None takes all, sorted by name.
    groups : path, mapping or None, default=None
        The group of each image, such as its patient: a CSV file of two columns without a header, name and group, or a
        mapping from names to groups. Groups are not used automatically: pass ``fit(folder, groups=folder.groups)``.
    nodata : float or None, default=None
        The number that marks pixels without data in the maps of all classes, or NaN, as for :class:`MapFolder`. Such
        pixels are void, whatever their label.

    Attributes
    ----------
    names : list of str
        The names of the images: the names of their files, without ending and suffix.
    maps : MapFolder
        The score maps alone, for ``predict``.
    label_files : list of Path
        The files of labels.
    groups : list of str, or None
        The group of each image.

    Raises
    ------
    FileNotFoundError
        If a folder is missing or empty, or if maps have no labels.
    ValueError
        If two files have the same name, or an image has no group. When an image is read: if a file is damaged or holds
        something else, or labels have another shape than their maps. The message names the file.
    ImportError
        When an image is read: if the library for its file is missing.

    Warns
    -----
    UserWarning
        If there are labels without maps, and `names` is None. When an image is read: if its labels are a GeoTIFF whose
        nodata is the index of a class, so that all pixels of that class are void. This warning is given once.

    See Also
    --------
    MapFolder : Score maps without labels.
    conformask.ConformalRiskCalibrator : Calibrates on these pairs.
    load_predictions : Reads predictions that are in a single file.

    Notes
    -----
    Images are flat or volumes. A calibrator cannot know whether maps (K, D, H, W) with D = K are a volume or a batch:
    use ``ConformalRiskCalibrator(volumes=True)`` for volumes.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import conformask as cm
    >>> from conformask.datasets import PairedFolder
    >>> rng = np.random.default_rng(0)
    >>> with tempfile.TemporaryDirectory() as root:
    ...     maps, labels = Path(root) / "maps", Path(root) / "labels"
    ...     maps.mkdir()
    ...     labels.mkdir()
    ...     for i in range(20):
    ...         np.save(maps / f"{i:02}.npy", rng.dirichlet(np.ones(3), size=(8, 8)).transpose(2, 0, 1))
    ...         np.save(labels / f"{i:02}.npy", rng.integers(0, 3, (8, 8)))
    ...     folder = PairedFolder(maps, labels)
    ...     calibrator = cm.ConformalRiskCalibrator(alpha=0.2).fit(folder[:10])
    ...     report = calibrator.evaluate(folder[10:])
    ...     masks = calibrator.predict(folder[10:].maps)
    >>> report.n_images, len(masks), masks[0].shape
    (10, 10, (3, 8, 8))
    """

    def __init__(
        self,
        maps: str | Path,
        labels: str | Path,
        *,
        ignore_index: int | Sequence[int] | None = 255,
        key: str | None = None,
        label_key: str | None = None,
        class_axis: int = 0,
        ending: str = "",
        label_ending: str = "",
        label_values: Sequence[int] | None = None,
        void_values: int | Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        groups: str | Path | Mapping[str, str] | None = None,
        nodata: float | None = None,
    ) -> None:
        self.maps = MapFolder(maps, key=key, class_axis=class_axis, ending=ending, names=names, nodata=nodata)
        self.names = self.maps.names
        truth = needed_files(Path(labels), LABELS, label_ending)
        self.label_files = [
            partner(truth, name, file, Path(labels), "ending= and label_ending=")
            for name, file in zip(self.names, self.maps.files, strict=True)
        ]
        others = [name for name in truth if name not in set(self.names)] if names is None else []
        if others:
            warn_caller(
                f"{plural(len(others), 'label map')} of {labels} without score maps left out, the first of them "
                f"{truth[others[0]].name}",
                UserWarning,
            )
        # The first label of void pixels is given to pixels without data.
        self._ignored = ignored_labels(check_ignore_index(ignore_index))
        self._void = next(iter(self._ignored), None)
        self._label_key = label_key
        self._label_values = LabelValues.of(label_values, void_values, self._ignored)
        self._told: set[Path] = set()  # files for which a warning was given, here or by a part
        self.groups = _groups(groups, self.names)

    def _read(self, place: int) -> tuple[NDArray[np.floating[Any]], NDArray[np.integer[Any]]]:
        file = self.label_files[place]
        given = read_labels(file, self._label_key)
        scores, valid = self.maps.read(place)
        self._look_at_nodata(file, given, len(scores))
        labels = given.values
        if self._label_values is not None:
            self._label_values.check_number(len(scores), self.maps.files[place])
            labels = self._label_values.indices(labels, file, given.valid)
        labels = voided(labels, given.valid, self._void, file)
        if labels.shape != scores.shape[1:]:
            raise ValueError(
                f"{file} has shape {labels.shape}, but its maps in {self.maps.files[place]} {scores.shape}"
                f"{_hint(labels.shape, scores.shape)}"
            )
        return scores, voided(labels, valid, self._void, self.maps.files[place])

    def _look_at_nodata(self, file: Path, labels: LabelMap, n_classes: int) -> None:
        """Warns, once, that pixels of a class are void because a GeoTIFF uses its number for pixels without data."""
        numbers = range(n_classes) if self._label_values is None else self._label_values.classes
        is_void = labels.nodata == self._void and (self._label_values is None or self._void not in numbers)
        if self._told or is_void:
            return
        shown_as_void = labels.class_shown_as_void(numbers)
        if shown_as_void is None:
            return
        self._told.add(file)
        warn_caller(
            f"{file} says that {labels.nodata:g} means no data: pixels of class {shown_as_void} are void, and count "
            "nowhere. If they belong to that class, remove nodata from the files of labels: "
            f"gdal_edit.py -unsetnodata {file.name}, or in "
            "rasterio set nodata = None of a file that is open with mode 'r+'",
            UserWarning,
        )

    def _part(self, places: Sequence[int]) -> PairedFolder:
        part = object.__new__(PairedFolder)
        part._told = self._told
        part._ignored, part._void = self._ignored, self._void
        part._label_key, part._label_values = self._label_key, self._label_values
        part.maps = self.maps._part(places)
        part.names, part.label_files = part.maps.names, [self.label_files[i] for i in places]
        part.groups = None if self.groups is None else [self.groups[i] for i in places]
        return part

    def __repr__(self) -> str:
        return f"{type(self).__name__}({plural(len(self), 'image')})"


def _number(nodata: object) -> float | None:
    if nodata is None:
        return None
    if isinstance(nodata, bool) or not isinstance(nodata, int | float | np.number):
        raise TypeError(f"nodata must be a number or None, got {shown(nodata)}")
    return float(nodata)


def _chosen(names: Sequence[str], found: Mapping[str, Path], folder: Path) -> list[str]:
    chosen = listed(names, "names")
    if not chosen:
        raise ValueError("names must hold at least one, got none")
    for place, name in enumerate(chosen):
        if name not in found:
            raise FileNotFoundError(f"no score maps of {shown(name)} in {folder}")
        if name in chosen[:place]:
            raise ValueError(f"names must differ, but {shown(name)} comes twice")
    return chosen


def _groups(groups: str | Path | Mapping[str, str] | None, names: Sequence[str]) -> list[str] | None:
    if groups is None:
        return None
    if not isinstance(groups, Mapping):
        return read_groups(Path(groups), names)
    missing = next((name for name in names if name not in groups), None)
    if missing is not None:
        raise ValueError(f"groups must hold a group for each image, got none for {missing!r}")
    return [groups[name] for name in names]


def _filled(maps: ScoreMaps) -> NDArray[np.floating[Any]]:
    """The scores, with the same number for all classes where there is no data: the kernels look at all pixels."""
    if maps.valid is None:
        return maps.values
    filled: NDArray[np.floating[Any]] = np.where(
        maps.valid, maps.values, np.asarray(1 / len(maps.values), maps.values.dtype)
    )
    return filled


def _hint(labels: tuple[int, ...], scores: tuple[int, ...]) -> str:
    """What may be wrong with labels of another shape."""
    if labels == scores[:-1]:
        return "; if the classes of the maps are on the last axis, pass class_axis=-1"
    if labels == (*scores[1:-2], scores[-1], scores[-2]):
        return "; are height and width swapped?"
    if labels[:1] == (1,) and labels[1:] == scores[1:]:
        return "; write the labels without the axis of length 1"
    return ""

"""One image's score maps or labels, from a file of any format."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conformask._arrays import with_void
from conformask._files import arrays, geotiff, nifti, nifti_maps, pictures
from conformask._files.folders import split_name
from conformask._files.labels import SWAPPED, integer_labels

__all__ = [
    "LABELS",
    "MAPS",
    "PHOTOGRAPHS",
    "PICTURES_AS_MAPS",
    "LabelMap",
    "ScoreMaps",
    "read_labels",
    "read_photograph",
    "read_scores",
]

MAPS = (*arrays.SUFFIXES, *nifti.SUFFIXES, *geotiff.SUFFIXES)
LABELS = (*pictures.SUFFIXES, *MAPS)
PHOTOGRAPHS = (*pictures.PHOTOGRAPHS, *arrays.SUFFIXES)
PICTURES_AS_MAPS = dict.fromkeys(
    pictures.PHOTOGRAPHS, "pictures, which hold labels and no score maps: are both folders swapped?"
)

_SCORES = ("probabilities", "softmax", "probs", "scores", "logits")
_TRUTH = ("labels", "label", "masks", "mask", "segmentation", "seg", "y")


class ScoreMaps(NamedTuple):
    """The score maps (K, H, W) or (K, D, H, W) of an image, and where they hold data; None: everywhere."""

    values: NDArray[np.floating[Any]]
    valid: NDArray[np.bool_] | None


class LabelMap(NamedTuple):
    """The labels (H, W) or (D, H, W) of an image, where they hold data, and the number that means no data."""

    values: NDArray[np.integer[Any]]
    valid: NDArray[np.bool_] | None = None
    nodata: float | None = None

    def class_shown_as_void(self, values: Sequence[int]) -> int | None:
        """The class whose number, among `values`, also marks pixels without data."""
        if self.valid is None or self.nodata is None or self.nodata not in values:
            return None
        return values.index(int(self.nodata)) if (self.values[~self.valid] == self.nodata).any() else None


def _member(parameter: str, given: str | None, known: Sequence[str], names: list[str]) -> str:
    """The member of an archive: the one that is asked for, the one with a usual name, or the only one."""
    if given is not None:
        if given not in names:
            raise ValueError(f"it holds no array {given!r} of {parameter}=, but {names}")
        return given
    fit = [name for name in known if name in names] or names
    if len(fit) != 1:
        raise ValueError(
            f"it holds {len(fit)} arrays that may be meant: choose one, {parameter}= one of {fit}"
        )
    return fit[0]


def read_scores(file: Path, key: str | None = None, class_axis: int = 0) -> ScoreMaps:
    """The score maps of a file: ``.npy`` (mapped), ``.npz``, NIfTI with the classes on the last axis, or GeoTIFF.

    Parameters
    ----------
    file : Path
        The file.
    key : str or None
        The array of an archive; None takes the one that is called as score maps are, or the only one.
    class_axis : int
        Which axis of NumPy's arrays is that of the classes.

    Returns
    -------
    ScoreMaps
        Integers of 8 and 16 bits become float32.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        If the file is missing or damaged, holds something else, or its library is missing. The message names it.
    """
    suffix = split_name(file)[1]
    valid = None
    if suffix in arrays.SUFFIXES:
        values = arrays.read_array(file, partial(_member, "key", key, _SCORES), mapped=True)
        if not -values.ndim <= class_axis < max(values.ndim, 1):
            raise ValueError(f"{file} has shape {values.shape}: it has no class_axis={class_axis}")
        values = np.moveaxis(values, class_axis, 0) if class_axis else values
    elif suffix in nifti.SUFFIXES:
        values = nifti_maps.read_scores(file)
    else:
        values, has_data, _ = geotiff.read_bands(file)
        valid = None if has_data.all() else has_data
    _check_scores(file, values)
    return ScoreMaps(values.astype(np.float32) if values.dtype.kind == "u" else values, valid)


def _check_scores(file: Path, values: NDArray[Any]) -> None:
    if values.ndim not in (3, 4) or not values.size or values.shape[0] < 2:
        hint = ""
        if values.dtype.kind in "iub" and values.ndim == 2:
            hint = SWAPPED.format("labels")
        elif values.ndim == 2 or values.shape[:1] == (1,):
            hint = "; of the probability p of one class of two write np.stack([1 - p, p])"
        if values.ndim > 3 and values.shape[0] == 1:
            hint = "; write it without the axis of length 1"
        raise ValueError(
            f"{file} must hold score maps (K, H, W) or (K, D, H, W) of K > 1 classes, got shape {values.shape}{hint}"
        )
    if values.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64, np.uint8, np.uint16):
        hint = SWAPPED.format("labels") if values.dtype.kind in "biu" else ""
        raise ValueError(f"{file} must hold floating score maps, got {values.dtype}{hint}")


def read_labels(file: Path, key: str | None = None) -> LabelMap:
    """The labels of a file: ``.png`` (class indices, not colours), ``.npy``, ``.npz``, NIfTI or GeoTIFF of one band.

    Parameters
    ----------
    file : Path
        The file.
    key : str or None
        The array of an archive; None takes the one that is called as labels are, or the only one.

    Returns
    -------
    LabelMap

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        If the file is missing or damaged, holds something else, or its library is missing. The message names it.
    """
    suffix = split_name(file)[1]
    if suffix in nifti.SUFFIXES:
        return LabelMap(nifti.read_labels(file))
    if suffix in geotiff.SUFFIXES:
        bands, valid, nodata = geotiff.read_bands(file, of_labels=True)
        return LabelMap(integer_labels(file, bands[0]), valid, nodata)
    if suffix in arrays.SUFFIXES:
        return LabelMap(
            integer_labels(file, arrays.read_array(file, partial(_member, "label_key", key, _TRUTH)))
        )
    return LabelMap(integer_labels(file, pictures.read_picture(file, pictures.indices)))


def voided(
    labels: NDArray[Any], valid: NDArray[np.bool_] | None, void: int | None, file: Path
) -> NDArray[np.integer[Any]]:
    """Labels, made void where the file has no data."""
    if valid is None or valid.all():
        return labels
    if void is None:
        raise ValueError(f"{file} has pixels without data, which need an ignore_index")
    return with_void(labels, ~valid, void)


def read_photograph(file: Path) -> NDArray[Any]:
    """The photograph of a file: a picture, or NumPy's (H, W) or (H, W, 3)."""
    is_array = split_name(file)[1] in arrays.SUFFIXES
    return arrays.read_array(file) if is_array else pictures.read_photograph(file)

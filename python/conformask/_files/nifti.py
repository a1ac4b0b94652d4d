"""NIfTI images, by nibabel: arrays (z, y, x), as nnU-Net and ITK hold them, and their place in space."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._documents import write_whole
from conformask._files.labels import integer_labels

__all__ = ["SUFFIXES", "read_labels", "write_like"]

SUFFIXES = (".nii", ".nii.gz")

_MOST_AXES = 3  # axes of one image; further ones are times or channels
_MOST_PACKED = 1032  # the largest compression ratio of gzip
_LEVEL = 4  # of gzip: masks and sizes are nearly as small as at 9, and written twice as fast


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise ImportError('NIfTI files need nibabel: pip install "conformask[nnunet]"') from error
    return nibabel


def _open(path: Path) -> Any:
    nibabel = _nibabel()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        image = nibabel.load(path)
    except _damages(nibabel) as error:
        raise ValueError(f"{path} is no NIfTI image: {_line(error)}") from error
    if not isinstance(image, nibabel.Nifti1Image):
        raise ValueError(f"{path} is no NIfTI image, but {type(image).__name__}")
    # The header's number of voxels is allocated before they are read: check it first.
    n_bytes = math.prod(image.shape) * image.get_data_dtype().itemsize
    if n_bytes > path.stat().st_size * (_MOST_PACKED if path.name.lower().endswith(".gz") else 1):
        raise ValueError(f"{path} is cut off, or damaged: its shape {image.shape} is more than it can hold")
    return image


def _damages(nibabel: Any) -> tuple[type[Exception], ...]:
    """The errors of reading a file that is cut off, or of another format."""
    header, turn = nibabel.spatialimages.HeaderDataError, nibabel.orientations.OrientationError
    own = nibabel.filebasedimages.ImageFileError, header, turn
    return (*own, OSError, EOFError, OverflowError, ValueError, zlib.error)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


@contextmanager
def _placed(source: Path) -> Iterator[None]:
    """Reports errors as those of an image whose place in space is damaged."""
    try:
        with np.errstate(all="ignore"):
            yield
    except _damages(_nibabel()) as error:
        raise ValueError(f"{source} does not say where its voxels lie: {_line(error)}") from error


def read_labels(path: Path, *, canonical: bool = False) -> NDArray[np.integer[Any]]:
    """The labels of a file, (z, y, x) or (y, x), in the integers that it stores, or that its floats are.

    Parameters
    ----------
    path : Path
        The file. Axes of length 1 behind the third are dropped.
    canonical : bool, default=False
        Whether axes are permuted and flipped so that they run to the right, to the front and up (RAS+).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or holds something else than one image of whole numbers.
    """
    nibabel, image = _nibabel(), _open(path)
    if canonical:
        with _placed(path):
            nibabel.aff2axcodes(image.affine)
    try:
        values = np.asanyarray((nibabel.as_closest_canonical(image) if canonical else image).dataobj)
    except _damages(nibabel) as error:
        raise ValueError(f"{path} cannot be read: {_line(error)}") from error
    while values.ndim > _MOST_AXES and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (2, _MOST_AXES):
        raise ValueError(f"{path} has shape {image.shape} (x, y, z, ...), which is not one image")
    return np.ascontiguousarray(integer_labels(path, values.T, may_be_maps=False))


def write_like(path: Path, values: NDArray[Any], source: Path, *, canonical: bool = False) -> None:
    """Writes an array (z, y, x) or (K, z, y, x) whose voxels have the same place in space as those of another file.

    Parameters
    ----------
    path : Path
        The file to write, ``.nii`` or ``.nii.gz``. It is written whole, or not at all.
    values : ndarray
        Has the shape of the source in space, or also axes of length 1 in front; bool is written as uint8. For
        (K, z, y, x), the axis K is the last one of the file, like those of times and channels.
    source : Path
        The image at the same place. It may have further axes besides those of space.
    canonical : bool, default=False
        Whether the axes of `values` run to the right, to the front and up (RAS+), whatever those of the source do.

    Raises
    ------
    ValueError
        If the source has another shape in space, or does not say where its voxels lie.
    """
    nibabel, image = _nibabel(), _open(source)
    space = image.shape[:_MOST_AXES]
    values = (values.astype(np.uint8) if values.dtype == bool else values).T
    if canonical:  # return to the axes of the source
        with _placed(source):
            right_front_up = nibabel.orientations.axcodes2ornt("RAS")
            orientation = nibabel.io_orientation(image.affine)
            values = nibabel.apply_orientation(
                values, nibabel.orientations.ornt_transform(right_front_up, orientation)
            )
    while values.ndim > len(space) and values.shape[-1] == 1:
        values = values[..., 0]
    if values.shape[: len(space)] != space or values.ndim > len(space) + 1:
        raise ValueError(f"{source} has shape {space[::-1]} (z, y, x), its map {values.shape[::-1]}")
    header = image.header.copy()
    header.set_data_dtype(values.dtype)
    # The source's display window belongs to its own numbers; it would hide small ones.
    header["cal_min"] = header["cal_max"] = 0
    with _placed(source):
        written = type(image)(values, image.affine, header)
    with ExitStack() as stack:
        file: Any = stack.enter_context(write_whole(path))
        if path.name.endswith(".gz"):
            # Without name and time: the same map gives the same bytes.
            file = stack.enter_context(
                gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file, mtime=0)
            )
        written.to_stream(file)

"""NIfTI images, by nibabel: arrays (z, y, x), as nnU-Net and ITK hold them, and where they lie in space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SUFFIXES", "read_labels", "write_like"]

SUFFIXES = (".nii", ".nii.gz")


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise ImportError("NIfTI files need nibabel: pip install conformask[nnunet]") from error
    return nibabel


def _open(path: Path) -> Any:
    nibabel = _nibabel()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        return nibabel.load(path)
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError, EOFError) as error:
        raise ValueError(f"{path} is no NIfTI image: {error}") from error


def read_labels(path: Path) -> NDArray[np.integer[Any]]:
    """The labels of a file, (z, y, x) or (y, x), in the integers that it stores, or that its floats are.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or holds something else than whole numbers.
    """
    image = _open(path)
    try:
        values = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{path} holds {values.dtype}, not labels")
    if values.dtype.kind == "f":  # as some tools write labels
        whole = np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) < 2**31)
        if not whole.all():
            raise ValueError(f"{path} holds {values[~whole][0]:g}, which is no label")
        values = values.astype(np.int32)
    return np.ascontiguousarray(values.T)


def write_like(path: Path, values: NDArray[Any], source: Path) -> None:
    """Writes an array (z, y, x), whose voxels lie where those of another file do.

    Parameters
    ----------
    path : Path
        What to write, ``.nii`` or ``.nii.gz``.
    values : ndarray
        Of the shape of the source; bool is written as uint8.
    source : Path
        The image that lies in the same place.

    Raises
    ------
    ValueError
        If the source has another shape.
    """
    nibabel, image = _nibabel(), _open(source)
    if values.shape != image.shape[::-1]:
        raise ValueError(f"{source} has shape {image.shape[::-1]} (z, y, x), its map {values.shape}")
    values = values.astype(np.uint8) if values.dtype == bool else values
    header = image.header.copy()
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1, 0)
    nibabel.save(type(image)(values.T, image.affine, header), path)

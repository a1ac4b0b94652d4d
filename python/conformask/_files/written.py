"""Set sizes and masks of an image as files of the kind of its score maps, which lie in the same place."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._files import geotiff, nifti, nifti_maps, pictures
from conformask._files.folders import split_name

__all__ = ["NO_ANSWER", "NO_CLASS", "write_masks", "write_sizes", "write_whole_file"]

NO_CLASS, NO_ANSWER = 0, 255  # where a raster holds no data: of set sizes, of masks


def write_sizes(
    stem: Path,
    sizes: NDArray[Any],
    source: Path,
    valid: NDArray[np.bool_] | None = None,
    *,
    png: bool = False,
) -> Path:
    """Writes set sizes (H, W) or (D, H, W), and returns where.

    Parameters
    ----------
    stem : Path
        The file without its suffix.
    sizes : unsigned array
        8 bits are written where they do. 0 is nodata of GeoTIFF.
    source : Path
        The file of score maps.
    valid : bool array or None
        Where there is data: of GeoTIFF set sizes are 0 elsewhere.
    png : bool
        Whether sizes (H, W) that lie in no space become a grey picture, not ``.npy``.
    """
    sizes = sizes.astype(np.uint8) if sizes.max(initial=0) < 256 else sizes.astype(np.uint16)
    kind = split_name(source)[1]
    if kind in geotiff.SUFFIXES:
        bands = (sizes if valid is None else np.where(valid, sizes, NO_CLASS).astype(sizes.dtype))[np.newaxis]
        return write_whole_file(stem, ".tif", lambda path: geotiff.write_like(path, bands, source, NO_CLASS))
    if kind in nifti.SUFFIXES:
        return write_whole_file(stem, ".nii.gz", lambda path: nifti_maps.write_beside(path, sizes, source))
    if png and sizes.ndim == 2:
        return write_whole_file(stem, ".png", lambda path: pictures.save_greys(path, sizes))
    return write_whole_file(stem, ".npy", lambda path: np.save(path, sizes))


def write_masks(stem: Path, masks: NDArray[np.bool_], source: Path, valid: NDArray[np.bool_] | None) -> Path:
    """Writes masks (K, H, W) or (K, D, H, W), and returns where; of GeoTIFF 255 is nodata, where nothing is valid."""
    kind = split_name(source)[1]
    if kind in geotiff.SUFFIXES:
        bands = (
            masks.astype(np.uint8) if valid is None else np.where(valid, masks, NO_ANSWER).astype(np.uint8)
        )
        return write_whole_file(stem, ".tif", lambda path: geotiff.write_like(path, bands, source, NO_ANSWER))
    if kind in nifti.SUFFIXES:
        return write_whole_file(stem, ".nii.gz", lambda path: nifti_maps.write_beside(path, masks, source))
    return write_whole_file(stem, ".npy", lambda path: np.save(path, masks))


def write_whole_file(stem: Path, suffix: str, write: Callable[[Path], object]) -> Path:
    """Writes a file beside and renames it: whoever looks into the folder finds no half of it.

    Libraries go by the end of a file's name, which stays as it is.
    """
    path = stem.with_name(stem.name + suffix)
    beside = stem.with_name(f".{secrets.token_hex(8)}{suffix}")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path

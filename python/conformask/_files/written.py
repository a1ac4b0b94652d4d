"""Writes set sizes and masks of an image in the format of its score maps, with the same place in space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._documents import write_whole
from conformask._files import geotiff, nifti, pictures
from conformask._files.folders import split_name

__all__ = ["NO_ANSWER", "NO_CLASS", "write_masks", "write_sizes"]

NO_CLASS, NO_ANSWER = 0, 255  # where a raster holds no data: in set sizes, in masks


def write_sizes(
    stem: Path,
    sizes: NDArray[Any],
    source: Path,
    valid: NDArray[np.bool_] | None = None,
    *,
    png: bool = False,
) -> Path:
    """Writes set sizes (H, W) or (D, H, W), and returns the path.

    Parameters
    ----------
    stem : Path
        The file without its suffix.
    sizes : unsigned array
        Written in 8 bits if they fit. In a GeoTIFF, 0 is nodata.
    source : Path
        The file of score maps.
    valid : bool array or None
        Where there is data. In a GeoTIFF, set sizes are 0 elsewhere.
    png : bool
        Whether sizes (H, W) without a place in space become a grey picture, not ``.npy``.
    """
    sizes, kind = pictures.smallest_unsigned(sizes), split_name(source)[1]
    if kind in geotiff.SUFFIXES:
        bands = sizes if valid is None else np.where(valid, sizes, NO_CLASS).astype(sizes.dtype)
        return _raster(stem, bands[np.newaxis], source, NO_CLASS)
    if kind in nifti.SUFFIXES:
        return _volume(stem, sizes, source)
    if png and sizes.ndim == 2:
        path = _named(stem, ".png")
        pictures.save_greys(path, sizes)
        return path
    return _array(stem, sizes)


def write_masks(stem: Path, masks: NDArray[np.bool_], source: Path, valid: NDArray[np.bool_] | None) -> Path:
    """Writes masks (K, H, W) or (K, D, H, W), and returns the path. In a GeoTIFF, 255 marks pixels without data."""
    kind = split_name(source)[1]
    if kind in geotiff.SUFFIXES:
        bands = masks if valid is None else np.where(valid, masks, NO_ANSWER)
        return _raster(stem, bands.astype(np.uint8), source, NO_ANSWER)
    return _volume(stem, masks, source) if kind in nifti.SUFFIXES else _array(stem, masks)


def _raster(stem: Path, bands: NDArray[Any], source: Path, nodata: int) -> Path:
    path = _named(stem, ".tif")
    geotiff.write_like(path, bands, source, nodata)
    return path


def _volume(stem: Path, values: NDArray[Any], source: Path) -> Path:
    path = _named(stem, ".nii.gz")
    nifti.write_like(path, values, source)
    return path


def _array(stem: Path, values: NDArray[Any]) -> Path:
    path = _named(stem, ".npy")
    with write_whole(path) as file:
        np.save(file, values)
    return path


def _named(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)

"""GeoTIFF, by rasterio: bands (K, H, W), the pixels without data, and the place of the pixels on the ground."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conformask._documents import replaced

__all__ = ["SUFFIXES", "Bands", "read_bands", "write_like"]

SUFFIXES = (".tif", ".tiff")


class Bands(NamedTuple):
    """What a raster holds."""

    values: NDArray[Any]  # (K, H, W)
    has_data: NDArray[np.bool_]  # (H, W)
    nodata: float | None  # of the first band: the number that means no data


def _rasterio(file: Path) -> Any:
    try:
        import rasterio
    except ImportError as error:
        raise ImportError(f'{file} needs rasterio: pip install "conformask[geo]"') from error
    return rasterio


@contextmanager
def _opened(file: Path, mode: str = "r", **profile: Any) -> Iterator[Any]:
    """An open file. There is no warning if a raster has no place on the ground: files made from it have none either."""
    rasterio = _rasterio(file)
    if mode == "r" and not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            with rasterio.open(file, mode, **profile) as opened:
                yield opened
        except rasterio.errors.RasterioError as error:
            verb = "read" if mode == "r" else "written"
            raise ValueError(f"{file} cannot be {verb} as a raster: {error}") from error


def read_bands(file: Path, *, of_labels: bool = False) -> Bands:
    """The bands (K, H, W) of a raster, and where it has data (H, W): where some band holds another value than nodata.

    A mask inside the file counts too. An alpha band is a class like any other: GDAL takes the fourth of four bands of
    bytes for alpha.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or no raster; if labels are wanted, and it has several bands.
    ImportError
        If rasterio is missing.
    """
    with _opened(file) as raster:
        if of_labels and raster.count != 1:  # checked before the bands are read
            raise ValueError(f"{file} must hold labels in one band, got {raster.count}")
        kinds = _rasterio(file).enums.MaskFlags
        masks = [
            raster.read_masks(band) > 0
            for band, flags in zip(raster.indexes, raster.mask_flag_enums, strict=True)
            if not {kinds.alpha, kinds.all_valid} & {*flags}
        ]
        bands, nodata = raster.read(), raster.nodata
    has_data = np.any(masks, axis=0) if len(masks) == len(bands) else np.ones(bands.shape[1:], bool)
    return Bands(bands, has_data, nodata)


def write_like(path: Path, bands: NDArray[Any], source: Path, nodata: int | None = None) -> None:
    """Writes bands (K, H, W) of integers, whose pixels lie where those of another raster do: its transform and CRS.

    The file is written whole, or not at all.

    Raises
    ------
    ValueError
        If the source has another height or width.
    """
    with _opened(source) as raster:
        place = {"crs": raster.crs, "transform": raster.transform}
        if bands.shape[1:] != raster.shape:
            raise ValueError(f"{source} has shape {raster.shape}, what is written {bands.shape[1:]}")
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": bands.dtype.name}
    profile |= {"photometric": "minisblack"}  # else GDAL takes three or four bands for colours
    profile |= {"nodata": nodata, "compress": "deflate", **place}
    with replaced(path) as beside, _opened(beside, "w", **profile) as raster:
        raster.write(bands)

"""Files of labels as floats: each kind of file takes and refuses what all other readers of labels do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from conformask._files import maps, nifti
from float_labels import DTYPES, LARGE, WRONG, refusal, with_one

LABELS = np.random.default_rng(0).integers(0, 4, (5, 6))


def save_numpy(path: Path, values: NDArray[Any]) -> None:
    np.save(path, values)


def save_archive(path: Path, values: NDArray[Any]) -> None:
    np.savez(path, labels=values)


def save_nifti(path: Path, values: NDArray[Any]) -> None:
    nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4)), path)


def save_geotiff(path: Path, values: NDArray[Any]) -> None:
    profile = {"driver": "GTiff", "count": 1, "height": values.shape[0], "width": values.shape[1]}
    place = rasterio.Affine(1, 0, 0, 0, -1, 5)
    with rasterio.open(path, "w", **profile, dtype=values.dtype.name, transform=place) as file:
        file.write(values[np.newaxis])


def labels_of(file: Path) -> NDArray[Any]:
    return maps.read_labels(file).values


# A kind of file: how it is written and read, and what dtypes it knows.
Kind = tuple[str, Callable[[Path, NDArray[Any]], None], Callable[[Path], NDArray[Any]], tuple[str, ...]]
KINDS: list[Kind] = [
    ("a.npy", save_numpy, labels_of, DTYPES),
    ("a.npz", save_archive, labels_of, DTYPES),
    ("a.tif", save_geotiff, labels_of, ("float32", "float64")),
    ("a.nii", save_nifti, labels_of, ("float32", "float64", ">f8")),
    ("a.nii.gz", save_nifti, nifti.read_labels, ("float32", "float64")),
]


@pytest.mark.parametrize(("name", "save", "read", "dtypes"), KINDS, ids=[each[0] for each in KINDS])
def test_whole_numbers_are_labels(
    name: str, save: Any, read: Any, dtypes: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / name
    for dtype in dtypes:
        save(path, LABELS.astype(dtype))
        found = read(path)
        assert found.dtype.kind == "i"
        np.testing.assert_array_equal(found, LABELS)
    save(path, with_one(LABELS, LARGE, 3, 2))
    assert read(path)[3, 2] == LARGE


@pytest.mark.parametrize("bad", WRONG)
@pytest.mark.parametrize(("name", "save", "read", "dtypes"), KINDS, ids=[each[0] for each in KINDS])
def test_other_floats_are_refused_with_file_pixel_and_value(
    name: str, save: Any, read: Any, dtypes: tuple[str, ...], bad: float, tmp_path: Path
) -> None:
    path = tmp_path / name
    save(path, with_one(LABELS, bad, 3, 2))
    with pytest.raises(
        ValueError, match=rf"{name} must hold integer labels, got dtype float64, {refusal(bad, 3, 2)}$"
    ):
        read(path)


def test_volumes_of_nifti_may_be_floats(tmp_path: Path) -> None:
    """Of three axes NumPy's floats are taken for score maps; NIfTI has those on a fourth."""
    volume = np.stack([LABELS, LABELS])
    save_nifti(tmp_path / "a.nii", volume.astype(np.float32))
    np.testing.assert_array_equal(labels_of(tmp_path / "a.nii"), volume)
    save_nifti(tmp_path / "a.nii", with_one(volume, 0.5, 1, 3, 2))
    with pytest.raises(ValueError, match=rf"a\.nii must hold .*{refusal(0.5, 1, 3, 2)}"):
        maps.read_labels(tmp_path / "a.nii")
    save_numpy(tmp_path / "a.npy", volume.astype(np.float32))
    with pytest.raises(ValueError, match=r"float32 of shape \(2, 5, 6\); they look like score maps"):
        maps.read_labels(tmp_path / "a.npy")

"""Files of masks and set sizes take the place of old ones whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio

from conformask._files.written import write_masks, write_sizes

SIZES = np.random.default_rng(0).integers(1, 4, (5, 6))


def source(folder: Path, suffix: str) -> Path:
    """Score maps of a kind."""
    path, maps = folder / f"maps{suffix}", np.full((3, 5, 6), 1 / 3, np.float32)
    if suffix == ".tif":
        profile = {"driver": "GTiff", "count": 3, "height": 5, "width": 6, "dtype": "float32"}
        with rasterio.open(path, "w", **profile, transform=rasterio.Affine(1, 0, 0, 0, -1, 5)) as file:
            file.write(maps)
    elif suffix == ".nii.gz":
        nibabel.save(nibabel.Nifti1Image(maps[:, np.newaxis].T, np.eye(4)), path)
    else:
        np.save(path, maps)
    return path


@pytest.mark.parametrize(
    ("suffix", "png", "ending"),
    [(".npy", False, ".npy"), (".npy", True, ".png"), (".tif", False, ".tif"), (".nii.gz", False, ".nii.gz")],
)
def test_a_file_is_old_or_new(
    suffix: str, png: bool, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = source(tmp_path, suffix)
    sizes = SIZES[np.newaxis] if suffix == ".nii.gz" else SIZES
    masks = np.stack([sizes > k for k in range(3)])

    def write(more: int) -> list[Path]:
        found = [write_sizes(tmp_path / "sizes", sizes + more, maps, png=png)]
        return [*found, write_masks(tmp_path / "masks", masks ^ bool(more), maps, None)]

    paths = write(0)
    assert paths[0].name == f"sizes{ending}"
    before = [path.read_bytes() for path in paths]

    def fail(_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    for write_one in (
        lambda: write_sizes(tmp_path / "sizes", sizes + 1, maps, png=png),
        lambda: write_masks(tmp_path / "masks", ~masks, maps, None),
    ):
        with pytest.raises(OSError, match="no space left"):
            write_one()
    assert [path.read_bytes() for path in paths] == before
    monkeypatch.undo()
    assert [path.read_bytes() for path in write(1)] != before
    assert {each.name for each in tmp_path.iterdir()} == {maps.name, *(path.name for path in paths)}

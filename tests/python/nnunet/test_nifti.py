"""NIfTI files: what they hold of labels, and maps that lie where they do."""

from __future__ import annotations

import gzip
import re
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from conformask._files.nifti import read_labels, write_like
from nnunet_files import AFFINE, write_nifti

LABELS = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)
# Axes that run to the right, front, up; to the left, back, down; and in another order.
AFFINES = [
    np.diag([1.0, 2.0, 3.0, 1.0]),
    np.diag([-1.0, -2.0, -3.0, 1.0]),
    AFFINE,
    np.array([[0, 0, 2.0, 1.0], [-1.5, 0, 0, 3.0], [0, 1.2, 0, -4.0], [0, 0, 0, 1.0]]),
    np.array([[0.9, 0.1, 0, 1.0], [-0.1, 0.9, 0, 3.0], [0, 0, -1.2, -4.0], [0, 0, 0, 1.0]]),
]


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_arrays_are_those_of_itk_wherever_they_lie(affine: Any, suffix: str, tmp_path: Path) -> None:
    """(z, y, x): the fastest axis of the file is the last; nothing is flipped."""
    write_nifti(tmp_path / f"a{suffix}", LABELS, affine)
    np.testing.assert_array_equal(read_labels(tmp_path / f"a{suffix}"), LABELS)
    write_like(tmp_path / f"b{suffix}", LABELS == 2, tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_labels(tmp_path / f"b{suffix}"), LABELS == 2)
    source, written = nibabel.load(tmp_path / f"a{suffix}"), nibabel.load(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(written.affine, source.affine)
    for code in ("qform_code", "sform_code", "xyzt_units"):
        assert written.header[code] == source.header[code]


@pytest.mark.parametrize("affine", AFFINES)
def test_axes_are_turned_to_ras_and_back(affine: Any, tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", LABELS, affine)
    turned = read_labels(tmp_path / "a.nii.gz", canonical=True)
    np.testing.assert_array_equal(
        turned.T, nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii.gz")).get_fdata()
    )
    write_like(tmp_path / "b.nii.gz", turned, tmp_path / "a.nii.gz", canonical=True)
    np.testing.assert_array_equal(read_labels(tmp_path / "b.nii.gz"), LABELS)


@pytest.mark.parametrize("affine", AFFINES)
def test_masks_of_classes_lie_where_score_maps_do(affine: Any, tmp_path: Path) -> None:
    """(K, z, y, x) is an image (x, y, z, K); the source may have another K, or times."""
    masks = np.stack([k == LABELS for k in range(3)])
    write_nifti(tmp_path / "maps.nii.gz", np.stack([LABELS / 4.0, 1 - LABELS / 4.0]), affine)
    write_like(tmp_path / "masks.nii.gz", masks, tmp_path / "maps.nii.gz")
    written = nibabel.load(tmp_path / "masks.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, masks)
    np.testing.assert_array_equal(written.affine, nibabel.load(tmp_path / "maps.nii.gz").affine)
    turned = nibabel.as_closest_canonical(written).dataobj
    write_like(tmp_path / "again.nii.gz", np.asarray(turned).T, tmp_path / "maps.nii.gz", canonical=True)
    assert (tmp_path / "again.nii.gz").read_bytes() == (tmp_path / "masks.nii.gz").read_bytes()
    write_like(tmp_path / "sizes.nii.gz", masks.sum(0).astype(np.uint8), tmp_path / "maps.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "sizes.nii.gz"), masks.sum(0))


def test_what_a_scan_says_of_its_numbers_is_not_said_of_labels(tmp_path: Path) -> None:
    scan = nibabel.Nifti1Image(np.zeros((7, 6, 5), np.int16), AFFINE)
    scan.header.set_slope_inter(0.5, -1000)
    scan.header["cal_min"], scan.header["cal_max"] = -160, 240
    nibabel.save(scan, tmp_path / "scan.nii.gz")
    write_like(tmp_path / "sizes.nii.gz", LABELS.astype(np.uint16), tmp_path / "scan.nii.gz")
    written = nibabel.load(tmp_path / "sizes.nii.gz")
    assert written.get_data_dtype() == np.uint16
    assert (written.header["cal_min"], written.header["cal_max"]) == (0, 0)
    np.testing.assert_array_equal(written.get_fdata().T, LABELS)


def test_the_same_map_gives_the_same_bytes(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", LABELS)
    for name in ("b", "c"):
        write_like(tmp_path / f"{name}.nii.gz", LABELS, tmp_path / "a.nii.gz")
    assert (tmp_path / "b.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]


def test_flat_images_and_axes_of_length_one(tmp_path: Path) -> None:
    write_nifti(tmp_path / "flat.nii.gz", LABELS[0])
    np.testing.assert_array_equal(read_labels(tmp_path / "flat.nii.gz"), LABELS[0])
    write_like(tmp_path / "sizes.nii.gz", LABELS[:1], tmp_path / "flat.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "sizes.nii.gz"), LABELS[0])
    write_nifti(tmp_path / "time.nii.gz", LABELS[np.newaxis])  # (x, y, z, 1)
    np.testing.assert_array_equal(read_labels(tmp_path / "time.nii.gz"), LABELS)
    write_like(tmp_path / "sizes.nii.gz", LABELS, tmp_path / "time.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "sizes.nii.gz"), LABELS)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_labels_of_any_type(dtype: Any, tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", LABELS.astype(dtype))
    found = read_labels(tmp_path / "a.nii.gz")
    assert found.dtype.kind in "iu"
    np.testing.assert_array_equal(found, LABELS)


def test_files_that_hold_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"

    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(str(path)) + ".*" + message) as caught:
            read_labels(path)
        assert "\n" not in str(caught.value)

    write_nifti(path, np.full((3, 3, 3), 0.5))
    refused(r"must hold integer labels, got dtype float64, and 0\.5 at pixel \(0, 0, 0\)")
    write_nifti(path, np.zeros((2, 3, 3, 3), np.uint8))
    refused(r"has shape \(3, 3, 3, 2\) \(x, y, z, \.\.\.\), which is not one image")
    write_nifti(path, np.zeros((3, 3, 3), np.complex64))
    refused(r"must hold integer labels \(H, W\) or \(D, H, W\), got complex64")
    write_nifti(path, LABELS)
    whole = path.read_bytes()
    for content in (b"", b"no image", whole[:20], whole[:150], gzip.compress(gzip.decompress(whole)[:400])):
        path.write_bytes(content)
        refused("is no NIfTI image|cannot be read")
    with pytest.raises(FileNotFoundError, match=r"no file .*b\.nii"):
        read_labels(tmp_path / "b.nii")


def damage(path: Path, at: int, number: bytes) -> None:
    """Writes over a header, within gzip or not."""
    data = path.read_bytes()
    is_packed = path.name.endswith(".gz")
    content = bytearray(gzip.decompress(data) if is_packed else data)
    content[at : at + len(number)] = number
    path.write_bytes(gzip.compress(bytes(content)) if is_packed else bytes(content))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("side", [30_000, 700, -5])
def test_a_header_that_promises_more_than_there_is(suffix: str, side: int, tmp_path: Path) -> None:
    """It is refused before room is made for it."""
    path = tmp_path / f"a{suffix}"
    write_nifti(path, LABELS)
    damage(path, 42, side.to_bytes(2, "little", signed=True) * 3)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_labels(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_images_that_lie_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_nifti(path, LABELS)
    damage(path, 280, np.full(8, np.nan, "<f4").tobytes())
    np.testing.assert_array_equal(read_labels(path), LABELS)
    with pytest.raises(ValueError, match=r"a\.nii\.gz does not say where its voxels lie: "):
        read_labels(path, canonical=True)
    for canonical in (False, True):
        with pytest.raises(ValueError, match=r"a\.nii\.gz does not say where its voxels lie: "):
            write_like(tmp_path / "b.nii", LABELS, path, canonical=canonical)
    assert not (tmp_path / "b.nii").exists()


def test_a_map_of_another_shape_is_refused(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", LABELS)
    with pytest.raises(ValueError, match=r"has shape \(5, 6, 7\) \(z, y, x\), its map \(7, 6, 5\)"):
        write_like(tmp_path / "b.nii.gz", LABELS.T, tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match=r"has shape \(5, 6, 7\) \(z, y, x\), its map \(2, 3, 5, 6, 7\)"):
        write_like(tmp_path / "b.nii.gz", np.zeros((2, 3, 5, 6, 7)), tmp_path / "a.nii.gz")
    assert not (tmp_path / "b.nii.gz").exists()


def test_the_extra_is_named_where_nibabel_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nifti(tmp_path / "a.nii.gz", LABELS)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImportError, match=r'pip install "conformask\[nnunet\]"'):
        read_labels(tmp_path / "a.nii.gz")

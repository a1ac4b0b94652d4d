"""CASE.npz of nnU-Net v2 and v1, and the box that the network has seen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformask.integrations.nnunet import crop_box, read_scores
from nnunet_files import BOX, padded, random_case

SCORES = padded(random_case(np.random.default_rng(0))[0])


class _Writes:
    """What writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(("key", "dtype"), [("probabilities", np.float32), ("softmax", np.float16)])
def test_both_versions(key: str, dtype: Any, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "case.npz", **{key: SCORES.astype(dtype)})
    found = read_scores(tmp_path / "case.npz")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, SCORES.astype(dtype))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    harm = np.empty(1, object)
    harm[0] = _Writes(tmp_path / "harm")
    np.savez(tmp_path / "case.npz", probabilities=harm)
    with pytest.raises(ValueError, match=r"case\.npz cannot be read: Object arrays cannot be loaded"):
        read_scores(tmp_path / "case.npz")
    assert not (tmp_path / "harm").exists()
    np.load(tmp_path / "case.npz", allow_pickle=True)["probabilities"]
    assert (tmp_path / "harm").exists(), "the file is harmless: the test shows nothing"


def test_files_that_are_no_predictions(tmp_path: Path) -> None:
    path = tmp_path / "case.npz"

    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(str(path)) + ".*" + re.escape(message)) as caught:
            read_scores(path)
        assert "\n" not in str(caught.value)

    np.savez(path, data=np.zeros((1, 2, 2, 2)), seg=np.zeros((1, 2, 2, 2)))
    refused("holds data, seg, not probabilities (nnU-Net v2) or softmax (v1): it is a preprocessed case")
    np.savez(path, probabilities=np.zeros((2, 3, 3), np.float32))
    refused("must hold floats (C, z, y, x), got float32 (2, 3, 3)")
    np.savez(path, probabilities=np.zeros((2, 3, 3, 3), np.uint8))
    refused("must hold floats (C, z, y, x), got uint8")
    with path.open("wb") as file:
        np.save(file, SCORES)
    refused("it holds one array")
    np.savez_compressed(path, probabilities=SCORES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused("cannot be read")
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    refused("cannot be read")
    path.write_bytes(b"")
    refused("cannot be read")
    with pytest.raises(FileNotFoundError, match=r"no file .*other\.npz"):
        read_scores(tmp_path / "other.npz")


# The box


def test_the_box_is_that_of_all_voxels_that_are_not_padding() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        shape = tuple(rng.integers(1, 7, 3))
        box = tuple(slice(*sorted(rng.choice(n + 1, 2, replace=False))) for n in shape)
        scores = padded(
            rng.dirichlet([1, 1, 1], [s.stop - s.start for s in box]).transpose(3, 0, 1, 2), shape, box
        )
        assert crop_box(scores) == box


def test_voxels_that_are_sure_stay_within_the_box() -> None:
    """Single ones, also many: no voxel is outside because of what the network says of it."""
    scores = SCORES.copy()
    middle = tuple(slice(side.start + 1, side.stop - 1) for side in BOX)
    scores[(slice(None), *middle)] = np.array([1, 0, 0], np.float32)[:, None, None, None]
    assert crop_box(scores) == BOX


def test_a_voxel_that_is_nearly_sure_is_none_of_the_padding() -> None:
    scores = np.zeros((2, 4, 4, 4), np.float32)
    scores[0] = 1
    scores[1, 1, 2, 3] = np.finfo(np.float32).tiny  # what 1 - 1e-38 rounds to is 1
    assert crop_box(scores) == (slice(1, 2), slice(2, 3), slice(3, 4))
    scores[1, 1, 2, 3] = 0
    scores[0, 2, 1, 0] = np.nextafter(np.float32(1), np.float32(0))
    assert crop_box(scores) == (slice(2, 3), slice(1, 2), slice(0, 1))


def test_an_image_like_padding_everywhere_is_whole() -> None:
    scores = np.zeros((3, 2, 3, 4), np.float32)
    assert crop_box(scores, regions=True) == (slice(0, 2), slice(0, 3), slice(0, 4))
    scores[0] = 1
    assert crop_box(scores) == (slice(0, 2), slice(0, 3), slice(0, 4))


def test_of_regions_zeros_are_padding() -> None:
    scores = np.zeros((2, 4, 4, 4), np.float32)
    scores[:, 1:3, 2:, :1] = 0.2
    assert crop_box(scores, regions=True) == (slice(1, 3), slice(2, 4), slice(0, 1))


# Numbers that are rounded to float16


def rounded(seed: int = 0) -> np.ndarray:
    """Scores of a crop that are nearly sure at its border, where float16 makes them exactly those of padding."""
    inner, _ = random_case(np.random.default_rng(seed))
    inner[:, 0] = np.array([1, 1e-9, 1e-9], np.float32)[:, None, None]
    scores = padded(inner)
    assert crop_box(scores) == BOX
    return scores.astype(np.float16)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rounded_numbers_do_not_tell_the_box(dtype: Any) -> None:
    with pytest.raises(
        ValueError, match="scores are rounded to float16, in which voxels within nnU-Net's crop box"
    ):
        crop_box(rounded().astype(dtype))


def test_rounded_numbers_without_padding_need_no_box() -> None:
    scores = rounded()[(slice(None), *BOX)]
    scores[:, 0] = scores[:, 1]
    assert crop_box(scores) == tuple(slice(0, n) for n in scores.shape[1:])


def test_some_simple_fractions_are_not_rounded() -> None:
    """In float32, toy maps may hold halves and quarters."""
    scores = np.zeros((2, 3, 4, 5), np.float32)
    scores[0] = 1
    scores[:, 1, 1:3, 1:4] = np.array([0.25, 0.5, 0.75])
    assert crop_box(scores) == (slice(1, 2), slice(1, 3), slice(1, 4))

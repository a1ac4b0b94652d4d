"""Masks in a buffer of the caller, and masks of a bit a class."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import conformask as cm
from problems import wide

PROBLEM = wide(n=20)
K = PROBLEM.X.shape[1]


def fitted(score: Any = "lac", **options: Any) -> cm.ConformalRiskCalibrator:
    return cm.ConformalRiskCalibrator(score, alpha=0.2, **options).fit(PROBLEM.X, PROBLEM.y)


def unpacked(packed: np.ndarray, k: int) -> np.ndarray:
    return np.unpackbits(packed, axis=1, count=k, bitorder="little").astype(bool)


@pytest.mark.parametrize(
    "score",
    ["lac", "aps", "raps", cm.SACP(), lambda X: 1 - X],
    ids=["lac", "aps", "raps", "sacp", "function"],
)
def test_packed_masks_are_the_masks(score: Any) -> None:
    calibrator = fitted(score)
    masks, packed = calibrator.predict(PROBLEM.X), calibrator.predict(PROBLEM.X, packed=True)
    assert packed.dtype == np.uint8
    assert packed.shape == (len(masks), 1, *masks.shape[2:])
    np.testing.assert_array_equal(unpacked(packed, K), masks)


@pytest.mark.parametrize("k", [2, 7, 8, 9, 16, 19])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (70, 90)], ids=str)
def test_any_number_of_classes_and_pixels(k: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(k)
    X = rng.dirichlet(np.full(k, 0.5), size=(3, *size)).transpose(0, 3, 1, 2).astype(np.float32)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.4, conditional=None).fit(
        X, rng.integers(k, size=(3, *size))
    )
    packed = calibrator.predict(X, packed=True)
    assert packed.shape == (3, -(-k // 8), *size)
    np.testing.assert_array_equal(unpacked(packed, k), calibrator.predict(X))
    # No bit is set that is no class's.
    np.testing.assert_array_equal(np.packbits(unpacked(packed, k), axis=1, bitorder="little"), packed)


def test_a_buffer_is_written_whole() -> None:
    calibrator = fitted()
    expected = calibrator.predict(PROBLEM.X)
    out = np.ones(PROBLEM.X.shape, bool)
    assert calibrator.predict(PROBLEM.X, out=out) is out
    np.testing.assert_array_equal(out, expected)
    small = np.full((len(PROBLEM.X), 1, *PROBLEM.X.shape[2:]), 255, np.uint8)
    assert calibrator.predict(PROBLEM.X, out=small, packed=True) is small
    np.testing.assert_array_equal(unpacked(small, K), expected)


def test_a_buffer_of_a_store_is_a_file(tmp_path: Path) -> None:
    """Neither maps nor masks are in memory."""
    calibrator = fitted()
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["X"] = PROBLEM.X
        out = np.lib.format.open_memmap(tmp_path / "masks.npy", mode="w+", dtype=bool, shape=PROBLEM.X.shape)
        assert calibrator.predict(file["X"], out=out) is out
        out.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "masks.npy"), calibrator.predict(PROBLEM.X))


def test_lists_and_generators_are_packed() -> None:
    calibrator = fitted()
    expected = calibrator.predict(PROBLEM.X, packed=True)
    images = list(PROBLEM.X)
    np.testing.assert_array_equal(calibrator.predict(images, packed=True), expected)
    np.testing.assert_array_equal(list(calibrator.predict(iter(images), packed=True)), expected)


@pytest.mark.parametrize("packed", [False, True])
def test_sets_are_full_without_data(packed: bool) -> None:
    calibrator, X = fitted(), PROBLEM.X.copy()
    valid = np.ones((len(X), *X.shape[2:]), bool)
    valid[0, :3] = valid[-1, :, :2] = False
    X[~valid[:, np.newaxis].repeat(K, axis=1)] = np.nan
    out = np.empty((len(X), 1 if packed else K, *X.shape[2:]), np.uint8 if packed else bool)
    for given in (None, out):
        masks = calibrator.predict(X, valid=valid, out=given, packed=packed)
        masks = unpacked(masks, K) if packed else masks
        np.testing.assert_array_equal(masks, calibrator.predict(PROBLEM.X) | ~valid[:, np.newaxis])


def of_zarr(folder: Path, shape: tuple[int, ...], dtype: Any) -> Any:
    zarr = pytest.importorskip("zarr")  # not for Python 3.10
    return zarr.open_array(folder, mode="w", shape=shape, chunks=(1, *shape[1:]), dtype=dtype)


def of_h5py(folder: Path, shape: tuple[int, ...], dtype: Any) -> Any:
    file = h5py.File(folder.with_suffix(".h5"), "w", driver="core", backing_store=False)
    return file.create_dataset("masks", shape, dtype)


@pytest.mark.parametrize("store", [of_zarr, of_h5py])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("of_store", [False, True])
def test_a_store_is_written_an_image_at_a_time(
    store: Callable, of_store: bool, packed: bool, tmp_path: Path
) -> None:
    X = PROBLEM.X.copy()
    valid = np.ones((len(X), *X.shape[2:]), bool)
    valid[0, :3] = valid[-1, :, :2] = False
    X[~valid[:, np.newaxis].repeat(K, axis=1)] = np.nan
    strata = ["a", "b"] * (len(X) // 2)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.2).fit(PROBLEM.X, PROBLEM.y, strata=strata)
    expected = calibrator.predict(X, valid=valid, strata=strata, packed=packed)
    maps: Any = X
    if of_store:
        maps = store(tmp_path / "maps", X.shape, X.dtype)
        maps[...] = X
    out = Watched(store(tmp_path / "masks", expected.shape, expected.dtype))
    assert calibrator.predict(maps, valid=valid, strata=strata, packed=packed, out=out) is out
    np.testing.assert_array_equal(out[...], expected)
    assert out.lengths == [1] * len(X)


class Watched:
    """A store that knows how many images were written at once."""

    def __init__(self, store: Any) -> None:
        self._store, self.lengths = store, []
        self.shape, self.dtype = store.shape, store.dtype

    def __getitem__(self, index: Any) -> Any:
        return self._store[index]

    def __setitem__(self, index: Any, masks: np.ndarray) -> None:
        self.lengths.append(len(masks))
        self._store[index] = masks


@pytest.mark.parametrize("store", [of_zarr, of_h5py])
def test_stores_that_do_not_fit(store: Callable, tmp_path: Path) -> None:
    out = store(tmp_path / "bytes", PROBLEM.X.shape, np.uint8)
    with pytest.raises(TypeError, match=r"an array of bool, or a store .*, got an array of uint8"):
        fitted().predict(PROBLEM.X, out=out)
    out = store(tmp_path / "three", (3, *PROBLEM.X.shape[1:]), bool)
    with pytest.raises(ValueError, match=r"out must have shape .*, got \(3, "):
        fitted().predict(PROBLEM.X, out=out)
    with pytest.raises(TypeError, match="out goes with an array X"):
        fitted().predict(list(PROBLEM.X), out=out)


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty((3, 2), bool), ValueError, r"out must have shape .*, got \(3, 2\)"),
        (
            np.empty(PROBLEM.X.shape, np.uint8),
            TypeError,
            "out must be an array of bool, or a store .*, got an array of uint8",
        ),
        (np.empty(PROBLEM.X.shape[::-1], bool).T, ValueError, "C-contiguous and writeable"),
        ([True], TypeError, "out must be an array of bool, or a store .*, got list"),
    ],
)
def test_other_buffers_are_refused(out: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fitted().predict(PROBLEM.X, out=out)


def test_other_uses_are_refused() -> None:
    out = np.empty(PROBLEM.X.shape, bool)
    with pytest.raises(TypeError, match="out goes with an array X"):
        fitted().predict(list(PROBLEM.X), out=out)
    with pytest.raises(TypeError, match=r"out must be an array of uint8, .*, got an array of bool"):
        fitted().predict(PROBLEM.X, out=out, packed=True)
    with pytest.raises(ValueError, match="packed must be True or False"):
        fitted().predict(PROBLEM.X, packed="bits")
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        fitted().predict(PROBLEM.X, out=out)

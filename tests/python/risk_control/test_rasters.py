"""Scenes that are read in bands of rows give what whole images give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import conformask as cm
from conformask import rasters
from problems import wide

GOOD = wide(n=12, n_classes=4, size=(37, 11))
VALID = np.random.default_rng(5).random(GOOD.y.shape) < 0.8
VALID[3, 20:] = False
Calibrator = cm.ConformalRiskCalibrator


class Raster:
    """What is read by slices, some rows at a time."""

    def __init__(self, array: NDArray) -> None:
        self._array, self.shape, self.largest = array, array.shape, 0

    def __getitem__(self, index: Any) -> NDArray:
        found = self._array[index].copy()
        self.largest = max(self.largest, found.shape[-2])
        return found

    def __array__(self, dtype: object = None, copy: object = None) -> NDArray:
        raise MemoryError("all at once")


@pytest.mark.parametrize("rows", [1, 7, 36, 37, 1000])
@pytest.mark.parametrize("score", ["lac", "aps", cm.RAPS(0.1, 1), cm.LAC(include_top1=False)], ids=str)
def test_bands_give_what_whole_scenes_give(rows: int, score: Any) -> None:
    scenes = [(Raster(X), Raster(y)) for X, y in zip(GOOD.X, GOOD.y, strict=True)]
    fitted = rasters.fit(Calibrator(score, alpha=0.2), scenes, rows=rows)
    expected = Calibrator(score, alpha=0.2).fit(GOOD.X, GOOD.y)
    assert fitted.lambda_hat_ == expected.lambda_hat_
    assert (fitted.risk_, fitted.n_images_) == (expected.risk_, 12)
    assert fitted.recalibrate(alpha=0.3).lambda_hat_ == expected.recalibrate(alpha=0.3).lambda_hat_
    assert np.array_equal(fitted.profiles_._core.hashes(), expected.profiles_._core.hashes())
    bands = list(rasters.predict(fitted, Raster(GOOD.X[0]), rows=rows))
    assert np.array_equal(
        np.concatenate([band for _, band in bands], axis=1), expected.predict(GOOD.X[:1])[0]
    )
    assert [(rows_of.start, rows_of.stop) for rows_of, _ in bands][-1][1] == 37
    sizes = np.concatenate(
        [band for _, band in rasters.predict(fitted, GOOD.X[0], rows=rows, what="set_size")]
    )
    assert np.array_equal(sizes, expected.set_size(GOOD.X[:1])[0])
    assert max(each.largest for scene in scenes for each in scene) == min(rows, 37)


class Dataset:
    """What `rasterio.open` gives, as far as it is asked: bands from 1 on, and `shape` without them."""

    def __init__(self, bands: NDArray) -> None:
        self._bands, (self.count, self.height, self.width) = bands, bands.shape
        self.shape, self.largest = bands.shape[1:], 0

    def read(self, indexes: int | None = None, window: Any = None) -> NDArray:
        if window is None:
            raise MemoryError("all at once")
        (first, last), (left, right) = window
        self.largest = max(self.largest, last - first)
        bands = self._bands if indexes is None else self._bands[indexes - 1]
        return bands[..., first:last, left:right].copy()


def test_open_datasets_of_rasterio_are_read_by_windows() -> None:
    X, y = np.where(VALID[:, None], GOOD.X, -9999.0), GOOD.y.astype(np.uint8)
    scenes = [(Dataset(each), Dataset(labels[None])) for each, labels in zip(X, y, strict=True)]
    fitted = rasters.fit(Calibrator(alpha=0.3), scenes, rows=8, nodata=-9999)
    expected = Calibrator(alpha=0.3).fit(GOOD.X, np.where(VALID, y, 255))
    assert fitted.lambda_hat_ == expected.lambda_hat_
    assert {each.largest for scene in scenes for each in scene} == {8}
    bands = rasters.predict(fitted, scenes[3][0], rows=8, nodata=-9999, what="set_size")
    sizes = np.concatenate([band for _, band in bands])
    assert np.array_equal(sizes, expected.set_size(GOOD.X[3:4], valid=VALID[3:4])[0])
    several = Dataset(np.stack([y[0], y[0]]))
    with pytest.raises(
        ValueError, match=r"y must have shape \(37, 11\) to match X in scene 0, got \(2, 37, 11\)"
    ):
        rasters.fit(Calibrator(), [(scenes[0][0], several)])


def test_what_looks_wrong_is_said_once() -> None:
    """Not once for each band; to a caller who fits again, it is said again."""
    calibrator, fitted = Calibrator(alpha=0.3, inputs="logits"), Calibrator(alpha=0.3, inputs="logits")
    scenes = list(zip(GOOD.X, GOOD.y, strict=True))
    rasters.fit(fitted, [(np.log(X), y) for X, y in scenes])
    for work in (
        lambda: rasters.fit(calibrator, scenes, rows=5),
        lambda: list(rasters.predict(fitted, GOOD.X[0], rows=5)),
    ):
        for _ in range(2):
            with pytest.warns(UserWarning, match="pass inputs='probabilities'") as found:
                work()
            assert len(found) == 1


@pytest.mark.parametrize("nodata", [np.nan, -9999.0, np.float64(-9999.1)], ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
def test_pixels_without_data(nodata: float, dtype: str) -> None:
    X, y = np.where(VALID[:, None], GOOD.X, GOOD.X.dtype.type(nodata)), np.where(GOOD.y == 255, -1, GOOD.y)
    index = -1 if dtype != "uint8" else 255
    labels = np.where(y == -1, index, y)
    options = {"alpha": 0.3, "ignore_index": (index, 254 if dtype == "uint8" else -2)}
    fitted = rasters.fit(
        Calibrator(**options), zip(X, labels.astype(dtype), strict=True), rows=8, nodata=nodata
    )
    expected = Calibrator(**options).fit(GOOD.X, np.where(VALID, labels, index))
    assert fitted.lambda_hat_ == expected.lambda_hat_
    bands = [band for _, band in rasters.predict(fitted, X[3], rows=8, nodata=nodata)]
    assert np.array_equal(np.concatenate(bands, axis=1), expected.predict(GOOD.X[3:4])[0] | ~VALID[3])


def test_losses_that_rise_groups_classes_and_scalers() -> None:
    scenes = list(zip(GOOD.X, GOOD.y, strict=True))
    method = cm.LTT(0.3, [0.0, 0.5, 0.9, 1.0])
    rising = Calibrator(loss=cm.PrecisionLoss([1, 2]), alpha=0.95, method=method)
    expected = cm.ConformalRiskCalibrator(**rising.get_params()).fit(GOOD.X, GOOD.y)
    assert rasters.fit(rising, scenes, rows=5).valid_lambdas_.tolist() == expected.valid_lambdas_.tolist()
    groups = [0, 0, *range(1, 11)]
    grouped = rasters.fit(Calibrator(alpha=0.3), scenes, rows=5, groups=groups)
    assert grouped.lambda_hat_ == Calibrator(alpha=0.3).fit(GOOD.X, GOOD.y, groups=groups).lambda_hat_
    weighted = rasters.fit(Calibrator(alpha=0.3), scenes, sample_weight=[0.5] * 12)
    assert (
        weighted.lambda_hat_
        == Calibrator(alpha=0.3).fit(GOOD.X, GOOD.y, sample_weight=[0.5] * 12).lambda_hat_
    )
    by_class = rasters.fit(Calibrator(alpha=0.3, conditional="class"), scenes, rows=5)
    expected = Calibrator(alpha=0.3, conditional="class").fit(GOOD.X, GOOD.y)
    assert by_class.lambda_hat_.tolist() == expected.lambda_hat_.tolist()
    logits, more = np.log(GOOD.X), wide(n=8, n_classes=4, size=(9, 9), seed=3)
    scaler = cm.TemperatureScaler().fit(np.log(more.X), more.y)
    scaled = Calibrator(alpha=0.3, inputs="logits", transform=scaler)
    expected = Calibrator(alpha=0.3, inputs="logits", transform=scaler).fit(logits, GOOD.y)
    assert rasters.fit(scaled, zip(logits, GOOD.y, strict=True), rows=5).lambda_hat_ == expected.lambda_hat_


def test_the_same_scene_twice_is_named() -> None:
    scenes = [*zip(GOOD.X, GOOD.y, strict=True), (GOOD.X[2], GOOD.y[2])]
    with pytest.warns(cm.DuplicateImagesWarning, match="images 2 and 12 of 13"):
        rasters.fit(Calibrator(alpha=0.3), scenes, rows=9)


LOOKS_AROUND = cm.LocalTemperatureScaler
SCENES = list(zip(GOOD.X, GOOD.y, strict=True))
BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: rasters.fit(Calibrator("sacp"), SCENES), ValueError, "may look around a pixel"),
    (lambda: rasters.fit(Calibrator(lambda X: 1 - X), SCENES), ValueError, "may look around a pixel"),
    (
        lambda: rasters.fit(
            Calibrator(inputs="logits", transform=LOOKS_AROUND().fit(np.log(GOOD.X), GOOD.y)), SCENES
        ),
        ValueError,
        "LocalTemperatureScaler looks around a pixel",
    ),
    (lambda: rasters.fit(Calibrator(profile="binned"), SCENES), ValueError, "profile='binned'"),
    (lambda: rasters.fit(Calibrator(), []), ValueError, "scenes is empty"),
    (lambda: rasters.fit(Calibrator(), GOOD.X), TypeError, r"pairs \(X, y\), scene 0 is ndarray"),
    (lambda: rasters.fit(Calibrator(), SCENES, rows=0), ValueError, "rows must be at least 1"),
    (lambda: rasters.fit(Calibrator(), SCENES, rows=2.0), TypeError, "rows must be an int"),
    (
        lambda: rasters.fit(Calibrator(ignore_index=None), SCENES, nodata=0),
        ValueError,
        "the calibrator needs an ignore_index",
    ),
    (
        lambda: rasters.fit(Calibrator(), [(GOOD.X[0], GOOD.y[0, 1:])]),
        ValueError,
        r"y must have shape \(37, 11\) to match X in scene 0, got \(36, 11\)",
    ),
    (
        lambda: rasters.fit(Calibrator(), [(GOOD.X[:1], GOOD.y[0])]),
        ValueError,
        r"X must have shape \(K, H, W\) in scene 0, got \(1, 4, 37, 11\)",
    ),
    (
        lambda: rasters.fit(Calibrator(), [*SCENES, (GOOD.X[0] * 2, GOOD.y[0])], rows=10),
        ValueError,
        "in rows 0 to 9 of scene 12: X: the probabilities of image 12 sum to 2",
    ),
    (
        lambda: rasters.fit(Calibrator(), [(np.where(VALID[0], GOOD.X[0], np.nan), GOOD.y[0])]),
        ValueError,
        r"of scene 0: X is not finite .*; where X has no data, pass nodata=np\.nan$",
    ),
    (
        lambda: list(
            rasters.predict(Calibrator().fit(GOOD.X, GOOD.y), np.where(VALID[0], GOOD.X[0], np.nan))
        ),
        ValueError,
        r"in rows 0 to 36: X is not finite .*; where X has no data, pass nodata=np\.nan$",
    ),
    (
        lambda: rasters.fit(Calibrator(), [(GOOD.X[0], GOOD.y[0].tolist())]),
        TypeError,
        "^y must be an array or a store that has a shape and slices in scene 0, got list$",
    ),
    (
        lambda: rasters.fit(Calibrator(), SCENES, nodata="nan"),
        TypeError,
        "^nodata must be a number, .*got 'nan'$",
    ),
    (
        lambda: rasters.predict(Calibrator().fit(GOOD.X, GOOD.y), GOOD.X[0], nodata="nan"),
        TypeError,
        "^nodata must be a number, .*got 'nan'$",
    ),
    (lambda: rasters.predict(Calibrator().fit(GOOD.X, GOOD.y), "X.tif"), TypeError, "got str"),
    (
        lambda: rasters.predict(Calibrator().fit(GOOD.X, GOOD.y), GOOD.X[0], what="sizes"),
        ValueError,
        "what must be",
    ),
    (
        lambda: list(rasters.predict(Calibrator().fit(GOOD.X, GOOD.y), GOOD.X[0] * 2, rows=30)),
        ValueError,
        "in rows 0 to 29: X: the probabilities",
    ),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_what_cannot_be_read_in_bands(case: int) -> None:
    call, error, says = BAD[case]
    with pytest.raises(error, match=says):
        call()


def test_a_number_means_no_data_only_where_all_classes_have_it() -> None:
    """A score of 0 is a score; NaN is none, of whatever class."""
    X, y = GOOD.X.copy(), GOOD.y
    X[:, 0], X[:, 1] = 0, 1 - X[:, 2:].sum(axis=1)
    fitted = rasters.fit(Calibrator(), zip(X, y, strict=True), rows=8, nodata=0)
    assert fitted.lambda_hat_ == Calibrator().fit(X, y).lambda_hat_


def test_scalers_that_look_at_void_pixels_see_no_nodata() -> None:
    maps, labels = np.where(VALID[:, None], GOOD.X, np.nan), np.where(VALID, GOOD.y, 255)
    scaler = cm.MetaCal(inputs="probabilities", random_state=0).fit(GOOD.X[::2], GOOD.y[::2])
    calibrator = Calibrator(alpha=0.3, transform=scaler)
    X, y, valid = maps[1::2], labels[1::2], VALID[1::2]
    fitted = rasters.fit(calibrator, zip(X, y, strict=True), rows=8, nodata=np.nan)
    assert fitted.lambda_hat_ == Calibrator(alpha=0.3, transform=scaler).fit(X, y, valid=valid).lambda_hat_
    bands = [sets for _, sets in rasters.predict(fitted, X[0], rows=8, nodata=np.nan)]
    assert np.array_equal(np.concatenate(bands, axis=1), fitted.predict(X[:1], valid=valid[:1])[0])

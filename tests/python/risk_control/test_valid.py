"""Rasters with padding: pixels without data get full sets, and change nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import conformask as cm
from problems import wide

Calibrator = cm.ConformalRiskCalibrator
GOOD = wide(n=12, n_classes=4, size=(6, 7))
LOGITS = np.log(GOOD.X)
VALID = np.random.default_rng(5).random(GOOD.y.shape) < 0.7
VALID[3] = True
NAMES = ["lac", "aps", cm.RAPS(0.1, 1), cm.LAC(include_top1=False)]


def padded(X: NDArray, value: float = np.nan, valid: NDArray = VALID) -> NDArray:
    return np.where(valid[:, None], X, np.asarray(value, X.dtype))


@pytest.mark.parametrize("value", [np.nan, -9999.0, np.inf])
@pytest.mark.parametrize("score", NAMES, ids=str)
@pytest.mark.parametrize("inputs", ["probabilities", "logits", "scores"])
def test_pixels_without_data_have_full_sets(inputs: str, score: Any, value: float) -> None:
    X = {"probabilities": GOOD.X, "logits": LOGITS, "scores": 7 * GOOD.X}[inputs]
    for dtype in (np.float16, np.float32, np.float64) if inputs == "logits" else (np.float64,):
        maps = X.astype(dtype)
        fitted = Calibrator(score, alpha=0.3, inputs=inputs).fit(maps, GOOD.y)
        raster, before = padded(maps, value), padded(maps, value)
        masks, sizes = fitted.predict(maps), fitted.set_size(maps)
        found = fitted.predict(raster, valid=VALID)
        assert np.array_equal(found, masks | ~VALID[:, None])
        assert np.array_equal(fitted.set_size(raster, valid=VALID), np.where(VALID, sizes, 4))
        heatmap = fitted.varisco(raster, valid=VALID)
        assert np.array_equal(heatmap, np.where(VALID, sizes / np.float32(4), 1).astype(np.float32))
        largest = np.where(VALID, sizes, 0).max(axis=(1, 2), keepdims=True).clip(min=1)
        heatmap = fitted.varisco(raster, "max", valid=VALID)
        assert np.array_equal(heatmap, np.where(VALID, sizes / largest.astype(np.float32), 1))
        assert np.array_equal(raster, before, equal_nan=True)  # what was given stays as it is


def test_windows_see_equal_probabilities_where_there_are_no_data() -> None:
    fitted = Calibrator(cm.SACP(), alpha=0.3).fit(GOOD.X, GOOD.y)
    expected = fitted.predict(padded(GOOD.X, 0.25)) | ~VALID[:, None]
    assert np.array_equal(fitted.predict(padded(GOOD.X), valid=VALID), expected)


def test_behind_a_scaler_and_with_volumes() -> None:
    scaler = cm.TemperatureScaler().fit(LOGITS[::2], GOOD.y[::2])
    fitted = Calibrator(alpha=0.3, inputs="logits", transform=scaler).fit(LOGITS[1::2], GOOD.y[1::2])
    expected = fitted.predict(LOGITS) | ~VALID[:, None]
    assert np.array_equal(fitted.predict(padded(LOGITS), valid=VALID), expected)
    X, y, valid = (
        each.reshape(4, 3, *each.shape[1:]) for each in (GOOD.X, GOOD.y, VALID)
    )  # slices of volumes
    X = np.moveaxis(X, 1, 2)
    fitted = Calibrator(alpha=0.3).fit(X, y)
    found = fitted.predict(padded(X, valid=valid), valid=valid)
    assert np.array_equal(found, fitted.predict(X) | ~valid[:, None])


@pytest.mark.parametrize("wrap", [list, iter, lambda X: X])
@pytest.mark.parametrize("mask", [list, iter, lambda valid: valid])
def test_images_one_by_one(wrap: Callable, mask: Callable) -> None:
    fitted = Calibrator(alpha=0.3).fit(GOOD.X, GOOD.y)
    expected = fitted.predict(GOOD.X) | ~VALID[:, None]
    found = fitted.predict(wrap(padded(GOOD.X)), valid=mask(VALID))
    assert np.array_equal(np.stack(list(found)), expected)


def test_strata_weights_and_models_see_the_rest() -> None:
    strata = ["a", "b"] * 6
    fitted = Calibrator(alpha=0.4).fit(GOOD.X, GOOD.y, strata=strata)
    expected = fitted.predict(GOOD.X, strata=strata) | ~VALID[:, None]
    assert np.array_equal(fitted.predict(padded(GOOD.X), strata=strata, valid=VALID), expected)


def test_masks_that_do_not_fit() -> None:
    fitted = Calibrator(alpha=0.3).fit(GOOD.X, GOOD.y)
    X = padded(GOOD.X)
    for valid, error, says in (
        (VALID.astype(int), TypeError, r"valid must be boolean, got dtype int64 in image 0"),
        (VALID[:, :3], ValueError, r"valid must have shape \(6, 7\) in image 0 to match X, got \(3, 7\)"),
        (VALID[:5], ValueError, "valid has 5 images, X has more"),
        (np.concatenate([VALID, VALID]), ValueError, "X has 12 images, valid has more"),
        (VALID[0], ValueError, r"valid "),
    ):
        for method in (fitted.predict, fitted.set_size, fitted.varisco):
            with pytest.raises(error, match=says):
                method(X, valid=valid)
    with pytest.raises(
        ValueError, match=r"is NaN at pixel .*; where X has no data, .* predict valid=~np\.isnan"
    ):
        fitted.predict(X)
    assert fitted.predict(X, valid=~np.isnan(X).any(axis=1)).shape == X.shape
    with pytest.raises(ValueError, match=r"image 3: class 0 is NaN"):  # where there shall be data
        fitted.predict(np.where(np.arange(12)[:, None, None, None] == 3, np.nan, X), valid=VALID)


def test_true_in_other_bytes() -> None:
    fitted = Calibrator(alpha=0.3).fit(GOOD.X, GOOD.y)
    valid = (VALID.astype(np.uint8) * 255).view(bool)
    assert np.array_equal(
        fitted.predict(padded(GOOD.X), valid=valid), fitted.predict(padded(GOOD.X), valid=VALID)
    )


def test_padding_of_labelled_images_is_void() -> None:
    """In calibration and evaluation labels say where there are no data."""
    y = np.where(VALID, GOOD.y, 255)
    fitted, expected = (Calibrator(alpha=0.3).fit(maps, y) for maps in (padded(GOOD.X), GOOD.X))
    assert fitted.lambda_hat_ == expected.lambda_hat_
    assert fitted.evaluate(padded(GOOD.X), y).empirical_risk == expected.risk_
    with pytest.raises(ValueError, match=r"where X has no data, let y be void \(ignore_index\)"):
        Calibrator(alpha=0.3).fit(padded(GOOD.X), np.where(GOOD.y == 255, 0, GOOD.y))
    masks = cm.BinaryRiskCalibrator(alpha=0.3, ignore_index=255)
    P, foreground = padded(GOOD.X)[:, 1], np.where(VALID, (GOOD.y == 1).astype(int), 255)
    with pytest.raises(
        ValueError, match=r"P holds NaN .* np\.nan_to_num\(P, nan=1\) keeps the pixels in the mask"
    ):
        masks.fit(P, foreground)
    masks.fit(np.nan_to_num(P, nan=1), foreground)
    assert masks.predict(np.nan_to_num(P, nan=1))[~VALID].all()

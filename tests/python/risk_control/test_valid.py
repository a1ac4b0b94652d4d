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
        ValueError, match=r"is NaN at pixel .*; where X has no data, .* pass valid=~np\.isnan"
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
    with pytest.raises(ValueError, match=r"where X has no data, make y void \(ignore_index\)"):
        Calibrator(alpha=0.3).fit(padded(GOOD.X), np.where(GOOD.y == 255, 0, GOOD.y))
    masks = cm.BinaryRiskCalibrator(alpha=0.3, ignore_index=255)
    P, foreground = padded(GOOD.X)[:, 1], np.where(VALID, (GOOD.y == 1).astype(int), 255)
    with pytest.raises(
        ValueError, match=r"P holds NaN .* np\.nan_to_num\(P, nan=1\) keeps the pixels in the mask"
    ):
        masks.fit(P, foreground)
    masks.fit(np.nan_to_num(P, nan=1), foreground)
    assert masks.predict(np.nan_to_num(P, nan=1))[~VALID].all()


# Calibration and evaluation


def local_temperature(X: NDArray, y: NDArray) -> Any:
    scaler = cm.LocalTemperatureScaler(inputs="probabilities", random_state=0)
    return scaler.fit(X[::2].clip(1e-6), y[::2])


def model(X: NDArray, images: Any) -> NDArray:
    """Looks at all pixels."""
    return np.asarray(1 - X.max(axis=1).mean(axis=(1, 2)))


def blurred(X: NDArray) -> NDArray:
    """A score of one's own that looks at the neighbours."""
    return 1 - (X + np.roll(X, 1, axis=-1)) / 2


def found_by(calibrator: Calibrator) -> float:
    """What calibration found: lambda-hat, or what corrects the lambdas of a model."""
    return calibrator.lambda_hat_ if calibrator.adaptive is None else calibrator.correction_


LOOK_AROUND: dict[str, dict[str, Any]] = {
    "windows": {"conformity_score": cm.SACP(window=3)},
    "a function": {"conformity_score": blurred},
    "a scaler": {"transform": local_temperature(GOOD.X, GOOD.y)},
    "a model": {"adaptive": model},
    "pixels alone": {},
}


@pytest.mark.filterwarnings("ignore::conformask.SharedImagesWarning")
@pytest.mark.parametrize("name", LOOK_AROUND)
def test_padding_is_the_same_in_calibration_and_prediction(name: str) -> None:
    """The loss by which an image calibrates is that which its sets have when they are predicted."""
    X, y = padded(GOOD.X), np.where(VALID, GOOD.y, 77)  # labels of padding may be anything
    calibrator = Calibrator(alpha=0.3, **LOOK_AROUND[name])
    fitted = calibrator.fit(X, y, valid=VALID)
    lambda_hat = found_by(fitted)
    covered = np.take_along_axis(
        fitted.predict(X, valid=VALID), np.where(y < 4, y, 0)[:, None].astype(int), axis=1
    )[:, 0]
    is_labelled = VALID & (GOOD.y != 255)
    losses = 1 - (covered & is_labelled).sum(axis=(1, 2)) / is_labelled.sum(axis=(1, 2))
    np.testing.assert_allclose(fitted.losses(X, y, valid=VALID), losses, rtol=1e-12)
    assert fitted.risk_ == pytest.approx(losses.mean(), rel=1e-12)
    report = fitted.evaluate(X[:9], y[:9], valid=VALID[:9])
    np.testing.assert_allclose(report.losses, losses[:9], rtol=1e-12)
    by_hand = calibrator.fit(padded(GOOD.X, 0.25), np.where(VALID, GOOD.y, 255))
    assert found_by(by_hand) == lambda_hat


@pytest.mark.filterwarnings("ignore::conformask.SharedImagesWarning")
@pytest.mark.parametrize("name", LOOK_AROUND)
def test_void_labels_alone_leave_what_the_model_said_in_padding(name: str) -> None:
    """Then only scores of pixels alone are the same: the others see there what they would not see of new images."""
    y = np.where(VALID, GOOD.y, 255)
    X = np.where(VALID[:, None], GOOD.X, np.eye(4)[0][:, None, None])  # sure of padding
    calibrator = Calibrator(alpha=0.3, **LOOK_AROUND[name])
    same = found_by(calibrator.fit(X, y)) == found_by(calibrator.fit(X, y, valid=VALID))
    assert same == (name == "pixels alone")


def test_windows_over_padding_are_refused_with_the_way_out() -> None:
    y = np.where(VALID, GOOD.y, 255)
    for method in (Calibrator("sacp").fit, Calibrator("sacp").fit(GOOD.X, GOOD.y).evaluate):
        with pytest.raises(ValueError, match=r"or pass valid=~np\.isnan\(X\).* to fit, evaluate and predict"):
            method(padded(GOOD.X), y)
        method(padded(GOOD.X), y, valid=VALID)


def test_a_scaler_takes_the_numbers_that_the_hint_names() -> None:
    """Also if only one class of a pixel is NaN: its numbers are then equal, not a mixture."""
    y, X = np.where(VALID, GOOD.y, 255), np.log(GOOD.X)
    X[:, 0] = np.where(VALID, X[:, 0], np.nan)
    with pytest.raises(ValueError, match=r"is NaN") as raised:
        cm.LocalTemperatureScaler().fit(X, y)
    hint = "np.where(valid[:, np.newaxis], X, 1 / K)"
    assert f"write equal numbers there, {hint}" in str(raised.value)
    given = {"np": np, "X": X, "K": X.shape[1], "valid": ~np.isnan(X).any(axis=1)}
    filled = eval(hint, given)
    assert (filled.max(axis=1) == filled.min(axis=1))[~VALID].all()
    assert np.isfinite(cm.LocalTemperatureScaler().fit(filled, y).nll_)


@pytest.mark.parametrize("wrap", [list, iter, lambda values: values])
def test_labelled_images_one_by_one(wrap: Callable) -> None:
    X, y = padded(GOOD.X), GOOD.y
    expected = Calibrator("sacp", alpha=0.3).fit(X, y, valid=VALID)
    found = Calibrator("sacp", alpha=0.3).fit(wrap(X), wrap(y), valid=wrap(VALID))
    assert found.lambda_hat_ == expected.lambda_hat_
    by_pairs = Calibrator("sacp", alpha=0.3).fit(zip(X, y, strict=True), valid=wrap(VALID))
    assert by_pairs.lambda_hat_ == expected.lambda_hat_
    halves = Calibrator("sacp", alpha=0.3)
    for half in (slice(0, 6), slice(6, 12)):
        halves.partial_fit(wrap(X[half]), wrap(y[half]), valid=wrap(VALID[half]))
    assert halves.lambda_hat_ == expected.lambda_hat_
    profiles = cm.profile(wrap(X), wrap(y), "sacp", valid=wrap(VALID))
    assert profiles.lambda_hat("miscoverage", 0.3) == expected.lambda_hat_
    binned = Calibrator("sacp", alpha=0.3, profile="binned").fit(wrap(X), wrap(y), valid=wrap(VALID))
    assert expected.lambda_hat_ <= binned.lambda_hat_ < expected.lambda_hat_ + 0.01
    report = expected.evaluate(wrap(X[:3]), wrap(y[:3]), valid=wrap(VALID[:3]))
    assert report.losses.tolist() == expected.losses(wrap(X[:3]), wrap(y[:3]), valid=wrap(VALID[:3])).tolist()
    assert expected.score(X[:3], y[:3], valid=VALID[:3]) == 1 - report.empirical_risk


def test_models_of_lambdas_see_the_same_in_both() -> None:
    fitted = Calibrator(alpha=0.3, adaptive=model).fit(padded(GOOD.X), GOOD.y, valid=VALID)
    lambdas = fitted.predict_lambdas(padded(GOOD.X), valid=VALID)
    np.testing.assert_array_equal(lambdas, fitted.predict_lambdas(padded(GOOD.X, 0.25)))


def test_masks_of_labelled_images_that_do_not_fit() -> None:
    X = padded(GOOD.X)
    calibrator = Calibrator(alpha=0.3).fit(GOOD.X, GOOD.y)
    for method in (Calibrator(alpha=0.3).fit, calibrator.evaluate, calibrator.losses):
        with pytest.raises(ValueError, match="valid has 5 images, X has more"):
            method(X, GOOD.y, valid=VALID[:5])
        with pytest.raises(ValueError, match="X has 12 images, valid has more"):
            method(X, GOOD.y, valid=np.concatenate([VALID, VALID]))
        with pytest.raises(TypeError, match="valid must be boolean, got dtype int64 in image 0"):
            method(X, GOOD.y, valid=VALID.astype(int))
    with pytest.raises(ValueError, match="valid= makes pixels void, which needs an ignore_index"):
        Calibrator(ignore_index=None).fit(X, GOOD.y, valid=VALID)


@pytest.mark.parametrize(("dtype", "mark"), [(np.uint8, -1), (np.uint64, -1), (bool, 255), (np.int8, 999)])
def test_labels_of_any_type_can_be_void(dtype: Any, mark: int) -> None:
    X, y = GOOD.X[:, :2] / GOOD.X[:, :2].sum(axis=1, keepdims=True), GOOD.y % 2
    expected = Calibrator(alpha=0.3).fit(X, np.where(VALID, y, 255))
    found = Calibrator(alpha=0.3, ignore_index=mark).fit(X, y.astype(dtype), valid=VALID)
    assert found.lambda_hat_ == expected.lambda_hat_


def test_the_risk_of_padded_images_is_kept() -> None:
    """Strips of images, so that most pixels lie beside padding; windows see it in calibration, too, or do not."""
    rng, n, n_new, size = np.random.default_rng(0), 59, 4, 10
    risks: dict[str, list[float]] = {"as predicted": [], "as within": []}
    for _ in range(150):
        kinds, hard = rng.integers(3, size=(n + n_new, 1, 1)), 3 * rng.random((n + n_new, 1, 1, 1))
        y = np.where(
            rng.random((n + n_new, size, size)) < 0.9, kinds, rng.integers(3, size=(n + n_new, size, size))
        )
        classes = np.arange(3)[:, None, None]
        logits = rng.normal(0, 1 + hard, (n + n_new, 3, size, size))
        logits += 2.5 * (y[:, None] == classes) + 2 * (kinds[:, None] == classes)
        X = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        first, width = rng.integers(0, 7, (n + n_new, 1, 1)), rng.integers(2, 4, (n + n_new, 1, 1))
        columns = np.arange(size)
        valid = np.broadcast_to((columns >= first) & (columns < first + width), y.shape)
        padding, void = np.where(valid[:, None], X, np.nan), np.where(valid, y, 255)
        calibrator = Calibrator(cm.SACP(weight=0.9, window=7), alpha=0.1)
        for name, known in (("as predicted", {"valid": valid[:n]}), ("as within", {})):
            fitted = calibrator.fit((padding if known else X)[:n], void[:n], **known)
            risks[name].append(fitted.losses(padding[n:], y[n:], valid=valid[n:]).mean())
    mean = {name: np.mean(each) for name, each in risks.items()}
    error = {name: np.std(each) / np.sqrt(len(each)) for name, each in risks.items()}
    assert 0.07 < mean["as predicted"] < 0.1
    assert mean["as within"] > 0.1 + error["as within"], "the simulation shows nothing"

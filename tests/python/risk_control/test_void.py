"""Void pixels count nowhere: whatever a model says there, whatever void is called, all bits stay the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import conformask as cm
from problems import LOSSES, wide

# Mostly void, so that a leak would show; every image keeps a pixel of every class.
PROBLEM = wide(size=(8, 9))
VOID = np.random.default_rng(1).random(PROBLEM.y.shape) < 0.7
VOID.reshape(40, -1)[:, :4] = False
Y = np.where(VOID, 255, PROBLEM.y)
Y[:, -1, -3:] = 255
VOID = Y == 255


def everything(X: np.ndarray, y: np.ndarray, loss_name: str, ignore_index: int = 255) -> list:
    """All that conformask says of labelled images."""
    loss = LOSSES[loss_name](4)[0]
    fitted = cm.ConformalRiskCalibrator(loss=loss, alpha=0.3, ignore_index=ignore_index).fit(X, y)
    report = fitted.evaluate(X, y)
    scores = cm.kernels.true_label_scores(X, y, ignore_index=ignore_index)
    losses = cm.kernels.losses(X, y, 0.4, loss, ignore_index=ignore_index)
    return [
        fitted.lambda_hat_,
        fitted.risk_,
        fitted.corrected_risk_,
        fitted.n_images_,
        fitted.risk_curve()[1].tobytes(),
        str(report),
        report.empirical_risk,
        report.losses.tobytes(),
        report.activation_ratios.tobytes(),
        report.coverages.tobytes(),
        scores.tobytes(),
        losses.tobytes(),
    ]


def filled(value: float) -> Callable[[np.ndarray], None]:
    def fill(X: np.ndarray) -> None:
        X[VOID] = value

    return fill


def shuffled(X: np.ndarray) -> None:
    X[VOID] = np.random.default_rng(2).permutation(X[VOID], axis=1)


def logits(X: np.ndarray) -> None:
    X[VOID] = np.random.default_rng(3).normal(size=X[VOID].shape)


def profile_bits(X: np.ndarray, score: object, inputs: str) -> list[bytes]:
    arrays = cm.profile(X, Y, score, inputs=inputs, activation=True)._core.to_arrays()
    return [np.asarray(array).tobytes() for array in arrays]


SAYINGS: dict[str, Callable[[np.ndarray], None]] = {
    "NaN": filled(np.nan),
    "infinity": filled(np.inf),
    "zero, as padding is": filled(0.0),
    "negative zero": filled(-0.0),
    "too much": filled(30_000.0),
    "other probabilities": shuffled,
    "logits": logits,
}


@pytest.mark.parametrize("saying", SAYINGS)
@pytest.mark.parametrize("loss_name", LOSSES)
def test_predictions_at_void_pixels(saying: str, loss_name: str) -> None:
    pixels_first = np.moveaxis(PROBLEM.X, 1, -1).copy()
    SAYINGS[saying](pixels_first)
    X = np.moveaxis(pixels_first, -1, 1)
    assert not np.array_equal(X, PROBLEM.X)
    assert everything(X, Y, loss_name) == everything(PROBLEM.X, Y, loss_name)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_in_every_type_and_layout(dtype: str) -> None:
    X = PROBLEM.X.astype(dtype)
    expected = everything(X, Y, "miscoverage")
    pixels_first = np.moveaxis(X, 1, -1).copy()
    pixels_first[VOID] = np.nan
    channel_last = np.moveaxis(pixels_first, -1, 1)
    for layout in (channel_last, np.ascontiguousarray(channel_last), np.asfortranarray(channel_last)):
        assert everything(layout, Y, "miscoverage") == expected


@pytest.mark.parametrize("ignore_index", [-1, -100, 4, 99, 65_535, 2**40])
def test_any_name_for_void(ignore_index: int) -> None:
    y = np.where(VOID, ignore_index, Y)
    assert everything(PROBLEM.X, y, "balanced", ignore_index) == everything(PROBLEM.X, Y, "balanced")


def test_masks_and_metrics_at_void_pixels() -> None:
    masks = cm.kernels.threshold(PROBLEM.X, 0.6)
    others = masks ^ VOID[:, np.newaxis]
    for metric in (cm.metrics.empirical_risk, cm.metrics.activation_ratio, cm.metrics.marginal_coverage):
        expected = metric(Y, masks, average=False)
        assert metric(Y, others, average=False).tobytes() == expected.tobytes()
        assert metric(Y, ~masks, average=False).tobytes() != expected.tobytes()


def test_void_pixels_might_as_well_not_be_there() -> None:
    """Images of only the labelled pixels, in lists because their numbers differ."""
    X = [image[:, ~void][:, np.newaxis] for image, void in zip(PROBLEM.X, VOID, strict=True)]
    y = [labels[~void][np.newaxis] for labels, void in zip(Y, VOID, strict=True)]
    cut = cm.ConformalRiskCalibrator(alpha=0.3).fit(X, y)
    whole = cm.ConformalRiskCalibrator(alpha=0.3).fit(PROBLEM.X, Y)
    assert (cut.lambda_hat_, cut.risk_, cut.corrected_risk_) == (
        whole.lambda_hat_,
        whole.risk_,
        whole.corrected_risk_,
    )
    reports = cut.evaluate(X, y), whole.evaluate(PROBLEM.X, Y)
    assert reports[0].activation_ratio == reports[1].activation_ratio


def test_a_bad_pixel_that_is_not_void_is_seen() -> None:
    """The checks above would mean nothing if nobody looked."""
    X = PROBLEM.X.copy()
    image, row, column = (int(axis[0]) for axis in np.nonzero(~VOID))
    X[image, 0, row, column] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        everything(X, Y, "miscoverage")


@pytest.mark.parametrize("saying", SAYINGS)
@pytest.mark.parametrize("inputs", ["probabilities", "logits", "scores"])
@pytest.mark.parametrize("score", [cm.LAC(), cm.APS(), cm.RAPS(0.3, 1)], ids=str)
def test_what_a_model_says_of_void_pixels_is_not_looked_at(score: object, inputs: str, saying: str) -> None:
    X = np.log(PROBLEM.X) if inputs == "logits" else PROBLEM.X.copy()
    expected = profile_bits(X, score, inputs)
    pixels = np.moveaxis(X, 1, -1)
    SAYINGS[saying](pixels)
    assert profile_bits(X, score, inputs) == expected

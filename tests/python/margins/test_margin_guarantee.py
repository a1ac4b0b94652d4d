"""What margins promise, by repetition: 2,000 calibrations each, with fixed seeds."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import conformask as cm

N_CALIBRATIONS, N = 2000, 30
MASK, TRUTH = np.zeros((N, 1, 3), bool), np.zeros((N, 1, 3), bool)
MASK[:, :, 0], TRUTH[:, :, :2] = True, True


@cache
def calibrations() -> list[cm.MarginCalibrator]:
    """Each on images that lack a pixel beside the mask, so far away as pixels are apart: between 1 and 2 of a unit."""
    rng = np.random.default_rng(31)
    found = []
    for _ in range(N_CALIBRATIONS):
        spacing = np.repeat(rng.uniform(1, 2, (N, 1)), 2, axis=1)
        found.append(cm.MarginCalibrator(0.2).fit(MASK, TRUTH, spacing=spacing))
    return found


def coverages(fitted: list[cm.MarginCalibrator]) -> NDArray[np.float64]:
    """The probability that a new image is covered, given each calibration: its score is uniform on [1, 2]."""
    return np.array([each.margin_ - 1 for each in fitted])


def test_coverage_given_calibration_is_beta() -> None:
    """Of scores without ties: Beta(k, n + 1 - k) with k = ceil((n + 1)(1 - alpha)) = 25 of 30."""
    found = coverages(calibrations())
    k = math.ceil((N + 1) * 0.8)
    assert stats.kstest(found, stats.beta(k, N + 1 - k).cdf).pvalue > 0.01
    error = stats.beta(k, N + 1 - k).std() / math.sqrt(N_CALIBRATIONS)
    assert abs(found.mean() - k / (N + 1)) < 3 * error
    assert found.mean() >= 0.8


def test_pac_margins_exceed_alpha_as_often_as_delta_allows() -> None:
    found = coverages([each.recalibrate(method=cm.PAC(0.1)) for each in calibrations()])
    k = next(k for k in range(1, N + 1) if stats.beta(k, N + 1 - k).sf(0.8) >= 0.9)
    exceeds = stats.beta(k, N + 1 - k).cdf(0.8)
    error = math.sqrt(exceeds * (1 - exceeds) / N_CALIBRATIONS)
    assert exceeds <= 0.1
    assert abs((found < 0.8).mean() - exceeds) < 3 * error


@pytest.mark.filterwarnings("ignore::conformask.DuplicateImagesWarning")  # lines of 24 pixels are often alike
@pytest.mark.parametrize("side", ["outer", "inner", "both"])
def test_a_new_image_is_right_at_least_as_often_as_promised(side: str) -> None:
    """Pixels are whole, so that scores tie: coverage is only larger. Images of very different difficulty."""
    rng = np.random.default_rng(32)
    alpha, n, size = 0.2, 19, 24
    right = np.empty(N_CALIBRATIONS)
    place = np.arange(size)
    for i in range(N_CALIBRATIONS):
        spread = rng.choice([0.5, 2.5], (n + 1, 1))
        ends = np.array([6, 17])[:, None, None] + rng.normal(0, 1, (2, n + 1, 1)) * spread
        masks = np.broadcast_to((place >= 6) & (place <= 17), (n + 1, size))[:, np.newaxis]
        y = ((place >= ends[0].clip(max=11)) & (place <= ends[1].clip(min=12)))[:, np.newaxis]
        fitted = cm.MarginCalibrator(alpha, side=side).fit(masks[:n], y[:n])
        found = fitted.predict(masks[n:])
        outer = found.outer if side == "both" else found if side == "outer" else np.ones_like(y[n:])
        inner = found.inner if side == "both" else found if side == "inner" else np.zeros_like(y[n:])
        right[i] = (inner <= y[n:]).all() and (y[n:] <= outer).all()
    error = right.std() / math.sqrt(N_CALIBRATIONS)
    assert right.mean() >= 1 - alpha - 2 * error
    assert right.mean() < 1 - 2 * error  # it is not always right

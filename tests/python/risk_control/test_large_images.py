"""Images of more than 2^24 pixels: float32 could not count them one by one, and a single pixel decides here."""

from __future__ import annotations

import numpy as np
import pytest

import conformask as cm

SIDE = 4099
N = SIDE * SIDE  # 16,801,801
ALLOWED = N // 5  # missed pixels: (1/5 + 1) / 2 is 0.6


@pytest.mark.parametrize("n_missed", [ALLOWED, ALLOWED + 1])
def test_every_pixel_counts(n_missed: int) -> None:
    assert N > 2**24
    p = np.full(N, 0.75, np.float16)  # of the label
    p[N - n_missed :] = 0.125
    p[N - n_missed] = 0.25  # the last that comes in, and the first that may stay out
    X = np.stack([p, 1 - p]).reshape(1, 2, SIDE, SIDE)
    y = np.zeros((1, SIDE, SIDE), np.uint8)
    fitted = cm.ConformalRiskCalibrator(alpha=0.6).fit(X, y)
    assert fitted.lambda_hat_ == (0.75 if n_missed > ALLOWED else 0.0)
    assert fitted.risk_ == ALLOWED / N
    assert fitted.evaluate(X, y).empirical_risk == ALLOWED / N
    masks = fitted.predict(X)
    assert int(masks[:, 0].sum()) == N - ALLOWED
    assert cm.metrics.empirical_risk(y, masks) == ALLOWED / N
    binned = cm.ConformalRiskCalibrator(alpha=0.6, profile="binned").fit(X, y)
    assert 0 <= binned.lambda_hat_ - fitted.lambda_hat_ < 1e-3

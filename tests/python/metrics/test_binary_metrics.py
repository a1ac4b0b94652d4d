"""The coverage gap, by definition."""

from __future__ import annotations

import numpy as np
import pytest

import conformask as cm

RNG = np.random.default_rng(0)
Y = RNG.choice([0, 1, 255], (12, 5, 7), p=[0.5, 0.4, 0.1]).astype(np.uint8)
Y[4] = 0
MASKS = RNG.random(Y.shape) < 0.6


def test_gaps_by_definition() -> None:
    known = [
        abs(mask[labels == 1].mean() - 0.8) if (labels == 1).any() else np.nan
        for mask, labels in zip(MASKS, Y, strict=True)
    ]
    found = cm.metrics.coverage_gap(Y, MASKS, 0.2, average=False)
    assert np.allclose(found, known, equal_nan=True)
    assert np.isnan(found[4])
    for y, masks in [
        (Y, MASKS),
        (list(Y), list(MASKS)),
        (Y.astype(np.int64), MASKS.view(np.uint8).astype(bool)),
    ]:
        assert cm.metrics.coverage_gap(y, masks, 0.2) == pytest.approx(np.nanmean(known))
    assert cm.metrics.coverage_gap(Y == 1, MASKS, 0.2) == pytest.approx(np.nanmean(known))


def test_it_is_that_of_the_report() -> None:
    P = RNG.random(Y.shape)
    with pytest.warns(cm.DroppedImagesWarning):
        calibrator = cm.BinaryRiskCalibrator(0.2).fit(P, Y)
    gap = cm.metrics.coverage_gap(Y, calibrator.predict(P), 0.2)
    assert gap == pytest.approx(calibrator.evaluate(P, Y).coverage_gap)


def test_what_does_not_fit() -> None:
    for y, masks, alpha, error, says in [
        (Y, MASKS * 1.0, 0.2, TypeError, "masks must be boolean"),
        (Y, MASKS[:, 1:], 0.2, ValueError, "y_true must have shape"),
        (Y + 1, MASKS, 0.2, ValueError, r"y_true holds label 2 in image \d+"),
        (Y, MASKS, 1.5, ValueError, "alpha must be in"),
        (Y[:0], MASKS[:0], 0.2, ValueError, "empty"),
    ]:
        with pytest.raises(error, match=says):
            cm.metrics.coverage_gap(y, masks, alpha)

"""CONSIGN's promise, by repetition: the set of a new image holds its truth, or the calibrator abstains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import conformask as cm

N_RUNS, N_CALIBRATION, N_TEST, ALPHA = 150, 19, 8, 0.1
ROW = np.linspace(-1, 1, 12)


def draw(rng: np.random.Generator, n: int) -> tuple[NDArray, NDArray]:
    """Images of one edge, 6 samples each. The truth is noisier than the samples: some images cannot be matched."""
    edges = rng.normal(0, 0.3, (n, 7, 1, 1)) + rng.normal(0, 0.3, (n, 1, 1, 1))
    fields = 4 * (ROW - edges) * np.ones((8, 1))
    fields[:, 6] += rng.normal(0, 1.5, fields[:, 6].shape)
    return np.stack([-fields[:, :6], fields[:, :6]], axis=2), (fields[:, 6] > 0).astype(np.uint8)


def test_the_set_holds_the_truth_or_the_calibrator_abstains() -> None:
    """Coverage given that it does not abstain may be less: abstention is no accident."""
    rng = np.random.default_rng(29)
    shares, n_abstained = [], 0
    for _ in range(N_RUNS):
        X, y = draw(rng, N_CALIBRATION + N_TEST)
        calibrator = cm.ConsignCalibrator(2, alpha=ALPHA, min_accuracy=0.8, progress=False)
        try:
            calibrator.fit(X[:N_CALIBRATION], y[:N_CALIBRATION])
        except cm.InfeasibleRiskError:
            n_abstained += 1
            shares.append(1.0)
            continue
        shares.append(calibrator.evaluate(X[N_CALIBRATION:], y[N_CALIBRATION:]).coverage_bound)
    standard_error = np.std(shares, ddof=1) / np.sqrt(N_RUNS)
    assert np.mean(shares) >= 1 - ALPHA - 3 * standard_error
    assert 0 < n_abstained < N_RUNS  # both cases were met

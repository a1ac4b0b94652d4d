"""Pictures are drawn without a screen."""

import matplotlib as mpl
import numpy as np
import pytest

import conformask as cm

mpl.use("Agg")


@pytest.fixture(scope="session")
def calibrator() -> cm.ConformalRiskCalibrator:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (40, 6, 6))
    logits = rng.normal(0, 1.2, (40, 3, 6, 6)) + 2.5 * (labels[:, None] == np.arange(3)[:, None, None])
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return cm.ConformalRiskCalibrator("lac", loss=cm.MiscoverageLoss(), alpha=0.1).fit(probs, labels)

"""Other packages' scalers, by their public interfaces: each takes pixels (N, K) and labels, and returns a predictor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

try:
    import torch
except ImportError:
    torch = None
try:
    import fiducio
except ImportError:
    fiducio = None
try:
    import probmetrics.calibrators as probmetrics
except ImportError:
    probmetrics = None

Predict: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]


def fiducio_map(name: str, **options: Any) -> Callable[[NDArray[Any], NDArray[Any]], Predict]:
    """A scaler of fiducio, which takes logits."""

    def fit(logits: NDArray[Any], labels: NDArray[Any]) -> Predict:
        calibrator = getattr(fiducio, name)(**options).fit(logits, labels)
        return lambda other: calibrator.predict_proba(other).numpy()

    return fit


_PROBMETRICS = {
    "TS": "TemperatureScalingCalibrator",
    "SVS": "SVSCalibrator",
    "SMS": "SMSCalibrator",
}


def probmetrics_map(name: str, **options: Any) -> Callable[[NDArray[Any], NDArray[Any]], Predict]:
    """A scaler of probmetrics, which takes probabilities."""

    def probabilities(logits: NDArray[Any]) -> NDArray[np.float64]:
        return special.softmax(logits.astype(np.float64), axis=1)

    def fit(logits: NDArray[Any], labels: NDArray[Any]) -> Predict:
        calibrator = getattr(probmetrics, _PROBMETRICS[name])(**options)
        calibrator.fit(probabilities(logits), labels)
        return lambda other: calibrator.predict_proba(probabilities(other))

    return fit

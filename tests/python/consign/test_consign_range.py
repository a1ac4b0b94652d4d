"""What can be asked of samples, before any label is seen; and what is said where one segmentation is enough."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import conformask as cm
import consign_twin


def accuracy(truth: np.ndarray, guess: np.ndarray, kind: str) -> Fraction:
    shares = [np.mean(guess[truth == label] == label) for label in np.unique(truth)]
    return float(np.mean(shares)) if kind == "label" else float(np.mean(guess == truth))


def twin(X: np.ndarray, alpha: float, kind: str) -> tuple[float, float]:
    lows, highs = [], []
    for samples in X:
        for t in range(min(8, len(samples))):
            others = np.delete(samples, t, axis=0)
            truth = samples[t].argmax(axis=0)
            low = accuracy(truth, others.mean(axis=0).argmax(axis=0), kind)
            lows.append(low)
            highs.append(max(low, *(accuracy(truth, each.argmax(axis=0), kind) for each in others)))
    place = math.floor(Fraction(repr(alpha)) * len(lows))
    return sorted(lows)[place], sorted(highs)[place]


@given(st.integers(0, 1000), st.integers(2, 11), st.sampled_from(["label", "pixel"]), st.booleans())
def test_the_range_is_that_of_the_twin(seed: int, n_samples: int, kind: str, volumes: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (4, n_samples, 3, 2, 5, 3) if volumes else (4, n_samples, 3, 5, 3)
    X = rng.normal(0, 1, shape) + rng.normal(0, 1, (4, 1, *shape[2:]))
    calibrator = cm.ConsignCalibrator(alpha=0.3, accuracy=kind, volumes=volumes)
    for images in (X, list(X), iter(X)):
        assert calibrator.accuracy_range(images) == pytest.approx(twin(X, 0.3, kind))


def test_the_range_foretells_the_search() -> None:
    """Below it lambda-hat is 0, above it the calibrator abstains, between the two there is something to find."""
    X, y = consign_twin.fields(np.random.default_rng(3), 240, 8, 2, noise=0.02, modes=2)
    others, X, y = X[:120], X[120:], y[120:]
    low, high = cm.ConsignCalibrator(2).accuracy_range(others)
    assert 0 < low < high < 1
    lambdas = []
    for level in (round(low / 2, 3), round((low + high) / 2, 3)):
        calibrator = cm.ConsignCalibrator(2, min_accuracy=level)
        if not lambdas:
            with pytest.warns(UserWarning, match="lambda_hat_ is 0: on enough images a single segmentation"):
                calibrator.fit(X, y)
        else:
            calibrator.fit(X, y)
        lambdas.append(calibrator.lambda_hat_)
    assert lambdas[0] == 0 < lambdas[1]
    with pytest.raises(
        cm.InfeasibleRiskError, match="accuracy_range tells from samples alone, without labels"
    ):
        cm.ConsignCalibrator(2, min_accuracy=1).fit(X, y)


def test_samples_that_are_alike_agree() -> None:
    X = np.repeat(np.random.default_rng(0).normal(0, 1, (3, 1, 4, 5, 5)), 3, axis=1)
    assert cm.ConsignCalibrator().accuracy_range(X) == (1, 1)


def test_one_sample_has_nothing_to_agree_with() -> None:
    X = np.zeros((3, 2, 4, 5, 5))
    with pytest.raises(ValueError, match="X has one sample in image 0"):
        cm.ConsignCalibrator().accuracy_range(X[:, :1])
    with pytest.raises(ValueError, match="X is empty"):
        cm.ConsignCalibrator().accuracy_range([])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axes", [(5, 6), (2, 5, 6)])
def test_the_range_refuses_what_calibration_refuses(value: float, axes: tuple[int, ...]) -> None:
    X = np.random.default_rng(0).normal(0, 1, (3, 4, 3, *axes))
    X[(2, 1, 2, *(length - 2 for length in axes))] = value
    pixel = re.escape(str(tuple(length - 2 for length in axes)))
    shown = "NaN" if np.isnan(value) else value
    for call in (
        lambda: cm.ConsignCalibrator(alpha=0.5).fit(X, np.zeros((3, *axes), int)),
        lambda: cm.ConsignCalibrator().accuracy_range(X),
        lambda: cm.ConsignCalibrator().accuracy_range(iter(X.astype(np.float32))),
    ):
        with pytest.raises(ValueError, match=f"image 2: sample 1, class 2 is {shown} at pixel {pixel}"):
            call()


def test_samples_that_are_too_far_apart_have_no_range() -> None:
    X = np.random.default_rng(0).uniform(-1, 1, (3, 4, 3, 5, 6)) * 1e300
    X[0, 0, 0, 0, 0], X[0, 1, 0, 0, 0] = 1.7e308, -1.7e308
    messages = set()
    for call in (
        lambda: cm.ConsignCalibrator(alpha=0.5).fit(X, np.zeros((3, 5, 6), int)),
        lambda: cm.ConsignCalibrator().accuracy_range(X),
    ):
        with pytest.raises(ValueError, match="image 0") as caught:
            call()
        messages.add(str(caught.value))
    assert len(messages) == 1

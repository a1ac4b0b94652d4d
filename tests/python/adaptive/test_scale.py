"""The scale of log-odds: never falls, ends where it says; masks and corrections on it are those of the definition."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import adaptive_twin as twin
import conformask as cm
from conformask.adaptive._scale import SCALES

LOG_ODDS: Any = SCALES["log_odds"]


def by_definition(p: float) -> float:
    """float32 of the difference of two interpolated binary logarithms, in [0, 1)."""

    def log2(x: float) -> float:
        mantissa, exponent = np.frexp(x)  # x = mantissa * 2^exponent, mantissa in [1/2, 1)
        return float(exponent - 1 + (2 * mantissa - 1))

    q = min(max(p, 2.0**-16), 1 - 2.0**-16)
    return float(
        np.clip(np.float32((log2(q) - log2(1 - q)) / 32 + 0.5), 0, np.nextafter(np.float32(1), np.float32(0)))
    )


def numbers_of(P: NDArray) -> NDArray[np.float64]:
    return np.vectorize(by_definition, otypes=[np.float64])(P.astype(np.float64))


def test_numbers_by_definition() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate(
        [rng.random(500), rng.random(200) ** 9, 1 - rng.random(200) ** 9, [0, 1e-300, 0.5, 0.25, 1 - 2**-24]]
    )
    found = LOG_ODDS.numbers(p)
    assert found.dtype == np.float32
    assert np.abs(found - numbers_of(p)).max() < 1e-7
    assert LOG_ODDS.numbers(np.array([0.5])) == 0.5
    # Within an eleventh of a halving, twice, of the logarithm itself.
    inside = (p > 2.0**-16) & (p < 1 - 2.0**-16)
    odds = np.log2(p[inside] / (1 - p[inside])) / 32 + 0.5
    assert np.abs(found[inside] - odds).max() < 2 * 0.0861 / 32


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_it_never_falls(dtype: str) -> None:
    rng = np.random.default_rng(1)
    p = np.sort(
        np.concatenate([rng.random(100_000), rng.random(50_000) ** 12, 1 - rng.random(50_000) ** 12])
    ).astype(dtype)
    neighbours = np.nextafter(p, np.array(0, dtype))
    found, below = LOG_ODDS.numbers(p), LOG_ODDS.numbers(neighbours.clip(0))
    assert (np.diff(found) >= 0).all()
    assert (below <= found).all()
    assert found.min() >= 0
    assert found.max() < 1


def test_cutoffs_are_the_smallest_probabilities() -> None:
    rng = np.random.default_rng(2)
    cutoffs = np.concatenate(
        [rng.random(200), LOG_ODDS.numbers(rng.random(200)), [0, 1, 1 - 1e-9, 0.5]]
    ).astype(float)
    found = LOG_ODDS.cutoffs(cutoffs)
    assert ((LOG_ODDS.numbers(found) >= cutoffs) | (found == 1)).all()
    below = np.nextafter(found, -1)
    assert ((found == 0) | (LOG_ODDS.numbers(below.clip(0)) < cutoffs)).all()
    assert (found[cutoffs == 0] == 0).all()
    assert (found[cutoffs == 1] == 1).all()


def scenes(n: int, seed: int, dtype: str = "float32") -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    P = rng.beta(rng.choice([0.2, 1.0], (n, 1, 1)), 0.6, (n, 8, 7)).astype(dtype)
    P[:, 0, :3] = [1, 0, 0.5]
    y = (rng.random(P.shape) < 0.5).astype(np.uint8)
    y[:, 0, 0] = 1
    return P, y


def by_mean(P: NDArray, images: Any = None) -> NDArray:
    return P.reshape(len(P), -1).mean(axis=1, dtype=np.float64)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_masks_are_those_of_the_twin(dtype: str) -> None:
    """The twin on numbers of the scale; a probability of 1 is always in, as there."""
    P, y = scenes(30, 3, dtype)
    fitted = cm.ATCalibrator(0.15, predictor=by_mean).fit(P[:24], y[:24])
    Q = np.where(P == 1, 1.0, LOG_ODDS.numbers(P).astype(np.float64))
    offsets = LOG_ODDS.of_thresholds(by_mean(P))
    t = twin.correction(twin.pixels_of(Q[:24], y[:24]), offsets[:24], Fraction(15, 100) * 25 - 1)
    assert t is not None
    assert fitted.correction_ == t
    known = np.stack([twin.is_in(q, offset, t) for q, offset in zip(Q, offsets, strict=True)])
    assert (fitted.predict(P) == known).all()
    assert (fitted.predict_thresholds(P)[:, None, None] <= P).tolist() == known.tolist()
    losses = [twin.loss(row, o, t) for row, o in zip(twin.pixels_of(Q, y), offsets, strict=True)]
    report = fitted.evaluate(P[24:], y[24:])
    assert np.allclose(report.risks, np.array(losses[24:], float), atol=1e-15)


def test_the_model_gives_probabilities() -> None:
    P, y = scenes(60, 4)
    for kind in (cm.ATCalibrator, cm.COATCalibrator, cm.AACRCCalibrator):
        for scale in SCALES:
            fitted = kind(0.2, scale=scale).fit(P[:40], y[:40])
            given = fitted.predictor_.predict(P[40:])
            assert ((given >= 0) & (given <= 1)).all()
            on_scale = fitted.predictor_.on_scale(P[40:], None, 0)
            assert np.abs(SCALES[scale].of_thresholds(given) - on_scale).max() < 1e-6


def test_low_thresholds_do_not_fill_masks() -> None:
    """Objects far apart in probability, found more or less well: one number of probability fills masks."""
    rng = np.random.default_rng(5)
    n = 80
    faint = (np.arange(n) % 2)[:, None, None]
    y = np.zeros((n, 20, 20), np.uint8)
    y[:, 6:14, 6:14] = 1
    centre = np.where(y == 1, np.where(faint, -5.0, 2.0), np.where(faint, -8.0, -2.0))
    logits = centre + rng.normal(0, 1.2, y.shape) + rng.normal(0, 2, (n, 1, 1)) * (y == 1)
    P = (1 / (1 + np.exp(-logits))).astype(np.float32)
    reports = {
        scale: cm.ATCalibrator(0.1, scale=scale).fit(P[:60], y[:60]).evaluate(P[60:], y[60:])
        for scale in SCALES
    }
    full = {scale: float((report.sizes == 1).mean()) for scale, report in reports.items()}
    assert full["probability"] > 0.3
    assert full["log_odds"] == 0
    assert reports["log_odds"].size < reports["probability"].size / 1.3


def test_scales_are_not_mixed() -> None:
    P, y = scenes(40, 6)
    one = cm.ATCalibrator(0.2, predictor=by_mean).fit(P[:20], y[:20])
    other = cm.ATCalibrator(0.2, predictor=by_mean, scale="probability").fit(P[20:], y[20:])
    with pytest.raises(ValueError, match="scale differs: 'log_odds' here, 'probability' there"):
        one.merge(other)
    one.scale = "probability"
    with pytest.raises(
        ValueError, match="scale is 'probability', but the images were calibrated with 'log_odds'"
    ):
        one.predict(P)

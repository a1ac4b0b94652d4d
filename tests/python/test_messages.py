"""What errors say: the caller's names, pixels by row and column, numbers that can be read."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import conformask as cm
from problems import wide

K = 3
X = np.full((2, K, 4, 5), np.float32(1 / K))
Y = np.zeros((2, 4, 5), int)
MASKS = np.ones((2, K, 4, 5), bool)
SCORES = ["lac", "aps", "raps", "sacp"]


# Pixels


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("size", "at", "text"),
    [
        ((4, 5), (2, 3), "(2, 3)"),
        ((3, 4, 5), (1, 2, 3), "(1, 2, 3)"),
        ((1, 4, 5), (0, 2, 3), "(0, 2, 3)"),  # a volume of one slice
        ((90, 700), (80, 650), "(80, 650)"),  # of several parts
    ],
)
def test_pixels_are_named_by_row_and_column(
    score: str, size: tuple[int, ...], at: tuple[int, ...], text: str
) -> None:
    maps, y = np.full((2, K, *size), np.float32(1 / K)), np.zeros((2, *size), int)
    maps[(1, 2, *at)] = np.nan
    for call in (
        lambda: cm.profile(maps, y, score),
        lambda: cm.kernels.threshold(maps, 0.5, score),
        lambda: cm.profile(list(maps), list(y), score, volumes=len(size) == 3),
    ):
        with pytest.raises(ValueError, match=re.escape(f"image 1: class 2 is NaN at pixel {text}")):
            call()
    maps[(1, slice(None), *at)] = 0
    with pytest.raises(ValueError, match=re.escape(f"image 1 sum to 0 at pixel {text}, not to 1")):
        cm.profile(maps, y, score)


def test_pixels_of_samples_and_sets() -> None:
    samples = np.random.default_rng(0).random((20, 4, K, 4, 5))
    samples[7, 1, 2, 3, 4] = np.inf
    with pytest.raises(ValueError, match=r"image 7: sample 1, class 2 is inf at pixel \(3, 4\)"):
        cm.ConsignCalibrator(2).fit(samples, np.zeros((20, 4, 5), int))
    masks = MASKS.copy()
    masks[1, :, 3, 2] = False
    with pytest.raises(ValueError, match=r"empty set in image 1 at pixel \(3, 2\)"):
        cm.kernels.sample_masks(masks, 1)
    with pytest.raises(ValueError, match=r"gives 3 to class 0 at pixel \(0, 0\) of image 0"):
        cm.profile(X, Y, lambda maps: maps + (3 - maps))


# Sums


def maps_of(first: float, rest: float, dtype: str) -> np.ndarray:
    maps = np.empty((1, 2, 4, 5), dtype)
    maps[:, 0], maps[:, 1] = first, rest
    return maps


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("score", SCORES)
def test_sums_may_be_off_by_the_same_to_both_sides(score: str, dtype: str) -> None:
    y = np.zeros((1, 4, 5), int)
    for first, rest in ((0.6, 0.399), (0.6, 0.401), (0.5, 0.499), (0.5, 0.501), (0.25, 0.749), (0.25, 0.751)):
        if dtype != "float16":  # whose numbers are not those
            cm.profile(maps_of(first, rest, dtype), y, score)
    for first, rest in ((0.6, 0.3985), (0.6, 0.4015), (0.5, 0.498), (0.5, 0.502)):
        with pytest.raises(ValueError, match=r"not to 1 within 0\.001"):
            cm.profile(maps_of(first, rest, dtype), y, score)


@pytest.mark.parametrize("total", [0.9989, 1.0011, 0.99899, 1.00101])
def test_a_sum_that_is_refused_is_shown_to_be_off(total: float) -> None:
    with pytest.raises(ValueError, match=rf"sum to {total} at pixel \(0, 0\)"):
        cm.profile(maps_of(0.5, total - 0.5, "float64"), np.zeros((1, 4, 5), int))


# Numbers


def test_numbers_have_six_digits() -> None:
    with pytest.raises(ValueError, match=r"class 0 is -0\.1 at pixel"):
        cm.profile(maps_of(-0.1, 1.1, "float32"), np.zeros((1, 4, 5), int))
    with pytest.raises(ValueError, match=r"sum to 0\.833333 at"):
        cm.profile(maps_of(0.5, 1 / 3, "float32"), np.zeros((1, 4, 5), int))
    with pytest.raises(ValueError, match=r"sum to 1e308 at"):
        cm.profile(maps_of(1e308, 0.5, "float64"), np.zeros((1, 4, 5), int))


LONG = 10**300


@pytest.mark.parametrize(
    "call",
    [
        lambda: cm.ConformalRiskCalibrator(alpha=LONG).fit(X, Y),
        lambda: cm.ConformalRiskCalibrator(alpha=Fraction(LONG + 1, LONG)).fit(X, Y),
        lambda: cm.ConformalRiskCalibrator(alpha=Fraction(1, LONG)).fit(X, Y),
        lambda: cm.ConformalRiskCalibrator(ignore_index=LONG).fit(X, Y),
        lambda: cm.PAC(delta=LONG),
        lambda: cm.BinaryLoss(LONG),
        lambda: cm.RAPS(k_reg=-LONG),
        lambda: cm.SACP(window=-LONG),
        lambda: cm.kernels.threshold(X, -LONG),
        lambda: cm.kernels.threshold(X, -(10**5000)),
        lambda: cm.kernels.sample_masks(MASKS, -LONG),
        lambda: cm.kernels.sample_masks(MASKS, 1, LONG),
        lambda: cm.kernels.truncated_svd(np.ones((3, 2)), LONG),
        lambda: cm.kernels.lambda_hat([-1e308], None, 1.0),
        lambda: cm.ConsignCalibrator(LONG).fit(X[None], Y),
        lambda: cm.MiscoverageLoss(classes=[-LONG]),
        lambda: cm.profile(X, Y).risk_curve("miscoverage", n_points=-LONG),
        lambda: cm.set_num_threads(LONG),
    ],
)
def test_long_numbers_are_shortened(call: Callable[[], Any]) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert re.search(r"\d{50}", str(caught.value)) is None
    assert len(str(caught.value)) < 300


# Names

MASK_FUNCTIONS = {
    "sample_masks": lambda y, masks: cm.kernels.sample_masks(masks, 2),
    "log10_volume": lambda y, masks: cm.metrics.log10_volume(masks),
} | {
    name: lambda y, masks, name=name: getattr(cm.metrics, name)(y, masks)
    for name in (
        "empirical_risk",
        "activation_ratio",
        "marginal_coverage",
        "size_stratified_coverage",
        "class_set_sizes",
    )
}
ODD_MASKS = {
    "no image": MASKS[:0],
    "no class": MASKS[:, :0],
    "no pixel": MASKS[:, :, :0],
    "K = 1": MASKS[:, :1],
    "K = 65536": np.ones((1, 2**16, 1, 1), bool),
    "one image": MASKS[0],
    "rank 2": MASKS[0, 0],
    "rank 6": MASKS[..., None, None],
    "floats": MASKS * 1.0,
    "text": "masks",
    "None": None,
}


@pytest.mark.parametrize("odd", ODD_MASKS)
@pytest.mark.parametrize("name", MASK_FUNCTIONS)
def test_odd_masks_are_called_masks(name: str, odd: str) -> None:
    masks = ODD_MASKS[odd]
    if name == "log10_volume" and odd in ("K = 1", "K = 65536"):
        return  # which it takes
    y = np.zeros(masks.shape[:1] + masks.shape[2:], int) if isinstance(masks, np.ndarray) else Y
    with pytest.raises((TypeError, ValueError), match=r"^masks ") as caught:
        MASK_FUNCTIONS[name](y, masks)
    assert re.search(r"\b[XAy]\b", str(caught.value)) is None


@pytest.mark.parametrize("odd", ["short", "shape", "floats", "rank", "label"])
@pytest.mark.parametrize(
    "name", [name for name in MASK_FUNCTIONS if name not in ("sample_masks", "log10_volume")]
)
def test_odd_labels_of_masks_are_called_y_true(name: str, odd: str) -> None:
    y = {"short": Y[:1], "shape": Y[:, :3], "floats": Y + 0.5, "rank": Y[0], "label": Y + 7}[odd]
    with pytest.raises((TypeError, ValueError), match=r"^y_true ") as caught:
        MASK_FUNCTIONS[name](y, MASKS)
    assert re.search(r"\b[XAy]\b", str(caught.value)) is None


@pytest.mark.parametrize("shape", [(3, K, 1, 1), (3, K, 8, 8)], ids=["few pixels", "more"])
@pytest.mark.parametrize("scale", [1e308, 1e200])
def test_samples_that_are_too_large_are_called_x(shape: tuple[int, ...], scale: float) -> None:
    """Also where the matrix that is decomposed is another one, which the caller never saw."""
    rng = np.random.default_rng(0)
    samples = rng.uniform(-1, 1, (20, *shape)) * scale
    with pytest.raises(ValueError, match=r"^X holds too large numbers in image 0"):
        cm.ConsignCalibrator(2).fit(samples, np.zeros((20, *shape[2:]), int))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda maps: (maps * 255).astype(int), "must be float16, float32 or float64, got int64"),
        (lambda maps: maps.astype(object), "is an object array"),
        (lambda maps: None, "is an object array"),
    ],
)
def test_what_a_score_returns_is_not_called_x(made: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(TypeError, match=f"^what the conformity score .* returns {says}"):
        cm.profile(wide().X, wide().y, made)

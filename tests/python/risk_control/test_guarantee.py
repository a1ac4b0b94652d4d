"""The guarantee itself: by closed forms where there are some, else by simulation. Seeds are fixed."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
from scipy import stats

import conformask as cm
import twin
from problems import LOSSES

# One-pixel images, whose coverage given the calibration set has a known law


def one_pixel_maps(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images of one pixel, the critical values of whose true labels are `scores` in [0, 1]."""
    X = np.stack([1 - scores, scores], axis=1).reshape(-1, 2, 1, 1)
    return X, np.zeros((len(scores), 1, 1), int)


def lambda_hats(n: int, alpha: float, repetitions: int, seed: int) -> np.ndarray:
    """Of critical values that are uniform in (0, 1): then lambda-hat is the coverage of the next image."""
    draws = np.random.default_rng(seed).random((repetitions, n))
    budget = twin.decimal(alpha) * (n + 1) - 1
    return np.array([cm.kernels.lambda_hat(values, None, budget) for values in draws])


def test_the_kernel_stands_for_maps() -> None:
    """What the next tests draw by the thousand, from maps on."""
    n, alpha = 19, 0.1
    draws = np.random.default_rng(5).random((30, n))
    of_maps = [
        cm.profile(*one_pixel_maps(values), cm.LAC(False)).lambda_hat("binary", alpha) for values in draws
    ]
    assert np.allclose(of_maps, lambda_hats(n, alpha, 30, seed=5), rtol=0, atol=1e-15)


@pytest.mark.parametrize(("n", "alpha"), [(19, 0.1), (9, 0.7), (50, 0.2)])
def test_coverage_given_calibration_is_beta(n: int, alpha: float) -> None:
    """Coverage | calibration ~ Beta(k, n + 1 - k). n = 9, alpha = 0.7 is where float arithmetic would take k = 4."""
    k = twin.order_index(n, alpha)
    coverages = lambda_hats(n, alpha, 5_000, seed=n)
    assert stats.kstest(coverages, stats.beta(k, n + 1 - k).cdf).pvalue > 0.01
    assert (
        stats.kstest(coverages, stats.beta(k + 1, n - k).cdf).pvalue < 1e-6
    )  # the neighbours are told apart


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (19, 0.1), (30, 0.1), (99, 0.05), (7, 0.3)])
def test_mean_coverage_is_k_over_n_plus_one(n: int, alpha: float) -> None:
    k, repetitions = twin.order_index(n, alpha), 3_000
    coverages = lambda_hats(n, alpha, repetitions, seed=100 + n)
    error = stats.beta(k, n + 1 - k).std() / sqrt(repetitions)
    assert abs(coverages.mean() - k / (n + 1)) < 4 * error
    assert 1 - alpha <= k / (n + 1) < 1 - alpha + 1 / (n + 1)


def test_too_few_images_have_no_quantile() -> None:
    for n, alpha in [(8, 0.1), (18, 0.05), (98, 0.01)]:
        budget = twin.decimal(alpha)
        assert cm.kernels.lambda_hat(np.full(n, 0.5), None, budget * (n + 1) - 1) is None
        assert cm.kernels.lambda_hat(np.full(n + 1, 0.5), None, budget * (n + 2) - 1) is not None


# Many pixels


@pytest.mark.filterwarnings("ignore::conformask.DuplicateImagesWarning")  # its images are all alike
@pytest.mark.parametrize("a", [0.5, 1, 2, 4])
def test_many_pixels_have_a_closed_form(a: float) -> None:
    """Probabilities of true labels ~ Beta(a, 1): the miscoverage is (1 - lambda)^a, which lambda-hat brings to
    ((n + 1) alpha - 1) / n = 1/11 for n = 99, alpha = 0.1, whatever a is."""
    n, m = 99, 5_000
    p = ((np.arange(m) + 0.5) / m) ** (1 / a)  # the quantiles of the law
    X = np.broadcast_to(np.stack([p, 1 - p]).reshape(2, 1, m), (n, 2, 1, m))
    fitted = cm.ConformalRiskCalibrator(cm.LAC(include_top1=False), alpha=0.1).fit(
        X, np.zeros((n, 1, m), int)
    )
    assert fitted.risk_ == (m // 11) / m
    assert abs((1 - fitted.lambda_hat_) ** a - 1 / 11) < 1 / m
    assert abs(fitted.lambda_hat_ - (1 - (1 / 11) ** (1 / a))) < 2e-3


# The guarantee by simulation: many random splits of a collection, which are exchangeable by construction


def uneven_images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that are hard in different ways: the model is overconfident on some, and void takes part of them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3, 5, 5)) * rng.gamma(2.0, size=(n, 1, 1, 1))
    odds = np.exp(logits)
    truth = odds / odds.sum(axis=1, keepdims=True)
    confident = odds ** rng.choice([0.5, 1.0, 2.0], size=(n, 1, 1, 1))
    y = (truth.cumsum(axis=1) < rng.random((n, 1, 5, 5))).sum(axis=1).clip(max=2)
    y[rng.random(y.shape) < 0.1] = 255
    y[:, 0, :3] = np.arange(3)  # so that no loss is undefined
    return confident / confident.sum(axis=1, keepdims=True), y


POOL = cm.profile(*uneven_images(2_000, seed=1), cm.LAC(include_top1=False))


def risks_of_splits(
    choose: Callable[[cm.ScoreProfiles], float], loss: cm.MiscoverageLoss | cm.BinaryLoss, n: int, seed: int
) -> np.ndarray:
    """The risk on 100 fresh images of what n images calibrated, over random splits."""
    rng, risks = np.random.default_rng(seed), []
    for _ in range(400):
        chosen = rng.permutation(len(POOL))[: n + 100]
        risks.append(POOL[chosen[n:]].risk(loss, choose(POOL[chosen[:n]])))
    return np.array(risks)


@pytest.mark.parametrize(
    "loss_name", ["miscoverage", "weights", "balanced", "one class", "binary", "binary 0.9"]
)
@pytest.mark.parametrize(("n", "alpha"), [(20, 0.2), (9, 0.1)])
def test_expected_risk_of_a_new_image(loss_name: str, n: int, alpha: float) -> None:
    """At most alpha, and at least alpha - 2 / (n + 1): the scores are continuous."""
    loss = LOSSES[loss_name](3)[0]
    risks = risks_of_splits(lambda calibration: calibration.lambda_hat(loss, alpha), loss, n, seed=n)
    margin = 4 * risks.std(ddof=1) / sqrt(len(risks))
    assert alpha - 2 / (n + 1) - margin <= risks.mean() <= alpha + margin


def test_without_the_correction_the_guarantee_is_lost() -> None:
    """The simulation sees the difference: the smallest lambda of empirical risk alpha is not enough."""
    n, alpha, loss = 20, 0.2, cm.BinaryLoss(0.9)
    uncorrected = (twin.decimal(alpha) * n + 1) / (n + 1)  # what n R <= alpha n is as a corrected bound
    risks = risks_of_splits(lambda calibration: calibration.lambda_hat(loss, uncorrected), loss, n, seed=n)
    assert risks.mean() > alpha + 4 * risks.std(ddof=1) / sqrt(len(risks))


def test_pooling_pixels_gives_no_guarantee_for_images() -> None:
    """Where large images are easy and small ones hard, the quantile of all pixels together (what pixel-wise conformal
    prediction takes) leaves the mean image with too much risk; the image-wise lambda-hat does not."""
    rng, alpha = np.random.default_rng(7), 0.1
    images = []
    for _ in range(200):
        m, a = (900, 40.0) if rng.random() < 0.5 else (25, 1.5)
        images.append(rng.beta(a, 2.0, size=m))  # probabilities of the true labels
    X = [np.stack([p, 1 - p])[:, np.newaxis] for p in images]
    y = [np.zeros((1, len(p)), int) for p in images]
    profiles = cm.profile(X, y, cm.LAC(include_top1=False))

    pooled, of_images = [], []
    for _ in range(100):
        split = rng.permutation(200)
        calibration, test = split[:50], profiles[split[50:]]
        pixels = np.sort(np.concatenate([1 - images[i] for i in calibration]))
        quantile = pixels[twin.order_index(len(pixels), alpha) - 1]
        pooled.append(test.risk("miscoverage", quantile))
        of_images.append(test.risk("miscoverage", profiles[calibration].lambda_hat("miscoverage", alpha)))
    margin = 4 * np.std(pooled) / 10
    assert np.mean(of_images) <= alpha + margin
    assert np.mean(pooled) > 2 * alpha

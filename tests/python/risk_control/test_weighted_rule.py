"""Risk control under covariate shift: the rule in fractions and in arrays, and what it keeps, by simulation.

Calibration images come from one mix of kinds, new ones from another; an image counts by the ratio of the densities of
both, w. Lambda-hat of a new image of weight w' is the smallest lambda with
``sum(w L(lambda)) + w' <= alpha (sum(w) + w')`` (Tibshirani et al. 2019; Angelopoulos et al. 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

import twin
from conformask.metrics import effective_sample_size

# The rule


def weighted_bound(
    weights: Sequence[Fraction], losses: Sequence[Fraction], test_weight: Fraction
) -> Fraction:
    """The weighted mean of the losses, and of a loss of 1 for the new image."""
    summed = sum((w * loss for w, loss in zip(weights, losses, strict=True)), Fraction())
    return (summed + test_weight) / (sum(weights, Fraction()) + test_weight)


def lambda_of(
    weights: Sequence[Fraction],
    losses: Mapping[float, Sequence[Fraction]],
    test_weight: Fraction,
    alpha: Fraction,
) -> float | None:
    """The smallest lambda of a new image, of those at which losses of all images are given; None if none will do."""
    for lam in sorted(losses):
        if weighted_bound(weights, losses[lam], test_weight) <= alpha:
            return lam
    return None


def lambdas_of_indicators(
    critical: NDArray[np.float64], weights: NDArray[np.float64], test_weight: float, alpha: float
) -> NDArray[np.float64]:
    """Of many calibrations (R, n) at once, whose images have loss 1 below a critical value; 1 where there is none."""
    order = np.argsort(critical, axis=1)
    values, shares = (np.take_along_axis(array, order, axis=1) for array in (critical, weights))
    missed = shares[:, ::-1].cumsum(axis=1)[:, ::-1] - shares  # of the images with larger values
    allowed = missed + test_weight <= alpha * (shares.sum(axis=1, keepdims=True) + test_weight) + 1e-12
    lambdas = np.take_along_axis(values, allowed.argmax(axis=1)[:, np.newaxis], axis=1)[:, 0]
    return np.where(allowed.any(axis=1), lambdas, 1.0)


def test_the_worked_example() -> None:
    """(0 + .1 + .6 + 1) / 5 = .34, from losses 0, .1, .3, weights 1, 1, 2 and weight 1 of the new image."""
    losses, weights = [Fraction(0), Fraction(1, 10), Fraction(3, 10)], [Fraction(1), Fraction(1), Fraction(2)]
    assert weighted_bound(weights, losses, Fraction(1)) == Fraction(34, 100)
    table = {0.5: losses, 0.2: [Fraction(1)] * 3}
    assert lambda_of(weights, table, Fraction(1), Fraction(34, 100)) == 0.5
    assert lambda_of(weights, table, Fraction(1), Fraction(34, 100) - Fraction(1, 10**30)) is None
    assert lambda_of(weights, table, Fraction(2), Fraction(34, 100)) is None  # more weight, more caution
    assert effective_sample_size([1, 1, 2]) == pytest.approx(2.667, abs=5e-4)


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (19, 0.1), (20, 0.3), (99, 0.05), (8, 0.1)])
def test_equal_weights_are_no_weights(n: int, alpha: float) -> None:
    critical = np.random.default_rng(n).random((1, n))
    k = twin.order_index(n, alpha)
    expected = np.sort(critical[0])[k - 1] if k <= n else 1.0
    for weight in (1.0, 0.3, 50.0):
        assert lambdas_of_indicators(critical, np.full((1, n), weight), weight, alpha)[0] == expected


def test_arrays_agree_with_fractions() -> None:
    rng, n_none = np.random.default_rng(0), 0
    for _ in range(200):
        n = int(rng.integers(2, 12))
        critical, weights = rng.random(n), rng.integers(0, 5, n) / 4
        test_weight, alpha = float(rng.integers(1, 9) / 4), float(rng.choice([0.1, 0.25, 0.5, 0.7]))
        losses = {
            float(lam): [Fraction(int(lam < value)) for value in critical] for lam in np.append(critical, 0)
        }
        exact = [Fraction(weight) for weight in weights]
        found = lambda_of(exact, losses, Fraction(test_weight), twin.decimal(alpha))
        n_none += found is None
        # Zero is smaller than all critical values: arrays need not know it.
        if found != 0:
            [fast] = lambdas_of_indicators(critical[np.newaxis], weights[np.newaxis], test_weight, alpha)
            assert fast == (1.0 if found is None else found)
    assert 0 < n_none < 200


# What it keeps

# Two kinds of images: the loss of an easy one falls below 1 at lambda with probability lambda, of a hard one with
# lambda^16. Calibration has as many of both, new images are hard twice as often as easy: densities have the ratio 2:1.
POWER, P_CALIBRATION, P_TARGET = 16, 1 / 2, 2 / 3
W_EASY, W_HARD = (1 - P_TARGET) / (1 - P_CALIBRATION), P_TARGET / P_CALIBRATION
ALPHA, REPETITIONS = 0.1, 4_000


def calibrations(n: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Critical values (R, n), and which images are hard."""
    rng = np.random.default_rng(n)
    hard = rng.random((REPETITIONS, n)) < P_CALIBRATION
    return rng.random(hard.shape) ** np.where(hard, 1 / POWER, 1.0), hard


def target_risks(of_easy: NDArray[np.float64], of_hard: NDArray[np.float64]) -> NDArray[np.float64]:
    """What new images risk, given the calibration images, at the lambdas of both kinds: a closed form."""
    return (1 - P_TARGET) * (1 - of_easy) + P_TARGET * (1 - of_hard**POWER)


def standard_error(risks: NDArray[np.float64]) -> float:
    return float(risks.std(ddof=1) / sqrt(len(risks)))


@pytest.mark.parametrize("n", [60, 200])
def test_known_weights_keep_alpha_where_no_weights_do_not(n: int) -> None:
    critical, hard = calibrations(n)
    weights = np.where(hard, W_HARD, W_EASY)
    known = target_risks(*(lambdas_of_indicators(critical, weights, w, ALPHA) for w in (W_EASY, W_HARD)))
    # More than so little below alpha it cannot lie: one image weighs at most 4/3 of n or so.
    assert (
        ALPHA - 3 * W_HARD / n - 3 * standard_error(known)
        <= known.mean()
        <= ALPHA + 3 * standard_error(known)
    )

    alike = lambdas_of_indicators(critical, np.ones_like(weights), 1.0, ALPHA)
    ignored = target_risks(alike, alike)
    assert ignored.mean() > ALPHA + 0.015 + 3 * standard_error(ignored)


@pytest.mark.parametrize("n", [60, 200])
def test_one_lambda_for_all_at_the_largest_weight_keeps_alpha_too(n: int) -> None:
    """Ratios divided by the largest, and weight 1 of any new image: more than it needs, never less."""
    critical, hard = calibrations(n)
    one = lambdas_of_indicators(critical, np.where(hard, 1.0, W_EASY / W_HARD), 1.0, ALPHA)
    assert (one == lambdas_of_indicators(critical, np.where(hard, W_HARD, W_EASY), W_HARD, ALPHA)).all()
    risks = target_risks(one, one)
    assert risks.mean() <= ALPHA + 3 * standard_error(risks)


def test_ratios_that_are_clipped_keep_nothing() -> None:
    critical, hard = calibrations(200)
    clipped = lambdas_of_indicators(critical, np.where(hard, min(W_HARD, 1), W_EASY), 1.0, ALPHA)
    risks = target_risks(clipped, clipped)
    assert risks.mean() > ALPHA + 3 * standard_error(risks)


def test_too_much_weight_has_no_lambda() -> None:
    """An unbounded ratio of a new image: all classes are in its sets."""
    critical, hard = calibrations(60)
    weights = np.where(hard, W_HARD, W_EASY)
    limit = ALPHA / (1 - ALPHA) * weights.sum(axis=1).max()
    assert (lambdas_of_indicators(critical, weights, limit + 0.01, ALPHA) == 1).all()
    assert (lambdas_of_indicators(critical, weights, 1.0, ALPHA) < 1).all()

"""lambda_hat_ is the infimum itself: equal to exact rational arithmetic, whatever ties, types and decimals."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conformask as cm
import twin
from problems import ALPHAS, LOSSES, Problem, problems

losses = pytest.mark.parametrize("loss_name", LOSSES)


def fit(problem: Problem, **parameters: object) -> cm.ConformalRiskCalibrator | None:
    """A fitted calibrator; None if no lambda is good enough."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cm.DroppedImagesWarning)
        try:
            return cm.ConformalRiskCalibrator(**parameters).fit(problem.X, problem.y)
        except cm.InfeasibleRiskError:
            return None


@losses
@settings(max_examples=60)
@given(problem=problems(), alpha=ALPHAS, include_top1=st.booleans())
def test_equals_the_twin(loss_name: str, problem: Problem, alpha: float, include_top1: bool) -> None:
    ours, theirs = LOSSES[loss_name](problem.n_classes)
    images = problem.images(include_top1)
    expected = twin.lambda_hat(images, theirs, alpha)

    fitted = fit(problem, conformity_score=cm.LAC(include_top1), loss=ours, alpha=alpha)

    if fitted is None:
        assert expected is None
        return
    lam = fitted.lambda_hat_
    assert lam == expected
    assert fitted.corrected_risk_ <= alpha
    # The loss of one image is rounded once or twice, and so is the mean.
    assert fitted.risk_ == pytest.approx(float(twin.risk(images, theirs, lam)), rel=1e-14, abs=0)
    assert fitted.corrected_risk_ == pytest.approx(float(twin.bound(images, theirs, lam)), rel=1e-14, abs=0)
    assert fitted.n_images_ == sum(twin.loss_at(image, theirs, 0.0) is not None for image in images)
    assert fitted.n_skipped_ == len(images) - fitted.n_images_


@losses
@settings(max_examples=40)
@given(problem=problems(min_images=4), alpha=ALPHAS, include_top1=st.booleans())
def test_the_maps_confirm_it(loss_name: str, problem: Problem, alpha: float, include_top1: bool) -> None:
    """Thresholding at lambda-hat gives the very risk that was promised; the next smaller candidate breaks the bound."""
    ours, theirs = LOSSES[loss_name](problem.n_classes)
    score = cm.LAC(include_top1)
    if (fitted := fit(problem, conformity_score=score, loss=ours, alpha=alpha)) is None:
        return
    lam = fitted.lambda_hat_

    masks = cm.kernels.threshold(problem.X, lam, score)
    assert np.array_equal(masks, twin.masks(problem.X, lam, include_top1))
    assert cm.metrics.empirical_risk(problem.y, masks, ours) == fitted.risk_

    images = problem.images(include_top1)
    smaller = [value for value in twin.candidates(images) if value < lam]
    assert lam == 0 or twin.bound(images, theirs, smaller[-1]) > twin.decimal(alpha)


def one_pixel_images(n: int) -> cm.ScoreProfiles:
    """Images of one pixel, whose critical values are 1 - 1/1000, 1 - 2/1000, ... in descending order."""
    p = np.arange(1, n + 1) / 1000
    X = np.stack([1 - p, p], axis=1).reshape(n, 2, 1, 1)
    return cm.profile(X, np.ones((n, 1, 1), int))


def test_the_index_is_exact_for_every_n_and_percent() -> None:
    """ceil((n + 1)(1 - alpha)) without float accidents, by which n = 9, alpha = 0.7 would take the 4th value."""
    values, naive_errors = 1.0 + np.arange(200), 0
    for n in range(1, 200):
        for percent in range(1, 100):
            alpha = percent / 100
            k = twin.order_index(n, alpha)
            naive_errors += k != np.ceil((n + 1) * (1 - alpha))
            found = cm.kernels.lambda_hat(values[:n], None, twin.decimal(alpha) * (n + 1) - 1)
            assert found == (k if k <= n else None), (n, alpha)
    assert naive_errors > 100  # the grid holds the accidents that it is there for


@pytest.mark.parametrize("n", [9, 19, 24, 99])
def test_the_index_is_exact_from_maps_on(n: int) -> None:
    profiles, ascending = one_pixel_images(n), sorted(1.0 - np.arange(1, n + 1) / 1000)
    for percent in [1, 3, 4, 5, 7, 10, 28, 29, 30, 55, 57, 58, 70, 90, 99]:
        k = twin.order_index(n, percent / 100)
        if k > n:
            with pytest.raises(cm.InfeasibleRiskError):
                profiles.lambda_hat("binary", percent / 100)
        else:
            assert profiles.lambda_hat("binary", percent / 100) == ascending[k - 1], percent


def test_order_statistic_by_hand() -> None:
    values = [0.1, 0.2, 0.2, 0.3, 0.5, 0.7, 0.9, 1, 2]  # n = 9
    assert cm.kernels.lambda_hat(values, None, Fraction(2, 10) * 10 - 1) == 1.0  # k = 8
    assert cm.kernels.lambda_hat(values, None, Fraction(1, 10) * 10 - 1) == 2.0  # k = 9
    assert cm.kernels.lambda_hat(values, None, Fraction(5, 100) * 10 - 1) is None  # k = 10


@pytest.mark.parametrize(("above", "expected"), [(-1, 2.0), (0, 1.0), (1, 1.0)])
def test_a_budget_nearer_than_fixed_point_can_tell(above: int, expected: float) -> None:
    """Above 1 there is a weight of 2^40 + 0.1, of which 62 bits lose some."""
    budget = 2**40 + Fraction(0.1) + Fraction(above, 10**30)
    assert cm.kernels.lambda_hat([3.0, 2.0, 1.0], [2.0**40, 0.1, 0.1], budget) == expected


@settings(max_examples=200)
@given(
    atoms=st.lists(
        st.tuples(st.sampled_from([0.0, 5e-324, 0.1, 0.5, 1.0, 1e300]), st.sampled_from([0.0, 0.1, 0.3, 1.0]))
    ),
    budget=st.one_of(st.floats(-0.5, 3), st.integers(-2, 30).map(lambda tenths: Fraction(tenths, 10))),
)
def test_weighted_quantile(atoms: list[tuple[float, float]], budget: float | Fraction) -> None:
    values, weights = [value for value, _ in atoms], [weight for _, weight in atoms]

    def above(t: float) -> Fraction:
        return sum((Fraction(weight) for value, weight in atoms if value > t), Fraction())

    within = [t for t in sorted({0.0, *values}) if above(t) <= twin.decimal(budget)]
    assert cm.kernels.lambda_hat(values, weights, budget) == (within[0] if within else None)


@settings(max_examples=200)
@given(
    atoms=st.lists(
        st.tuples(
            st.one_of(st.sampled_from([-1.0, -0.5, -5e-324, -0.0, 0.0, 0.25, 1.0]), st.floats(-1, 1)),
            st.sampled_from([0.0, 0.1, 0.3, 1.0]),
        )
    ),
    budget=st.one_of(st.floats(-0.5, 3), st.integers(-2, 30).map(lambda tenths: Fraction(tenths, 10))),
    least=st.sampled_from([-1.0, -2.0, -1e300]),
)
def test_weighted_quantile_of_any_sign(
    atoms: list[tuple[float, float]], budget: float | Fraction, least: float
) -> None:
    """The infimum over t >= least; without a least, it is 0 and smaller values are refused."""
    values, weights = [value for value, _ in atoms], [weight for _, weight in atoms]

    def above(t: float) -> Fraction:
        return sum((Fraction(weight) for value, weight in atoms if value > t), Fraction())

    within = [t for t in sorted({least, *values}) if above(t) <= twin.decimal(budget)]
    found = cm.kernels.lambda_hat(values, weights, budget, least=least)
    assert found == (within[0] if within else None)
    if min(values, default=0) >= 0:
        from_zero = cm.kernels.lambda_hat(values, weights, budget)
        assert from_zero == (None if found is None else max(found, 0.0))


@pytest.mark.parametrize(
    ("alpha", "missed"),
    [
        # n losses of missed/10 add up to alpha (n + 1) - 1 exactly: equality is good enough.
        (0.9, [10, 7]),
        (0.7, [6, 5]),
        (0.3, [1, 1, 0]),
        (0.2, [5, 5, 4, 0, 0, 0, 0, 0, 0, 0, 0]),
        (0.55, [7, 7, 7, 2, 0]),
        (0.1, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_a_bound_met_exactly_is_met(alpha: float, missed: list[int]) -> None:
    n = len(missed)
    assert Fraction(sum(missed), 10) == twin.decimal(alpha) * (n + 1) - 1
    X = np.broadcast_to(np.array([0.75, 0.25]).reshape(2, 1, 1), (n, 2, 1, 10))
    y = np.array([[[1] * m + [0] * (10 - m)] for m in missed])  # class 1 is missed until 0.75
    assert cm.profile(X, y).lambda_hat("miscoverage", alpha) == 0.0
    y[-1, 0, missed[-1]] = 1  # one pixel too many
    assert cm.profile(X, y).lambda_hat("miscoverage", alpha) == 0.75


def test_min_coverage_counts_in_integers() -> None:
    """0.7 of 10 pixels are 7, though 0.7 * 10 in float64 and 1 - 3/10 need not agree with it."""
    for tau, n_pixels in [(0.7, 10), (0.9, 10), (0.1, 10), (0.3, 10), (0.55, 100), (0.07, 100), (0.29, 100)]:
        y = np.zeros((1, 1, n_pixels), int)
        needed = round(tau * n_pixels)
        for covered in (needed - 1, needed):
            masks = np.zeros((1, 2, 1, n_pixels), bool)
            masks[0, 0, 0, :covered] = True
            loss = cm.metrics.empirical_risk(y, masks, cm.BinaryLoss(tau))
            assert loss == float(covered < needed), (tau, covered)


def test_a_small_float_type_is_read_as_its_decimal() -> None:
    """np.float32(0.7) prints as 0.7 and means 7/10, although it is below it."""
    assert one_pixel_images(9).lambda_hat("binary", np.float32(0.7)) == one_pixel_images(9).lambda_hat(
        "binary", 0.7
    )
    assert float(np.float32(0.7)) < 0.7


@pytest.mark.parametrize(("dtype", "step"), [("float16", 2**-13), ("float32", 2**-26), ("float64", 2**-53)])
def test_neighbouring_scores_are_told_apart(dtype: str, step: float) -> None:
    """No tolerance: critical values differ by the least that the type allows (float64: that 1 - p allows)."""
    X = np.full((9, 2, 1, 1), 0.25, dtype)
    X[0, 1] -= step
    X[:, 0] = 1 - X[:, 1]
    profiles = cm.profile(X, np.ones((9, 1, 1), int))
    strict, loose = profiles.lambda_hat("binary", 0.1), profiles.lambda_hat("binary", 0.2)
    assert strict == 0.75 + step > loose == 0.75
    assert cm.kernels.threshold(X, loose)[:, 1, 0, 0].tolist() == [False] + [True] * 8
    assert cm.kernels.threshold(X, strict)[:, 1].all()

"""Losses of one's own, and what the built-in ones mean by hand."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, recall_score

import conformask as cm
import twin
from problems import ALPHAS, Problem, problems, wide

Calibrator = cm.ConformalRiskCalibrator


def squared(coverage: NDArray) -> NDArray:
    return (1 - coverage) ** 2


def steps(coverage: NDArray) -> NDArray:
    return np.select([coverage < 0.1, coverage < 0.75], [1.0, 0.3], 0.0)


def root(coverage: NDArray) -> NDArray:
    return np.sqrt(1 - coverage)


OWN = [squared, steps, root]


@pytest.mark.parametrize("function", OWN)
@given(problem=problems(min_images=2), alpha=ALPHAS, data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_loss_of_ones_own_is_controlled_exactly(
    function: Callable, problem: Problem, alpha: float, data: st.DataObject
) -> None:
    images = problem.images()
    profiles, loss = cm.profile(problem.X, problem.y), twin.of_coverage(function)
    expected = twin.lambda_hat(images, loss, alpha)
    if expected is None:
        with pytest.raises(cm.InfeasibleRiskError):
            profiles.lambda_hat(function, alpha)
        return
    assert profiles.lambda_hat(function, alpha) == expected
    lam = data.draw(st.sampled_from([0.0, expected, 1.0, *twin.candidates(images)]))
    found = profiles.losses(function, lam)
    truth = [twin.loss_at(image, loss, lam) for image in images]
    assert [None if np.isnan(x) else Fraction(x) for x in found] == truth


def test_a_loss_of_ones_own_in_all_that_takes_losses() -> None:
    problem = wide()
    fitted = Calibrator(loss=squared, alpha=0.05).fit(problem.X, problem.y)
    assert fitted.evaluate(problem.X, problem.y).empirical_risk == fitted.risk_
    assert cm.metrics.empirical_risk(problem.y, fitted.predict(problem.X), squared) == fitted.risk_
    assert np.mean(cm.kernels.losses(problem.X, problem.y, fitted.lambda_hat_, squared)) == pytest.approx(
        fitted.risk_
    )
    lambdas, risks = fitted.risk_curve()
    assert risks[lambdas == fitted.lambda_hat_] == fitted.risk_
    assert (np.diff(risks) <= 0).all()
    assert (
        Calibrator(alpha=0.05).fit(problem.X, problem.y).recalibrate(loss=squared).lambda_hat_
        == fitted.lambda_hat_
    )
    with pytest.raises(TypeError, match="only built-in losses can be saved"):
        fitted.save("nowhere.json")


def test_miscoverage_as_ones_own() -> None:
    problem = wide(dtype="float64")
    profiles = cm.profile(problem.X, problem.y, groups=np.arange(40) // 2)
    for alpha in (0.05, 0.1, 0.3):
        assert profiles.lambda_hat(lambda coverage: 1 - coverage, alpha) == pytest.approx(
            profiles.lambda_hat("miscoverage", alpha), abs=1e-3
        )


@pytest.mark.parametrize(
    ("function", "error", "says"),
    [
        (lambda coverage: coverage, ValueError, r"must not rise with the coverage, but it is 0\.0 at 0\.0"),
        (
            lambda coverage: 1.0 * (coverage > 0.5),
            ValueError,
            r"must not rise.*0\.0 at 0\.5 and 1\.0 at 0\.501",
        ),
        (
            lambda coverage: 2 - 2 * coverage,
            ValueError,
            r"must lie in \[0, 1\], got 2\.0 at the coverage 0\.0",
        ),
        (lambda coverage: -coverage, ValueError, r"must lie in \[0, 1\]"),
        (lambda coverage: coverage * np.nan, ValueError, r"must lie in \[0, 1\], got nan"),
        (lambda coverage: 1 - coverage / 2, ValueError, r"must be 0 where all is covered, got 0\.5"),
        (lambda coverage: 0.5, TypeError, "must return an array of floats like the coverages"),
        (lambda coverage: coverage.astype(str), TypeError, "must return an array of floats"),
    ],
)
def test_what_is_no_loss_is_refused(function: Callable, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Calibrator(loss=function).fit(wide().X, wide().y)


def test_a_rise_between_the_tried_coverages_is_noticed() -> None:
    """Coverages of the images themselves are checked too: here thirds, which the first trial does not meet."""

    def bumpy(coverage: NDArray) -> NDArray:
        return np.where(np.isclose(coverage, 2 / 3, atol=1e-6), 1.0, 1 - coverage)

    X = np.full((30, 2, 1, 3), 0.5)
    X[:, 0, 0, 0] = 0.6
    X[:, 1, 0, 0] = 0.4
    y = np.array([[[1, 0, 0]]] * 15 + [[[1, 1, 0]]] * 15)
    with pytest.raises(ValueError, match="must not rise"):
        cm.profile(X, y).losses(bumpy, 0.0)


def test_label_accuracy_is_that_of_scikit_learn() -> None:
    problem = wide(n=20)
    prediction = problem.X.argmax(axis=1)
    masks = twin.top1(problem.X)
    for y, mask, labels in zip(problem.y, masks, prediction, strict=True):
        valid = y != 255
        accuracy = balanced_accuracy_score(y[valid], labels[valid])
        for beta in (accuracy - 1e-6, accuracy + 1e-6):
            loss = cm.metrics.empirical_risk(y[None], mask[None], cm.LabelAccuracyLoss(beta))
            assert loss == (accuracy < beta)


def test_false_negatives_are_those_of_scikit_learn() -> None:
    problem = wide(n=20)
    masks = twin.top1(problem.X)
    found = cm.metrics.empirical_risk(problem.y, masks, cm.FalseNegativeLoss([1, 3]), average=False)
    for y, labels, loss in zip(problem.y, problem.X.argmax(axis=1), found, strict=True):
        valid = y != 255
        recall = recall_score(y[valid], labels[valid], labels=[1, 3], average="macro")
        assert loss == pytest.approx(1 - recall, abs=1e-12)


def test_label_accuracy_by_hand() -> None:
    """8 pixels of label 0 with scores 0 (six times), .5 and .9; 2 of label 1 with 0 and .7."""
    scores = np.array([0] * 6 + [0.5, 0.9, 0, 0.7])
    y = np.array([[[0] * 8 + [1] * 2]] * 9)
    p = np.where(y[0, 0] == 0, 1 - scores, scores)
    X = np.broadcast_to(np.stack([p, 1 - p]).reshape(1, 2, 1, 10), (9, 2, 1, 10))
    profiles = cm.profile(X, y, cm.LAC(include_top1=False))
    lambdas = [
        profiles.lambda_hat(cm.LabelAccuracyLoss(beta), alpha=0.1)
        for beta in (0.6, 0.625, 0.65, 0.7, 0.95, 1.0)
    ]
    assert lambdas == pytest.approx([0, 0, 0.5, 0.7, 0.9, 0.9], abs=1e-15)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (
            lambda: cm.FalseNegativeLoss([]),
            ValueError,
            "classes must be distinct class indices, at least one",
        ),
        (lambda: cm.FalseNegativeLoss([0.5]), TypeError, "classes must hold class indices"),
        (lambda: cm.FalseNegativeLoss(3), TypeError, "classes must be a sequence"),
        (lambda: cm.LabelAccuracyLoss(0), ValueError, r"min_accuracy must be in \(0, 1\], got 0"),
        (lambda: cm.LabelAccuracyLoss(1.5), ValueError, r"min_accuracy must be in \(0, 1\], got 1\.5"),
    ],
)
def test_bad_parameters(make: Callable, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize("loss", [cm.FalseNegativeLoss([1]), cm.LabelAccuracyLoss(0.8), squared])
def test_expected_risk_of_a_new_image(loss: object) -> None:
    """By simulation over random splits; on images without the class there is no loss."""
    rng, n, alpha = np.random.default_rng(12), 19, 0.2
    X = rng.dirichlet(np.ones(3), (600, 6, 6)).transpose(0, 3, 1, 2)
    y = (X.cumsum(axis=1) < rng.random((600, 1, 6, 6))).sum(axis=1).clip(max=2)
    pool, risks = cm.profile(X, y, cm.LAC(include_top1=False)), []
    for _ in range(300):
        chosen = rng.permutation(600)[: n + 60]
        lam = pool[chosen[:n]].lambda_hat(loss, alpha)
        risks.append(pool[chosen[n:]].risk(loss, lam))
    margin = 4 * np.std(risks, ddof=1) / np.sqrt(len(risks))
    assert alpha - 2 / (n + 1) - margin <= np.mean(risks) <= alpha + margin

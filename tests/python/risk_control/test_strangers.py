"""Strangers judge: MAPIE, scikit-learn and NumPy where their definitions meet ours."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

import conformask as cm
from problems import Problem, wide

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own affair
    from mapie.classification import SplitConformalClassifier
    from mapie.risk_control import SemanticSegmentationController

PROBLEM = wide(n=30, n_classes=3, size=(6, 7), dtype="float64")
PLAIN = cm.LAC(include_top1=False)  # MAPIE's sets may be empty


# MAPIE: the recall of one-hot masks is our coverage, and its threshold is 1 - lambda on a grid

STEP = 1 / 128


def controller(problem: Problem, alpha: float) -> SemanticSegmentationController:
    """Calibrated by MAPIE. A void pixel is in no mask."""
    one_hot = np.stack([problem.y == k for k in range(problem.n_classes)], axis=1).astype(int)
    mapie = SemanticSegmentationController(
        predict_function=lambda X: X,
        risk="recall",
        method="crc",
        target_level=1 - alpha,
        predict_params=np.arange(0, 1, STEP),
    )
    return mapie.calibrate(problem.X, one_hot)


@pytest.mark.parametrize("alpha", [0.04, 0.1, 0.2, 0.37])
def test_lambda_hat_lies_within_a_step_of_mapie(alpha: float) -> None:
    mapie = controller(PROBLEM, alpha)
    ours = cm.profile(PROBLEM.X, PROBLEM.y, PLAIN).lambda_hat("miscoverage", alpha)
    theirs = 1 - mapie.best_predict_param[0]
    assert 0 < ours <= theirs <= ours + STEP


def test_the_risk_curve_is_that_of_mapie() -> None:
    mapie, profiles = controller(PROBLEM, 0.1), cm.profile(PROBLEM.X, PROBLEM.y, PLAIN)
    lambdas = 1 - mapie.predict_params
    ours = profiles.losses("miscoverage", lambdas)
    assert ours == pytest.approx(mapie._risks, abs=1e-12)
    assert [profiles.risk("miscoverage", lam) for lam in lambdas] == pytest.approx(mapie.r_hat, abs=1e-12)
    assert len(np.unique(mapie.r_hat)) > 50


def test_masks_are_those_of_mapie() -> None:
    mapie = controller(PROBLEM, 0.1)
    ours = cm.kernels.threshold(PROBLEM.X, 1 - mapie.best_predict_param[0], PLAIN)
    assert np.array_equal(mapie.predict(PROBLEM.X), ours)


class Softmax(ClassifierMixin, BaseEstimator):
    """A classifier whose input is its output."""

    def __init__(self, n_classes: int = 3) -> None:
        self.n_classes = n_classes
        self.classes_ = np.arange(n_classes)

    def fit(self, X: np.ndarray, y: np.ndarray) -> Softmax:
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return X

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X.argmax(axis=1)

    def __sklearn_is_fitted__(self) -> bool:
        return True


@pytest.mark.parametrize("alpha", [0.1, 0.25, 0.6])
def test_one_pixel_images_are_conformal_classification(alpha: float) -> None:
    """Our binary loss on images of one pixel is split conformal prediction with the LAC score, in MAPIE's words."""
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(3), size=200)
    y = (p.cumsum(axis=1) < rng.random((200, 1))).sum(axis=1)
    mapie = SplitConformalClassifier(
        Softmax(), confidence_level=1 - alpha, conformity_score="lac", prefit=True
    )
    mapie.conformalize(p[:61], y[:61])
    _, theirs = mapie.predict_set(p[61:])

    calibrator = cm.ConformalRiskCalibrator(PLAIN, loss="binary", alpha=alpha)
    calibrator.fit(p[:61].reshape(61, 3, 1, 1), y[:61].reshape(61, 1, 1))
    ours = calibrator.predict(p[61:].reshape(-1, 3, 1, 1))
    assert np.array_equal(ours[:, :, 0, 0], theirs[:, :, 0])


# NumPy: the order statistic


def test_the_quantile_is_that_of_numpy() -> None:
    """For one pixel per image, of levels that float arithmetic does not trip over."""
    rng = np.random.default_rng(0)
    for n, alpha in [(31, 0.25), (63, 0.125), (15, 0.5), (127, 0.0625)]:
        values = rng.random(n)
        level = (n + 1) * (1 - alpha) / n
        expected = np.quantile(values, level, method="inverted_cdf")
        assert cm.kernels.lambda_hat(values, None, alpha * (n + 1) - 1) == expected


# scikit-learn: at lambda = 0 the mask is the argmax, and what it misses are the errors of a classifier


def of_images(problem: Problem) -> list[tuple[np.ndarray, np.ndarray]]:
    """Labels and predictions of the labelled pixels, image by image."""
    predictions = problem.X.argmax(axis=1)
    return [(y[y != 255], top[y != 255]) for y, top in zip(problem.y, predictions, strict=True)]


def losses_at_zero(loss: cm.MiscoverageLoss | cm.BinaryLoss) -> np.ndarray:
    return cm.kernels.losses(PROBLEM.X, PROBLEM.y, 0.0, loss)


def test_coverage_is_accuracy() -> None:
    accuracies = [accuracy_score(y, top) for y, top in of_images(PROBLEM)]
    assert 1 - losses_at_zero(cm.MiscoverageLoss()) == pytest.approx(accuracies, abs=1e-12)
    masks = cm.kernels.threshold(PROBLEM.X, 0.0)
    assert cm.metrics.marginal_coverage(PROBLEM.y, masks) == pytest.approx(np.mean(accuracies), abs=1e-12)
    reached = [float(accuracy >= 0.7) for accuracy in accuracies]
    assert (1 - losses_at_zero(cm.BinaryLoss(0.7))).tolist() == reached
    assert 0 < sum(reached) < len(reached)


def test_balanced_coverage_is_balanced_accuracy() -> None:
    expected = [balanced_accuracy_score(y, top) for y, top in of_images(PROBLEM)]
    assert 1 - losses_at_zero(cm.MiscoverageLoss("balanced")) == pytest.approx(expected, abs=1e-12)


def test_weighted_coverage_is_weighted_recall() -> None:
    weights = [1.0, 5.0, 0.5]
    recalls = np.array(
        [recall_score(y, top, labels=[0, 1, 2], average=None) for y, top in of_images(PROBLEM)]
    )
    expected = np.average(recalls, axis=1, weights=weights)
    assert 1 - losses_at_zero(cm.MiscoverageLoss(weights)) == pytest.approx(expected, abs=1e-12)


def test_coverage_of_classes_is_their_recall() -> None:
    for classes in ([2], [0, 1]):
        expected = [recall_score(y, top, labels=classes, average="micro") for y, top in of_images(PROBLEM)]
        assert 1 - losses_at_zero(cm.MiscoverageLoss(classes=classes)) == pytest.approx(expected, abs=1e-12)


def test_pooled_counts_are_a_confusion_matrix() -> None:
    y, top = (np.concatenate(parts) for parts in zip(*of_images(PROBLEM), strict=True))
    missed = confusion_matrix(y, top).sum() - confusion_matrix(y, top).trace()
    assert np.count_nonzero(cm.kernels.true_label_scores(PROBLEM.X, PROBLEM.y) > 0) == missed

"""The paper's search, with PyTorch: valid, never better than the certified one, and where it is known what it finds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import conformask as cm
import consign_twin as twin
from conformask.consign import ReferenceSearch

QUICK = ReferenceSearch(
    first=0.05, step=0.05, n_points=100, n_starts=4, learning_rate=0.05, n_epochs=20, patience=10
)


def problem(n: int, seed: int = 3, **parameters) -> tuple[np.ndarray, np.ndarray]:
    return twin.fields(
        np.random.default_rng(seed),
        n,
        **{"n_classes": 3, "size": 6, "noise": 0.05, "modes": 2, "n_samples": 7, **parameters},
    )


def two_pixels() -> np.ndarray:
    p = np.array([[[0.61, 0.8]], [[0.51, 0.8]], [[0.41, 0.8]]])
    return np.stack([p, 1 - p], axis=1)


def test_two_pixels_by_hand() -> None:
    """lambda* is 1: the first point of the grid beyond it is found."""
    search = ReferenceSearch(first=0.95, step=0.1, n_points=100, n_epochs=20)
    found = cm.ConsignCalibrator(1, alpha=0.5, quantile_level=0.25, search=search, random_state=0)
    found.fit([two_pixels()], [np.array([[1, 0]])])
    assert found.lambda_hat_ == pytest.approx(1.05)
    assert found.image_status_.tolist() == ["upper_bound"]
    assert found.image_lower_bounds_.tolist() == [0.0]


@pytest.mark.parametrize("accuracy", ["label", "pixel"])
def test_no_lambda_is_smaller_than_the_certified_one(accuracy: str) -> None:
    X, y = problem(16)
    kwargs = {"alpha": 0.4, "min_accuracy": 0.8, "accuracy": accuracy, "lambda_max": 2.0}
    certified = cm.ConsignCalibrator(2, **kwargs).fit(X, y)
    reference = cm.ConsignCalibrator(2, **kwargs, search=QUICK, random_state=1).fit(X, y)
    done = ~np.isnan(reference.image_lambdas_)
    assert done.sum() >= math.ceil(17 * Fraction(6, 10))
    known = certified.image_status_ != "not_needed"
    assert (reference.image_lambdas_ >= certified.image_lower_bounds_ * (1 - 1e-9))[done & known].all()
    assert reference.lambda_hat_ >= certified.lambda_hat_ * (1 - 1e-3)
    # The grid is not far behind where the problem is as small as this.
    assert reference.lambda_hat_ <= certified.lambda_hat_ + 10 * QUICK.step
    assert set(reference.image_status_) <= {"upper_bound", "not_needed"}


def test_its_sets_hold_what_it_found() -> None:
    X, y = problem(8)
    calibrator = cm.ConsignCalibrator(
        2, alpha=0.4, min_accuracy=0.8, search=QUICK, random_state=1, lambda_max=2.0
    ).fit(X, y)
    for found, truth, lam in zip(calibrator.predict(X), y, calibrator.image_lambdas_, strict=True):
        if lam <= calibrator.lambda_hat_:
            assert found.contains(truth)


def test_the_same_seed_gives_the_same(tmp_path) -> None:
    X, y = problem(8)
    fits = [
        cm.ConsignCalibrator(2, alpha=0.6, min_accuracy=0.7, search=QUICK, random_state=seed).fit(X, y)
        for seed in (5, 5)
    ]
    assert np.array_equal(fits[0].image_lambdas_, fits[1].image_lambdas_, equal_nan=True)
    fits[0].save(tmp_path / "x.json")
    loaded = cm.ConsignCalibrator.load(tmp_path / "x.json")
    assert loaded._configuration() == fits[0]._configuration()
    assert loaded.lambda_hat_ == fits[0].lambda_hat_


def test_infeasible_ends_at_lambda_max() -> None:
    X, y = problem(6, n_classes=2)
    calibrator = cm.ConsignCalibrator(1, alpha=0.5, search=QUICK, lambda_max=0.1, random_state=0)
    with pytest.raises(cm.InfeasibleRiskError, match=r"any lambda up to 0\.1|were not shown to be"):
        calibrator.fit(X, 1 - y)
    assert np.isinf(calibrator.image_lambdas_).sum() >= 3


def test_void_and_empty_images() -> None:
    X, y = problem(8)
    y[:, :2] = 255
    y[3] = 255
    calibrator = cm.ConsignCalibrator(2, alpha=0.5, min_accuracy=0.7, search=QUICK, random_state=0)
    with pytest.warns(cm.DroppedImagesWarning, match="1 of 8 images"):
        calibrator.fit(X, y)
    assert calibrator.n_images_ == 7
    zero = cm.ConsignCalibrator(
        2, alpha=0.5, min_accuracy=0.7, search=QUICK, random_state=0, on_empty="zero_loss"
    ).fit(X, y)
    assert zero.image_lambdas_[3] == 0
    with pytest.raises(ValueError, match="image 3 has no labelled pixel"):
        zero.set_params(on_empty="raise").fit(X, y)


def test_equal_samples() -> None:
    X = np.repeat(two_pixels()[:1], 4, axis=0)
    calibrator = cm.ConsignCalibrator(alpha=0.5, search=QUICK, random_state=0, lambda_max=1.0)
    assert calibrator.fit([X], [np.array([[0, 0]])]).lambda_hat_ == QUICK.first
    with pytest.raises(cm.InfeasibleRiskError):
        calibrator.fit([X], [np.array([[1, 0]])])


@pytest.mark.parametrize("name", ["first", "step", "n_points", "temperature"])
def test_parameters_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0"):
        ReferenceSearch(**{name: 0})

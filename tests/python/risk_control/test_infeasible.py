"""Too few images: said, never guessed, and nothing is lost."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import conformask as cm
from problems import wide

PROBLEM = wide(n=99, n_classes=3, size=(3, 4))
Calibrator = cm.ConformalRiskCalibrator


@pytest.mark.parametrize("loss", ["miscoverage", "binary"])
@pytest.mark.parametrize(
    ("alpha", "n_needed"), [(0.1, 9), (0.05, 19), (0.01, 99), (0.3, 3), (1 / 3, 3), (0.07, 14)]
)
def test_one_image_decides(loss: str, alpha: float, n_needed: int) -> None:
    """n >= 1/alpha - 1. For alpha = 0.333..., a little below 1/3, two images are too few."""
    calibrator = Calibrator(loss=loss, alpha=alpha)
    enough = calibrator.fit(PROBLEM.X[:n_needed], PROBLEM.y[:n_needed])
    assert enough.corrected_risk_ <= alpha
    few = n_needed - 1
    with pytest.raises(cm.InfeasibleRiskError) as caught:
        calibrator.fit(PROBLEM.X[:few], PROBLEM.y[:few])
    error = caught.value
    assert (error.n_images, error.alpha, error.n_needed) == (few, alpha, n_needed)
    assert all(f"{value}" in str(error) for value in (few, alpha, n_needed))


def test_the_error_is_a_value_error_that_travels() -> None:
    """To another process, as workers send it."""
    error = cm.InfeasibleRiskError(5, 0.1, 9, smallest_alpha=0.167)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert isinstance(twin, ValueError)
        assert (twin.n_images, twin.alpha, twin.n_needed, twin.smallest_alpha) == (5, 0.1, 9, 0.167)
        assert str(twin) == str(error)


def test_an_error_that_is_changed_keeps_the_rest() -> None:
    error = cm.InfeasibleRiskError(5, 0.1, 9, "groups", 2, "why", 3, 0.4, "a pixel", 0.167)
    told = error._but(reason="more")
    assert str(told) == "more"
    assert {**vars(told), "reason": "why"} == vars(error)


@pytest.mark.parametrize("n", [5, 9, 37])
@pytest.mark.parametrize(
    "method",
    [
        cm.CRC(),
        cm.PAC(0.1),
        cm.RCPS(0.05),
        cm.RCPS(0.05, bound="wsr"),
        cm.LTT(0.1, grid=[0.2, 0.8]),
        cm.LTT(0.1, grid=[0.8], correction="fixed_sequence"),
    ],
    ids=repr,
)
def test_the_smallest_level_that_the_images_reach_is_named(method: Any, n: int) -> None:
    with pytest.raises(cm.InfeasibleRiskError, match=r"take a larger alpha \(0\.\d+ or more\)") as caught:
        Calibrator(loss="binary", alpha=0.001, method=method).fit(PROBLEM.X[:n], PROBLEM.y[:n])
    smallest = caught.value.smallest_alpha
    assert smallest is not None
    assert f"({smallest:g} or more)" in str(caught.value)
    digit = 10.0 ** (np.floor(np.log10(smallest)) - 2)
    assert (
        cm.metrics.required_images(smallest, method=method)
        <= n
        < cm.metrics.required_images(round(smallest - digit, 8), method=method)
    )


def test_no_level_is_named_where_none_is_known() -> None:
    void = np.full_like(PROBLEM.y, 255)
    with pytest.raises(cm.InfeasibleRiskError, match="take a larger alpha, or accept") as caught:
        Calibrator(alpha=0.1).fit(PROBLEM.X, void)
    assert caught.value.smallest_alpha is None


def test_what_was_collected_is_kept() -> None:
    calibrator = Calibrator(alpha=0.1)
    with pytest.raises(cm.InfeasibleRiskError):
        calibrator.fit(PROBLEM.X[:8], PROBLEM.y[:8])
    assert len(calibrator.profiles_) == 8
    fresh = Calibrator(alpha=0.2).fit(PROBLEM.X[:8], PROBLEM.y[:8])
    assert calibrator.recalibrate(alpha=0.2).lambda_hat_ == fresh.lambda_hat_
    with pytest.raises(cm.InfeasibleRiskError):
        calibrator.recalibrate(alpha=0.05)
    calibrator.partial_fit(PROBLEM.X[8:], PROBLEM.y[8:])
    assert calibrator.lambda_hat_ == Calibrator(alpha=0.1).fit(PROBLEM.X, PROBLEM.y).lambda_hat_


def test_partial_fit_and_merge_only_collect() -> None:
    calibrator = Calibrator(alpha=0.1)
    for image in range(4):
        calibrator.partial_fit(PROBLEM.X[image : image + 1], PROBLEM.y[image : image + 1])
    calibrator.merge(Calibrator(alpha=0.1).partial_fit(PROBLEM.X[4:8], PROBLEM.y[4:8]))
    assert (calibrator.n_classes_, calibrator.n_images_, calibrator.n_skipped_) == (3, 8, 0)
    for ask in (
        lambda: calibrator.lambda_hat_,
        lambda: calibrator.risk_,
        lambda: calibrator.predict(PROBLEM.X),
        lambda: calibrator.set_size(PROBLEM.X),
        lambda: calibrator.evaluate(PROBLEM.X, PROBLEM.y),
        lambda: calibrator.risk_curve(),
        lambda: calibrator.save("nowhere.json"),
    ):
        with pytest.raises(cm.InfeasibleRiskError, match="at least 9 calibration images, there are 8"):
            ask()
    calibrator.partial_fit(PROBLEM.X[8:9], PROBLEM.y[8:9])
    assert calibrator.n_images_ == 9


def test_full_sets_with_a_warning() -> None:
    calibrator = Calibrator(alpha=0.1, on_infeasible="full")
    with pytest.warns(
        cm.InfeasibleRiskWarning,
        match="at least 9 calibration images, there are 8: all sets hold every class$",
    ):
        calibrator.fit(PROBLEM.X[:8], PROBLEM.y[:8])
    assert calibrator.lambda_hat_ == 1.0
    assert calibrator.predict(PROBLEM.X).all()
    assert (calibrator.set_size(PROBLEM.X) == 3).all()
    assert calibrator.risk_ == 0
    assert calibrator.corrected_risk_ == 1 / 9  # above alpha, and it says so


def test_full_sets_hold_what_has_no_probability() -> None:
    X = np.broadcast_to(np.array([1.0, 0.0, 0.0]).reshape(3, 1, 1), (2, 3, 2, 2))
    with pytest.warns(cm.InfeasibleRiskWarning):
        calibrator = Calibrator(on_infeasible="full").fit(X, np.full((2, 2, 2), 2))
    assert calibrator.predict(X).all()


def test_skipped_images_do_not_help() -> None:
    """n counts images on which the loss is defined, and groups count once."""
    y = PROBLEM.y[:12].copy()
    y[:4] = 255
    with pytest.raises(cm.InfeasibleRiskError, match=r"there are 8 \(4 images without"):
        Calibrator(alpha=0.1).fit(PROBLEM.X[:12], y)
    with pytest.raises(
        cm.InfeasibleRiskError, match=r"groups of calibration images, there are 4.* Add groups, .*take"
    ):
        Calibrator(alpha=0.1).fit(PROBLEM.X[:12], PROBLEM.y[:12], groups=[0, 1, 2, 3] * 3)


def test_profiles_say_the_same() -> None:
    with pytest.raises(cm.InfeasibleRiskError) as caught:
        cm.profile(PROBLEM.X, PROBLEM.y)[:8].lambda_hat("miscoverage", 0.1)
    assert (caught.value.n_images, caught.value.alpha, caught.value.n_needed) == (8, 0.1, 9)

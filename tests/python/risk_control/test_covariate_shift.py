"""Weights of calibration images and of new ones: under covariate shift each image has a lambda of its own."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import conformask as cm

Calibrator = cm.ConformalRiskCalibrator


def maps_of(values: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Images whose pixels have given critical values by LAC without its top-1."""
    X = np.stack([1 - values, values], axis=1)[:, :, np.newaxis]
    return X, np.zeros((len(values), 1, values.shape[1]), np.int64)


def controlled(alpha: float = 0.1, **options: Any) -> cm.ConformalRiskCalibrator:
    return Calibrator(cm.LAC(include_top1=False), alpha=alpha, **options)


def lambda_twin(values: NDArray[np.float64], weights: list[float], new: float, alpha: float) -> float:
    """The smallest lambda at which the weighted mean of the losses, that of the new image 1, is at most alpha."""
    known, own = [Fraction(str(weight)) for weight in weights], Fraction(str(new))

    def fits(lam: float) -> bool:
        losses = [Fraction(int((image > lam).sum()), len(image)) for image in values]
        total = sum((w * loss for w, loss in zip(known, losses, strict=True)), own)
        return total <= Fraction(str(alpha)) * (sum(known) + own)

    candidates = [0.0, *sorted(set((1.0 - (1.0 - values)).ravel().tolist()))]
    return next((lam for lam in candidates if fits(lam)), math.inf)


def test_the_example_of_a_weighted_mean() -> None:
    """Losses 0, .1 and .3 with weights 1, 1 and 2, beside a new image of weight 1: (0 + .1 + .6 + 1) / 5 = .34."""
    values = np.full((3, 10), 0.2)
    values[1, :1], values[2, :3] = 0.8, 0.8
    X, y = maps_of(values)
    for alpha, lam in ((0.34, 0.2), (0.339, 0.8)):
        calibrator = controlled(alpha).fit(X, y, sample_weight=[1, 1, 2])
        assert calibrator.predict_lambdas(X[:1], sample_weight=[1])[0] == pytest.approx(lam)
    assert cm.metrics.effective_sample_size([1, 1, 2]) == pytest.approx(8 / 3)
    assert calibrator.n_eff_ == pytest.approx(8 / 3)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 12), alpha=st.sampled_from([0.1, 0.25, 0.5]))
@settings(max_examples=60, deadline=None)
def test_lambdas_are_those_of_the_twin(seed: int, n: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 9, (n, 4)) / 8
    weights = rng.choice([0.0, 0.5, 1.0, 1.5, 3.0], n).tolist()
    new = rng.choice([0.0, 0.25, 1.0, 2.0, 40.0], 5).tolist()
    X, y = maps_of(values)
    calibrator = controlled(alpha, on_infeasible="full")
    if max(weights) <= 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cm.InfeasibleRiskWarning)
            calibrator.fit(X, y, sample_weight=weights)
    else:
        calibrator.fit(X, y, sample_weight=weights)
    others, _ = maps_of(rng.random((5, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cm.InfeasibleRiskWarning)
        lambdas = calibrator.predict_lambdas(others, sample_weight=new)
        masks = calibrator.predict(others, sample_weight=new)
    assert lambdas.tolist() == [lambda_twin(values, weights, each, alpha) for each in new]
    for mask, image, lam in zip(masks, others, lambdas, strict=True):
        expected = (
            np.ones_like(mask)
            if math.isinf(lam)
            else cm.kernels.threshold(image[None], lam, calibrator.conformity_score)[0]
        )
        assert (mask == expected).all()


def test_equal_weights_are_no_weights() -> None:
    rng = np.random.default_rng(0)
    X, y = maps_of(rng.random((40, 6)))
    plain = controlled().fit(X, y)
    weighted = controlled().fit(X, y, sample_weight=[1.0] * 40)
    assert weighted.lambda_hat_ == plain.lambda_hat_
    assert (weighted.predict_lambdas(X[:3], sample_weight=[1, 1, 1]) == plain.lambda_hat_).all()
    with pytest.raises(ValueError, match=r"sample_weight= was given, but calibration had none"):
        plain.predict(X[:3], sample_weight=[1, 1, 1])
    scaled = controlled().fit(X, y, sample_weight=[7.5] * 40)
    assert (scaled.predict_lambdas(X[:3], sample_weight=[7.5] * 3) == plain.lambda_hat_).all()
    assert (scaled.predict(X[:3], sample_weight=[7.5] * 3) == plain.predict(X[:3])).all()
    assert scaled.profiles_.lambda_hat("miscoverage", 0.1, test_weight=7.5) == plain.lambda_hat_


def test_heavier_images_have_larger_sets() -> None:
    rng = np.random.default_rng(1)
    X, y = maps_of(rng.random((60, 8)))
    calibrator = controlled().fit(X, y, sample_weight=rng.uniform(0.5, 2, 60))
    lambdas = calibrator.predict_lambdas(X[:6], sample_weight=[0.1, 0.5, 1, 2, 4, 8])
    assert (np.diff(lambdas) >= 0).all()
    assert lambdas[0] < lambdas[-1]
    report = calibrator.evaluate(X, y, sample_weight=[1] * 60, alphas=[0.2])
    assert report.empirical_risk <= 0.1
    assert report.sweep[0].empirical_risk > report.empirical_risk


def test_images_that_weigh_too_much_get_full_sets_and_a_word() -> None:
    rng = np.random.default_rng(2)
    X, y = maps_of(rng.random((20, 8)))
    calibrator = controlled().fit(X, y, sample_weight=[2.0] * 20)
    # At alpha = .1 up to 40 / 9.
    with pytest.warns(
        cm.InfeasibleRiskWarning,
        match=r"2 of 3 images have too large weights compared with the calibration images",
    ):
        masks = calibrator.predict(X[:3], sample_weight=[4.44, 4.45, 100])
    assert masks[1:].all()
    with pytest.warns(cm.InfeasibleRiskWarning, match="2 of 3"):
        lambdas = calibrator.predict_lambdas(X[:3], sample_weight=[4.44, 4.45, 100])
    assert np.isinf(lambdas).tolist() == [False, True, True]


def test_weights_above_1_ask_for_those_of_new_images() -> None:
    rng = np.random.default_rng(3)
    X, y = maps_of(rng.random((30, 5)))
    calibrator = controlled().fit(X, y, sample_weight=[2.0] * 30)
    with pytest.raises(ValueError, match=r"weights above 1 are relative to .* give the weight of each"):
        calibrator.predict(X)
    with pytest.raises(AttributeError, match=r"by their weights: predict_lambdas\(X, sample_weight=\)"):
        calibrator.lambda_hat_  # noqa: B018
    with pytest.raises(ValueError, match=r"lambda_hat\(test_weight=\) of profiles"):
        calibrator.profiles_.lambda_hat("miscoverage", 0.1)
    for words, options in (
        ("conditional='class' and sample_weight= above 1 cannot be combined", {"conditional": "class"}),
        (r"RCPS\(delta=0.1, bound='hb'\) cannot take sample_weight", {"method": cm.RCPS(0.1)}),
    ):
        with pytest.raises(ValueError, match=words):
            controlled(**options).fit(X, y, sample_weight=[2.0] * 30)
    with pytest.raises(ValueError, match=r"takes no sample_weight of new images: use CRC\(\)"):
        controlled(0.3, method=cm.RCPS(0.1)).fit(X, y).predict(X, sample_weight=[1] * 30)
    with pytest.raises(ValueError, match=r"needs one lambda for all: no conditional="):
        controlled(0.3, conditional="class", on_rare="full").fit(*both(X, y)).predict(
            X, sample_weight=[1] * 30
        )


def both(X: NDArray[Any], y: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Half of the pixels of the other class."""
    return X, np.where(np.arange(y.shape[-1]) % 2, 1, y)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([-1, 1, 1], r"sample_weight must be at least 0 and finite, got -1\.0 for image 0"),
        ([1, np.inf, 1], r"sample_weight must be at least 0 and finite, got inf for image 1"),
        ([1, 1, np.nan], r"sample_weight must be at least 0 and finite, got nan for image 2"),
        ([1, 1], r"sample_weight must hold a number for each of 3 images"),
        ({1: 1}, r"sample_weight must be a sequence"),
    ],
)
def test_bad_weights_of_new_images(weights: Any, words: str) -> None:
    rng = np.random.default_rng(4)
    X, y = maps_of(rng.random((30, 5)))
    calibrator = controlled().fit(X, y, sample_weight=[1.0] * 30)
    with pytest.raises((ValueError, TypeError), match=words):
        calibrator.predict(X[:3], sample_weight=weights)
    with pytest.raises(ValueError, match="test_weight must be at least 0"):
        calibrator.profiles_.lambda_hat("miscoverage", 0.1, test_weight=-1)


def test_files_need_the_profiles(tmp_path: Any) -> None:
    rng = np.random.default_rng(5)
    X, y = maps_of(rng.random((30, 5)))
    calibrator = controlled().fit(X, y, sample_weight=rng.uniform(0.5, 2, 30))
    calibrator.save(tmp_path / "one.json", profiles=True)
    same = Calibrator.load(tmp_path / "one.json")
    new = [0.5, 1, 2]
    assert (same.predict(X[:3], sample_weight=new) == calibrator.predict(X[:3], sample_weight=new)).all()
    [beside] = tmp_path.glob("*.npz")
    beside.rename(tmp_path / "elsewhere")
    with pytest.raises(
        FileNotFoundError, match="is not beside it, and new images have lambdas that are found"
    ):
        Calibrator.load(tmp_path / "one.json")
    with pytest.raises(ValueError, match=r"found from the profiles: save\(path, profiles=True\)"):
        calibrator.save(tmp_path / "two.json")
    assert not (tmp_path / "two.json").exists()
    at_most_one = controlled().fit(X, y, sample_weight=rng.uniform(0.5, 1, 30))
    at_most_one.save(tmp_path / "two.json")
    with pytest.raises(ValueError, match="has no profiles"):
        Calibrator.load(tmp_path / "two.json").predict(X[:3], sample_weight=new)
    report = calibrator.evaluate(X, y, sample_weight=[1.0] * 30)
    assert calibrator.score(X, y, sample_weight=[1.0] * 30) == 1 - report.empirical_risk
    assert calibrator.losses(X, y, sample_weight=[1.0] * 30).tolist() == report.losses.tolist()
    with pytest.raises(ValueError, match="cannot take sample_weight"):
        calibrator.set_params(method=cm.RCPS(0.1)).predict(X, sample_weight=[1.0] * 30)


# Guarantee, by simulation: seeds fixed beforehand


def test_the_risk_of_the_target_is_kept_where_ratios_are_known() -> None:
    """Two kinds of images, the harder of which is .2 of the source and .6 of the target: ratios .5 and 3."""
    rng = np.random.default_rng(20261128)
    repetitions, n, alpha, n_pixels = 2500, 60, 0.1, 10
    shapes, ratios = np.array([1.0, 6.0]), np.array([0.5, 3.0])
    risks, clipped, unweighted = np.empty((3, repetitions))
    for repetition in range(repetitions):
        hard = (rng.random(n) < 0.2).astype(int)
        values = 1 - rng.random((n, n_pixels)) ** shapes[hard][:, np.newaxis]
        X, y = maps_of(values)
        calibrator = controlled(alpha).fit(X, y, sample_weight=ratios[hard])
        new = int(rng.random() < 0.6)
        image = 1 - rng.random(n_pixels) ** shapes[new]
        lam = calibrator.profiles_.lambda_hat("miscoverage", alpha, test_weight=ratios[new])
        plain = calibrator.profiles_._counting(None).lambda_hat("miscoverage", alpha)
        cut = calibrator.profiles_._counting(None, ratios[hard].clip(max=1)).lambda_hat("miscoverage", alpha)
        risks[repetition], unweighted[repetition], clipped[repetition] = (
            (image > each).mean() for each in (lam, plain, cut)
        )
    error = risks.std() / math.sqrt(repetitions)
    assert risks.mean() <= alpha + 3 * error
    assert unweighted.mean() > alpha + 3 * unweighted.std() / math.sqrt(repetitions)
    assert clipped.mean() > risks.mean()

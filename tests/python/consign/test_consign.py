"""CONSIGN: worked examples, an exhaustive oracle, laws, the guarantee, traps."""

from __future__ import annotations

import gc
import itertools
import json
import math
import pickle
import sys
import warnings
import weakref
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone

import conformask as cm
import consign_twin as twin
import ctrl_c
from conformask import _core

Calibrator = cm.ConsignCalibrator


def bracket(X: NDArray, y: NDArray, n_components: int = 2, **parameters) -> tuple[float, float, str]:
    """What one image's search finds: bounds and status."""
    parameters = {"alpha": 0.5, "quantile_level": 0.05, **parameters}
    calibrator = Calibrator(n_components, **parameters)
    try:
        calibrator.fit([X], [y])
    except cm.InfeasibleRiskError:
        assert calibrator.image_lambdas_[0] == math.inf
    return (
        float(calibrator.image_lower_bounds_[0]),
        float(calibrator.image_lambdas_[0]),
        str(calibrator.image_status_[0]),
    )


def lambda_of(X: NDArray, y: NDArray, n_components: int = 2, **parameters) -> float:
    lower, upper, status = bracket(X, y, n_components, **parameters)
    assert status in ("exact", "infeasible")
    assert lower <= upper
    return upper


def close(value: float, expected: float) -> bool:
    """Equal within the tolerance of a search."""
    if math.isinf(value) or math.isinf(expected):
        return value == expected
    return abs(value - expected) <= max(1e-6, 1.01e-3 * max(value, expected))


def two_pixels() -> NDArray:
    """Label 0 has (.61, .51, .41) and .8 in three samples."""
    p = np.array([[[0.61, 0.8]], [[0.51, 0.8]], [[0.41, 0.8]]])
    return np.stack([p, 1 - p], axis=1)


def image(seed: int, size: int = 8, n_classes: int = 2, **parameters) -> tuple[NDArray, NDArray]:
    X, y = twin.fields(np.random.default_rng(seed), 1, size, n_classes, **parameters)
    return X[0], y[0]


def moving(n: int, size: int = 8, n_classes: int = 2) -> list[tuple[NDArray, NDArray]]:
    """Images whose lambda at min_accuracy = 0.8 is neither 0 nor infinite."""
    found = []
    for seed in itertools.count():
        X, y = image(seed, size, n_classes, noise=0.05, modes=2)
        if 0 < bracket(X, y, min_accuracy=0.8)[1] < math.inf:
            found.append((X, y))
        if len(found) == n:
            return found
    raise AssertionError


# Worked examples


@pytest.mark.parametrize("beta", [0.51, 0.75, 1.0])
def test_two_pixels_by_hand(beta: float) -> None:
    """The first pixel is label 1 from c = 0.0141421 on, half the box at lambda = 1 is 0.0141421."""
    kwargs = {"quantile_level": 0.25, "min_accuracy": beta}
    lower, upper, status = bracket(two_pixels(), np.array([[1, 0]]), 1, **kwargs)
    assert status == "exact"
    assert lower <= 1 <= upper
    assert upper == pytest.approx(1.0, abs=1e-9)
    assert bracket(two_pixels(), np.array([[0, 0]]), 1, **kwargs) == (0.0, 0.0, "exact")
    assert bracket(two_pixels(), np.array([[1, 1]]), 1, **kwargs) == (math.inf, math.inf, "infeasible")


def test_two_pixels_have_the_decomposition_of_the_example() -> None:
    calibrator = Calibrator(1, alpha=0.5, quantile_level=0.25).fit([two_pixels()], [np.array([[1, 0]])])
    [found] = calibrator.predict([two_pixels()])
    assert np.allclose(found.mean, [[[0.51, 0.8]], [[0.49, 0.2]]])
    assert np.allclose(found.singular_values, [0.2])
    assert np.allclose(np.abs(found.components[0]), [[[math.sqrt(0.5), 0]], [[math.sqrt(0.5), 0]]])
    assert found.components[0, 0, 0, 1] == found.components[0, 1, 0, 1] == 0  # what does not vary
    assert np.allclose(found.upper, 0.0141421, atol=1e-7)
    assert np.allclose(found.lower, -0.0141421, atol=1e-7)


def test_order_statistic_by_hand() -> None:
    """lambda-hat is the 8th of 9 at alpha = 0.2, and there is none at 0.05."""
    expected = [0.1, 0.2, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0, 2.0]
    # Scaling the lead of the first pixel at z = 0 moves its lambda.
    images = []
    for i, lam in enumerate(expected):
        p = np.array([[[0.5 + 0.01 * lam + d, 0.8 + 0.001 * i]] for d in (0.1, 0.0, -0.1)])
        images.append(np.stack([p, 1 - p], axis=1))
    y = [np.array([[1, 0]])] * 9
    calibrator = Calibrator(1, alpha=0.2, quantile_level=0.25).fit(images, y)
    assert np.allclose(calibrator.image_lambdas_[:8], expected[:8], atol=1e-6)
    assert calibrator.lambda_hat_ == calibrator.image_lambdas_[7]
    with pytest.raises(cm.InfeasibleRiskError, match=r"alpha=0.05 with 9 calibration images: at least 19"):
        Calibrator(1, alpha=0.05, quantile_level=0.25).fit(images, y)


def test_label_accuracy_by_hand() -> None:
    """6 of 8 pixels of label 0 and 1 of 2 of label 1: (6/8 + 1/2) / 2 = 0.625, whatever the components."""
    p0 = np.array([0.9] * 6 + [0.1] * 2 + [0.1, 0.9])
    p0 = p0.reshape(1, 1, 10) + np.array([0.01, 0.0, -0.01]).reshape(3, 1, 1)
    X, y = np.stack([p0, 1 - p0], axis=1), np.array([[0] * 8 + [1] * 2])
    arguments = {"lambda_max": 1.0, "n_components": 1}
    assert lambda_of(X, y, min_accuracy=0.625, **arguments) == 0
    assert lambda_of(X, y, min_accuracy=0.6250001, **arguments) == math.inf
    assert lambda_of(X, y, min_accuracy=0.7, accuracy="pixel", **arguments) == 0
    assert lambda_of(X, y, min_accuracy=0.7000001, accuracy="pixel", **arguments) == math.inf
    assert lambda_of(X, y, min_accuracy=0.625, strict=True, **arguments) == math.inf
    assert lambda_of(X, y, min_accuracy=0.6249999, strict=True, **arguments) == 0


# Oracles


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("beta", [0.8, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_all_vertices_of_the_arrangement(seed: int, beta: float, n_classes: int) -> None:
    """Two components, at most 40 pixels: every candidate is looked at."""
    X, y = image(seed, 6, n_classes, noise=0.05, strength=1.5)
    expected = twin.enumerate_vertices(twin.decompose(X, 2), y, twin.Fraction(str(beta)))
    lower, upper, status = bracket(X, y, min_accuracy=beta, lambda_max=1e6)
    assert status == ("infeasible" if math.isinf(expected) else "exact")
    assert close(upper, expected)
    if math.isfinite(expected):
        assert lower <= expected * (1 + 1e-9)
        assert upper >= expected * (1 - 1e-9)


def test_the_oracle_sees_all_kinds() -> None:
    kinds = {"zero": 0, "finite": 0, "infinite": 0}
    for seed in range(8):
        for beta in ("0.8", "0.9", "1"):
            X, y = image(seed, 6, 2, noise=0.05, strength=1.5)
            lam = twin.enumerate_vertices(twin.decompose(X, 2), y, twin.Fraction(beta))
            kinds["zero" if lam == 0 else "finite" if math.isfinite(lam) else "infinite"] += 1
    assert min(kinds.values()) >= 1, kinds


@pytest.mark.parametrize("seed", range(12))
def test_one_component_is_a_sweep(seed: int) -> None:
    X, y = image(seed, 7, 3, modes=1, noise=0.02, strength=2.0)
    d = twin.decompose(X, 1)
    expected = min(twin.sweep(d, y, twin.Fraction("0.9"), np.array([sign])) for sign in (1.0, -1.0))
    upper = lambda_of(X, y, 1, lambda_max=1e9)
    assert close(upper, expected)
    # and no point of a dense grid is better
    for t in np.linspace(0, min(expected, 1.0), 300, endpoint=False):
        for sign in (-1, 1):
            assert twin.accuracy(twin.segmentation(d, np.array([sign * t])), y) < twin.Fraction("0.9")


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_branch_and_bound_by_the_twin(seed: int, k: int) -> None:
    X, y = image(20 + seed, 5, 2, modes=k, noise=0.02, strength=1.5)
    beta = twin.Fraction("0.9")
    lower, upper, status = bracket(X, y, k, lambda_max=4.0, node_budget=10**6)
    low, high = twin.branch_and_bound(twin.decompose(X, k), y, beta, 4.0, 0.02)
    assert status == ("exact" if math.isfinite(high) else "infeasible")
    assert lower <= high * (1 + 1e-9)
    assert low <= upper * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_no_random_point_is_better(seed: int) -> None:
    X, y = image(40 + seed, 8, 3, noise=0.05, strength=1.5)
    d, rng = twin.decompose(X, 3), np.random.default_rng(seed)
    upper = lambda_of(X, y, 3, min_accuracy=0.85, node_budget=10**6)
    limit = min(upper * (1 - 1e-3), 10.0)
    for z in rng.uniform(-limit, limit, (2000, len(d.centre))):
        assert twin.accuracy(twin.segmentation(d, z), y) < twin.Fraction("0.85")


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7, 9])
def test_witnesses_are_what_they_say(k: int) -> None:
    """Coefficients in the box, whose argmax in NumPy is accurate enough, at lambda exactly."""
    n_seen = 0
    for seed in range(12):
        X, y = image(60 + seed, 10, 3, n_samples=11, modes=2, noise=0.1)
        y[:2] = 255
        calibrator = Calibrator(k, alpha=0.5, min_accuracy=0.85, node_budget=3000)
        try:
            [found] = calibrator.fit([X], [y]).predict([X])
        except cm.InfeasibleRiskError:
            continue
        answer = found.contains(y)
        assert answer
        assert answer.contained
        assert answer.certified
        c = answer.coefficients
        assert (found.lower <= c).all()
        assert (c <= found.upper).all()
        scores = found.mean
        for a, u in zip(c, found.components, strict=True):
            scores = scores + a * u
        labels = scores.argmax(axis=0)
        assert np.array_equal(labels, found.segmentation(c))
        assert twin.accuracy(labels, y) >= twin.Fraction("0.85")
        n_seen += 1
    assert n_seen >= 3


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 3), st.sampled_from([0.5, 0.75, 1.0]))
def test_ties_everywhere(seed: int, n_classes: int, k: int, beta: float) -> None:
    """Scores of few values, where many pixels tie at many points: what is found holds for the argmax as NumPy takes it,
    and no coefficients nearer than the lower bound do."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, (5, n_classes, 3, 4)) / 4
    y = np.where(rng.random((3, 4)) < 0.1, 255, rng.integers(0, n_classes, (3, 4)))
    y[0, 0] = 0
    lower, upper, status = bracket(X, y, k, min_accuracy=beta, quantile_level=0.25, lambda_max=50.0)
    settings = Calibrator(k, min_accuracy=beta, lambda_max=50.0)._configuration()
    found = cm.ConsignSet(_core.ConsignDecomposition.of_samples(X, k, 0.25, "sigma", 0), 1.0, settings)
    centre, half = (found.lower + found.upper) / 2, (found.upper - found.lower) / 2
    answer = found.contains(y)
    assert answer.contained == (upper <= found.lambda_hat)
    if answer:
        assert twin.accuracy(found.segmentation(answer.coefficients), y) >= Fraction(beta)
    if status in ("exact", "infeasible"):
        nearer = min(lower, 50.0) * (1 - 1e-6)
        for z in rng.uniform(-nearer, nearer, (200, len(centre))):
            assert lower == 0 or twin.accuracy(found.segmentation(centre + half * z), y) < Fraction(beta)


# Laws


@pytest.mark.parametrize("seed", range(3))
def test_samples_times_a_factor(seed: int) -> None:
    X, y = moving(3)[seed]
    lam = lambda_of(X, y, min_accuracy=0.8)
    assert close(lambda_of(X * 4, y, min_accuracy=0.8) * 4, lam)
    shifted = X + 0.7  # nothing is asked but the argmax
    assert close(lambda_of(shifted, y, min_accuracy=0.8), lam)


@pytest.mark.parametrize("seed", range(3))
def test_every_pixel_twice(seed: int) -> None:
    X, y = moving(3)[seed]
    lam = lambda_of(X, y, min_accuracy=0.8)
    twice = lambda_of(np.repeat(X, 2, axis=-1), np.repeat(y, 2, axis=-1), min_accuracy=0.8)
    assert close(twice * math.sqrt(2), lam)


@pytest.mark.parametrize("seed", range(4))
def test_permutations_change_nothing(seed: int) -> None:
    X, y = moving(4, 8, 3)[seed]
    rng = np.random.default_rng(seed)
    lam = lambda_of(X, y, min_accuracy=0.8)
    order = rng.permutation(64)
    shuffled = X.reshape(6, 3, 64)[..., order].reshape(X.shape), y.ravel()[order].reshape(y.shape)
    assert close(lambda_of(*shuffled, min_accuracy=0.8), lam)
    labels = rng.permutation(3)
    assert close(lambda_of(X[:, np.argsort(labels)], labels[y], min_accuracy=0.8), lam)
    assert close(lambda_of(X[rng.permutation(6)], y, min_accuracy=0.8), lam)
    assert close(lambda_of(X.swapaxes(2, 3), y.T, min_accuracy=0.8), lam)
    volume = X.reshape(6, 3, 2, 4, 8), y.reshape(2, 4, 8)
    assert close(lambda_of(*volume, min_accuracy=0.8), lam)


@pytest.mark.parametrize("seed", range(4))
def test_mirrored_samples_flip_components(seed: int) -> None:
    """A sample set and its mirror image have the same components with the opposite signs: of the set that holds both,
    either may be found, and the middle of the box is the mean."""
    X, y = moving(4)[seed]
    mirrored = 2 * X.mean(axis=0) - X
    lams = [
        lambda_of(np.concatenate(pair), y, min_accuracy=0.8)
        for pair in ((X, mirrored), (mirrored, X), (X[::-1], mirrored))
    ]
    assert close(lams[0], lams[1])
    assert close(lams[0], lams[2])


def test_components_are_orthonormal_and_signed() -> None:
    X, y = image(3, 12, 4, n_samples=10)
    [found] = Calibrator(5, alpha=0.5, min_accuracy=0.1).fit([X], [y]).predict([X])
    flat = found.components.reshape(5, -1)
    assert np.allclose(flat @ flat.T, np.eye(5), atol=1e-12)
    assert (flat[np.arange(5), np.abs(flat).argmax(axis=1)] > 0).all()
    d = twin.decompose(X, 5)
    assert np.allclose(found.mean.ravel(), d.mean.ravel())
    assert np.allclose(np.abs(flat), np.abs(d.components.reshape(5, -1)), atol=1e-9)
    assert (np.diff(found.singular_values) <= 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.lists(st.floats(0.05, 1.0), min_size=2, max_size=5))
def test_more_accuracy_needs_more(seed: int, betas: list[float]) -> None:
    X, y = image(seed, 6, 3, noise=0.1)
    brackets = [bracket(X, y, min_accuracy=beta) for beta in sorted(betas)]
    for (lower, _, _), (_, upper, _) in itertools.pairwise(brackets):
        assert lower <= upper


# Many images


def problem(n: int = 24, seed: int = 5, **parameters) -> tuple[NDArray, NDArray]:
    parameters = {"size": 8, "n_classes": 3, "noise": 0.05, "modes": 2, "n_samples": 7, **parameters}
    return twin.fields(np.random.default_rng(seed), n, **parameters)


def results(calibrator: cm.ConsignCalibrator) -> tuple:
    return (
        calibrator.image_lambdas_.tobytes(),
        calibrator.image_lower_bounds_.tobytes(),
        calibrator.image_status_.tolist(),
    )


def test_any_number_of_threads_gives_the_same_bits() -> None:
    X, y = problem(80)
    found = []
    try:
        for n_threads in (1, 2, 7):
            cm.set_num_threads(n_threads)
            calibrator = Calibrator(3, alpha=0.3, min_accuracy=0.8).fit(X, y)
            sets = calibrator.predict(X[:2])
            found.append((results(calibrator), sets[0].sample(5, random_state=1).tobytes()))
    finally:
        cm.set_num_threads(None)
    assert found[0] == found[1] == found[2]


def test_images_that_do_not_matter_are_given_up() -> None:
    """What is found of an image does not depend on the others; what is given up is beyond lambda-hat."""
    X, y = problem(120, n_classes=2, strength=1.5)
    calibrator = Calibrator(2, alpha=0.4, min_accuracy=0.9).fit(X, y)
    statuses = calibrator.image_status_
    given_up = statuses == "not_needed"
    assert given_up.sum() >= 10
    assert np.isnan(calibrator.image_lambdas_[given_up]).all()
    assert (calibrator.image_lower_bounds_[given_up] > calibrator.lambda_hat_).all()
    alone = np.array(
        [bracket(*pair, min_accuracy=0.9, quantile_level=0.2)[1] for pair in zip(X, y, strict=True)]
    )
    assert np.array_equal(calibrator.image_lambdas_[~given_up], alone[~given_up])
    assert (alone[given_up] >= calibrator.image_lower_bounds_[given_up]).all()
    k = math.ceil(121 * Fraction(6, 10))
    assert calibrator.lambda_hat_ == np.sort(alone)[k - 1]


def test_the_order_of_images_does_not_matter() -> None:
    X, y = problem(70)
    order = np.random.default_rng(0).permutation(70)
    one, other = (
        Calibrator(2, alpha=0.2, min_accuracy=0.8).fit(*pair) for pair in ((X, y), (X[order], y[order]))
    )
    assert one.lambda_hat_ == other.lambda_hat_


def test_a_small_budget_is_conservative() -> None:
    X, y = problem(30, n_samples=9)
    free = Calibrator(5, alpha=0.2, min_accuracy=0.8, node_budget=10**6).fit(X, y)
    short = Calibrator(5, alpha=0.2, min_accuracy=0.8, node_budget=40).fit(X, y)
    assert "upper_bound" in short.image_status_
    assert (short.image_lambdas_ >= free.image_lower_bounds_).all() or np.isnan(short.image_lambdas_).any()
    assert short.lambda_hat_ >= free.lambda_hat_ * (1 - 1e-3)
    assert (short.image_lower_bounds_ <= np.nan_to_num(free.image_lambdas_, nan=np.inf)).all()


def test_contained_is_what_calibration_means() -> None:
    """The images of calibration themselves: contained exactly if their lambda is at most lambda-hat."""
    X, y = problem(60)
    calibrator = Calibrator(2, alpha=0.3, min_accuracy=0.85).fit(X, y)
    report = calibrator.evaluate(X, y)
    expected = calibrator.image_lambdas_ <= calibrator.lambda_hat_
    assert np.array_equal(report.contained, expected)
    assert np.array_equal(
        [bool(s.contains(t)) for s, t in zip(calibrator.predict(X), y, strict=True)], expected
    )
    assert report.coverage == expected.mean() >= 0.7
    assert report.certified.all()
    assert report.coverage_bound == report.coverage
    assert calibrator.score(X, y) == report.coverage


@pytest.mark.parametrize("node_budget", [1, 30])
@pytest.mark.parametrize("seed", range(4))
def test_contained_is_no_less_where_searches_stop_early(node_budget: int, seed: int) -> None:
    """What calibration finds to be at most lambda-hat is contained, however little was searched: the guarantee."""
    X, y = twin.fields(np.random.default_rng(seed), 40, 8, 3, noise=0.1)
    calibrator = Calibrator(4, alpha=0.4, min_accuracy=0.8, node_budget=node_budget).fit(X, y)
    report = calibrator.evaluate(X, y)
    assert (calibrator.image_status_ == "upper_bound").any()
    assert not (~report.contained & (calibrator.image_lambdas_ <= calibrator.lambda_hat_)).any()
    assert report.coverage_bound >= report.coverage >= 0.6


@pytest.mark.parametrize("seed", range(10))
def test_membership_by_the_oracle(seed: int) -> None:
    X, y = problem(30, seed=seed, n_classes=2, size=6)
    calibrator = Calibrator(2, alpha=0.3, min_accuracy=0.8, quantile_level=0.05).fit(X[:20], y[:20])
    for found, samples, truth in zip(calibrator.predict(X[20:]), X[20:], y[20:], strict=True):
        lam = twin.enumerate_vertices(twin.decompose(samples, 2), truth, twin.Fraction("0.8"))
        answer = found.contains(truth)
        assert answer.certified
        assert answer.contained == (lam <= calibrator.lambda_hat_)


# The guarantee


def test_coverage_of_new_images() -> None:
    """Over 600 repetitions: the mean of the coverage of one new image is at least 0.8, and not much above."""
    rng = np.random.default_rng(8)
    alpha, n, n_test, n_repetitions = 0.2, 14, 3, 600
    k = math.ceil((n + 1) * Fraction(4, 5))
    coverages, is_continuous = [], []
    for _ in range(n_repetitions):
        X, y = twin.fields(rng, n + n_test, 6, 2, 8, noise=0.02, strength=1.5, modes=2)
        calibrator = Calibrator(2, alpha=alpha, min_accuracy=0.8)
        try:
            calibrator.fit(X[:n], y[:n])
        except cm.InfeasibleRiskError:
            coverages.append(1.0)  # it abstains: the set of everything
            is_continuous.append(False)
            continue
        coverages.append(calibrator.evaluate(X[n:], y[n:]).coverage)
        is_continuous.append(calibrator.lambda_hat_ > 0)
    error = np.std(coverages) / math.sqrt(n_repetitions)
    assert np.mean(is_continuous) > 0.9
    assert np.mean(coverages) >= 1 - alpha - 3 * error
    assert np.mean(coverages) <= k / (n + 1) + 3 * error + 0.1 * (1 - np.mean(is_continuous))


# Samples


def test_samples_by_the_twin() -> None:
    X, y = problem(20, size=12, n_classes=4)
    calibrator = Calibrator(3, alpha=0.3, min_accuracy=0.8).fit(X, y)
    [found] = calibrator.predict(X[:1])
    samples = found.sample(40, random_state=11)
    assert samples.shape == (40, 12, 12)
    assert samples.dtype == np.uint8
    uniform = np.random.Generator(np.random.Philox(key=11)).random((40, 3))
    for labels, u in zip(samples, uniform, strict=True):
        c = np.minimum(found.lower + (found.upper - found.lower) * u, found.upper)
        assert np.array_equal(labels, found.segmentation(c))
        assert found.contains(labels).contained
    assert len(np.unique(samples.reshape(40, -1), axis=0)) > 1
    assert np.array_equal(samples[:7], found.sample(7, random_state=11))
    assert not np.array_equal(found.sample(7, random_state=1), found.sample(7, random_state=2))
    found.sample(1)


def test_samples_of_many_classes() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((4, 300, 5, 6)).astype(np.float32)
    y = rng.integers(0, 300, (5, 6))
    y[:] = X.mean(axis=0).argmax(axis=0)
    calibrator = Calibrator(2, alpha=0.5, min_accuracy=0.3, ignore_index=-1).fit([X], [y])
    [found] = calibrator.predict([X])
    assert found.sample(3, random_state=0).dtype == np.uint16
    assert found.contains(y)


def make_set(X: NDArray, k: int, lam: float) -> cm.ConsignSet:
    """The set of an image, whatever calibration would say."""
    settings = cm.ConsignCalibrator()._configuration()
    return cm.ConsignSet(_core.ConsignDecomposition.of_samples(X, k, 0.05, "sigma", 0), lam, settings)


def at_corners(d: twin.Decomposition, lam: float) -> np.ndarray:
    """Scores (corners, K, pixels) at all corners of the box."""
    corners = itertools.product((-lam, lam), repeat=len(d.centre))
    return np.stack(
        [d.mean + np.tensordot(d.centre + d.half * np.array(z), d.components, 1) for z in corners]
    )


def volumes(X: NDArray, k: int, lam: float) -> tuple[float, float]:
    """log10 of the number of cells that hyperplanes can cut the box into, and of the product of possible labels."""
    scores = at_corners(twin.decompose(X, k), lam)
    n_hyperplanes, product = 0, 0.0
    for pixel in range(scores.shape[2]):
        leads = scores[:, :, None, pixel] - scores[:, None, :, pixel]
        always = (leads > 0).all(axis=0)
        possible = np.flatnonzero(~always.any(axis=0))
        n_hyperplanes += sum(
            bool(~always[a, b] & ~always[b, a]) for a, b in itertools.combinations(possible, 2)
        )
        product += math.log10(len(possible))
    return math.log10(sum(math.comb(n_hyperplanes, i) for i in range(k + 1))), product


@pytest.mark.parametrize(("n_classes", "k"), [(2, 1), (2, 3), (3, 2), (5, 2)])
def test_volume_by_definition(n_classes: int, k: int) -> None:
    X, _ = twin.fields(np.random.default_rng(n_classes), 1, size=6, n_classes=n_classes)
    for lam in (1e-3, 0.02, 0.3, 2.0, 50.0):
        found = make_set(X[0], k, lam)
        assert found.log10_volume_upper() == pytest.approx(min(volumes(X[0], k, lam)), rel=1e-12)


def test_few_pixels_that_change_make_few_segmentations() -> None:
    """Three labels at one pixel: three hyperplanes, which could cut the box into seven cells."""
    X = np.eye(3)[:, :, None, None] * np.ones((1, 2))
    X[..., 1] = [[1], [0], [0]]  # the other pixel never changes
    cells, product = volumes(X, 2, 10.0)
    assert (10**cells, 10**product) == (pytest.approx(7), pytest.approx(3))
    assert 10 ** make_set(X, 2, 10.0).log10_volume_upper() == pytest.approx(3)


def test_with_one_component_the_volume_is_exact() -> None:
    """No two pixels change at one coefficient: M hyperplanes make M + 1 segmentations, which a fine grid meets."""
    X, _ = twin.fields(np.random.default_rng(3), 1, size=4)
    found = make_set(X[0], 1, 1.0)
    grid = np.linspace(found.lower, found.upper, 20_001)
    maps = {found.segmentation(c).tobytes() for c in grid}
    assert len(maps) > 5
    assert 10 ** found.log10_volume_upper() == pytest.approx(len(maps), rel=1e-9)


@pytest.mark.parametrize("k", [2, 3])
def test_no_more_segmentations_than_the_volume(k: int) -> None:
    X, _ = twin.fields(np.random.default_rng(k), 1, size=4)
    found = make_set(X[0], k, 0.5)
    different = len(np.unique(found.sample(20_000, random_state=0).reshape(20_000, -1), axis=0))
    assert 10 < different <= 10 ** found.log10_volume_upper() * (1 + 1e-9)


def test_the_volume_of_one_segmentation() -> None:
    X, _ = twin.fields(np.random.default_rng(0), 1, size=4)
    assert make_set(X[0], 2, 0.0).log10_volume_upper() == 0.0
    assert make_set(X[0][:1], 2, 1.0).log10_volume_upper() == 0.0
    tied = np.full((2, 2, 3, 3), 0.5)  # a tie that does not move goes to label 0
    tied[0, :, 0, 0] = [0.2, 0.8]
    assert 10 ** make_set(tied, 1, 1e3).log10_volume_upper() == pytest.approx(2)


@pytest.mark.parametrize(
    ("m", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_bad_number_of_samples(m: object, error: type[Exception]) -> None:
    calibrator = Calibrator(1, alpha=0.5).fit([two_pixels()], [np.array([[1, 0]])])
    with pytest.raises(error, match="m must be"):
        calibrator.predict([two_pixels()])[0].sample(m)


# Traps


def test_void_pixels_count_in_no_accuracy() -> None:
    X, y = image(3, 8, 3, noise=0.1)
    lam = lambda_of(X, y, min_accuracy=0.8)
    void = y.copy()
    void[:3] = 255
    other = lambda_of(X, void, min_accuracy=0.8)
    d = twin.decompose(X, 2)
    assert close(other, twin.enumerate_vertices(d, void, twin.Fraction("0.8")))
    assert other != lam
    assert lambda_of(X, np.where(void == 255, -7, void), min_accuracy=0.8, ignore_index=-7) == other
    for dtype in (np.uint8, np.uint16, np.int64):  # unsigned types have no -1, which is void to the kernels
        assert lambda_of(X, void.astype(dtype), min_accuracy=0.8) == other
    # ... but the samples there are in the decomposition
    changed = X.copy()
    changed[:, :, :3] = np.random.default_rng(0).random(changed[:, :, :3].shape)
    assert lambda_of(changed, void, min_accuracy=0.8) != other


def test_images_without_labelled_pixels() -> None:
    X, y = problem(20)
    y[3] = y[7] = 255
    with pytest.warns(cm.DroppedImagesWarning, match="2 of 20 images have no labelled pixel"):
        calibrator = Calibrator(2, alpha=0.3, min_accuracy=0.8).fit(X, y)
    assert (calibrator.n_images_, calibrator.n_skipped_) == (18, 2)
    rest = np.delete(np.arange(20), [3, 7])
    same = Calibrator(2, alpha=0.3, min_accuracy=0.8).fit(X[rest], y[rest])
    assert results(same) == results(calibrator)
    with pytest.raises(ValueError, match="image 3 has no labelled pixel"):
        clone(calibrator).set_params(on_empty="raise").fit(X, y)
    zero = clone(calibrator).set_params(on_empty="zero_loss").fit(X, y)
    assert zero.n_images_ == 20
    assert zero.image_lambdas_[3] == zero.image_lambdas_[7] == 0
    report = calibrator.evaluate(X, y)
    assert (report.n_images, report.n_skipped) == (18, 2)
    assert zero.evaluate(X, y).n_images == 20
    with pytest.raises(ValueError, match="no labelled pixel"):
        calibrator.predict(X[:1])[0].contains(y[3])
    with pytest.raises(ValueError, match="holds no image with a labelled pixel"):
        calibrator.evaluate(X[3:4], y[3:4])
    with (
        pytest.warns(cm.DroppedImagesWarning, match="2 of 2 images have no labelled pixel"),
        pytest.raises(cm.InfeasibleRiskError, match="2 images without a labelled pixel are left out"),
    ):
        clone(calibrator).fit(X[[3, 7]], y[[3, 7]])


def test_labels_that_an_image_lacks_are_no_part_of_its_accuracy() -> None:
    X, _ = image(0, 8, 3)
    y = np.where(X.mean(axis=0)[0] > X.mean(axis=0)[1], 0, 1)
    d = twin.decompose(X, 2)
    assert close(lambda_of(X, y, min_accuracy=0.7), twin.enumerate_vertices(d, y, twin.Fraction("0.7")))


@pytest.mark.parametrize("n_samples", [1, 4])
def test_equal_samples_are_one_segmentation(n_samples: int) -> None:
    """Nothing moves: lambda is 0 or infinite, also where 0.1 has no end in binary."""
    p = np.array([[0.1, 0.7, 0.3]])
    X = np.repeat(np.stack([p, 1 - p])[None], n_samples, axis=0)
    assert bracket(X, np.array([[1, 0, 1]])) == (0, 0, "exact")
    assert bracket(X, np.array([[0, 0, 1]])) == (math.inf, math.inf, "infeasible")
    calibrator = Calibrator(alpha=0.5).fit([X], [np.array([[1, 0, 1]])])
    [found] = calibrator.predict([X])
    assert found.components.shape == (0, 2, 1, 3)
    assert found.lower.shape == found.upper.shape == (0,)
    assert (found.sample(4, random_state=0) == [[[1, 0, 1]]]).all()
    assert found.contains(np.array([[1, 0, 1]])).coefficients.shape == (0,)


def test_differences_by_rounding_are_none() -> None:
    X = np.repeat(two_pixels()[:1], 4, axis=0)
    X[1] = np.nextafter(X[1], 1)
    calibrator = Calibrator(alpha=0.5, min_accuracy=0.9).fit([X], [np.array([[0, 0]])])
    assert calibrator.predict([X])[0].components.shape == (0, 2, 1, 2)


@pytest.mark.parametrize("low", [-1e4, -1e9, -1e18, float(np.finfo(np.float32).min), -1e100])
def test_masked_classes_change_nothing(low: float) -> None:
    """A class that is never possible, and one pixel at which all classes but one are not."""
    X, y = twin.fields(np.random.default_rng(5), 30, 8, 3, noise=0.05, modes=2)
    X[:, :, :, 0, 0], y[:, 0, 0] = [0.2, 0.3, 0.5], 2
    known = Calibrator(2, alpha=0.3, min_accuracy=0.8).fit(X, y)
    assert 0 < known.lambda_hat_ < math.inf
    masked = np.concatenate([X, np.full_like(X[:, :, :1], low)], axis=2)
    masked[:, :, :2, 0, 0] = low
    found = Calibrator(2, alpha=0.3, min_accuracy=0.8).fit(masked, y)
    assert found.image_status_.tolist() == known.image_status_.tolist()
    np.testing.assert_allclose(found.image_lambdas_, known.image_lambdas_, rtol=2e-3)
    sets = found.predict(masked[:3])
    assert [len(one.components) for one in sets] == [2, 2, 2]
    for one, other in zip(sets, known.predict(X[:3]), strict=True):
        assert np.array_equal(one.sample(20, random_state=0), other.sample(20, random_state=0))
        assert one.log10_volume_upper() == pytest.approx(other.log10_volume_upper())


def test_rounded_differences_of_large_scores_hide_nothing() -> None:
    X, y = image(3)
    masked = np.concatenate([X, np.full_like(X[:, :1], -1e18)], axis=1)
    masked[0, 2] = np.nextafter(-1e18, 0)
    assert close(lambda_of(masked, y, min_accuracy=0.8), lambda_of(X, y, min_accuracy=0.8))


def test_components_without_a_range_are_frozen() -> None:
    """Most samples agree: the quantiles of the coefficients coincide, and the box is flat."""
    X = np.repeat(two_pixels()[1:2], 9, axis=0)
    X[0] = two_pixels()[0]
    y = np.array([[1, 0]])
    assert bracket(X, y, 1, quantile_level=0.3)[2] == "infeasible"
    assert bracket(X, np.array([[0, 0]]), 1, quantile_level=0.3) == (0, 0, "exact")


def test_ties_go_to_the_lowest_label() -> None:
    X = np.full((3, 3, 2, 2), 1 / 3)
    zeros, ones = np.zeros((2, 2), int), np.ones((2, 2), int)
    assert bracket(X, zeros) == (0, 0, "exact")
    assert bracket(X, ones)[2] == "infeasible"
    # Labels 1 and 2 are equal everywhere, while label 0 moves.
    p = np.array([0.2, 0.3, 0.4]).reshape(3, 1, 1) * np.ones((3, 2, 2))
    X = np.stack([p, (1 - p) / 2, (1 - p) / 2], axis=1)
    assert bracket(X, ones, 1)[2] == "exact"
    assert bracket(X, 2 * ones, 1)[2] == "infeasible"


def test_saturated_scores() -> None:
    """float16 probabilities that are exactly 0 and 1 nearly everywhere."""
    rng = np.random.default_rng(0)
    X = np.zeros((6, 4, 12, 12), np.float16)
    for sample in X:
        edge = 5 + rng.integers(0, 3)
        sample[0, :, :edge], sample[1, :, edge:] = 1, 1
    y = np.zeros((12, 12), int)
    y[:, 6:] = 1
    assert lambda_of(X, y, 2) < math.inf
    y[0, 0] = 3  # a label that no sample ever has
    assert lambda_of(X, y, 2) == math.inf


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_all_floats_and_strides(dtype: type) -> None:
    X, y = problem(12)
    X = X.astype(dtype)
    expected = Calibrator(2, alpha=0.3, min_accuracy=0.8).fit(X, y)
    channel_last = np.moveaxis(np.ascontiguousarray(np.moveaxis(X, 2, -1)), -1, 2)
    swapped = X.astype(X.dtype.newbyteorder())
    for same in (channel_last, np.asfortranarray(X), swapped, X[::-1][::-1]):
        assert results(Calibrator(2, alpha=0.3, min_accuracy=0.8).fit(same, y)) == results(expected)
    for labels in (np.uint8, np.int16, np.uint64):
        assert results(Calibrator(2, alpha=0.3, min_accuracy=0.8).fit(X, y.astype(labels))) == results(
            expected
        )


def test_all_ways_to_hand_over_images() -> None:
    X, y = problem(12)
    kwargs = {"alpha": 0.3, "min_accuracy": 0.8}
    expected = Calibrator(2, **kwargs).fit(X, y)
    for arguments in (
        (list(X), list(y)),
        (iter(X), iter(y)),
        (zip(X, y, strict=True),),
        ([(x, t) for x, t in zip(X, y, strict=True)],),
    ):
        assert results(Calibrator(2, **kwargs).fit(*arguments)) == results(expected)
    lists = expected.predict(list(X))
    assert isinstance(lists, list)
    lazily = expected.predict(x for x in X)
    assert not isinstance(lazily, list)
    for one, other, third in zip(lists, lazily, expected.predict(X), strict=True):
        assert np.array_equal(one.upper, other.upper)
        assert np.array_equal(one.upper, third.upper)


def test_images_of_mixed_sizes_and_samples() -> None:
    X, y = [], []
    for size in (5, 8, 11):
        for seed in range(4):
            samples, labels = image(seed, size, 3, n_samples=4 + seed, noise=0.1)
            X.append(samples)
            y.append(labels)
    calibrator = Calibrator(3, alpha=0.3, min_accuracy=0.8).fit(X, y)
    assert [s.mean.shape[-1] for s in calibrator.predict(X)] == [5] * 4 + [8] * 4 + [11] * 4
    assert calibrator.evaluate(X, y).coverage >= 0.7


def test_infeasible_says_what_would_be_feasible() -> None:
    X, y = problem(30, n_classes=2, strength=1.5)
    y[:12] = 1 - y[:12]  # nobody expects that
    calibrator = Calibrator(2, alpha=0.2, min_accuracy=0.9)
    with pytest.raises(
        cm.InfeasibleRiskError,
        match=r"images do not reach min_accuracy for any lambda up to 10000; at most 5 such images are ",
    ) as caught:
        calibrator.fit(X, y)
    error = caught.value
    assert "on new calibration images only" in str(error)
    assert "larger alpha" not in str(error)
    assert error.n_infeasible == (calibrator.image_status_ == "infeasible").sum() > 5
    assert np.isinf(calibrator.image_lambdas_[calibrator.image_status_ == "infeasible"]).all()
    assert (error.n_images, error.n_needed, error.alpha) == (30, 4, 0.2)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    feasible = error.feasible_min_accuracy
    assert 0 < feasible < 0.9
    assert math.isfinite(clone(calibrator).set_params(min_accuracy=feasible).fit(X, y).lambda_hat_)
    with pytest.raises(cm.InfeasibleRiskError):
        calibrator.predict(X)
    with pytest.raises(cm.InfeasibleRiskError):
        clone(calibrator).set_params(strict=True, min_accuracy=0.9).fit(X, y)


def test_too_few_images() -> None:
    X, y = problem(8)
    calibrator = Calibrator(2, alpha=0.1)
    with pytest.raises(
        cm.InfeasibleRiskError, match=r"alpha=0.1 with 8 calibration images: at least 9 are needed"
    ):
        calibrator.fit(X, y)
    with pytest.raises(cm.InfeasibleRiskError, match=r"are needed\. Add images, or take a larger alpha$"):
        calibrator.fit(X, y)
    with pytest.raises(cm.InfeasibleRiskError, match=r"are needed\. Add groups, or take a larger alpha$"):
        clone(calibrator).fit(X, y, groups=range(8))
    assert len(calibrator.image_lambdas_) == len(calibrator.image_status_) == 8
    with pytest.raises(cm.InfeasibleRiskError):
        _ = calibrator.lambda_hat_


def test_beta_of_one() -> None:
    X, y = image(2, 6, noise=0.0, modes=1)
    d = twin.decompose(X, 2)
    assert close(lambda_of(X, y, min_accuracy=1.0), twin.enumerate_vertices(d, y, twin.Fraction(1)))
    with pytest.raises(ValueError, match="no accuracy exceeds min_accuracy=1"):
        Calibrator(strict=True, min_accuracy=1.0).fit([X], [y])


@pytest.mark.parametrize("share", [Fraction(-1, 10**9), Fraction(-1), Fraction(1_000_000_001, 1_000_000_000)])
def test_a_search_asks_for_a_share(share: Fraction) -> None:
    with pytest.raises(ValueError, match=r"min_accuracy must be in \[0, 1\]"):
        _core.ConsignSearch(share, False, False, 8.0, 100)


def test_strict_needs_no_less() -> None:
    for seed in range(5):
        X, y = image(seed, 4, noise=0.1)
        loose, strict = (lambda_of(X, y, min_accuracy=0.75, strict=strict) for strict in (False, True))
        assert strict >= loose * (1 - 1e-3)


@pytest.mark.parametrize("weight", ["sigma", "relative", "none"])
def test_weights_scale_the_box(weight: str) -> None:
    X, y = image(1, 8, noise=0.1)
    d = twin.decompose(X, 2, weight=weight)
    lam = lambda_of(X, y, min_accuracy=0.8, weight=weight)
    assert close(lam, twin.enumerate_vertices(d, y, twin.Fraction("0.8")))


# Bad input


BAD = {
    "rank": (lambda X, y: (X[0], y[0]), ValueError, r"X must have shape \(n, S, K, H, W\)"),
    "no labels": (lambda X, y: (X, None), TypeError, "y is missing"),
    "shape of y": (lambda X, y: (X, y[:, :4]), ValueError, r"y must have shape \(6, 8, 8\)"),
    "label": (lambda X, y: (X, y + 5), ValueError, r"y holds label \d in image 0, outside \[0, 3\)"),
    "float labels": (lambda X, y: (X, y + 0.5), TypeError, "y must hold integer labels"),
    "integer X": (lambda X, y: ((X * 9).astype(int), y), TypeError, "X must be float16, float32 or float64"),
    "one class": (lambda X, y: (X[:, :, :1], y * 0), ValueError, r"one class \(K = 1\) in image 0"),
    "empty": (lambda X, y: (X[:0], y[:0]), ValueError, "X is empty"),
    "no samples": (lambda X, y: (X[:, :0], y), ValueError, "X is empty: image 0"),
    "lengths": (lambda X, y: (list(X), list(y)[:-1]), ValueError, "X has 6 images, y has 5"),
    "text": (lambda X, y: ("images", y), TypeError, "got 'images': load it first"),
    "no pairs": (lambda X, y: (list(X), None), TypeError, r"\(samples, labels\) pairs; image 0 is ndarray"),
    "image rank": (lambda X, y: ([x[0] for x in X], list(y)), ValueError, r"image 0 has \(3, 8, 8\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images(name: str) -> None:
    make, error, message = BAD[name]
    X, y = problem(6)
    fitted = Calibrator(1, alpha=0.5, min_accuracy=0.5).fit(X, y)
    before = results(fitted)
    with pytest.raises(error, match=message):
        fitted.fit(*make(X, y))
    assert results(fitted) == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(value: float) -> None:
    X, y = problem(6)
    X[4, 2, 1, 3, 5] = value
    text = "NaN" if math.isnan(value) else str(value)
    with pytest.raises(
        ValueError, match=rf"not finite in image 4: sample 2, class 1 is {text} at pixel \(3, 5\)"
    ):
        Calibrator(1, alpha=0.5).fit(X, y)


def test_ignore_index_that_is_a_class() -> None:
    X, y = problem(6)
    with pytest.raises(ValueError, match="ignore_index=2 is one of the K = 3 classes"):
        Calibrator(1, alpha=0.5, ignore_index=2).fit(X, y)


def test_number_of_classes_stays() -> None:
    X, y = problem(6)
    with pytest.raises(ValueError, match="X has K = 2 classes in image 1, but earlier images had K = 3"):
        Calibrator(1, alpha=0.5).fit([X[0], X[1][:, :2]], [y[0], y[1] % 2])
    fitted = Calibrator(1, alpha=0.5, min_accuracy=0.5).fit(X, y)
    with pytest.raises(ValueError, match="X has K = 2 classes in image 1, but calibration had K = 3"):
        fitted.predict([X[0], X[1][:, :2]])
    with pytest.raises(ValueError, match="X has K = 2 classes in image 0, but calibration had K = 3"):
        fitted.evaluate(X[:, :, :2], y % 2)


def test_batches_are_no_volumes() -> None:
    X, y = problem(6)
    batches = (
        [X[:3], X[3:]],
        [y[:3], y[3:]],
    )  # 3 images, and K = 3: read as volumes they would have the same shape
    fitted = Calibrator(1, alpha=0.5, min_accuracy=0.5).fit(X, y)
    with pytest.raises(ValueError, match=r"image 0 of X has shape .* it may be a volume .* or a batch"):
        fitted.predict([X[:3, :3], X[3:, :3]])
    with pytest.raises(
        ValueError, match=r"X has 3 axes of space in image 0, but calibration had 2: .* one at a time"
    ):
        fitted.set_params(volumes=True).predict([X[:3, :3], X[3:, :3]])
    with pytest.raises(ValueError, match="3 axes of space in image 1, but earlier images had 2"):
        Calibrator(1, alpha=0.5).fit([X[0], X[1][:, :, np.newaxis]], [y[0], y[1][np.newaxis]])
    with pytest.raises(ValueError, match="an iterable yields one image at a time"):
        Calibrator(1, alpha=0.5).fit([X[:2], X[2:4]], [y[:2], y[2:4]])

    class Loader(list):
        batch_size = 3

    with pytest.raises(TypeError, match="X yields batches of 3 images, but must yield one image at a time"):
        Calibrator(1, alpha=0.5).fit(Loader(zip(*batches, strict=True)))


def test_labels_may_come_one_by_one() -> None:
    X, y = problem(6)
    known = results(Calibrator(1, alpha=0.5, min_accuracy=0.5).fit(X, y))
    one_by_one = np.empty(6, object)
    one_by_one[:] = list(y)
    for labels in (iter(y), one_by_one, list(y)):
        assert results(Calibrator(1, alpha=0.5, min_accuracy=0.5).fit(X, labels)) == known
    assert cm.metrics.label_accuracy(iter(y), y) == 1.0
    with pytest.raises(ValueError, match="y must be one array, got a list of parts whose shapes differ"):
        Calibrator(1, alpha=0.5).fit(X, [*y[:5], y[5][:2]])
    with pytest.raises(
        TypeError, match="X must yield samples alone here, image 0 is a tuple: leave out the labels"
    ):
        Calibrator(1, alpha=0.5, min_accuracy=0.5).fit(X, y).predict(list(zip(X, y, strict=True)))
    with pytest.raises(
        ValueError, match="X must be one array in image 0, got a list of parts whose shapes differ"
    ):
        Calibrator(1, alpha=0.5, min_accuracy=0.5).fit(X, y).predict([[X[0, 0], X[0, 1, :, :2]]])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("alpha", 0.9),
            ("n_components", 3),
            ("min_accuracy", 0.7),
            ("weight", "none"),
            ("lambda_max", 2.0),
        ),
        *(("quantile_level", 0.1), ("strict", True), ("accuracy", "pixel"), ("on_empty", "raise")),
        *(("node_budget", 5), ("search", "reference")),
    ],
)
def test_what_lambda_hat_answers_stays(name: str, value: object) -> None:
    X, y = problem(6)
    fitted = Calibrator(1, alpha=0.5, min_accuracy=0.5).fit(X, y)
    known = getattr(fitted, name)
    fitted.set_params(**{name: value})
    for ask in (lambda: fitted.lambda_hat_, lambda: fitted.predict(X), lambda: fitted.evaluate(X, y)):
        with pytest.raises(
            ValueError, match=rf"^{name} is .*, but the images were calibrated with .*: fit again"
        ):
            ask()
    fitted.set_params(**{name: known}).predict(X)


def test_a_generator_of_sets_keeps_its_lambda() -> None:
    X, y = problem(6)
    fitted = Calibrator(1, alpha=0.5, min_accuracy=0.5).fit(X, y)
    known, sets = fitted.lambda_hat_, fitted.predict(image for image in X)
    fitted.set_params(min_accuracy=0.8).fit(X, y)
    assert {one.lambda_hat for one in sets} == {known}
    assert fitted.lambda_hat_ != known


def test_five_of_six_reach_five_sixths() -> None:
    X = np.full((1, 3, 2, 1, 12), 0.9)
    X[:, :, 1] = 0.1
    X[..., 10:] = 1 - X[..., 10:]
    y = np.zeros((1, 1, 12), int)
    assert Fraction(repr(5 / 6)) > Fraction(5, 6)
    fitted = Calibrator(1, alpha=0.5, min_accuracy=5 / 6).fit(X, y)
    assert (fitted.lambda_hat_, fitted.score(X, y)) == (0.0, 1.0)
    assert cm.metrics.sample_coverage(y, X[:, :1].argmax(axis=2), 5 / 6) == 1.0
    assert cm.metrics.empirical_risk(y, X[:, 0] > 0.5, cm.LabelAccuracyLoss(5 / 6)) == 0
    with pytest.raises(cm.InfeasibleRiskError):
        Calibrator(1, alpha=0.5, min_accuracy=5 / 6 + 1e-11).fit(X, y)
    with pytest.raises(cm.InfeasibleRiskError):
        Calibrator(1, alpha=0.5, min_accuracy=Fraction(5, 6), strict=True).fit(X, y)


def test_a_failure_keeps_no_images_alive() -> None:
    X, y = problem(6)
    calibrator = Calibrator(1, alpha=0.5, min_accuracy=1, lambda_max=Fraction(1, 100))
    samples = X.copy()
    alive = weakref.ref(samples)
    with pytest.raises(cm.InfeasibleRiskError, match=r"for any lambda up to 0\.01"):
        calibrator.fit(samples, y)
    del samples
    gc.collect()
    assert alive() is None
    with pytest.raises(cm.InfeasibleRiskError):
        _ = calibrator.lambda_hat_


def test_numbers_of_numpy_can_be_saved(tmp_path) -> None:
    X, y = problem(6)
    fitted = Calibrator(
        np.int64(1),
        alpha=np.float32(0.5),
        min_accuracy=np.float64(0.5),
        strict=np.False_,
        progress=np.False_,
        random_state=np.int64(3),
        node_budget=np.int32(100),
    ).fit(X, y)
    fitted.save(tmp_path / "saved.json")
    assert Calibrator.load(tmp_path / "saved.json").lambda_hat_ == fitted.lambda_hat_
    search = cm.consign.ReferenceSearch(n_points=np.int64(50), step=np.float32(0.5))
    assert (type(search.n_points), type(search.step)) == (int, float)


# Files


def test_save_and_load(tmp_path) -> None:
    X, y = problem(40, n_classes=2, strength=1.5)
    calibrator = Calibrator(2, alpha=0.4, min_accuracy=Fraction(9, 10), random_state=4).fit(X, y)
    assert "not_needed" in calibrator.image_status_
    path = tmp_path / "consign.json"
    calibrator.save(path)
    loaded = Calibrator.load(path)
    assert results(loaded) == results(calibrator)
    assert loaded.get_params() == calibrator.get_params() | {"method": cm.CRC()}
    assert (loaded.lambda_hat_, loaded.n_skipped_, loaded.n_classes_) == (calibrator.lambda_hat_, 0, 2)
    for one, other in zip(loaded.predict(X[:3]), calibrator.predict(X[:3]), strict=True):
        assert np.array_equal(one.lower, other.lower)
    loaded.save(tmp_path / "again.json")
    assert path.read_text() == (tmp_path / "again.json").read_text()


def test_save_needs_numbers(tmp_path) -> None:
    X, y = problem(12)
    calibrator = Calibrator(2, alpha=0.3, min_accuracy=0.8, random_state=np.random.default_rng(0)).fit(X, y)
    with pytest.raises(TypeError, match="random_state can be saved as an int or None"):
        calibrator.save(tmp_path / "x.json")


DAMAGES = {
    "lambda of others": lambda results: results.update(lambda_hat=123.0),
    "short": lambda results: results.update(image_status=["exact"]),
    "status": lambda results: results["image_status"].__setitem__(0, "fine"),
    "negative": lambda results: results["image_lambdas"].__setitem__(0, -1.0),
    "bounds": lambda results: results["image_lower_bounds"].__setitem__(0, "inf"),
    "axes": lambda results: results.update(n_axes=4),
    "groups": lambda results: results.update(groups=[0, 1]),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_results(name: str, tmp_path) -> None:
    X, y = problem(12)
    path = tmp_path / "x.json"
    Calibrator(2, alpha=0.3, min_accuracy=0.8).fit(X, y).save(path)
    document = json.loads(path.read_text())
    DAMAGES[name](document["results"])
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="damaged or holds no calibrator"):
        Calibrator.load(path)


def test_files_of_version_1_are_read(tmp_path) -> None:
    """They know no groups."""
    X, y = problem(12)
    path = tmp_path / "x.json"
    fitted = Calibrator(2, alpha=0.3, min_accuracy=0.8).fit(X, y)
    fitted.save(path)
    document = json.loads(path.read_text())
    document["format_version"] = 1
    del document["results"]["groups"]
    path.write_text(json.dumps(document))
    assert results(Calibrator.load(path)) == results(fitted)


# Another number of samples


def test_another_number_of_samples_is_refused(tmp_path) -> None:
    """The singular values that scale the box go with it."""
    X, y = problem(12)
    fitted = Calibrator(2, alpha=0.3, min_accuracy=0.8).fit(X, y)
    fitted.save(tmp_path / "x.json")
    n_samples = X.shape[1]
    for calibrator in (fitted, Calibrator.load(tmp_path / "x.json")):
        for use in (calibrator.predict, lambda X: calibrator.evaluate(X, y)):  # noqa: B023
            with pytest.raises(
                ValueError, match=rf"S = 3 samples in image 0, but calibration had S = {n_samples}"
            ):
                use(X[:, :3])
    mixed = Calibrator(2, alpha=0.3, min_accuracy=0.8).fit([*X[:6], *X[6:, :3]], [*y])
    assert len(mixed.predict([X[0], X[1, :3]])) == 2
    Calibrator(2, alpha=0.3, min_accuracy=0.8, weight="relative").fit(X, y).predict(X[:, :3])


# Groups


def grouped_twin(lambdas: np.ndarray, groups: np.ndarray, alpha: Fraction) -> float:
    """By definition: the smallest lambda at which the mean over groups of the share that is missed, with one more group
    that is missed as a whole, is at most alpha."""
    lambdas, n = np.nan_to_num(lambdas, nan=np.inf), len(set(groups.tolist()))
    for lam in np.unique([0.0, *lambdas]):
        missed = lambdas > lam
        shares = [
            Fraction(int(missed[groups == g].sum()), int((groups == g).sum())) for g in set(groups.tolist())
        ]
        if lam < np.inf and (sum(shares, Fraction(0)) + 1) / (n + 1) <= alpha:
            return float(lam)
    return math.inf


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [0.25, 0.3, 0.5])
def test_lambda_hat_of_groups_by_definition(seed: int, alpha: float, tmp_path) -> None:
    X, y = problem(30, n_classes=2, strength=1.5)
    groups = np.random.default_rng(seed).integers(0, 12, 30)
    calibrator = Calibrator(2, alpha=alpha, min_accuracy=0.8)
    # What is given up depends on groups: every image is searched to the end by itself.
    alone = [bracket(*pair, min_accuracy=0.8, quantile_level=alpha / 2) for pair in zip(X, y, strict=True)]
    every = np.array([upper for _, upper, _ in alone])
    expected = grouped_twin(every, groups, Fraction(repr(alpha)))
    if math.isinf(expected):
        with pytest.raises(cm.InfeasibleRiskError, match="groups may be missed"):
            calibrator.fit(X, y, groups=groups)
        return
    calibrator.fit(X, y, groups=groups)
    assert close(calibrator.lambda_hat_, expected)
    known = calibrator.image_lambdas_ <= calibrator.lambda_hat_
    assert np.array_equal(known, every <= calibrator.lambda_hat_)
    calibrator.save(tmp_path / "x.json")
    assert Calibrator.load(tmp_path / "x.json").lambda_hat_ == calibrator.lambda_hat_
    contained = calibrator.evaluate(X, y, groups=groups)
    shares = [known[groups == g].mean() for g in set(groups.tolist())]
    assert contained.coverage == pytest.approx(np.mean(shares), abs=1e-12)
    assert contained.coverage >= 1 - alpha


def test_infeasible_groups_say_what_would_be_feasible() -> None:
    """No less than that, by the shares of the images: a little more would not be feasible."""
    X, y = problem(30, n_classes=2, strength=1.5)
    y[:12] = 1 - y[:12]  # nobody expects that
    groups = np.repeat(np.arange(10), 3)
    calibrator = Calibrator(2, alpha=0.2, min_accuracy=0.9)
    with pytest.raises(
        cm.InfeasibleRiskError, match=r"10 groups .* at most 1\.2 groups may be missed"
    ) as caught:
        calibrator.fit(X, y, groups=groups)
    feasible = caught.value.feasible_min_accuracy
    fitted = clone(calibrator).set_params(min_accuracy=feasible).fit(X, y, groups=groups)
    assert math.isfinite(fitted.lambda_hat_)


@pytest.mark.parametrize("seed", range(5))
def test_the_accuracy_that_would_be_feasible_by_definition(seed: int) -> None:
    """The largest that images miss by no more shares of groups than the budget has."""
    from conformask._units import known_units
    from conformask.consign._solution import Found, _feasible_accuracy

    rng = np.random.default_rng(seed)
    found, groups = Found(), rng.integers(0, 9, 20).tolist()
    found.achieved = [Fraction(int(each), 10) for each in rng.integers(0, 11, 20)]
    units = known_units(np.ones(20, bool), groups, None)
    for budget in (Fraction(0), Fraction(6, 5), Fraction(5, 2)):
        feasible = [
            level
            for level in found.achieved
            if sum(share for share, each in zip(units.shares, found.achieved, strict=True) if each < level)
            <= budget
        ]
        assert _feasible_accuracy(found, units, budget) == max(feasible)


def test_groups_of_void_images() -> None:
    X, y = problem(12)
    y[[0, 5]] = 255
    groups = [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    with pytest.warns(cm.DroppedImagesWarning, match="2 of 12 images have no labelled pixel"):
        fitted = Calibrator(2, alpha=0.3, min_accuracy=0.8).fit(X, y, groups=groups)
    assert (fitted.n_images_, fitted.n_skipped_, len(fitted.image_lambdas_)) == (9, 2, 10)  # group 3 is void


# Ctrl-C

_FITTED = """
rng = np.random.default_rng(0)
X = rng.random((9, 4, 128, 128))
y = rng.integers(0, 4, (128, 128))
calibrator = cm.ConsignCalibrator(8, alpha=0.5, min_accuracy=0.3, node_budget=10**9, progress=False)
small = [X[:2, :, :8, :8]], [X[:2, :, :8, :8].mean(axis=0).argmax(axis=0)]
known = calibrator.fit(*small).lambda_hat_
"""
_AS_IT_WAS = """
assert calibrator.lambda_hat_ == known
assert calibrator.fit(*small).lambda_hat_ == known  # the pool still works
"""


@pytest.mark.timeout(60)
def test_ctrl_c_stops_a_search() -> None:
    ctrl_c.stops("calibrator.fit([X], [y])", before=_FITTED, after=_AS_IT_WAS, seconds=1.5)


# Reports and texts


def test_report_is_text_and_a_table() -> None:
    X, y = problem(20)
    report = Calibrator(2, alpha=0.3, min_accuracy=0.8).fit(X, y).evaluate(X, y)
    for text in (str(report), report._repr_html_()):
        assert f"{report.coverage:.4f}" in text
        assert "lambda-hat" in text
    assert len(repr(report)) < 300


def test_reference_search_needs_torch(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    X, y = problem(4)
    with pytest.raises(
        ImportError, match=r"search='reference' needs PyTorch: pip install conformask\[torch\]"
    ):
        Calibrator(2, alpha=0.5, search="reference").fit(X, y)


def test_progress_bars(capsys) -> None:
    X, y = problem(6)
    Calibrator(2, alpha=0.5, min_accuracy=0.5, progress=True).fit(X, y)
    assert "32 searches" in capsys.readouterr().err
    with warnings.catch_warnings():
        Calibrator(2, alpha=0.5, min_accuracy=0.5, progress=False).fit(X, y)
    assert capsys.readouterr().err == ""
